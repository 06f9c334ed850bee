"""A run keeps its price, whatever the tables say when it is looked at again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price, price_of
from voxfleet.cluster.prices.run_price import (
    CheaperPrice,
    begun_run,
    keep_price,
    price_change,
    price_for,
    price_to_go_on,
)
from voxfleet.cluster.run_folder import RunFolder
from voxfleet.enrich.phantom import CtIdentity, chest_phantom, write_ct_series

TOY = Price("toy", "", "", "on-demand", Decimal(36), 2, "", 0, "paper", date(2026, 11, 1))
RUN = Run("r", "dir:/a", "dir:/b", ("m 1",), {}, "0", "toy", datetime(2026, 11, 21, tzinfo=UTC), price=TOY)


def price_file(path: Path, usd_per_hour: int) -> Path:
    """A file with one price, of the machine `toy`."""
    path.write_text(
        f'[[price]]\nmachine = "toy"\nusd_per_hour = {usd_per_hour}\nsource = "paper"\ndated = 2026-11-01\n'
    )
    return path


def test_the_kept_price_comes_before_every_table() -> None:
    """A machine that no table knows has its price; so has the same machine named again."""
    assert price_for(RUN) == price_to_go_on(RUN) == price_for(RUN, "toy", "", "on-demand") == TOY


def test_what_is_asked_for_comes_before_the_kept_price(tmp_path: Path) -> None:
    """A file of prices, and another machine."""
    assert price_for(RUN, override=price_file(tmp_path / "p.toml", 99)).usd_per_hour == 99
    assert price_for(RUN, "g4dn.xlarge") == price_of("g4dn.xlarge")


def test_a_run_of_an_older_ledger_is_priced_by_the_table() -> None:
    """As it was before prices were kept."""
    old = replace(RUN, machine="g4dn.xlarge", region="us-east-1", market="on-demand", price=None)
    assert price_for(old) == price_of("g4dn.xlarge", "us-east-1", "on-demand")


def test_a_run_does_not_go_on_at_a_lower_price(tmp_path: Path) -> None:
    """At 35 $/h it is refused in one line with both prices; at 37 $/h it goes on, and the ledger says so."""
    with pytest.raises(CheaperPrice, match=r"35 US.*below the run's 36 US"):
        price_to_go_on(RUN, override=price_file(tmp_path / "p.toml", 35))
    dearer = price_to_go_on(RUN, override=price_file(tmp_path / "p.toml", 37))
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    keep_price(ledger, ledger.create_run(RUN), dearer)
    assert ledger.run().price == dearer
    assert [(event.kind, event.detail) for event in ledger.events()] == [("price", price_change(RUN, dearer))]


@pytest.mark.slow
def test_a_run_costs_the_same_wherever_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 36 $/h once: `cost`, `status`, `report` have that total without --prices; the same command goes on at it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    prices = price_file(tmp_path / "toy.toml", 36)
    phantom = chest_phantom(shape=(24, 64, 64), spacing_mm=(12.0, 5.6, 5.6), seed=1)
    write_ct_series(phantom.volume, tmp_path / "in", identity=CtIdentity.named("priced"))
    words = ["enrich", "in", "-m", "ct-threshold", "--to", "dir:out", "--run", "./run", "--json", "--budget", "50"]
    total = _total([*words, "--machine", "toy", "--prices", str(prices)])
    assert total > Decimal("0.001")
    prices.unlink()
    assert [_total([command, "./run", "--json"]) for command in ("status", "report")] == [total, total]
    assert total == pytest.approx(Decimal(_voxfleet(["cost", "./run", "--json"])["usd"]), rel=Decimal("1e-6"))
    assert _total(words) >= total
    assert price_for(begun_run(RunFolder("./run"))).usd_per_hour == 36


def _total(words: list[str]) -> Decimal:
    return Decimal(_voxfleet(words)["money"]["total"])


def _voxfleet(words: list[str]) -> dict:
    done = subprocess.run([sys.executable, "-m", "voxfleet", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
