"""Reconciliation with files of the providers' real schemas; the sums are done on paper."""

from __future__ import annotations

import gzip
import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.accounts.billed import BadBilling, BilledLine, read_billing
from voxfleet.cluster.accounts.reconcile import Reckoned, Variance, reconcile

BILLING = Path(__file__).parent / "billing"
GCP = BILLING / "gcp_standard_usage.jsonl"
AWS = BILLING / "aws_cur.csv"


def test_a_gcp_export_against_the_ledger() -> None:
    """Machines by day, with the credit apart; disk, network, storage and other runs are not machines of this run."""
    # Reckoned 1.00 and 2.00; billed 0.40 + 0.60 = 1.00, and 0.80 + 1.30 = 2.10: 10 cents or 5 % of the second day over.
    reckoned = {date(2026, 11, 20): Decimal(1), date(2026, 11, 21): Decimal(2)}
    found = reconcile("nlst", read_billing(GCP), Reckoned(reckoned))
    first, second = found.days
    assert (first.what, first.billed, first.credits, first.difference) == (
        "2026-11-20", Decimal("1.00"), Decimal("-0.04"), Decimal("0.00")
    )  # fmt: skip
    assert (second.difference, second.relative) == (Decimal("0.10"), Decimal("0.05"))
    assert (found.total.billed, found.total.reckoned) == (Decimal("3.10"), Decimal(3))
    assert [(row.what, row.billed, row.reckoned) for row in found.cells] == [
        ("cell-1", Decimal("1.00"), None), ("cell-2", Decimal("2.10"), None)
    ]  # fmt: skip
    assert sum(row.billed for row in found.skus) == Decimal("3.29")
    assert found.others == 2


@pytest.mark.parametrize("packed", [False, True])
def test_an_aws_report_against_the_ledger(tmp_path: Path, packed: bool) -> None:
    """Two instance hours at 0.526 are what two hours of a g4dn.xlarge are reckoned at; the rest is shown apart."""
    file = AWS
    if packed:
        file = tmp_path / "cur.csv.gz"
        file.write_bytes(gzip.compress(AWS.read_bytes()))
    found = reconcile("nlst", read_billing(file), Reckoned({date(2026, 11, 20): 2 * Decimal("0.526")}))
    (day,) = found.days
    assert (day.billed, day.credits, day.difference) == (Decimal("1.052"), Decimal("-0.1"), 0)
    assert by_name(found.skus)["AmazonEC2: NatGateway-Bytes"].billed == Decimal("0.09")
    assert by_name(found.skus)["AmazonEC2: BoxUsage:g4dn.xlarge"].difference == 0
    assert found.others == 1


def by_name(rows: tuple[Variance, ...]) -> dict[str, Variance]:
    """Variances by what they are of."""
    return {row.what: row for row in rows}


def test_each_cell_has_its_variance() -> None:
    """What the ledger names a cell's nodes by and the bill labels them with; a cell that nobody billed is all off."""
    # Billed to cell-1: 0.40 + 0.60 = 1.00, to cell-2: 0.80 + 1.30 = 2.10.
    cells = {"cell-1": Decimal("0.80"), "cell-2": Decimal("2.10"), "cell-3": Decimal("0.10"), "": Decimal(0)}
    found = by_name(reconcile("nlst", read_billing(GCP), Reckoned({date(2026, 11, 20): Decimal(3)}, cells=cells)).cells)
    assert {name: row.difference for name, row in found.items()} == {
        "cell-1": Decimal("0.20"), "cell-2": 0, "cell-3": Decimal("-0.10")
    }  # fmt: skip
    assert (found["cell-1"].relative, found["cell-3"].relative) == (Decimal("0.25"), -1)
    unlabelled = [BilledLine(date(2026, 11, 20), "AmazonEC2", "BoxUsage:g5.xlarge", "nlst", "", Decimal(2))]
    (row,) = reconcile("nlst", unlabelled, Reckoned({date(2026, 11, 20): Decimal(1)}, cells={"": Decimal(1)})).cells
    assert (row.what, row.reckoned, row.difference) == ("no cell", 1, 1)


