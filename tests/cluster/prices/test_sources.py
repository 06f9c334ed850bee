"""Sources of prices: small files of their real schemas, read from a file and from a server on this machine."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner
from voxfleet.cluster.prices import aws, gcp, gpuhunt, skypilot, source
from voxfleet.cluster.prices.command import prices
from voxfleet.cluster.prices.price import bundled_table, price_of, refreshed_path
from voxfleet.cluster.prices.rates import Price
from voxfleet.cluster.prices.source import ENTRY_POINTS, RefreshError, UnknownSource, Wanted

HERE = Path(__file__).parent
KNOWN = {price.machine: price for price in reversed(bundled_table().prices)}


def wanted(*machines: str, regions: tuple[str, ...] = ()) -> Wanted:
    """These machines, as the bundled table knows them."""
    return Wanted({name: KNOWN.get(name) for name in machines}, frozenset(regions))


def by_place(found: list[Price]) -> dict[tuple[str, str, str], Price]:
    """Prices by machine, region and market."""
    rows = {(price.machine, price.region, price.market): price for price in found}
    assert len(rows) == len(found)
    return rows


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], str]]:
    """A server of these answers, by path and query; its address."""
    servers = []

    def start(answers: dict[str, bytes]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answers.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Last-Modified", "Tue, 17 Nov 2026 09:00:00 GMT")
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_skypilot_aws() -> None:
    """Of several zones the cheapest; a zone without a spot price has none; eight GPUs are eight."""
    place = str(HERE / "skypilot_aws_vms.csv")
    rows = by_place(list(skypilot.read(place, wanted("g4dn.xlarge", "p4d.24xlarge"))))
    assert {key: price.usd_per_hour for key, price in rows.items()} == {
        ("g4dn.xlarge", "us-east-1", "on-demand"): Decimal("0.526"),
        ("g4dn.xlarge", "us-east-1", "spot"): Decimal("0.1902"),
        ("g4dn.xlarge", "eu-west-1", "on-demand"): Decimal("0.587"),
        ("p4d.24xlarge", "us-east-1", "on-demand"): Decimal("21.957642"),
        ("p4d.24xlarge", "us-east-1", "spot"): Decimal("9.11"),
    }
    large = rows["p4d.24xlarge", "us-east-1", "spot"]
    assert (large.provider, large.gpu, large.gpus, large.cpu_cores, large.memory_gib) == (
        "aws",
        "A100-40GB",
        8,
        96,
        1152,
    )


def test_skypilot_gcp() -> None:
    """On GCP a machine's row is without its GPU, whose own row is added; where that is missing, there is no price."""
    # 0.73948 + 2.93391 = 3.67339; 0.36975 + 1.46694 = 1.83669; 0.19 + 0.35 = 0.54; 0.04 + 0.175 = 0.215
    place = str(HERE / "skypilot_gcp_vms.csv")
    rows = by_place(list(skypilot.read(place, wanted("a2-highgpu-1g", "n1-standard-4+t4", "n1-standard-4"))))
    assert {key: price.usd_per_hour for key, price in rows.items()} == {
        ("a2-highgpu-1g", "us-central1", "on-demand"): Decimal("3.67339"),
        ("a2-highgpu-1g", "us-central1", "spot"): Decimal("1.83669"),
        ("n1-standard-4+t4", "us-central1", "on-demand"): Decimal("0.54"),
        ("n1-standard-4+t4", "us-central1", "spot"): Decimal("0.215"),
        ("n1-standard-4", "us-central1", "on-demand"): Decimal("0.19"),
        ("n1-standard-4", "us-central1", "spot"): Decimal("0.04"),
        ("n1-standard-4", "me-west1", "on-demand"): Decimal("0.209"),
        ("n1-standard-4", "me-west1", "spot"): Decimal("0.04038"),
    }
    with_gpu = rows["n1-standard-4+t4", "us-central1", "spot"]
    assert (with_gpu.gpu, with_gpu.gpus, with_gpu.gpu_usd_per_hour) == ("T4", 1, Decimal("0.175"))


def test_skypilot_from_a_server(serve: Callable[[dict[str, bytes]], str]) -> None:
    """What was fetched is dated by the server, and only the regions asked for are kept."""
    address = serve({"/vms.csv": (HERE / "skypilot_aws_vms.csv").read_bytes()}) + "/vms.csv"
    (price,) = skypilot.read(address, wanted("g4dn.xlarge", regions=("eu-west-1",)))
    assert (price.region, price.dated) == ("eu-west-1", date(2026, 11, 17))
    assert address in price.source


