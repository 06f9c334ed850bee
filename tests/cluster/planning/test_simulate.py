"""The fleet's simulation: sums done on paper, another simulator (simpy), and a run that was published."""

from __future__ import annotations

import math
import time
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.benchmarks.performance import simulator
from voxfleet.cluster.planning.batches import Leg, simulate_batches
from voxfleet.cluster.planning.fleet import Fleet, InvalidFleet, NodeKind, draw_seconds
from voxfleet.cluster.planning.simulate import simulate_pull
from voxfleet.cluster.prices.price import Price

AT_ONCE = 1e9
"""Launches a second, where all nodes are ordered at once."""


def rng(seed: int = 1) -> np.random.Generator:
    """Chance that is the same each time."""
    return np.random.default_rng(seed)


def test_pull_by_hand() -> None:
    """Two nodes and five workitems without chance: the schedule drawn on paper."""
    # Start-up 10 s. Node 0: 8 (10-18), 3 (18-21), 1 (21-22); node 1: 6 (10-16), 5 (16-21), idle 21-22.
    fleet = Fleet(NodeKind(boot_s=4, image_s=5, weights_s=1), nodes=2, launches_per_s=AT_ONCE, idle_timeout_s=60)
    done = simulate_pull(np.array([8.0, 6.0, 5.0, 3.0, 1.0]), fleet, 100, rng())
    assert (done.wall_s, done.useful_s, done.start_up_s) == pytest.approx((22, 23, 20))
    assert (done.node_s, done.idle_s) == pytest.approx((44, 1))
    assert (done.completed, done.failed, done.launched, done.preempted) == (5, 0, 2, 0)


def test_what_hangs_is_stopped_twice_and_then_failed() -> None:
    """A workitem that never ends costs its deadline twice; the others are done meanwhile."""
    # One node: 7, hang until 17, 2, hang until 29.
    done = simulate_pull(np.array([7.0, math.inf, 2.0]), Fleet(NodeKind(), 1), 10, rng())
    assert (done.wall_s, done.useful_s, done.wasted_s, done.failed) == pytest.approx((29, 9, 20, 1))


def test_idle_nodes_leave_after_their_timeout() -> None:
    """The node with nothing to do is paid for five seconds more, not until the end."""
    fleet = Fleet(NodeKind(), nodes=2, launches_per_s=AT_ONCE, idle_timeout_s=5)
    done = simulate_pull(np.array([100.0, 1.0]), fleet, 1000, rng())
    assert (done.wall_s, done.node_s, done.idle_s) == pytest.approx((100, 106, 5))


def test_batches_by_hand() -> None:
    """Four workitems in batches of two on two legs, one batch at a time."""
    # A batch: 10 start-up + 2 x 3 s, then 10 start-up + 2 x 1 s: 28 s; two in turn: 56 s.
    kind = NodeKind(boot_s=10)
    first, second = simulate_batches([Leg(kind, np.full(4, 3.0)), Leg(kind, np.ones(4))], 2, 100, rng(), 1)
    assert (first.wall_s, second.wall_s) == pytest.approx((56, 56))
    assert (first.node_s, second.node_s) == pytest.approx((32, 24))
    assert (first.launched, second.launched, first.completed) == (2, 2, 4)


def test_dollars_are_node_seconds_times_price() -> None:
    """36 node-seconds at 100 US$ an hour are one dollar."""
    price = Price("m", "", "", "spot", Decimal(100), 2, "", 0, "paper", date(2026, 11, 1))
    done = simulate_pull(np.array([36.0]), Fleet(NodeKind(), 1), 100, rng())
    assert done.usd(price) == pytest.approx(Decimal(1))


def test_drawn_seconds_keep_their_mean() -> None:
    """The log-normal scatter has the mean 1; the share that hangs is infinite."""
    drawn = draw_seconds(np.full(200_000, 50.0), 0.5, 0.01, rng())
    assert np.isinf(drawn).mean() == pytest.approx(0.01, rel=0.1)
    assert drawn[np.isfinite(drawn)].mean() == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize("seconds", [[-1.0], [math.nan]])
def test_impossible_seconds_are_refused(seconds: list[float]) -> None:
    """Negative and unknown seconds are no work."""
    with pytest.raises(InvalidFleet):
        simulate_pull(np.array(seconds), Fleet(NodeKind(), 1), 10, rng())


def test_an_impossible_fleet_is_refused() -> None:
    """No nodes, or a boot that ends before it begins."""
    with pytest.raises(InvalidFleet):
        Fleet(NodeKind(), 0)
    with pytest.raises(InvalidFleet):
        NodeKind(boot_s=-1)


