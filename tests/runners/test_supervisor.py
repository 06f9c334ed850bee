"""A stage in a child process: what ends it, and what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from voxfleet.runners.supervisor import (
    Limits,
    StageCrashed,
    StageKilled,
    StageOutOfMemory,
    StageProcess,
    StageStuck,
    StageTimedOut,
)

LIMITS = Limits(deadline_s=60, memory_bytes=2**30)


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A child that does to itself what it is asked."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    process = StageProcess("test", tmp_path / "log" / "workers.log", "faulty:misbehave")
    yield process
    process.close()


def test_child_stays_warm(child):
    """One process, with its keeper as parent, answers one request after another."""
    pid = child.call("pid", LIMITS)
    assert child.call("pid", LIMITS) == pid
    assert psutil.Process(pid).ppid() == child.pid


def test_large_answers_come_whole(child):
    """An answer larger than a pipe's buffer arrives equal."""
    body = os.urandom(3_000_000)
    assert child.call(body, LIMITS) == body


@pytest.mark.parametrize(
    ("request_", "error", "reason"),
    [
        ("segfault", StageCrashed, "SIGSEGV"),
        ("exit", StageCrashed, "exit code 7"),
        ("die", StageKilled, "SIGKILL"),
        ("killed by SIGTERM", StageKilled, "SIGTERM"),
    ],
)
def test_death_is_told_with_its_cause_and_the_next_call_has_a_new_child(child, request_, error, reason):
    """A crash names the signal or the exit code, costs only the request that it met, and leaves no process behind."""
    helper = psutil.Process(child.call("helper", LIMITS))
    with pytest.raises(error, match=reason):
        child.call(request_, LIMITS)
    assert gone(helper)
    assert child.call("well", LIMITS) == "well"


@pytest.mark.parametrize(
    ("request_", "error"),
    [("hang", StageTimedOut), ("segfault", StageCrashed), ("die", StageKilled)],
)
def test_what_a_stage_started_ends_with_it(child, request_, error):
    """A worker, a program of its own session and an orphan of a daemon's kind: gone once the error is raised."""
    family = [psutil.Process(pid) for pid in child.call("family", LIMITS)]
    with pytest.raises(error):
        child.call(request_, Limits(1, 2**30))
    assert [process for process in family if process.is_running()] == []
    assert child.call("well", LIMITS) == "well"


def test_what_a_stage_started_counts_for_its_cap_and_ends_with_it(child, tmp_path, monkeypatch):
    """A program that a stage started takes more than the stage may: out of memory, and all of them are gone."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageOutOfMemory, match="GiB"):
        child.call("leaking family", Limits(60, 300 * 2**20))
    assert not [pid for pid in (tmp_path / "family").read_text().split() if psutil.pid_exists(int(pid))]


def test_what_workers_share_counts_once(child):
    """200 MiB and four workers forked from them stay below 500 MiB, and would be 1 GiB counted for each."""
    assert child.call("sharing family", Limits(60, 500 * 2**20)) == "sharing family"


def test_the_guard_of_an_image_outlives_a_stage_and_cleans_up(child, tmp_path):
    """Killed at its deadline in the midst of an image: that ends, its engine removes it, and its folder is gone."""
    ended = tmp_path / "removed"
    pid, folder = child.call(("image", str(ended)), LIMITS)
    guard = psutil.Process(pid)
    with pytest.raises(StageTimedOut):
        child.call("hang", Limits(1, 2**30))
    assert gone(guard)
    assert ended.exists()
    assert not Path(folder).exists()


def test_what_a_stage_started_ends_when_a_stage_is_closed(child):
    """In good order, too: a node that is done leaves nothing behind."""
    family = child.call("family", LIMITS)
    child.close()
    assert not [pid for pid in family if psutil.pid_exists(pid)]


def gone(process: psutil.Process, within_s: float = 60.0) -> bool:
    """Whether a process ends in that time; one that waits for somebody to reap it has ended."""
    deadline = time.monotonic() + within_s
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True


def test_sigterm_to_all_of_a_machine_does_not_end_a_stage(child):
    """The driver gets it too, and drains: the child goes on, and only what it started ends for a SIGTERM of its own."""
    pid, helper = child.call("pid", LIMITS), psutil.Process(child.call("helper", LIMITS))
    helper.terminate()
    assert gone(helper)
    assert child.call("told to end", LIMITS) == "told to end"
    assert child.call("pid", LIMITS) == pid


TRACER = """
import ctypes, sys, time
assert ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0
print(flush=True)
time.sleep(600)
"""


def test_a_child_that_does_not_die_is_left_behind(child, monkeypatch):
    """Killed, but not gone, as in an uninterruptible wait (here a tracer keeps it): told, and a new one works."""
    monkeypatch.setattr("voxfleet.runners.supervisor.DIE_S", 0.5)
    pid = child.call("pid", LIMITS)
    with subprocess.Popen([sys.executable, "-c", TRACER, str(pid)], stdout=subprocess.PIPE) as tracer:
        try:
            if tracer.stdout is None or tracer.stdout.readline() != b"\n":
                pytest.skip("processes may not be traced here")
            with pytest.raises(StageStuck, match=f"{child.pid} was killed and does not end"):
                child.call("hang", Limits(1, 2**30))
            assert child.call("pid", LIMITS) != pid
        finally:
            tracer.kill()


def test_killed_for_good_there_is_no_new_child(child):
    """What is killed from another thread before its child is there, or while it starts, begins nothing more."""
    child.kill()
    with pytest.raises(StageKilled):
        child.call("hang", LIMITS)
    assert child.pid is None


@pytest.mark.parametrize("request_", ["hang", "half an answer"])
def test_hang_is_killed_at_the_deadline(child, request_):
    """A child that does not answer, or stops in the midst of it, is dead when the error is raised."""
    pid = child.call("pid", LIMITS)
    begun = time.monotonic()
    with pytest.raises(StageTimedOut, match="1 s"):
        child.call(request_, Limits(1, 2**30))
    assert time.monotonic() - begun < 60, "it would not have answered for 600 s"
    assert not psutil.pid_exists(pid)


def test_leak_is_killed_at_the_cap(child):
    """A child that takes more memory than its cap is killed before the machine suffers."""
    with pytest.raises(StageOutOfMemory, match="GiB"):
        child.call("leak", Limits(60, 300 * 2**20))
    assert child.call("well", LIMITS) == "well"


def test_prints_go_to_the_log(child, tmp_path):
    """What a library prints does not reach the protocol."""
    assert child.call("print", LIMITS) == "print"
    child.close()
    assert "to standard output" in (tmp_path / "log" / "workers.log").read_text()


@pytest.mark.parametrize("victim", ["parent", "keeper"])
def test_no_orphan_when_the_parent_is_killed(tmp_path, victim):
    """SIGKILL of the parent takes a busy child, and all that it started, within a moment: nothing holds a GPU.

    So does SIGKILL of the child's keeper, but for what left its process group.
    """
    script = (
        "import sys; from pathlib import Path\n"
        "from voxfleet.runners.supervisor import *\n"
        "child = StageProcess('test', Path(sys.argv[1]), 'faulty:misbehave')\n"
        "print(*child.call('family', Limits(60, 2**30)), child.pid, flush=True)\n"
        "child.call('hang', Limits(600, 2**30))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ) as parent:
        assert parent.stdout is not None
        worker, apart, orphan, stage, keeper = (psutil.Process(int(pid)) for pid in parent.stdout.readline().split())
        if victim == "parent":
            parent.kill()
        else:
            keeper.kill()
        try:
            assert [each for each in (stage, worker) if not gone(each)] == []
            assert victim == "keeper" or (gone(apart) and gone(orphan) and gone(keeper))
        finally:
            parent.kill()
            for each in (apart, orphan):
                with suppress(psutil.NoSuchProcess):
                    each.kill()


QUIET_PARENT = """
import sys, time
from pathlib import Path
from voxfleet.runners.supervisor import *
child = StageProcess('test', Path(sys.argv[1]), 'faulty:misbehave', silence_s=3)
while not Path(sys.argv[2]).exists():
    # A busy machine may leave this process standing before the test does.
    try:
        child.call(('begun', sys.argv[2], sys.argv[3]), Limits(200, 2**30))
    except StageError as exc:
        error = type(exc).__name__
