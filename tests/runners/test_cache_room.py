"""How many bytes series in flight may take of a disk, on paper."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace

import pytest
from voxfleet.runners import cache_room
from voxfleet.runners.cache_room import CacheRoom

Enter = Callable[[CacheRoom, str, int], "Future[None]"]


@pytest.fixture
def enter():
    """Lets somebody ask for room in a thread of its own."""
    with ThreadPoolExecutor() as threads:
        yield lambda room, key, needed: threads.submit(room.enter, key, needed)


def lets_in(asked: Future[None], most_s: float = 60.0) -> bool:
    """Whether somebody is let in, in that time."""
    return bool(wait([asked], timeout=most_s).done)


def test_who_finds_no_room_waits_until_somebody_leaves(tmp_path: Path, enter: Enter) -> None:
    """Of 10 bytes 4 and 6 go in together, 1 more does not: 4 + 6 + 1 = 11; and 9 do once 4 and 6 are gone."""
    room = CacheRoom(tmp_path, 10)
    assert lets_in(enter(room, "a", 4))
    assert lets_in(enter(room, "b", 6))
    late = enter(room, "c", 1)
    assert not lets_in(late, 0.2)
    room.leave("a")
    assert lets_in(late)
    large = enter(room, "d", 9)
    room.leave("b")
    assert lets_in(large), "1 + 9 = 10"
    assert room.held_bytes == 10


def test_what_is_larger_than_all_room_goes_alone(tmp_path: Path, enter: Enter) -> None:
    """It waits until nobody is in, and then nobody comes in beside it."""
    room = CacheRoom(tmp_path, 10)
    assert lets_in(enter(room, "a", 1))
    large = enter(room, "large", 1000)
    assert not lets_in(large, 0.2)
    room.leave("a")
    assert lets_in(large)
    small = enter(room, "b", 1)
    assert not lets_in(small, 0.2)
    room.leave("large")
    assert lets_in(small)


def test_what_a_series_really_takes_counts_once_it_is_read(tmp_path: Path, enter: Enter) -> None:
    """Taken for 2 bytes and found to be 9, it leaves no room for 2 more of 10; found to be 8, it does."""
    room = CacheRoom(tmp_path, 10)
    assert lets_in(enter(room, "a", 2))
    room.correct("a", 9)
    late = enter(room, "b", 2)
    assert not lets_in(late, 0.2)
    room.correct("a", 8)
    assert lets_in(late)


def test_without_a_bound_a_series_takes_half_of_what_is_free(
    tmp_path: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside another one 51 of 100 free bytes do not go in, 50 do; others on the disk make room, too."""
    disk = SimpleNamespace(free=100)
    monkeypatch.setattr(cache_room, "_LOOK_S", 0.01)
    monkeypatch.setattr(cache_room.shutil, "disk_usage", lambda _: disk)
    room = CacheRoom(tmp_path)
    assert lets_in(enter(room, "a", 1000)), "alone"
    assert lets_in(enter(room, "b", 50))
    late = enter(room, "c", 51)
    assert not lets_in(late, 0.2)
    disk.free = 102
    assert lets_in(late)


def test_a_node_that_is_given_up_waits_for_no_room(tmp_path: Path, enter: Enter) -> None:
    """Who waits is let in at once, and so is who comes later."""
    room = CacheRoom(tmp_path, 10)
    assert lets_in(enter(room, "a", 10))
    late = enter(room, "b", 1)
    room.open()
    assert lets_in(late)
    assert lets_in(enter(room, "c", 1))


def test_a_cache_that_is_gone_keeps_nobody_waiting(tmp_path: Path, enter: Enter) -> None:
    """What cannot be written is told by who writes."""
    room = CacheRoom(tmp_path / "removed")
    assert lets_in(enter(room, "a", 1))
    assert lets_in(enter(room, "b", 1))