def test_gpuhunt(tmp_path: Path) -> None:
    """Zones are taken together; GPUs of one name told apart; a machine with other GPUs than the table's is another."""
    archive = tmp_path / "catalog.zip"
    with zipfile.ZipFile(archive, "w") as file:
        info = zipfile.ZipInfo("gcp.csv", (2026, 11, 15, 4, 0, 0))
        file.writestr(info, (HERE / "gpuhunt_gcp.csv").read_text())
        file.writestr("runpod.csv", "not,read\n")
    names = ("n1-standard-4", "n1-standard-4+t4", "a2-highgpu-1g", "a2-ultragpu-1g")
    rows = by_place(list(gpuhunt.read(str(archive), wanted(*names))))
    assert {key: price.usd_per_hour for key, price in rows.items()} == {
        ("n1-standard-4", "us-central1", "on-demand"): Decimal("0.189999"),
        ("n1-standard-4+t4", "us-central1", "on-demand"): Decimal("0.539999"),
        ("n1-standard-4+t4", "us-central1", "spot"): Decimal("0.22701"),
        ("a2-highgpu-1g", "us-central1", "on-demand"): Decimal("3.673385"),
        ("a2-ultragpu-1g", "us-central1", "on-demand"): Decimal("5.06879789"),
    }
    assert rows["a2-ultragpu-1g", "us-central1", "on-demand"].gpu == "A100-80GB"
    assert {price.dated for price in rows.values()} == {date(2026, 11, 15)}


def sku(
    description: str, nanos: int, usage: str = "OnDemand", currency: str = "USD", family: str = "Compute"
) -> object:
    """One SKU as the Catalog API answers it."""
    return {
        "name": "services/6F81-5844-456A/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": "N1Standard",
            "usageType": usage,
        },
        "serviceRegions": ["us-central1", "us-east1"],
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": "h",
                    "displayQuantity": 1,
                    "tieredRates": [
                        {"startUsageAmount": 0, "unitPrice": {"currencyCode": currency, "units": "0", "nanos": nanos}}
                    ],
                },
                "currencyConversionRate": 1,
                "effectiveTime": "2026-11-16T08:00:00Z",
            }
        ],
        "serviceProviderName": "Google",
    }


SKUS = [
    sku("N1 Predefined Instance Core running in Americas", 31_611_000),
    sku("N1 Predefined Instance Ram running in Americas", 4_237_000),
    sku("Nvidia Tesla T4 GPU running in Americas", 350_000_000),
    sku("Spot Preemptible N1 Predefined Instance Core running in Americas", 8_000_000, "Preemptible"),
    sku("Spot Preemptible N1 Predefined Instance Ram running in Americas", 1_000_000, "Preemptible"),
    sku("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Americas", 140_000_000, "Preemptible"),
    sku("Commitment v1: Cpu in Americas for 1 Year", 19_915_000, "Commit1Yr"),
    sku("N1 Predefined Instance Core Sole Tenancy running in Americas", 99_000_000),
    sku("Custom Instance Core running in Americas", 33_174_000),
    sku("Network Internet Egress", 120_000_000, family="Network"),
]