def test_each_billed_line_has_its_variance() -> None:
    """Cores, memory and GPUs of a machine's price against the lines that bill them; a disk is not reckoned."""
    # Cores 0.40 + 0.80 = 1.20, GPUs 0.60 + 1.30 = 1.90. Reckoned 4: half of it GPUs, a quarter cores, a quarter memory.
    shares = {"gpu": 0.5, "cores": 0.25, "memory": 0.25}
    reckoned = Reckoned({date(2026, 11, 20): Decimal(4)}, {"egress": Decimal("0.10")}, shares=shares)
    found = by_name(reconcile("nlst", read_billing(GCP), reckoned).skus)
    cores = found["Compute Engine: Spot Preemptible N1 Predefined Instance Core running in Americas"]
    assert (cores.billed, cores.reckoned, cores.difference) == (Decimal("1.20"), 1, Decimal("0.20"))
    gpus = found["Compute Engine: Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Americas"]
    assert (gpus.billed, gpus.reckoned, gpus.relative) == (Decimal("1.90"), 2, Decimal("-0.05"))
    assert found["memory of machines, not billed"].difference == -1
    assert found["Compute Engine: Storage PD Capacity"].reckoned is None
    out = found["Compute Engine: Network Internet Data Transfer Out from Americas to EMEA"]
    assert out.difference == Decimal("0.02")


def test_lines_that_bill_the_same_share_what_is_reckoned_of_it() -> None:
    """Of 3 US$ of cores on spot and 1 on demand two are reckoned: three quarters and one."""
    lines = [
        BilledLine(date(2026, 11, 20), "Compute Engine", f"{market}N1 Instance Core", "r", "", Decimal(usd))
        for market, usd in (("", 1), ("Spot Preemptible ", 3))
    ]
    found = reconcile("r", lines, Reckoned({date(2026, 11, 20): Decimal(2)}, shares={"cores": 1.0}))
    assert [row.reckoned for row in found.skus] == [Decimal("0.5"), Decimal("1.5")]
    assert {row.relative for row in found.skus} == {Decimal(1)}


def test_each_charge_beside_machines_has_its_variance() -> None:
    """NAT and write requests of the AWS bill against what was reckoned of them; what nobody billed is all off."""
    # Billed: 2 GB through NAT at 0.045 = 0.09, 1,000 PUT = 0.005. Reckoned: 0.08, 0.005, and 0.02 of storage.
    charged = {"nat": Decimal("0.08"), "write-requests": Decimal("0.005"), "storage": Decimal("0.02")}
    found = by_name(reconcile("nlst", read_billing(AWS), Reckoned({}, charged)).charges)
    assert set(found) == set(charged)
    assert (found["nat"].difference, found["nat"].relative) == (Decimal("0.01"), Decimal("0.125"))
    assert found["write-requests"].difference == 0
    assert found["storage"].relative == -1


def test_charges_that_nothing_is_reckoned_of_are_shown() -> None:
    """Egress and storage of the GCP bill are told apart from its disk, which is of no kind."""
    found = {row.what: (row.billed, row.reckoned) for row in reconcile("nlst", read_billing(GCP), Reckoned({})).charges}
    assert found == {"egress": (Decimal("0.12"), None), "storage": (Decimal("0.02"), None)}


@pytest.mark.parametrize(
    ("service", "sku", "kind"),
    [
        ("Compute Engine", "N1 Predefined Instance Core running in Americas", "machine"),
        ("Compute Engine", "Networking Cloud NAT Gateway: Data processing charge in Americas", "nat"),
        ("Compute Engine", "Storage PD Capacity", "other"),
        ("Compute Engine", "External IP Charge on a Spot Preemptible VM", "other"),
        ("Compute Engine", "Licensing Fee for Ubuntu Pro on VM with 4 VCPU", "other"),
        ("Compute Engine", "Hyperdisk Balanced Capacity in Iowa", "other"),
        ("AmazonEC2", "ElasticIP:IdleAddress", "other"),
        ("Cloud Storage", "Regional Standard Class A Operations", "write-requests"),
        ("Cloud Storage", "Regional Standard Class B Operations", "read-requests"),
        ("Cloud Storage", "Standard Storage US Regional", "storage"),
        ("AmazonEC2", "USW2-DataTransfer-Out-Bytes", "egress"),
        ("AmazonEC2", "NatGateway-Hours", "other"),
        ("AmazonEC2", "EBS:VolumeUsage.gp3", "other"),
        ("AmazonS3", "EUC1-TimedStorage-ByteHrs", "storage"),
        ("AmazonS3", "Requests-Tier2", "read-requests"),
    ],
)
def test_kinds_of_billed_lines(service: str, sku: str, kind: str) -> None:
    """SKUs and usage types as the two providers name them."""
    assert BilledLine(date(2026, 11, 22), service, sku, "r", "", Decimal(1)).kind == kind


