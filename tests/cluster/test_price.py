"""Prices: of which source and day, and which are refused."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.price import (
    LOCAL_FAMILY,
    BadPrice,
    NoPrice,
    bundled_prices,
    price_of,
    read_prices,
)

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
        ("[[price]\n", "not TOML"),
        ('price = "much"', "tables"),
    ],
)
def test_bad_prices_are_refused(text: str, match: str) -> None:
    """Negative, absurd, of another currency, without source or day: refused, with the file's name."""
    with pytest.raises(BadPrice, match=match):
        read_prices(text, "p.toml")


def test_staleness() -> None:
    """A price warns from the 91st day on."""
    (price,) = read_prices(toml(), "p.toml")
    assert price.staleness(date(2027, 1, 30)) == ""  # 30 days of November and December's 31 and 29: 90
    assert "91 days old" in price.staleness(date(2027, 1, 31))


def test_per_second() -> None:
    """A second is the 3,600th of an hour."""
    (price,) = read_prices(toml(usd='"3.6"'), "p.toml")
    assert price.usd_per_s == Decimal("0.001")
