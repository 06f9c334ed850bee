"""Which cells are created, replaced and removed: decided without a server and without a clock."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.cluster.kubernetes.replacing import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_DEATHS,
    Create,
    End,
    Remove,
    Replacing,
    Work,
)

TWO = {"r-c0": 20, "r-c1": 20}
BUSY = Work(open_items=100, settled=0, may_begin=True, leasable=100)
EMPTY = Work(open_items=0, settled=100, may_begin=True, leasable=0)


def test_all_are_created_once() -> None:
    """What is not there is created; what is there is left alone, whatever it is at."""
    fleet = Replacing(TWO)
    assert fleet.handle({}, BUSY, 0) == (Create("r-c0"), Create("r-c1"))
    for state in ("", "Initializing", "Running", "Suspended", "Retrying"):
        assert fleet.handle({"r-c0": state, "r-c1": "Running"}, BUSY, 1) == ()


def test_a_dead_cell_is_removed_after_a_pause_and_created_once_it_is_gone() -> None:
    """Failed, and complete with work left, are both dead; until the old one's machines are gone there is no new one."""
    for ending in ("Failed", "Complete"):
        fleet = Replacing({"r-c0": 20})
        fleet.handle({"r-c0": "Running"}, BUSY, 0)
        assert fleet.handle({"r-c0": ending}, BUSY, 100) == ()
        assert fleet.handle({"r-c0": ending}, BUSY, 99 + FIRST_PAUSE_S) == ()
        (removed,) = fleet.handle({"r-c0": ending}, BUSY, 101 + FIRST_PAUSE_S)
        assert removed == Remove("r-c0", f"{ending}, and work is left")
        assert fleet.handle({"r-c0": "Deleting"}, BUSY, 102 + FIRST_PAUSE_S) == ()
        assert fleet.handle({}, BUSY, 103 + FIRST_PAUSE_S) == (Create("r-c0"),)


def test_a_cell_that_vanished_is_created_anew_after_a_pause() -> None:
    """Somebody deleted it, or its namespace was emptied."""
    fleet = Replacing({"r-c0": 20})
    fleet.handle({"r-c0": "Running"}, BUSY, 0)
    assert fleet.handle({}, BUSY, 10) == ()
    assert fleet.handle({}, BUSY, 11 + FIRST_PAUSE_S) == (Create("r-c0"),)


def die_at_once(fleet: Replacing, work: Work, now: float) -> float:
    """A cell is created and fails; seconds until it is removed."""
    assert fleet.handle({}, work, now) == (Create("r-c0"),)
    fleet.handle({"r-c0": "Running"}, work, now)
    waited = 0.0
    while not fleet.handle({"r-c0": "Failed"}, work, now + waited):
        waited += 1
        assert waited < 2 * LONGEST_PAUSE_S
    return waited


def test_however_many_die_at_once_there_is_a_pause() -> None:
    """Two thousand cells in one look: no number is too large, and none is removed before the longest pause."""
    workers = {f"r-c{number}": 1 for number in range(2000)}
    fleet = Replacing(workers)
    fleet.handle(dict.fromkeys(workers, "Running"), BUSY, 0)
    fleet.handle(dict.fromkeys(workers, "Failed"), BUSY, 10)
    some_done = replace(BUSY, settled=1)
    removed = fleet.handle(dict.fromkeys(workers, "Failed"), some_done, 10 + LONGEST_PAUSE_S)
    assert len(removed) == len(workers)


def test_pauses_grow_while_nothing_is_done_and_then_cells_are_given_up() -> None:
    """Twice as long from death to death; after five in a row with nothing settled the fleet ends with a failure."""
    fleet, now, pauses = Replacing({"r-c0": 20}), 0.0, []
    for _ in range(MOST_DEATHS - 1):
        pauses.append(die_at_once(fleet, BUSY, now))
        now += 10_000
    assert pauses == [FIRST_PAUSE_S * 2**death for death in range(MOST_DEATHS - 1)]
    fleet.handle({}, BUSY, now)
    fleet.handle({"r-c0": "Running"}, BUSY, now)
    (end,) = fleet.handle({"r-c0": "Failed"}, BUSY, now)
    assert isinstance(end, End)
    assert end.failure == "5 cells ended in a row with nothing settled between"


def test_progress_makes_pauses_short_again() -> None:
    """Cells that do some work before they die are replaced as long as there is work."""
    fleet, now = Replacing({"r-c0": 20}), 0.0
    for death in range(3 * MOST_DEATHS):
        assert die_at_once(fleet, replace(BUSY, settled=death + 1), now) == FIRST_PAUSE_S
        now += 10_000


def test_cells_that_did_their_part_may_all_end_at_once() -> None:
    """Eight at the end of their time, or found ended by a command that begins: all come again after the first pause."""
    cells = {f"r-c{number}": 1 for number in range(8)}
    running, ended = dict.fromkeys(cells, "Running"), dict.fromkeys(cells, "Failed")
    worked, began = Replacing(cells), Replacing(cells)
    worked.handle(running, BUSY, 0)
    for fleet in (worked, began):
        assert fleet.handle(ended, replace(BUSY, settled=1), 10) == ()
        assert len(fleet.handle(ended, replace(BUSY, settled=1), 10 + FIRST_PAUSE_S)) == len(cells)
    idle = Replacing(cells)
    idle.handle(running, BUSY, 0)
    (end,) = idle.handle(ended, BUSY, 10)
    assert isinstance(end, End)