@settings(max_examples=100, deadline=None)
@given(
    seconds=st.lists(st.floats(0.1, 500), max_size=60),
    nodes=st.integers(1, 20),
    preemptions=st.floats(0, 20),
    timeout=st.floats(0, 1e4),
    seed=st.integers(0, 1000),
)
def test_every_node_second_is_accounted_for(
    seconds: list[float], nodes: int, preemptions: float, timeout: float, seed: int
) -> None:
    """No part is negative, the parts are the whole, and every workitem is settled."""
    kind = NodeKind(30, 10, 5, 5, preemptions)
    done = simulate_pull(np.array(seconds), Fleet(kind, nodes, 5.0, timeout), 300, rng(seed))
    assert min(done.start_up_s, done.useful_s, done.wasted_s) >= 0
    assert done.idle_s >= -1e-6
    assert done.start_up_s + done.useful_s + done.wasted_s + done.idle_s == pytest.approx(done.node_s)
    assert done.completed + done.failed == len(seconds)


class SimpyPull:
    """The same fleet told as processes of simpy: an oracle that shares no code with ours."""

    def __init__(self, seconds: np.ndarray, fleet: Fleet, deadline_s: float, generator: np.random.Generator) -> None:
        self.env, self.fleet, self.deadline_s, self.rng = simpy.Environment(), fleet, deadline_s, generator
        self.queue, self.done = simpy.Store(self.env), self.env.event()
        self.queue.items.extend((float(each), 0) for each in seconds)
        self.open, self.node_s = len(seconds), 0.0
        for number in range(fleet.nodes):
            self.env.process(self.node(number / fleet.launches_per_s))
        self.env.run(self.done)
        self.wall_s = self.env.now
        self.env.run()

    def settle(self) -> None:
        """One workitem less."""
        self.open -= 1
        if self.open == 0:
            self.done.succeed()

    def node(self, after: float):
        """One node, ordered after so many seconds."""
        env, kind = self.env, self.fleet.kind
        yield env.timeout(after)
        up = env.now
        start_up = max(0.0, self.rng.normal(kind.boot_s, kind.boot_sd_s)) + kind.image_s + kind.weights_s
        life = env.timeout(self.rng.exponential(3600 / kind.preemptions_per_h))
        yield env.timeout(start_up) | life | self.done
        while not life.processed and not self.done.triggered:
            get = self.queue.get()
            yield get | env.timeout(self.fleet.idle_timeout_s) | life | self.done
            if not get.triggered:
                get.cancel()
                break
            takes, hung = get.value
            yield env.timeout(min(takes, self.deadline_s)) | life
            if life.processed:
                yield self.queue.put((takes, hung))
            elif takes <= self.deadline_s or hung == 1:
                self.settle()
            else:
                yield self.queue.put((takes, hung + 1))
        self.node_s += env.now - up
        if life.processed and not self.done.triggered:
            env.process(self.node(0.0))


@pytest.mark.parametrize(("nodes", "preemptions", "hanging"), [(40, 0.05, 4), (400, 0.2, 0)])
def test_agrees_with_simpy(nodes: int, preemptions: float, hanging: int) -> None:
    """Hours and node-seconds are within 1 % of what simpy finds for the same collection."""
    seconds = np.sort(draw_seconds(np.linspace(300, 100, 4000), 0.25, 0.0, rng(7)))[::-1].copy()
    seconds[5 : 1000 * hanging : 1000] = math.inf
    fleet = Fleet(NodeKind(150, 60, 120, 40, preemptions), nodes)
    ours = [simulate_pull(seconds, fleet, 900, rng(seed)) for seed in range(12)]
    theirs = [SimpyPull(seconds, fleet, 900, rng(100 + seed)) for seed in range(12)]
    assert np.mean([run.node_s for run in ours]) == pytest.approx(np.mean([run.node_s for run in theirs]), rel=0.01)
    assert np.mean([run.wall_s for run in ours]) == pytest.approx(np.mean([run.wall_s for run in theirs]), rel=0.01)


@pytest.mark.slow
def test_nlst_on_the_whole_fleet_takes_three_seconds_at_most() -> None:
    """126,068 series on 10,508 machines."""
    seconds = draw_seconds(np.full(126_068, 180.0), 0.25, 0.0005, rng())
    began = time.process_time()
    simulate_pull(seconds, Fleet(NodeKind(150, 60, 120, 40, 0.05), 10_508), 900, rng())
    assert time.process_time() - began < 3


def test_the_published_run_is_reproduced_within_a_quarter() -> None:
    """NLST's real sizes in two-machine batches of 12, 3,000 at once: dollars within 25 %, and under 9 hours."""
    pytest.importorskip("idc_index_data")
    run = simulator.static(simulator.nlst(), simulator.BATCH, simulator.MOST_WORKFLOWS)
    assert run.usd == pytest.approx(1011.05, rel=0.25)
    assert 5 < run.hours < 9
