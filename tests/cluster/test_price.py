"""Prices: of which source and day, and which are refused."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import typer
import voxfleet
from typer.testing import CliRunner
from voxfleet.cluster.commands import enrich
from voxfleet.cluster.prices.price import (
    LOCAL_FAMILY,
    BadPrice,
    NoPrice,
    bundled_prices,
    bundled_table,
    charge_of,
    price_of,
    read_prices,
    stale_note,
)
from voxfleet.cluster.prices.price_file import read_table, to_toml
from voxfleet.cluster.prices.rates import CHARGES

ROW = """
[[price]]
machine = "{machine}"
usd_per_hour = {usd}
source = "our invoice"
dated = 2026-11-01
{more}
"""


def toml(machine: str = "rack-7", usd: str = "1.25", more: str = "") -> str:
    """One price as TOML."""
    return ROW.format(machine=machine, usd=usd, more=more)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own for each test: no test reads the prices of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "voxfleet").mkdir()
    return tmp_path / "voxfleet" / "prices.toml"


@pytest.mark.parametrize(
    ("machine", "region", "market", "usd"),
    [
        ("g4dn.xlarge", "us-east-1", "on-demand", "0.526"),  # Karpenter's generated table, 2026-02-09
        ("g6.xlarge", "us-east-1", "on-demand", "0.8048"),
        ("g4dn.xlarge", "us-east-1", "spot", "0.1766"),  # Vantage's spot_avg of linux, 2025-11-30
        ("g5.xlarge", "eu-west-2", "spot", "0.3922"),
        ("p4d.24xlarge", "us-east-1", "spot", "8.59075"),
        ("g4dn.xlarge", "eu-west-1", "on-demand", "0.587"),
        ("g2-standard-4", "asia-northeast3", "spot", "0.199212"),
        ("n1-standard-4+t4", "europe-west2", "spot", "0.16893"),  # 0.05093 + 0.118
        ("n1-standard-4+t4", "us-central1", "spot", "0.22701"),  # 0.05201 + 0.175
        ("a2-highgpu-1g", "us-central1", "on-demand", "3.673385"),
    ],
)
def test_bundled(machine: str, region: str, market: str, usd: str) -> None:
    """The bundled figures are those of their sources."""
    assert price_of(machine, region, market).usd_per_hour == Decimal(usd)


def test_every_bundled_price_has_source_and_day() -> None:
    """Each row names a source and a day, and no two rows are of one machine, region and market."""
    rows = bundled_prices()
    assert all(row.source and row.dated <= date(2026, 11, 21) and row.usd_per_hour > 0 for row in rows)
    assert all(row.provider and row.region and row.cpu_cores for row in rows)
    assert len({(row.machine, row.region, row.market) for row in rows}) == len(rows)
    assert set(LOCAL_FAMILY) <= {row.machine for row in rows}
    machines = {
        "n1-standard-4+t4",
        "g2-standard-4",
        "a2-highgpu-1g",
        "g4dn.xlarge",
        "g5.xlarge",
        "g6.xlarge",
        "p4d.24xlarge",
    }
    regions = {machine: {row.region for row in rows if row.machine == machine} for machine in machines}
    assert all(len(found) >= 5 for found in regions.values()), regions
    spot = {(row.provider, row.machine.partition(".")[0]) for row in rows if row.market == "spot" and row.gpus}
    assert {("aws", each) for each in ("g4dn", "g5", "g6", "p4d")} <= spot
    listed = {(row.machine, row.region): row.usd_per_hour for row in rows if row.market == "on-demand"}
    assert all(
        row.usd_per_hour < listed.get((row.machine, row.region), row.usd_per_hour + 1)
        for row in rows
        if row.market == "spot"
    )


def test_every_bundled_charge_has_source_and_day() -> None:
    """Egress, NAT, storage and both classes of requests are known of AWS and GCP, each region once."""
    rows = bundled_table().charges
    assert {(row.provider, row.kind) for row in rows} == {(cloud, kind) for cloud in ("aws", "gcp") for kind in CHARGES}
    assert all(row.source and row.dated <= date(2026, 11, 21) and row.usd > 0 for row in rows)
    assert len({(row.kind, row.provider, row.region) for row in rows}) == len(rows)


def test_a_charge_of_a_region_comes_before_that_of_all() -> None:
    """NLST's 10.9 TB through Cloud NAT in us-central1 are 457 US$; me-west1 has its own price of egress."""
    rows = bundled_table().charges
    here = price_of("g2-standard-4", "us-central1")
    nat = charge_of(rows, "nat", here)
    assert nat is not None
    assert float(nat.usd) * 10.9e12 / 2**30 == pytest.approx(457, abs=0.5)
    egress = charge_of(rows, "egress", price_of("a2-highgpu-1g", "me-west1"))
    assert egress is not None
    assert egress.usd == Decimal("0.15")
    assert charge_of(rows, "egress", price_of("g4dn.xlarge", "eu-west-1")) is None


