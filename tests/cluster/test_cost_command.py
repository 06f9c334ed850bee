"""``voxfleet cost``: a ledger with known seconds at a dollar a second, read back as a user reads it."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyarrow import parquet
from typer.testing import CliRunner
from voxfleet.cluster.accounts.billing import bill_of, node_shares, node_usd_by_day
from voxfleet.cluster.accounts.cost_command import cost
from voxfleet.cluster.accounts.planned import BadPlan
from voxfleet.cluster.ledger import Node, Run
from voxfleet.cluster.ledgers.export import export
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import NoPrice, Price
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

PRICES = """
[[price]]
machine = "toy"
usd_per_hour = 360
source = "a toy: ten cents a second"
dated = 2026-11-01
"""
TOY = Price("toy", "", "", "on-demand", Decimal(360), 2, "", 0, "paper", date(2026, 11, 1))
DEAR = Price(
    "dear",
    "",
    "",
    "on-demand",
    Decimal(900),
    4,
    "L4",
    1,
    "a contract",
    date(2026, 11, 2),
    gpu_usd_per_hour=Decimal(675),
)


def workitem(number: int, model: str) -> Workitem:
    """A small CT."""
    uid = f"1.2.{number}"
    return Workitem("1.2", uid, "CT", 10, "dir:/s", "dir:/t", model, "1.0", "none", bytes=1000)


def outcome(item: Workitem, began: float, seconds: float, failed: bool = False) -> Outcome:
    """An attempt with one stage."""
    used = (Consumption("segment", began, seconds, seconds),)
    if failed:
        return Outcome(item.key, State.CANCELED, used, failure=Failure("segment", "BROKEN", "no"))
    return Outcome(item.key, State.COMPLETED, used)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three series, one of which failed, in a folder of its own with a toy price."""
    monkeypatch.chdir(tmp_path)
    Path("toy.toml").write_text(PRICES)
    folder = tmp_path / "run"
    folder.mkdir()
    ledger = SqliteLedger(folder / "ledger.sqlite")
    ledger.create_run(Run("run", "dir:/s", "dir:/t", ("a 1.0", "b 1.0"), {}, "0", "toy", datetime.now(UTC)))
    items = [workitem(1, "a"), workitem(2, "a"), workitem(3, "b")]
    ledger.add(items)
    ledger.node_up("n", "toy", "o")
    for lease in ledger.lease("o", 3):
        ledger.start(lease, "n")
        time.sleep(0.005)
        began = datetime.now(UTC).timestamp()
        time.sleep(0.005)
        ledger.finish(lease, outcome(lease.workitem, began, 0.001, lease.workitem.model == "b"), "n")
    ledger.node_down("n", "o")
    ledger.close()
    return folder


def voxfleet_cost(*words: object):
    """The command, in this process."""
    return CliRunner().invoke(cost, [str(word) for word in words])


def test_every_dollar_of_a_run_is_in_one_line(run: Path) -> None:
    """Each way of summing gives the same total, and it is price times lifetime."""
    bill = bill_of(SqliteLedger(run / "ledger.sqlite"), TOY)
    assert bill.identity_error < Decimal("1e-6")
    assert bill.completed == 2
    for key in ("node", "stage", "outcome", "purpose", "model"):
        sums = bill.by(lambda line, key=key: str(getattr(line, key)))
        assert sum(row.usd for row in sums) == pytest.approx(bill.node_usd)


def test_useful_and_wasted_are_told_apart(run: Path) -> None:
    """Model a did all that was useful, model b all that was wasted."""
    bill = bill_of(SqliteLedger(run / "ledger.sqlite"), TOY)
    sums = {row.name: row for row in bill.by(lambda line: line.model)}
    assert (sums["a 1.0"].useful > 0, sums["a 1.0"].wasted) == (True, 0)
    assert (sums["b 1.0"].useful, sums["b 1.0"].wasted > 0) == (0, True)