def test_a_day_that_was_never_billed_is_a_line_of_its_own() -> None:
    """What the ledger reckons and nobody billed is a difference of minus all of it."""
    found = reconcile("other", read_billing(GCP), Reckoned({date(2026, 11, 19): Decimal(3)}))
    assert (found.days[0].billed, found.total.difference, found.total.relative) == (0, -3, -1)


def test_a_machine_billed_after_the_ledger_thought_it_gone_is_seen() -> None:
    """A node that never ended is billed on a day on which nothing is reckoned."""
    late = BilledLine(date(2026, 11, 22), "Compute Engine", "N1 Predefined Instance Core", "nlst", "", Decimal(5))
    found = reconcile("nlst", [late], Reckoned({date(2026, 11, 20): Decimal(1)}))
    assert [(row.what, row.difference) for row in found.days] == [("2026-11-20", -1), ("2026-11-22", 5)]


def test_another_currency_is_converted_by_the_bills_own_rate(tmp_path: Path) -> None:
    """GCP bills 9 EUR at 0.9 EUR for a dollar: 10 US$. Without a rate nothing is guessed."""
    row = json.loads(GCP.read_text().splitlines()[0]) | {"currency": "EUR", "cost": 9, "currency_conversion_rate": 0.9}
    file = tmp_path / "export.json"
    file.write_text(json.dumps([row]))
    (line,) = read_billing(file)
    assert line.usd == pytest.approx(Decimal(10))
    file.write_text(json.dumps([row | {"currency_conversion_rate": None}]))
    with pytest.raises(BadBilling, match="EUR"):
        list(read_billing(file))


def test_an_aws_report_in_another_currency_is_refused(tmp_path: Path) -> None:
    """AWS tells no rate, so yuan cannot be compared with dollars."""
    file = tmp_path / "cur.csv"
    file.write_text(AWS.read_text().replace(",USD,", ",CNY,"))
    with pytest.raises(BadBilling, match="CNY"):
        list(read_billing(file))


def test_cur_2_columns_are_read(tmp_path: Path) -> None:
    """CUR 2.0 spells its columns otherwise, and holds tags in one map."""
    file = tmp_path / "cur2.csv"
    file.write_text(
        "line_item_unblended_cost,line_item_currency_code,line_item_line_item_type,line_item_usage_start_date,"
        "line_item_product_code,line_item_usage_type,resource_tags\n"
        "1.006,USD,Usage,2026-11-20 10:00:00,AmazonEC2,BoxUsage:g5.xlarge,"
        '"{""user_run"":""nlst"",""user_cell"":""c9""}"\n'
    )
    assert list(read_billing(file)) == [
        BilledLine(date(2026, 11, 20), "AmazonEC2", "BoxUsage:g5.xlarge", "nlst", "c9", Decimal("1.006"))
    ]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "day,usd\n",
        "{",
        "a,b\n1,2\n",
        '{"cost": 1}\n',
        '{"cost": 1, "currency": "USD", "usage_start_time": "x"}',
    ],
)
def test_what_is_no_bill_is_refused(tmp_path: Path, content: str) -> None:
    """Nothing, only another header, broken JSON, another table, rows without columns or with no time."""
    file = tmp_path / "bill"
    file.write_text(content)
    with pytest.raises(BadBilling):
        list(read_billing(file))


def test_an_absent_bill_is_refused(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(BadBilling, match="nothing-here"):
        list(read_billing(tmp_path / "nothing-here"))