def test_gcp_from_its_pages(serve: Callable[[dict[str, bytes]], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are put together from cores, memory and GPU over several pages of the API."""
    # 4 x 0.031611 + 15 x 0.004237 = 0.189999, which is the listed price; and 0.35 = 0.539999.
    # 4 x 0.008 + 15 x 0.001 = 0.047; and 0.14 = 0.187.
    monkeypatch.setenv("VOXFLEET_GCP_API_KEY", "k")
    first, second = {"skus": SKUS[:4], "nextPageToken": "next"}, {"skus": SKUS[4:], "nextPageToken": ""}
    address = serve(
        {
            "/skus?key=k&pageSize=5000&pageToken=": json.dumps(first).encode(),
            "/skus?key=k&pageSize=5000&pageToken=next": json.dumps(second).encode(),
        }
    )
    names = wanted("n1-standard-4", "n1-standard-4+t4", "g2-standard-4", regions=("us-central1",))
    rows = by_place(list(gcp.read(f"{address}/skus", names)))
    assert {key: price.usd_per_hour for key, price in rows.items()} == {
        ("n1-standard-4", "us-central1", "on-demand"): Decimal("0.189999"),
        ("n1-standard-4", "us-central1", "spot"): Decimal("0.047"),
        ("n1-standard-4+t4", "us-central1", "on-demand"): Decimal("0.539999"),
        ("n1-standard-4+t4", "us-central1", "spot"): Decimal("0.187"),
    }


def test_gcp_in_another_currency_is_refused(tmp_path: Path) -> None:
    """Euros are not taken for dollars."""
    file = tmp_path / "skus.json"
    file.write_text(json.dumps({"skus": [sku("N1 Predefined Instance Core running in Americas", 1, currency="EUR")]}))
    with pytest.raises(RefreshError, match="EUR"):
        list(gcp.read(str(file), wanted("n1-standard-4")))


def test_gcp_asks_for_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is asked, and the variable is named."""
    monkeypatch.delenv("VOXFLEET_GCP_API_KEY", raising=False)
    with pytest.raises(RefreshError, match="VOXFLEET_GCP_API_KEY"):
        list(gcp.read("", wanted("n1-standard-4")))


def test_aws_offer_file() -> None:
    """Only ordinary Linux machines on demand: no Windows, no reservation, nothing upfront."""
    rows = by_place(list(aws.read(str(HERE / "aws_index.csv"), wanted("g4dn.xlarge", "p4d.24xlarge"))))
    assert {key: price.usd_per_hour for key, price in rows.items()} == {
        ("g4dn.xlarge", "us-east-1", "on-demand"): Decimal("0.526"),
        ("p4d.24xlarge", "us-east-1", "on-demand"): Decimal("21.957642"),
    }
    large = rows["p4d.24xlarge", "us-east-1", "on-demand"]
    assert (large.gpu, large.gpus, large.memory_gib, large.dated) == ("A100-40GB", 8, 1152, date(2026, 11, 18))


@pytest.mark.parametrize(
    ("read", "content", "match"),
    [
        (skypilot.read, "a,b\n1,2\n", "InstanceType"),
        (skypilot.read, (HERE / "skypilot_aws_vms.csv").read_text().replace("0.526", "cheap"), "no number"),
        (gpuhunt.read, "no archive", "no catalogue"),
        (gcp.read, "{", "no JSON"),
        (gcp.read, '{"skus": [{"description": "N1"}]}', "category"),
        (aws.read, "a,b\n1,2\n", "no offer file"),
        (aws.read, (HERE / "aws_index.csv").read_text().replace('"USD"', '"CNY"'), "CNY"),
    ],
)
def test_what_is_no_catalogue_is_refused(read: source.Source, content: str, match: str, tmp_path: Path) -> None:
    """The error names what is wrong, and nothing is taken from such a file."""
    (tmp_path / "file").write_text(content)
    with pytest.raises(RefreshError, match=match):
        list(read(str(tmp_path / "file"), wanted("g4dn.xlarge")))


def test_what_cannot_be_read_is_said_without_its_query(serve: Callable[[dict[str, bytes]], str]) -> None:
    """Neither an absent file nor an address that answers 404 goes by, and no key stands in the message."""
    with pytest.raises(RefreshError, match=r"nothing-here"), source.opened("nothing-here"):
        pass
    address = serve({})
    with pytest.raises(RefreshError, match="404") as caught, source.opened(f"{address}/skus?key=secret"):
        pass
    assert "secret" not in str(caught.value)


def test_every_source_has_a_file_and_an_entry_point() -> None:
    """The files in ``cluster/prices``, and what the package offers, are the same sources."""
    files = {path.stem for path in Path(source.__file__).parent.glob("*.py") if "\ndef read(" in path.read_text()}
    assert {each.name for each in entry_points(group=ENTRY_POINTS)} == files
    with pytest.raises(UnknownSource, match="skypilot"):
        source.source("oracle")


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "voxfleet").mkdir()
    return tmp_path / "voxfleet"


def test_refreshed_prices_come_before_the_bundled_and_after_the_users_own(own_folder: Path) -> None:
    """What was refreshed is used from then on; a price that the user wrote stays."""
    place = HERE / "skypilot_aws_vms.csv"
    done = CliRunner().invoke(prices, ["refresh", "--from", "skypilot", str(place)])
    assert done.exit_code == 0, done.output
    assert refreshed_path("skypilot").is_file()
    found = price_of("g4dn.xlarge", "us-east-1", "spot")
    assert (found.usd_per_hour, found.gpu, found.memory_gib) == (Decimal("0.1902"), "T4", 16)
    assert "SkyPilot" in found.source
    row = '[[price]]\nmachine = "g4dn.xlarge"\nregion = "us-east-1"\nmarket = "spot"\n'
    (own_folder / "prices.toml").write_text(f'{row}usd_per_hour = "0.1"\nsource = "contract"\ndated = 2026-11-01\n')
    assert price_of("g4dn.xlarge", "us-east-1", "spot").source == "contract"


def test_a_refresh_that_finds_nothing_changes_nothing(own_folder: Path) -> None:
    """Another file, another region: what was known stays as it was."""
    done = CliRunner().invoke(prices, ["refresh", "--from", "aws", str(HERE / "aws_index.csv"), "--region", "mars-1"])
    assert isinstance(done.exception, RefreshError)
    assert not refreshed_path("aws").exists()


def test_the_list_says_what_is_old(own_folder: Path) -> None:
    """One warning for all that is old, with the oldest day and what to do; JSON has every row."""
    shown = CliRunner().invoke(prices, [])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("voxfleet prices refresh") == 1
    document = json.loads(CliRunner().invoke(prices, ["--json"]).stdout)
    assert {row["machine"] for row in document["prices"]} == set(KNOWN)
    assert {row["kind"] for row in document["charges"]} == {
        "egress", "nat", "storage", "write-requests", "read-requests"
    }  # fmt: skip


def test_a_machine_without_a_price_is_told_with_the_way_to_one(own_folder: Path) -> None:
    """Nothing is listed, and the user's own file and the catalogues are named."""
    done = CliRunner().invoke(prices, ["--machine", "abacus", "--region", "mars"])
    assert done.exit_code == 0
    assert "no price of abacus mars" in done.output
    assert "prices.toml" in done.output
    assert "refresh --from" in done.output
    assert "no price of" not in CliRunner().invoke(prices, ["--machine", "g4dn"]).output