OWNED = """
[[owned]]
machine = "dgx"
gpu = "A100-40GB"
gpus = 8
source = "finance department"
dated = 2026-11-01
"""


def test_a_machine_of_ones_own_by_the_gpu_hour() -> None:
    """Eight GPUs at 0.75 US$ an hour each are 6 US$ an hour, and owned."""
    (price,) = read_prices(OWNED + "usd_per_gpu_hour = 0.75", "p.toml")
    assert (price.usd_per_hour, price.market, price.gpus) == (Decimal(6), "owned", 8)


def test_a_machine_of_ones_own_by_depreciation_and_power() -> None:
    """Written off over five years, busy half of them, with its power and the cooling of it."""
    # 87,660 US$ / (5 x 8,766 h) = 2 US$ an hour; 5 kW x 0.20 US$ x 1.5 = 1.5; (2 + 1.5) / 0.5 = 7 US$ a busy hour.
    text = "purchase_usd = 87660\nyears = 5\nbusy_share = 0.5\nwatts = 5000\nusd_per_kwh = 0.2\ncooling_factor = 1.5"
    (price,) = read_prices(OWNED + text, "p.toml")
    assert price.usd_per_hour == Decimal(7)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "purchase_usd, years, watts, usd_per_kwh"),
        ("usd_per_gpu_hour = 1\nwatts = 5", "one or the other"),
        ("usd_per_gpu_hour = -1", "no price"),
        ("purchase_usd = 1\nyears = 0\nwatts = 1\nusd_per_kwh = 1", "years"),
        ("purchase_usd = -1\nyears = 1\nwatts = 1\nusd_per_kwh = 1", "purchase_usd"),
        ("purchase_usd = 1\nyears = 1\nwatts = 1\nusd_per_kwh = 1\nbusy_share = 2", "busy_share"),
        ("purchase_eur = 1\nyears = 1\nwatts = 1\nusd_per_kwh = 1", "purchase_usd"),
        ("usd_per_gpu_hour = 1\ncurrency = 'EUR'", "currency"),
    ],
)
def test_what_cannot_be_meant_of_ones_own_machine_is_refused(text: str, match: str) -> None:
    """Neither price, both of them, nothing to write it off over, another currency."""
    with pytest.raises(BadPrice, match=match):
        read_prices(OWNED + text, "p.toml")


CHARGE = '[[charge]]\nkind = "{kind}"\nprovider = "aws"\nusd = {usd}\nsource = "s"\ndated = 2026-11-01\n'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (CHARGE.format(kind="toll", usd="0.1"), "egress"),
        (CHARGE.format(kind="egress", usd="-0.1"), "no price"),
        (CHARGE.format(kind="egress", usd="90"), "decimal point"),
        (CHARGE.format(kind="egress", usd="0.1") + 'currency = "EUR"', "currency"),
        (CHARGE.format(kind="egress", usd="0.1").replace('source = "s"', ""), "no source"),
        ("[[tariff]]\nusd = 1", "tariff"),
    ],
)
def test_bad_charges_are_refused(text: str, match: str) -> None:
    """Of a kind that nobody charges, negative, absurd, of another currency, without source; with the file's name."""
    with pytest.raises(BadPrice, match=rf"^p\.toml: .*{match}"):
        read_table(text, "p.toml")


def test_what_is_written_is_read_back() -> None:
    """The bundled machines, written and read, are the same; quotes and backslashes in a source do no harm."""
    rows = bundled_prices()
    assert read_prices(to_toml(rows, "two\nlines"), "p.toml") == rows
    (odd,) = read_prices(toml(more="gpu = 'T\"4\\'"), "p.toml")
    assert read_prices(to_toml([odd], ""), "p.toml") == (odd,)


def test_the_file_in_the_documentation_is_read() -> None:
    """COST.md's example holds a price, two machines of one's own and a charge."""
    # 6,500 US$ over 4 x 8,766 h are 0.18537 an hour; 650 W x 0.31 x 1.2 are 0.2418; of a busy hour, at 30 %: 1.42392.
    page = (Path(voxfleet.__file__).parent / "cluster" / "COST.md").read_text()
    table = read_table(page.partition("```toml\n")[2].partition("```")[0], "COST.md")
    dollars = {price.machine: float(price.usd_per_hour) for price in table.prices}
    assert dollars == pytest.approx({"g4dn.xlarge": 0.41, "dgx": 6.0, "workstation": 1.42392}, abs=1e-5)
    assert [charge.kind for charge in table.charges] == ["egress"]


def test_one_warning_for_all_that_is_old() -> None:
    """However many prices are old, one line says so, with the oldest day and how to get newer ones."""
    today = date(2026, 11, 21)
    note = stale_note(bundled_prices(), today)
    assert "2025-03-06" in note
    assert "voxfleet prices refresh" in note
    assert "\n" not in note
    (fresh,) = read_prices(toml(), "p.toml")
    assert stale_note([fresh], today) == ""