print(error, flush=True)
child._silence_s = 60
print(child.call('well', Limits(60, 2**30)), flush=True)
"""


@pytest.mark.parametrize("request_", ["hang", "spin"])
def test_a_child_ends_itself_when_its_parent_stands_still(tmp_path, request_):
    """SIGSTOP of the parent: its child, asleep or at work, is gone soon; resumed, the parent sees it."""
    begun = tmp_path / "begun"
    with subprocess.Popen(
        [sys.executable, "-c", QUIET_PARENT, str(tmp_path / "log"), str(begun), request_],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ) as parent:
        try:
            assert parent.stdout is not None
            while not begun.exists():
                assert parent.poll() is None
                time.sleep(0.02)
            parent.send_signal(signal.SIGSTOP)
            with suppress(psutil.NoSuchProcess):
                assert gone(psutil.Process(int(begun.read_text()))), "the child outlived the silence"
            parent.send_signal(signal.SIGCONT)
            assert parent.stdout.readline().strip() == "StageKilled"
            assert parent.stdout.readline().strip() == "well"
            assert parent.wait(timeout=60) == 0
        finally:
            parent.kill()
    assert "ends itself" in (tmp_path / "log").read_text()


def idle_for(seconds: float, child: StageProcess) -> tuple[list[object], float]:
    """Process ids of a child before and after it was asked nothing for so long, and how long we stood still at most."""
    times, pids = [time.monotonic()], []
    with suppress(StageKilled):
        pids.append(child.call("pid", LIMITS))
        begun = time.monotonic()
        while times[-1] < begun + seconds:
            time.sleep(0.05)
            times.append(time.monotonic())
        pids.append(child.call("pid", LIMITS))
    times.append(time.monotonic())
    return pids, max(late - early for early, late in pairwise(times))


def test_a_child_that_is_left_idle_stays_warm(tmp_path, monkeypatch):
    """No request for longer than the silence: beats keep the child alive."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    child = StageProcess("test", tmp_path / "workers.log", "faulty:misbehave", silence_s=2)
    try:
        pids, stood_still_s = idle_for(3, child)
        while len(pids) < 2 or pids[0] != pids[1]:
            # A busy machine may leave this process standing for as long as the silence: then the child is right.
            assert stood_still_s > 1, "the child ended, though no beat was late"
            pids, stood_still_s = idle_for(3, child)
    finally:
        child.close()
    assert not psutil.pid_exists(pids[0])
