"""What a run cost: worked out on paper, and the identity over random schedules with faults."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.cluster.accounts.cost import cost_of, spent_on_nodes
from voxfleet.cluster.ledger import Attempt, AttemptClass, Node
from voxfleet.cluster.price import Price
from voxfleet.runners.consumption import Consumption

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
DOLLAR_A_SECOND = Price("m", "", "", "on-demand", Decimal(3600) / 4, 2, "", 0, "paper", date(2026, 11, 1))
"""A quarter of a dollar a second, so that sums can be done in the head."""


def at(seconds: float) -> datetime:
    """A moment `seconds` after T0."""
    return T0 + timedelta(seconds=seconds)


def stage(name: str, begin: float, end: float) -> Consumption:
    """A stage from `begin` to `end`, in seconds after T0."""
    return Consumption(name, at(begin).timestamp(), end - begin, 0.0)


def attempt(key: str, outcome: AttemptClass | None, *used: Consumption, span: tuple[float, float] = (0, 1)) -> Attempt:
    """An attempt on node n."""
    ended = None if outcome is None else at(span[1])
    return Attempt(key, 1, "o", "n", at(span[0]), ended, outcome, None, used)


def node(up: float, down: float, name: str = "n") -> Node:
    """A life of a node."""
    return Node(name, "m", at(up), at(down), at(down))


def test_by_hand() -> None:
    """Two overlapping attempts, one lost, with start-up, idle and drain: the sums done on paper."""
    # A quarter of a dollar a second, up from 0 to 40.
    #   0-4 start-up                                          1.00
    #   4-8 a.read alone                                      1.00
    #   8-12 a.segment and b.read share                       0.50 each
    #   12-14 b.read alone                                    0.50
    #   14-18 nobody: idle                                    1.00
    #   18-26 c, lost without a record                        2.00
    #   26-40 drain                                           3.50
    attempts = [
        attempt("a", AttemptClass.COMPLETED, stage("read", 4, 8), stage("segment", 8, 12)),
        attempt("b", AttemptClass.FAILED, stage("read", 8, 14)),
        attempt("c", AttemptClass.LOST, span=(18, 26)),
    ]
    costs = cost_of(attempts, [node(0, 40)], DOLLAR_A_SECOND, at(40))
    assert [dict(share.stages) for share in costs.attempts] == [
        {"read": Decimal("1.00"), "segment": Decimal("0.50")},
        {"read": Decimal("1.00")},
        {"unknown": Decimal("2.00")},
    ]
    (life,) = costs.nodes
    assert (life.total, life.start_up, life.idle, life.drain) == (
        Decimal("10.00"),
        Decimal("1.00"),
        Decimal("1.00"),
        Decimal("3.50"),
    )
    assert (costs.useful, costs.wasted, costs.overhead) == (Decimal("1.50"), Decimal("3.00"), Decimal("5.50"))
    assert costs.by_stage() == {"read": Decimal("2.00"), "segment": Decimal("0.50"), "unknown": Decimal("2.00")}
    assert costs.by_key() == {"a": Decimal("1.50"), "b": Decimal("1.00"), "c": Decimal("2.00")}
    assert costs.loading == pytest.approx(Decimal(10) / Decimal("4.5"))


def test_two_lives_of_a_node() -> None:
    """A stage is paid in the life in which it ran; the time between two lives costs nothing."""
    attempts = [
        attempt("a", AttemptClass.COMPLETED, stage("read", 0, 4)),
        attempt("b", AttemptClass.COMPLETED, stage("read", 100, 108)),
    ]
    costs = cost_of(attempts, [node(0, 4), node(100, 108)], DOLLAR_A_SECOND, at(200))
    assert [share.usd for share in costs.attempts] == [Decimal("1.00"), Decimal("2.00")]
    assert (costs.total, costs.overhead) == (Decimal("3.00"), Decimal("0.00"))


def test_in_flight_counts_up_to_now() -> None:
    """An attempt that has not ended costs what it took so far, and is neither useful nor wasted."""
    alive = Node("n", "m", at(0), None, at(8))
    costs = cost_of([attempt("a", None, span=(4, 0))], [alive], DOLLAR_A_SECOND, at(8))
    assert dict(costs.by_outcome) == {"in flight": Decimal("1.00")}
    assert costs.total == spent_on_nodes([alive], DOLLAR_A_SECOND) == Decimal("2.00")


def test_node_that_nobody_declared() -> None:
    """Without a record of the node its life is from the first start to the last end of its attempts."""
    costs = cost_of(
        [attempt("a", AttemptClass.COMPLETED, stage("read", 2, 6), span=(0, 8))], [], DOLLAR_A_SECOND, at(100)
    )
    assert (costs.total, costs.useful, costs.overhead) == (Decimal("2.00"), Decimal("1.00"), Decimal("1.00"))


def test_nothing_ran() -> None:
    """A node on which nothing ran is all start-up; no node at all costs nothing."""
    costs = cost_of([], [node(0, 4)], DOLLAR_A_SECOND, at(4))
    assert (costs.nodes[0].start_up, costs.total, costs.loading) == (Decimal("1.00"), Decimal("1.00"), Decimal(1))
    assert cost_of([], [], DOLLAR_A_SECOND, at(4)).total == 0


SECONDS = st.floats(-50, 4000, allow_nan=False).map(lambda s: round(s, 6))
STAGES = st.lists(
    st.tuples(st.sampled_from(["read", "segment", "store"]), SECONDS, st.floats(0, 900).map(lambda s: round(s, 6))),
    max_size=4,
)
ATTEMPTS = st.lists(
    st.tuples(st.sampled_from("nmx"), st.sampled_from([*AttemptClass, None]), SECONDS, SECONDS, STAGES), max_size=12
)
LIVES = st.lists(st.tuples(st.sampled_from("nm"), st.floats(1, 2000).map(lambda s: round(s, 6))), max_size=4)


def schedule(
    drawn: Sequence[tuple[str, AttemptClass | None, float, float, list[tuple[str, float, float]]]],
) -> list[Attempt]:
    """Attempts of a random schedule: overlapping, out of order, outside the life of their node, backwards."""
    return [
        Attempt(
            key=str(i),
            fence=1,
            owner="o",
            node=where,
            started=at(started),
            ended=None if outcome is None else at(ended),
            outcome=outcome,
            consumption=tuple(stage(name, begin, begin + wall) for name, begin, wall in stages),
        )
        for i, (where, outcome, started, ended, stages) in enumerate(drawn)
    ]


@settings(max_examples=300, deadline=None)
@given(drawn=ATTEMPTS, lives=LIVES, usd_per_hour=st.decimals("0.01", "90", places=4))
def test_identity(
    drawn: list[tuple[str, AttemptClass | None, float, float, list[tuple[str, float, float]]]],
    lives: list[tuple[str, float]],
    usd_per_hour: Decimal,
) -> None:
    """Price x lifetime = start-up + idle + drain + all attempts, to 1e-6, whatever happened when."""
    price = Price("m", "", "", "spot", usd_per_hour, 2, "", 0, "paper", date(2026, 11, 1))
    begin = {"n": 0.0, "m": 100.0}
    nodes = []
    for name, length in lives:
        nodes.append(node(begin[name], begin[name] + length, name))
        begin[name] += length + 7
    costs = cost_of(schedule(drawn), nodes, price, at(3000))
    shares = sum((share.usd for share in costs.attempts), Decimal(0))
    assert all(share.usd >= 0 for share in costs.attempts)
    assert all(min(life.start_up, life.idle, life.drain) >= Decimal("-1e-9") for life in costs.nodes)
    assert float(shares + costs.overhead) == pytest.approx(float(costs.total), rel=1e-6, abs=1e-9)
    declared = sum(length for _, length in lives)
    assert float(spent_on_nodes(nodes, price)) == pytest.approx(float(price.usd_per_s) * declared, rel=1e-6)
