"""Machines of a run that are not its own one: told, found, kept, refused; each node is paid as what it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.kubernetes.group_prices import with_groups
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.group_price import group_prices, keep_group_prices, told_price
from voxfleet.cluster.prices.price import NoPrice, Price, price_of
from voxfleet.cluster.prices.rates import BadPrice

SPOT = price_of("g2-standard-4", "us-central1", "spot")
RUN = Run("r", "dir:/a", "dir:/b", ("m 1",), {}, "0", SPOT.machine, datetime(2026, 11, 21, tzinfo=UTC), price=SPOT)
TOY = Price("toy", "", "", "spot", Decimal(36), 1, "", 0, "paper", date(2026, 11, 1))


def test_told_by_machine_region_and_market() -> None:
    """Whole, or without market or region: those of the machine's first row; what is told comes before what is kept."""
    on_demand = price_of("g2-standard-4", "us-central1", "on-demand")
    assert group_prices(None, None, ["fallback=g2-standard-4:us-central1:on-demand"]) == {"fallback": on_demand}
    assert group_prices(None, None, [told_price("fallback", on_demand)]) == {"fallback": on_demand}
    assert group_prices(None, None, ["mine=g5.xlarge"]) == {"mine": price_of("g5.xlarge")}
    kept = replace(RUN, prices={"fallback": TOY, "cpu": TOY})
    assert group_prices(kept, SPOT, ["cpu=g5.xlarge::spot"]) == {
        "fallback": TOY,
        "cpu": price_of("g5.xlarge", "", "spot"),
    }


@pytest.mark.parametrize("text", ["fallback", "=g5.xlarge", "fallback=", "fallback=g5.xlarge:eu-west-1:spot:much"])
def test_another_form_is_refused(text: str) -> None:
    """The error shows the form."""
    with pytest.raises(BadPrice, match=r"GROUP=MACHINE\[:REGION\[:MARKET\]\]"):
        group_prices(None, None, [text])


def test_what_has_no_price_is_refused_with_the_file_to_add_it_to(tmp_path: Path) -> None:
    """As for the run's own machine."""
    (tmp_path / "p.toml").write_text("")
    with pytest.raises(NoPrice, match=r"abacus mars: no price known; add a .*p.toml"):
        group_prices(None, None, ["cpu=abacus:mars"], tmp_path / "p.toml")


def test_workers_to_fall_back_on_are_the_same_machine_on_demand() -> None:
    """An L4 of us-central1 is 0.706832255 US$ an hour on demand, whatever it is on spot; one told stays as told."""
    found = with_groups({}, {"spot", "fallback"}, SPOT)
    assert found["fallback"].usd_per_hour == Decimal("0.706832255")
    assert (found["fallback"].machine, found["fallback"].region) == ("g2-standard-4", "us-central1")
    assert with_groups({"fallback": TOY}, {"spot", "fallback"}, SPOT) == {"fallback": TOY}
    cpu = {"cpu": price_of("e2-standard-4", "us-central1", "spot")}
    beside = with_groups(cpu, {"spot", "cpu", "cpu-fallback"}, SPOT)["cpu-fallback"]
    assert (beside.machine, beside.usd_per_hour) == ("e2-standard-4", Decimal("0.13402284"))
    assert with_groups({"cpu": beside}, {"cpu", "cpu-fallback"}, SPOT)["cpu-fallback"] == beside
    assert with_groups({}, {"spot"}, SPOT) == {}
    assert with_groups({}, {"on-demand"}, SPOT) == {"on-demand": found["fallback"]}, "cells without spot machines"
    assert with_groups({}, {"spot", "fallback"}, found["fallback"]) == {}, "the run's price is that already"


def test_heads_of_cells_are_what_the_templates_make() -> None:
    """An e2-standard-4 of us-central1 is 0.13402284 US$ an hour, an m6i.xlarge of us-east-1 0.192, on demand.

    What is told stays; beside this machine, or one's own, a head costs nothing unless it is told.
    """
    assert with_groups({}, {"head"}, SPOT)["head"].usd_per_hour == Decimal("0.13402284")
    assert with_groups({}, {"head"}, price_of("g5.xlarge", "us-east-1"))["head"].usd_per_hour == Decimal("0.192")
    assert with_groups({"head": TOY}, {"head"}, SPOT) == {"head": TOY}
    for own in (price_of("local"), replace(TOY, market="owned")):
        assert with_groups({}, {"head"}, own) == {}
    with pytest.raises(NoPrice, match=r"m6i\.xlarge eu-west-1 on-demand: no price.*; or .*--price-of head=MACHINE"):
        with_groups({}, {"head"}, price_of("g5.xlarge", "eu-west-1"))
    with pytest.raises(NoPrice, match=r"heads of cells.*are not toy spot: .*--price-of head=MACHINE:REGION:MARKET"):
        with_groups({}, {"head"}, TOY)


def test_a_group_without_a_price_is_refused_with_what_to_do() -> None:
    """A machine that no list has on demand, and one without a GPU of which nothing was told."""
    with pytest.raises(NoPrice, match=r"toy on-demand: no price known; .*--price-of fallback=.*, or take --fallback 0"):
        with_groups({}, {"fallback"}, TOY)
    with pytest.raises(NoPrice, match=r"are not toy spot: .*--price-of cpu=MACHINE:REGION:MARKET"):
        with_groups({}, {"cpu"}, TOY)
    assert with_groups({"cpu": SPOT}, {"cpu"}, TOY) == {"cpu": SPOT}
    with pytest.raises(NoPrice, match=r"toy on-demand: no price.*--price-of cpu-fallback=.*, or take --cpu-fallback 0"):
        with_groups({"cpu": TOY}, {"cpu", "cpu-fallback"}, TOY)


def test_kept_prices_are_of_the_machine_that_the_run_began_on(tmp_path: Path) -> None:
    """On another one its groups are others; a file that is named comes before what is kept, as for the run's price."""
    on_demand = price_of("g2-standard-4", "us-central1", "on-demand")
    kept = replace(RUN, prices={"fallback": on_demand})
    assert group_prices(kept, SPOT, []) == {"fallback": on_demand}
    assert group_prices(kept, TOY, []) == {}
    (tmp_path / "p.toml").write_text(
        '[[price]]\nmachine = "g2-standard-4"\nregion = "us-central1"\nmarket = "on-demand"\n'
        'usd_per_hour = 2\nsource = "paper"\ndated = 2026-11-01\n'
    )
    assert group_prices(kept, SPOT, [], tmp_path / "p.toml")["fallback"].usd_per_hour == 2


def test_kept_with_the_run_and_a_change_is_an_event(tmp_path: Path) -> None:
    """A later command finds them; the same again changes nothing."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    run = ledger.create_run(RUN)
    keep_group_prices(ledger, run, {"cpu": TOY})
    keep_group_prices(ledger, ledger.run(), {"cpu": TOY})
    assert ledger.run().prices == {"cpu": TOY}
    assert [(event.kind, event.detail) for event in ledger.events()] == [
        ("price", "groups of machines: cpu: 36 US$/h (toy spot, 2026-11-01)")
    ]
