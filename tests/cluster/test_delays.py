"""Whose fault it is that an archive does not take an object, on paper."""

from __future__ import annotations

import math

import pytest
from voxfleet.cluster.results import delays
from voxfleet.cluster.results.delays import PAUSES_S, Delays


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all delays."""
    made = Clock()
    monkeypatch.setattr(delays, "monotonic", made)
    return made


def test_an_archive_that_takes_nothing_is_asked_once_a_minute(clock: Clock) -> None:
    """Pauses double from half a second to a minute, and however often they fail no object is left."""
    waits = Delays()
    pauses = [waits.failed(f"1.{number % 4}", "503", lambda: True) for number in range(12)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert waits.left == {}
    assert all(waits.is_due(f"1.{number}") for number in range(5))
    waits.took("1.3")
    assert waits.failed("1.2", "503", lambda: True) == 0.5


def test_an_object_that_fails_while_others_are_taken_is_left(clock: Clock) -> None:
    """Its first failure may be the archive's; after that it waits 15 s, 1, 4 and 16 min, and then no more."""
    waits = Delays()
    waits.failed("bad", "500", lambda: True)
    waits.took("good")
    for pause_s in PAUSES_S:
        assert waits.failed("bad", "500", lambda: True) == 0.5, "the others do not wait for it"
        assert waits.due_in_s == pause_s
        assert not waits.is_due("bad")
        clock.now += pause_s
        assert waits.is_due("bad")
    waits.failed("bad", "500 again", lambda: True)
    assert waits.left == {"bad": "500 again"}
    assert waits.due_in_s == math.inf
    clock.now += 1e9
    assert not waits.is_due("bad")


def test_while_the_archive_cannot_be_reached_no_failure_counts(clock: Clock) -> None:
    """The only object that is left, and an archive that went away: it is waited for."""
    waits = Delays()
    waits.failed("last", "500", lambda: True)
    waits.took("good")
    for _ in range(100):
        waits.failed("last", "no connection", lambda: False)
    assert waits.left == {}
    assert waits.is_due("last")


def test_an_archive_that_answers_and_takes_nothing_for_an_hour_is_not_waited_for(clock: Clock) -> None:
    """Objects that are all that is left, and fail each time, do not keep the command for ever."""
    waits = Delays()
    waits.failed("bad", "500", lambda: True)
    clock.now += delays.TAKES_NOTHING_S + 1
    for _ in range(len(PAUSES_S) + 1):
        waits.failed("bad", "500", lambda: True)
        clock.now += max(PAUSES_S)
    assert waits.left == {"bad": "500"}


def test_an_hour_without_work_is_not_held_against_what_fails_after_it(clock: Clock) -> None:
    """A run leaves nothing to publish for hours; then the archive fails all for half an hour, and takes them again."""
    waits = Delays()
    waits.took("early")
    clock.now += 3 * delays.TAKES_NOTHING_S
    for number in range(30):
        waits.failed(f"{number % 3}", "503", lambda: True)
        clock.now += 60.0
    assert waits.due_in_s == 0.0, "all are tried again, none waits on its own account"
    assert waits.left == {}


def test_the_time_for_which_an_archive_is_away_is_not_held_against_objects(clock: Clock) -> None:
    """Away for a night, and then up but busy for half an hour: it is waited for, and for an hour more."""
    waits = Delays()
    waits.failed("bad", "503", lambda: True)
    clock.now += 8 * 3600.0
    waits.failed("bad", "no connection", lambda: False)
    for _ in range(30):
        clock.now += 60.0
        waits.failed("bad", "503", lambda: True)
        assert waits.due_in_s == 0.0
    clock.now += delays.TAKES_NOTHING_S
    waits.failed("bad", "503", lambda: True)
    assert waits.due_in_s == PAUSES_S[0]


def test_what_somebody_else_published_is_not_waited_for(clock: Clock) -> None:
    """What was due and is in no backlog any more is forgotten; what is due later is not."""
    waits = Delays()
    waits.failed("gone", "500", lambda: True)
    waits.failed("late", "500", lambda: True)
    waits.took("good")
    waits.failed("late", "500", lambda: True)
    waits.gone(clock.now)
    assert waits.due_in_s == PAUSES_S[0]
    waits.settled("late")
    assert waits.due_in_s == math.inf