def test_the_same_seconds_elsewhere_by_hand(run: Path) -> None:
    """At half the price the run is half as dear; a GPU machine could have done it too."""
    bill = bill_of(SqliteLedger(run / "ledger.sqlite"), TOY)
    half = Price("half", "", "", "spot", Decimal(180), 4, "T4", 1, "paper", date(2026, 11, 1))
    assert bill.elsewhere([TOY, half])[0].usd == pytest.approx(bill.total / 2)


def test_a_life_over_midnight_is_cut_there() -> None:
    """From 23:00 to 02:00 at 3.60 US$ an hour: one hour on the first day, two on the second."""
    up = datetime(2026, 11, 20, 23, tzinfo=UTC)
    down = up + timedelta(hours=3)
    price = Price("m", "", "", "spot", Decimal("3.60"), 2, "", 0, "paper", date(2026, 11, 1))
    assert node_usd_by_day([Node("n", "m", up, down, down)], price) == {
        date(2026, 11, 20): pytest.approx(Decimal("3.60")),
        date(2026, 11, 21): pytest.approx(Decimal("7.20")),
    }


def test_a_node_that_never_reports_its_end_is_paid_until_it_was_last_seen() -> None:
    """An hour until its last sign of life, and not for ever."""
    up = datetime(2026, 11, 20, 12, tzinfo=UTC)
    price = Price("m", "", "", "spot", Decimal("3.60"), 2, "", 0, "paper", date(2026, 11, 1))
    assert sum(node_usd_by_day([Node("n", "m", up, None, up + timedelta(hours=1))], price).values()) == pytest.approx(
        Decimal("3.60")
    )


def test_a_clock_that_stepped_back_costs_nothing_and_gives_nothing_back() -> None:
    """A life that ends before it begins is no negative amount."""
    up = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert node_usd_by_day([Node("n", "m", up, up - timedelta(hours=1), up)], TOY) == {}