@pytest.mark.parametrize(
    ("cores", "like"), [(1, "m6i.large"), (2, "m6i.large"), (3, "m6i.xlarge"), (500, "m6i.32xlarge")]
)
def test_this_machine(cores: int, like: str) -> None:
    """The machine one sits at costs what the smallest m6i with as many cores costs, and says so."""
    price = price_of("local", cpu_cores=cores)
    assert (price.machine, price.equivalent_of) == ("local", like)
    assert price.usd_per_hour == price_of(like).usd_per_hour


def test_own_file_comes_first(own_folder: Path) -> None:
    """A user's own price replaces the bundled one, and prices this machine too."""
    own_folder.write_text(toml("g4dn.xlarge", '"0.40"') + toml("local", "0.1"))
    assert price_of("g4dn.xlarge").usd_per_hour == Decimal("0.40")
    assert (price_of("local").usd_per_hour, price_of("local").equivalent_of) == (Decimal("0.1"), "")


def test_given_file_comes_before_own(own_folder: Path, tmp_path: Path) -> None:
    """A file named on the command line is used instead of the user's own."""
    own_folder.write_text(toml("rack-7", "9"))
    (tmp_path / "p.toml").write_text(toml("rack-7", "1.25"))
    assert price_of("rack-7", override=tmp_path / "p.toml").usd_per_hour == Decimal("1.25")


def test_no_price_names_the_file(own_folder: Path) -> None:
    """What has no price is refused, with the file to add it to."""
    with pytest.raises(NoPrice, match=re.escape(str(own_folder))):
        price_of("h100-in-the-cellar")
    with pytest.raises(NoPrice, match=r"g4dn\.xlarge mars-1"):
        price_of("g4dn.xlarge", "mars-1")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--machine", "h100-in-the-cellar"), "h100-in-the-cellar"),
        (("--machine", "g4dn.xlarge", "--region", "mars-1"), r"mars-1.*prices\.toml"),
        (
            ("--machine", "g4dn.xlarge", "--region", "ap-northeast-1", "--market", "spot"),
            r"spot.*prices\.toml.*`voxfleet prices refresh --from skypilot",
        ),
    ],
)
def test_a_run_without_a_price_is_not_begun(
    own_folder: Path, tmp_path: Path, words: tuple[str, ...], match: str
) -> None:
    """No machine, no region, no market without a price: refused before a folder is made, with the file to add it to."""
    app = typer.Typer()
    app.command()(enrich)
    (tmp_path / "in").mkdir()
    run = tmp_path / "runs" / "one"
    arguments = [str(tmp_path / "in"), "-m", "ct-threshold", "--to", f"dir:{tmp_path}/out", "--run", str(run)]
    done = CliRunner().invoke(app, [*arguments, *words])
    assert isinstance(done.exception, NoPrice)
    assert re.search(match, str(done.exception))
    assert not run.exists()


def test_given_file_must_be_there(tmp_path: Path) -> None:
    """A file that was asked for and is not there is an error."""
    with pytest.raises(NoPrice, match=r"absent\.toml"):
        price_of("local", override=tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (toml(usd="-0.1"), "no price"),
        (toml(usd="nan"), "no price"),
        (toml(usd="inf"), "no price"),
        (toml(usd="52600"), "decimal point"),
        (toml(usd='"cheap"'), "no number"),
        (toml(more='eur_per_hour = "1"'), "eur_per_hour"),
        (toml(more='currency = "EUR"'), "currency"),
        (toml().replace('source = "our invoice"\n', ""), "no source"),
        (toml().replace("dated = 2026-11-01", 'dated = "last week"'), "last week"),
        (toml().replace("dated = 2026-11-01", "dated = 9999-09-01"), "future"),
        (toml().replace("dated = 2026-11-01", "dated = 2026-11-01T10:00:00Z"), "not a day"),
        ("[[price]\n", "not TOML"),
        ('price = "much"', "tables"),
    ],
)
def test_bad_prices_are_refused(text: str, match: str) -> None:
    """Negative, absurd, of another currency, without source or day: refused, with the file's name."""
    with pytest.raises(BadPrice, match=rf"^p\.toml: .*{match}"):
        read_prices(text, "p.toml")


def test_a_price_is_old_from_the_91st_day_on() -> None:
    """Of the first of November: 30 days of it, 31 of December and 29 of January are 90."""
    rows = read_prices(toml(), "p.toml")
    assert stale_note(rows, date(2027, 1, 30)) == ""
    assert "91 days old (2026-11-01)" in stale_note(rows, date(2027, 1, 31))


def test_per_second() -> None:
    """A second is the 3,600th of an hour."""
    (price,) = read_prices(toml(usd='"3.6"'), "p.toml")
    assert price.usd_per_s == Decimal("0.001")
