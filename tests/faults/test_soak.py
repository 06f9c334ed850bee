"""Thousands of workitems under random kills: every one done or quarantined, outputs equal done, nothing twice."""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import psutil
import pytest
from voxfleet.cluster.ledger import AttemptClass

if TYPE_CHECKING:
    from conftest import StubFleet

LEASE_S = 5.0
NODES = ("a", "b")


def _items(number: int) -> Iterator[Mapping[str, str]]:
    """Good ones; one in a hundred fails in its stage, and one in a thousand crashes it each time."""
    for n in range(number):
        fault = "segfault" if n % 1000 == 500 else "raise" if n % 100 == 50 else ""
        yield {"fault": fault, "seconds": "0.02"} if fault else {"seconds": "0.02"}


def _harm(fleet: StubFleet, chance: random.Random) -> str:
    """Kill a child, kill a driver, or stop a driver past its lease, of those at work; which."""
    node, what = chance.choice(NODES), chance.random()
    driver, children = fleet.drivers[node], fleet.children(node)
    if not children:
        return "nothing"
    if what < 0.5:
        try:
            fleet.harm(node, signal.SIGKILL, chance.choice(children))
        except psutil.NoSuchProcess:
            return "nothing"
        return "child killed"
    if what < 0.75:
        fleet.harm(node, signal.SIGKILL)
        driver.wait()
        fleet.start(node, "--lease-s", LEASE_S)
        return "driver killed"
    while not fleet.frozen(node, 1):
        time.sleep(0.02)
        if driver.poll() is not None:
            return "nothing"
    fleet.until(lambda: not fleet.held(node))
    driver.send_signal(signal.SIGCONT)
    return "driver stopped past its lease"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "every_s"),
    [(500, 1.0), pytest.param(10_000, 3.0, marks=[pytest.mark.long, pytest.mark.timeout(3000)])],
)
def test_soak(
    stub_fleet: Callable[..., StubFleet], record_property: Callable[[str, object], None], number: int, every_s: float
) -> None:
    """Two drivers, a random kill every few seconds: nothing is lost, nothing is doubled, all is accounted for."""
    fleet, chance, harms = stub_fleet(_items(number)), random.Random(number), Counter[str]()
    begun = time.monotonic()
    for node in NODES:
        fleet.start(node, "--lease-s", LEASE_S)
    while fleet.ledger.counts().open:
        time.sleep(every_s)
        assert time.monotonic() - begun < 2800
        harms[_harm(fleet, chance)] += 1
        for node in NODES:
            if (code := fleet.drivers[node].poll()) is not None:
                assert code == 0, (fleet.folder / "log").read_text()[-2000:]
                fleet.start(node, "--lease-s", LEASE_S)
    seconds = round(time.monotonic() - begun)
    for driver in fleet.drivers.values():
        assert driver.wait(60) == 0
    quarantined = sum("fault" in each for each in _items(number))
    ended = fleet.check(quarantined)
    found = sum(each.object.already_there for each in fleet.ledger.stored())
    figures = {"items": number, "seconds": seconds, **harms, "done": ended[AttemptClass.COMPLETED], "found": found}
    record_property("soak", json.dumps({**figures, "quarantined": quarantined, "outputs": len(fleet.stored())}))
    of_drivers = harms["driver killed"] + harms["driver stopped past its lease"]
    assert ended[AttemptClass.LOST] <= harms["child killed"] + 3 * of_drivers