def test_tables_json_csv_parquet_and_page_agree(run: Path) -> None:
    """One total, in five forms."""
    done = voxfleet_cost(
        run, "--prices", "toy.toml", "--json", "--csv", "c.csv", "--parquet", "c.parquet", "--html", "c.html"
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    total = Decimal(document["usd"])
    with Path("c.csv").open() as file:
        assert sum(Decimal(row["usd"]) for row in csv.DictReader(file)) == pytest.approx(total)
    assert sum(parquet.read_table("c.parquet")["usd"].to_pylist()) == pytest.approx(total)
    assert "By purpose" in Path("c.html").read_text()
    assert float(document["published_usd_per_series"]) == pytest.approx(0.0080, rel=0.01)
    shown = voxfleet_cost("show", run, "--prices", "toy.toml")
    assert "published for comparison: 0.80 cents" in shown.stdout
    tables = shown.stdout[shown.stdout.index("purpose") : shown.stdout.index("direct cents")]
    assert max(map(len, tables.splitlines())) <= 80
    assert "e+" not in shown.stdout


@pytest.fixture
def mixed(run: Path) -> Path:
    """The same run with a node that costs three times as much, up for a while, and one series done on it."""
    ledger = SqliteLedger(run / "ledger.sqlite")
    ledger.add([workitem(4, "a")])
    ledger.node_up("f", "dear", "o", "", DEAR)
    (lease,) = ledger.lease("o", 1)
    ledger.start(lease, "f")
    began = datetime.now(UTC).timestamp()
    time.sleep(0.03)
    ledger.finish(lease, outcome(lease.workitem, began, 0.02), "f")
    ledger.node_down("f", "o")
    ledger.close()
    return run


def test_machines_of_two_prices_are_billed_apart(mixed: Path) -> None:
    """Each node at its own price: the sum of all lines is the sum over nodes, and each machine's lines are its own."""
    ledger = SqliteLedger(mixed / "ledger.sqlite")
    bill = bill_of(ledger, TOY)
    assert bill.identity_error < Decimal("1e-6")
    lives = {node.node: Decimal(repr((node.down - node.up).total_seconds())) for node in ledger.nodes() if node.down}
    spent = {"toy on-demand $360/h": lives["n"] / 10, "dear on-demand $900/h": lives["f"] / 4}
    by_machine = {row.name: row.usd for row in bill.by(lambda line: line.priced)}
    assert by_machine == {name: pytest.approx(usd) for name, usd in spent.items()}
    assert {row.price.machine: row.usd for row in bill.nodes} == {
        "toy": pytest.approx(lives["n"] / 10),
        "dear": pytest.approx(lives["f"] / 4),
    }
    (elsewhere,) = bill.elsewhere([TOY])
    assert elsewhere.usd == pytest.approx(sum(lives.values()) / 10), "all seconds, at one price"
    days = node_usd_by_day(ledger.nodes(), TOY)
    assert sum(days.values()) == pytest.approx(bill.node_usd)
    shares = node_shares(ledger.nodes(), TOY)
    assert shares["gpu"] == pytest.approx(float(spent["dear on-demand $900/h"] * 3 / 4 / bill.node_usd))
    assert sum(shares.values()) == pytest.approx(1)


def test_every_price_is_shown(mixed: Path) -> None:
    """On the terminal a line for each and a table of machines; in JSON, CSV, on the page and in the exported ledger."""
    told = ("--prices", "toy.toml", "--csv", "c.csv", "--parquet", "c.parquet", "--html", "c.html")
    document = json.loads(voxfleet_cost(mixed, *told, "--json").stdout)
    nodes = sorted(document["nodes"], key=lambda row: row["machine"])
    assert [(row["machine"], row["usd_per_hour"], row["source"], row["lives"]) for row in nodes] == [
        ("dear", "900", "a contract", 1),
        ("toy", "360", "a toy: ten cents a second", 1),
    ]
    assert sum(Decimal(row["usd"]) for row in document["by_machine"]) == pytest.approx(Decimal(document["usd"]))
    with Path("c.csv").open() as file:
        rows = {(row["machine"], row["market"], Decimal(row["usd_per_hour"])) for row in csv.DictReader(file)}
    assert rows == {("toy", "on-demand", 360), ("dear", "on-demand", 900)}
    assert set(parquet.read_table("c.parquet")["usd_per_hour"].to_pylist()) == {360, 900}
    assert "By machine" in Path("c.html").read_text()
    assert "a contract" in Path("c.html").read_text()
    shown = voxfleet_cost(mixed, "--prices", "toy.toml").stdout
    assert "h of nodes (1) at $900/h for dear on-demand, 2026-11-02, a contract" in shown
    assert all(words in shown for words in ("toy on-demand", "dear on-demand", "$900/h "))
    export(SqliteLedger(mixed / "ledger.sqlite"), mixed / "tables")
    assert parquet.read_table(mixed / "tables" / "nodes.parquet")["usd_per_hour"].to_pylist() == [None, 900]


def test_the_head_of_a_cell_is_told_apart(mixed: Path) -> None:
    """Its dollars are a purpose of their own, no start-up, idle time or node at work; series bear them fully loaded."""
    ledger = SqliteLedger(mixed / "ledger.sqlite")
    before = bill_of(ledger, TOY)
    ledger.head_up("h", "desk", "o", "c0", replace(TOY, machine="desk", usd_per_hour=Decimal(36)))
    time.sleep(0.02)
    ledger.node_down("h", "o")
    life = ledger.nodes()[-1].lifetime_s
    bill = bill_of(ledger, TOY)
    assert bill.identity_error < Decimal("1e-6")
    by_purpose = {row.name: row for row in bill.by(lambda line: line.purpose)}
    assert by_purpose["head"].usd == by_purpose["head"].other == pytest.approx(Decimal(repr(life)) / 100)
    assert bill.total - before.total == pytest.approx(by_purpose["head"].usd)
    assert (bill.nodes, bill.most_nodes) == (before.nodes, before.most_nodes)
    assert sum(row.usd for row in bill.by_series()) == pytest.approx(sum(row.usd for row in before.by_series()))
    assert sum(row.loaded for row in bill.by_series()) == pytest.approx(bill.total)
    (elsewhere,), (was,) = bill.elsewhere([TOY]), before.elsewhere([TOY])
    assert elsewhere.usd - was.usd == pytest.approx(by_purpose["head"].usd)
    document = json.loads(voxfleet_cost(mixed, "--prices", "toy.toml", "--html", "c.html", "--json").stdout)
    assert [(row["machine"], row["usd_per_hour"], row["lives"]) for row in document["heads"]] == [("desk", "36", 1)]
    assert "h of heads of cells (1) at $36/h for desk" in voxfleet_cost(mixed, "--prices", "toy.toml").stdout
    export(ledger, mixed / "tables")
    assert parquet.read_table(mixed / "tables" / "nodes.parquet")["head"].to_pylist() == [False, False, True]


def test_direct_and_fully_loaded(run: Path) -> None:
    """Fully loaded, the attempts bear every dollar of the nodes; direct, only what ran."""
    bill = bill_of(SqliteLedger(run / "ledger.sqlite"), TOY)
    series = bill.by_series()
    assert len(series) == 3
    assert float(sum(row.loaded for row in series)) == pytest.approx(float(bill.node_usd))
    assert 0 < float(sum(row.usd for row in series)) < float(bill.node_usd)
    assert (bill.most_nodes, 0 < bill.hours < 0.1) == (1, True)


def test_bytes_and_requests_are_in_the_bill_on_request(run: Path) -> None:
    """With a price in the file NAT is charged; without one, the command says which is missing."""
    row = '[[charge]]\nkind = "nat"\nusd = 0.05\nsource = "a toy"\ndated = 2026-11-01\n'
    Path("with.toml").write_text(PRICES + row)
    done = voxfleet_cost(run, "--prices", "with.toml", "--charge", "nat", "--json")
    assert done.exit_code == 0, done.output
    (charge,) = json.loads(done.stdout)["charges"]
    assert (charge["kind"], charge["usd_per_unit"], charge["unit"]) == ("nat", "0.05", "GB")
    missing = voxfleet_cost(run, "--prices", "toy.toml", "--charge", "nat").exception
    assert isinstance(missing, NoPrice)
    assert str(missing).endswith("to toy.toml"), "the file to add it to"
    assert voxfleet_cost(run, "--prices", "toy.toml", "--charge", "toll").exit_code == 2


def test_the_plan_in_the_runs_folder_is_found(run: Path) -> None:
    """A run is held against the plan that lies in its folder, or one that is named."""
    ends = {"low": 0.0, "middle": 1.0, "high": 9.0}
    option = {"machine": "toy", "region": "", "market": "on-demand", "nodes": 1, "hours": ends, "usd": ends}
    text = json.dumps({"series": 3, "options": [option]})
    (run / "plan.json").write_text(text)
    found = json.loads(voxfleet_cost(run, "--prices", "toy.toml", "--json").stdout)["plan"]
    assert (found["series"], [row["inside"] for row in found["figures"]]) == (3, [True, True, True])
    Path("other.json").write_text(text.replace('"toy"', '"other"'))
    assert isinstance(voxfleet_cost(run, "--prices", "toy.toml", "--plan", "other.json").exception, BadPlan)
    (run / "plan.json").write_text(Path("other.json").read_text())
    shown = voxfleet_cost(run, "--prices", "toy.toml")
    assert "the plan kept with the run" in shown.stdout, "a plan that does not fit is no reason to say nothing"
    (run / "plan.json").write_text(text)
    shown = voxfleet_cost(run, "--prices", "toy.toml", "--html", "page.html")
    assert "plan of 3 series on 1 x toy" in shown.stdout
    assert "Plan and actual" in Path("page.html").read_text()


def test_scores_of_other_series_are_said(run: Path) -> None:
    """Two scores, none of a series of the run: a warning that counts them, and no row."""
    Path("scores.csv").write_text("series,model,metric,value\n9.9.1,a,dice,0.5\n9.9.2,a,dice,0.7\n")
    told = voxfleet_cost(run, "--prices", "toy.toml", "--scores", "scores.csv")
    assert "0 of 2 scores are of series of this run" in told.stdout


def test_dice_per_dollar(run: Path) -> None:
    """A table of scores is set beside what the series cost."""
    Path("scores.csv").write_text("series,model,segment,metric,value\n1.2.1,a,liver,dice,0.5\n1.2.2,a,liver,dice,0.7\n")
    (row,) = json.loads(voxfleet_cost(run, "--prices", "toy.toml", "--scores", "scores.csv", "--json").stdout)["scores"]
    assert (row["model"], row["series"], row["mean"]) == ("a 1.0", 2, pytest.approx(0.6))


def test_a_fleet_does_not_flood_the_terminal(run: Path) -> None:
    """Of many nodes the dearest are listed, and how many there are is said."""
    ledger = SqliteLedger(run / "ledger.sqlite")
    for number in range(30):
        ledger.node_up(f"m{number}", "toy", "o")
    time.sleep(0.01)
    for number in range(30):
        ledger.node_down(f"m{number}", "o")
    ledger.close()
    shown = voxfleet_cost(run, "--prices", "toy.toml").stdout
    assert "15 of 31, the dearest" in shown
    assert shown.count("(toy)") == 15


def test_names_stay_whole_beside_small_amounts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On 80 columns, where a run of hundredths of a cent has parts ten thousand times smaller, no name is broken."""
    monkeypatch.setenv("COLUMNS", "80")
    Path("toy.toml").write_text(PRICES.replace("360", "9.6").replace("ten cents", "0.27 cents"))
    ledger = SqliteLedger(run / "ledger.sqlite")
    ledger.node_up("m", "toy", "o")
    time.sleep(0.1)
    ledger.node_down("m", "o")
    ledger.close()
    lines = voxfleet_cost(run, "--prices", "toy.toml").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if " %" not in line and line.startswith(" "))
    first_words = {line.split()[0] for line in lines if line.split()}
    assert {"purpose", "useful", "start-up", "segment"} <= first_words


def test_an_old_price_is_told_once(run: Path) -> None:
    """One warning, with the day and what to do."""
    Path("old.toml").write_text(PRICES.replace("2026-11-01", "2020-01-01"))
    shown = voxfleet_cost(run, "--prices", "old.toml").stdout
    assert shown.count("2020-01-01): `voxfleet prices refresh") == 1


def test_reconcile_says_what_differs_and_ends_with_3(run: Path) -> None:
    """A bill on which nobody billed this run is 100 % off."""
    billing = Path(__file__).parent / "billing" / "aws_cur.csv"
    done = voxfleet_cost("reconcile", run, "--billing", billing, "--prices", "toy.toml", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["total"]["relative"] == "-1"


def test_a_bill_that_agrees_ends_with_0(run: Path) -> None:
    """The same amount on the bill as in the ledger, on the same day."""
    total = bill_of(SqliteLedger(run / "ledger.sqlite"), TOY).total
    row = {
        "service": {"description": "Compute Engine"},
        "sku": {"description": "N1 Predefined Instance Core running in Americas"},
        "usage_start_time": datetime.now(UTC).isoformat(),
        "labels": [{"key": "run", "value": "run"}],
        "cost": str(total),
        "currency": "USD",
    }
    Path("bill.jsonl").write_text(json.dumps(row))
    done = voxfleet_cost("reconcile", run, "--billing", "bill.jsonl", "--prices", "toy.toml")
    assert done.exit_code == 0, done.output