def test_nodes_are_kept_to_their_number() -> None:
    """With room for 50 workers there are two cells of 20; another comes when one has gone with its machines."""
    fleet = Replacing({"r-c0": 20, "r-c1": 20, "r-c2": 20}, most_nodes=50)
    assert fleet.handle({}, BUSY, 0) == (Create("r-c0"), Create("r-c1"))
    up = {"r-c0": "Running", "r-c1": "Running"}
    assert fleet.handle(up, BUSY, 1) == ()
    assert fleet.handle(up | {"r-c1": "Deleting"}, BUSY, 2) == ()
    assert fleet.handle(up | {"r-c1": "Failed"}, BUSY, 3) == ()
    assert fleet.handle({"r-c0": "Running"}, BUSY, 4) == (Create("r-c2"),)


def test_nothing_is_begun_without_money_or_work() -> None:
    """No cell is created; one that waits for machines is removed; one at work is left to end; then the fleet ends."""
    for work in (EMPTY, replace(BUSY, settled=50, may_begin=False)):
        fleet = Replacing(TWO)
        assert fleet.handle({"r-c0": "Running", "r-c1": "Initializing"}, work, 0) == (
            Remove("r-c1", "nothing more is begun"),
        )
        assert fleet.handle({"r-c0": "Running", "r-c1": "Deleting"}, work, 1) == ()
        assert fleet.handle({"r-c0": "Complete"}, work, 2) == (End(),)


def test_a_cell_that_left_has_not_died() -> None:
    """It is removed at once, however often, and costs the others no pause; it is back when there is work for it."""
    fleet, nodes = Replacing(TWO), {"r-c0": 20}
    fleet.handle({"r-c0": "Running", "r-c1": "Running"}, BUSY, 0)
    for life in range(2 * MOST_DEATHS):
        now, none = 1000.0 * life, replace(BUSY, leasable=0, left=frozenset({"r-c1"}), nodes=nodes)
        removed = Remove("r-c1", "Complete, there was nothing to lease")
        assert fleet.handle({"r-c0": "Running", "r-c1": "Complete"}, none, now) == (removed,)
        assert fleet.handle({"r-c0": "Running"}, none, now + 1) == ()
        back = replace(none, leasable=1)
        assert fleet.handle({"r-c0": "Running"}, back, now + 2) == (), "the cell at work may yet take it"
        assert fleet.handle({"r-c0": "Running"}, back, now + 3) == (Create("r-c1"),)
        fleet.handle({"r-c0": "Running", "r-c1": "Running"}, replace(back, left=frozenset()), now + 4)
    fleet.handle({"r-c0": "Failed", "r-c1": "Running"}, BUSY, 20_000)
    assert fleet.handle({"r-c0": "Failed", "r-c1": "Running"}, BUSY, 20_001 + FIRST_PAUSE_S) != ()


def test_no_more_cells_come_than_there_is_something_to_lease_for() -> None:
    """Cells of 20 workers: none for nothing, one for up to 20 workitems, two for 21.

    What is on its way counts, in cells that wait for machines as in those that have some; what is up takes what it can.
    """
    names = {f"r-c{number}": 20 for number in range(4)}
    for leasable, there, up, created in (
        *((0, 0, 0, 0), (1, 0, 0, 1), (20, 0, 0, 1), (21, 0, 0, 2)),
        *((20, 1, 0, 0), (41, 1, 0, 2), (5, 1, 15, 0), (6, 1, 15, 1), (1, 1, 20, 1)),
    ):
        states = {f"r-c{number}": "Running" if up else "Initializing" for number in range(there)}
        actions = Replacing(names).handle(states, replace(BUSY, leasable=leasable, nodes={"r-c0": up}), 0)
        assert len(actions) == created, (leasable, there, up)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), cells=st.integers(1, 5), most=st.sampled_from([None, 25, 60]))
def test_whatever_dies_the_run_ends_and_nodes_are_few_enough(seed: int, cells: int, most: int | None) -> None:
    """Cells that start, work, die, vanish and are deleted at random: work left is done in the end, or given up."""
    chance, now, left, total = random.Random(seed), 0.0, 40, 40
    names = {f"r-c{number}": 20 for number in range(cells)}
    fleet, there = Replacing(names, most), dict[str, str]()
    for _ in range(5000):
        actions = fleet.handle(there, Work(left, total - left, may_begin=True, leasable=left), now)
        for action in actions:
            if isinstance(action, End):
                assert not left or action.failure
                return
            if isinstance(action, Create):
                assert action.name not in there
                there[action.name] = ""
            else:
                there[action.name] = "Deleting"
        assert most is None or sum(names[name] for name in there) <= most
        now += chance.uniform(1, 40)
        for name, state in list(there.items()):
            if state == "Running" and left and chance.random() < 0.6:
                left -= 1
            there[name] = chance.choices(
                [state, {"": "Running", "Running": "Running"}.get(state, state), "Failed"], [6, 5, 1]
            )[0]
            if state == "Running" and not left:
                there[name] = "Complete"
            if state in ("Complete", "Failed", "Deleting"):
                there[name] = state
            if (state == "Deleting" and chance.random() < 0.5) or chance.random() < 0.01:
                del there[name]
    raise AssertionError("it goes on for ever")
