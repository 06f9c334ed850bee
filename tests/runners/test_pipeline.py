"""Many workitems through one node: whatever happens to one, the others pass."""

from __future__ import annotations

import errno
import os
import socket
from concurrent.futures import wait
from pathlib import Path

import pytest
from voxfleet.runners.pipeline import NodePipeline, PipelineSettings
from voxfleet.runners.request import StageSettings
from voxfleet.runners.workitem import State, Workitem


def item(uid: str) -> Workitem:
    """A workitem whose series UID says what goes wrong."""
    return Workitem("1", uid, "CT", 1, "dir:none", "dir:none", "none", "1", "none")


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """A node whose children misbehave on demand, with a short deadline."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    settings = PipelineSettings(
        StageSettings(tmp_path / "run" / "scratch", tmp_path / "run" / "series", "node-1"),
        deadlines_s=(("prepare", 8.0), ("segment", 8.0), ("deliver", 8.0)),
        perform="faulty:lane",
    )
    node = NodePipeline(settings)
    yield node
    node.close()


def test_all_pass(pipeline):
    """Workitems without fault complete, each with its own key and the node's name."""
    items = [item(f"2.{number}") for number in range(10)]
    outcomes = [future.result(timeout=60) for future in [pipeline.submit(each) for each in items]]
    assert [outcome.key for outcome in outcomes] == [each.key for each in items]
    assert {(outcome.state, outcome.node) for outcome in outcomes} == {(State.COMPLETED, "node-1")}


@pytest.mark.parametrize("lane", ["prepare", "segment", "deliver"])
def test_a_fault_costs_its_own_item_only(pipeline, lane):
    """A failure, a segfault, a hang, a kill, an unreadable answer: recorded with stage and cause; the rest complete."""
    faults = {
        "1.1": "BROKEN",
        "1.2": "CRASHED",
        "1.3": "DEADLINE_EXCEEDED",
        "1.4": "WORKER_KILLED",
        "1.5": "ValueError",
    }
    futures = {uid: pipeline.submit(item(f"{uid}@{lane}")) for uid in faults}
    good = [pipeline.submit(item(f"2.{number}")) for number in range(4)]
    wait([*futures.values(), *good], timeout=90)
    for uid, code in faults.items():
        outcome = futures[uid].result(timeout=0)
        assert outcome.state is State.CANCELED
        assert (outcome.failure.stage, outcome.failure.code) == (lane, code)
        assert outcome.failure.lost == (uid == "1.4")
    assert all(future.result(timeout=0).state is State.COMPLETED for future in good)


def test_a_child_that_cannot_be_started_is_a_recorded_failure(pipeline, monkeypatch):
    """Where the machine has no process left (EAGAIN of fork(2)), the machine is to blame, and nobody waits for ever."""

    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr("voxfleet.runners.supervisor.subprocess.Popen", no_process)
        failed = pipeline.submit(item("2.1")).result(timeout=30)
    assert (failed.state, failed.failure.stage, failed.failure.code) == (State.CANCELED, "prepare", "EAGAIN")
    assert failed.failure.lost
    assert pipeline.submit(item("2.2")).result(timeout=60).state is State.COMPLETED


def test_series_that_are_larger_than_the_cache_go_alone(tmp_path, monkeypatch):
    """No other series is in the cache while one of them is, all complete; a node that is given up waits for none."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    stages = StageSettings(tmp_path / "run" / "scratch", tmp_path / "run" / "series", "node-1")
    node = NodePipeline(PipelineSettings(stages, perform="faulty:lane", deliverers=2, cache_bytes=1))
    futures = [node.submit(item(f"3.{number}")) for number in range(6)]
    outcomes = [future.result(timeout=120) for future in futures]
    assert [(outcome.state, outcome.failure) for outcome in outcomes] == [(State.COMPLETED, None)] * 6
    hangs, waits = node.submit(item("1.3@segment")), node.submit(item("3.7"))
    assert wait([hangs, waits], timeout=1).done == set()
    node.abort()


@pytest.fixture
def meeting(tmp_path, monkeypatch):
    """Makes nodes whose children meet at a named pipe, and closes them."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    results = tmp_path / "run" / "series"
    results.mkdir(parents=True)
    os.mkfifo(results / "pipe")
    nodes = []

    def node(*devices: str) -> NodePipeline:
        stages = StageSettings(tmp_path / "run" / "scratch", results, "node-1")
        deadlines = (("prepare", 60.0), ("segment", 60.0), ("deliver", 60.0))
        nodes.append(NodePipeline(PipelineSettings(stages, devices, deadlines, perform="meeting:lane")))
        return nodes[-1]

    yield node
    for each in nodes:
        each.close()


def test_the_next_is_read_while_one_is_segmented(meeting):
    """The first workitem's segmenting ends only if the second one is prepared meanwhile: both complete."""
    node = meeting("cpu")
    outcomes = [future.result(timeout=120) for future in [node.submit(item(uid)) for uid in ("ahead-0", "ahead-1")]]
    assert [outcome.state for outcome in outcomes] == [State.COMPLETED] * 2


def test_one_warm_child_for_each_device(meeting):
    """Two workitems are segmented at once, each by the child of its own GPU, which stays for the next ones."""
    node = meeting("cuda:0", "cuda:1")
    segmented = set()
    for uids in (("beside-0", "beside-1"), ("2.1", "2.2"), ("2.3", "2.4")):
        for future in [node.submit(item(uid)) for uid in uids]:
            outcome = future.result(timeout=120)
            assert outcome.state is State.COMPLETED
            segmented.add(outcome.consumption[1].stage)
    assert {each.split()[1] for each in segmented} == {"cuda:0", "cuda:1"}
    assert len({each.split()[2] for each in segmented}) == 2


def test_what_killed_nodes_left_is_removed_and_nothing_of_living_ones(pipeline, tmp_path):
    """A node that begins removes folders without an owner, and not those of nodes that share its scratch folder."""
    scratch = tmp_path / "run" / "scratch"
    (living,) = scratch.iterdir()
    mine, others = scratch / f"node-{socket.gethostname()}@killed", scratch / "node-elsewhere@at-work"
    for left in (mine, others):
        (left / "series-1").mkdir(parents=True)
    other = NodePipeline(PipelineSettings(StageSettings(scratch, tmp_path / "run" / "series", "node-2")))
    assert living.is_dir()
    assert (mine.exists(), others.exists()) == (False, True)
    assert len(list(scratch.iterdir())) == 3
    other.close()
    assert set(scratch.iterdir()) == {living, others}


def test_nothing_is_left_on_disk(pipeline, tmp_path):
    """When a node closes, its children are gone and its local cache is removed."""
    pipeline.submit(item("2.1")).result(timeout=60)
    assert len(pipeline.pids()) == 3
    pipeline.close()
    assert pipeline.pids() == ()
    assert list((tmp_path / "run" / "scratch").iterdir()) == []
