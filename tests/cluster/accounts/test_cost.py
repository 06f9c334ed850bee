"""What a run cost: worked out on paper, and the identity over random schedules with faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voxfleet.cluster.accounts.cost import cost_of
from voxfleet.cluster.accounts.parts import parts_of
from voxfleet.cluster.accounts.spent import priced_nodes, spent_on_nodes
from voxfleet.cluster.ledger import Attempt, AttemptClass, Node
from voxfleet.cluster.ledgers.attempt import LOST, PREEMPTED
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.workitem import Failure

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
DOLLAR_A_SECOND = Price("m", "", "", "on-demand", Decimal(3600) / 4, 2, "", 0, "paper", date(2026, 11, 1))
"""A quarter of a dollar a second, so that sums can be done in the head."""


GPU_NODE = Price(
    "g", "", "", "on-demand", Decimal(36), 4, "T4", 1, "paper", date(2026, 11, 1), gpu_usd_per_hour=Decimal(27)
)
"""A cent a second, three quarters of it for its GPU."""


def at(seconds: float) -> datetime:
    """A moment `seconds` after T0."""
    return T0 + timedelta(seconds=seconds)


def stage(name: str, begin: float, end: float, cores: float = 0.0, gpus: float = 0.0) -> Consumption:
    """A stage from `begin` to `end`, in seconds after T0, that kept so many cores and GPUs busy."""
    return Consumption(name, at(begin).timestamp(), end - begin, cores * (end - begin), gpus * (end - begin))


def attempt(key: str, outcome: AttemptClass | None, *used: Consumption, span: tuple[float, float] = (0, 1)) -> Attempt:
    """An attempt on node n."""
    ended = None if outcome is None else at(span[1])
    return Attempt(key, 1, "o", "n", at(span[0]), ended, outcome, None, used)


def node(up: float, down: float, name: str = "n") -> Node:
    """A life of a node."""
    return Node(name, "m", at(up), at(down), at(down))


def test_the_head_of_a_cell_is_its_own_part() -> None:
    """A node at a quarter of a dollar a second for 20 s, 12 s of them one series; its head at half of that for 30 s.

    The head is 3.75 dollars, no start-up and no idle time; the series bears all of it, fully loaded.
    """
    half = replace(DOLLAR_A_SECOND, machine="h", usd_per_hour=DOLLAR_A_SECOND.usd_per_hour / 2)
    nodes = [replace(node(0, 30, "head"), head=True, price=half), node(5, 25)]
    costs = cost_of([attempt("a", AttemptClass.COMPLETED, stage("read", 9, 21))], nodes, DOLLAR_A_SECOND, at(30))
    head, worker = costs.nodes
    assert (head.head, head.start_up, head.idle, head.drain, head.overhead) == (Decimal("3.75"), 0, 0, 0, head.head)
    assert (worker.head, worker.start_up, worker.drain) == (0, 1, 1)
    assert costs.total == Decimal("8.75") == costs.useful + costs.overhead
    assert costs.loading == Decimal("8.75") / 3


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


def test_a_clock_that_stepped_back_gives_nothing_back() -> None:
    """A node that ended before it began costs nothing, and a stage of another clock's time is not its."""
    back = Node("n", "m", at(40), at(10), at(10))
    costs = cost_of([attempt("a", AttemptClass.COMPLETED, stage("read", 12, 30))], [back], DOLLAR_A_SECOND, at(60))
    assert (costs.total, costs.attempts[0].usd, costs.overhead) == (0, 0, 0)
    ahead = [attempt("a", AttemptClass.COMPLETED, stage("read", 3600, 3610), span=(4, 8))]
    costs = cost_of(ahead, [node(0, 40)], DOLLAR_A_SECOND, at(40))
    assert (costs.total, costs.attempts[0].usd, costs.nodes[0].start_up) == (10, 0, 10)


def test_a_node_that_never_reported_its_end_is_paid_until_it_was_last_seen() -> None:
    """Up at 0, last seen at 8, and now it is an hour later: 8 seconds, of which 4 were the attempt's."""
    gone = Node("n", "m", at(0), None, at(8))
    costs = cost_of([attempt("a", None, span=(4, 0))], [gone], DOLLAR_A_SECOND, at(3600))
    assert (costs.total, costs.attempts[0].usd) == (Decimal("2.00"), Decimal("1.00"))


def test_nodes_of_two_prices_by_hand() -> None:
    """A second costs 0.25 dollars on one node and 0.125 on the next: 4 s of start-up and 4 s of work on each."""
    half = replace(DOLLAR_A_SECOND, usd_per_hour=DOLLAR_A_SECOND.usd_per_hour / 2)
    nodes = [node(0, 8), replace(node(10, 18), price=half)]
    attempts = [
        attempt("a", AttemptClass.COMPLETED, stage("read", 4, 8)),
        attempt("b", AttemptClass.LOST, stage("read", 14, 18)),
    ]
    costs = cost_of(attempts, nodes, DOLLAR_A_SECOND, at(20))
    assert [(share.usd, share.prices) for share in costs.attempts] == [(1, (DOLLAR_A_SECOND,)), (0.5, (half,))]
    assert [(life.total, life.start_up, life.price) for life in costs.nodes] == [
        (2, 1, DOLLAR_A_SECOND),
        (1, 0.5, half),
    ]
    assert (costs.useful, costs.wasted, costs.overhead) == (1, 0.5, 1.5)
    assert spent_on_nodes(nodes, DOLLAR_A_SECOND) == 3
    rows = priced_nodes((life.price, 1, life.lifetime_s) for life in costs.nodes)
    assert [(row.price, row.lives, row.hours, row.usd) for row in rows] == [
        (DOLLAR_A_SECOND, 1, 8 / 3600, 2),
        (half, 1, 8 / 3600, 1),
    ]


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


def test_what_was_never_begun_was_on_no_node() -> None:
    """Leased by a driver that was killed, taken back a night later: it cost nothing."""
    never = replace(attempt("b", AttemptClass.LOST, span=(0, 40_000)), node="")
    costs = cost_of([never], [node(0, 4)], DOLLAR_A_SECOND, at(40_000))
    assert (costs.total, len(costs.nodes)) == (Decimal(1), 1)


def test_nothing_ran() -> None:
    """A node on which nothing ran is all start-up; no node at all costs nothing."""
    costs = cost_of([], [node(0, 4)], DOLLAR_A_SECOND, at(4))
    assert (costs.nodes[0].start_up, costs.total, costs.loading) == (Decimal("1.00"), Decimal("1.00"), Decimal(1))
    assert cost_of([], [], DOLLAR_A_SECOND, at(4)).total == 0


def test_what_was_preempted_is_apart_from_what_was_lost() -> None:
    """Two attempts lost, one of them with a machine that had given notice: dollars of their own, all wasted."""
    gone = [
        replace(attempt(code, AttemptClass.LOST, span=span), failure=Failure("", code, "gone", lost=True))
        for code, span in ((LOST, (0, 4)), (PREEMPTED, (4, 16)))
    ]
    costs = cost_of(gone, [node(0, 16)], DOLLAR_A_SECOND, at(16))
    assert dict(costs.by_outcome) == {"lost": Decimal("1.00"), "preempted": Decimal("3.00")}
    assert costs.wasted == costs.total == Decimal("4.00")


def test_the_gpu_goes_to_who_held_it() -> None:
    """On a GPU node the GPU's three quarters of a cent go to the series that held it, and are idle where none did."""
    # 4 cores and, at 4 GiB a core, 16 GiB cost 0.126444 and 0.067792 on lists: 65.1 % and 34.9 % of the other quarter.
    cores = 0.25 * 0.126444 / (0.126444 + 0.067792)
    memory = 0.25 - cores
    attempts = [
        attempt("a", AttemptClass.COMPLETED, stage("segment", 0, 10, cores=1, gpus=1)),
        attempt("b", AttemptClass.COMPLETED, stage("measure", 0, 20, cores=3)),
    ]
    costs = cost_of(attempts, [node(0, 20)], GPU_NODE, at(20))
    first, second = (float(share.usd) * 100 for share in costs.attempts)
    assert first == pytest.approx(10 * (0.75 + cores / 4 + memory / 2))
    assert second == pytest.approx(10 * (cores * 3 / 4 + memory / 2) + 10 * 0.25)
    assert float(costs.nodes[0].gpu_idle) == pytest.approx(0.10 * 0.75)
    assert first + second + 7.5 == pytest.approx(20)


def test_two_gpus_are_two() -> None:
    """Of two GPUs one is held: half of the GPUs' part is idle; held by two children at once one is shared."""
    two = Price(
        "g", "", "", "on-demand", Decimal(36), 4, "T4", 2, "paper", date(2026, 11, 1), gpu_usd_per_hour=Decimal(36)
    )
    one_held = cost_of([attempt("a", AttemptClass.COMPLETED, stage("segment", 0, 8, gpus=1))], [node(0, 8)], two, at(8))
    assert [float(share.usd) for share in one_held.attempts] == pytest.approx([0.04])
    assert float(one_held.nodes[0].gpu_idle) == pytest.approx(0.04)
    three = [attempt(key, AttemptClass.COMPLETED, stage("segment", 0, 6, gpus=1)) for key in "abc"]
    shared = cost_of(three, [node(0, 6)], two, at(6))
    assert [float(share.usd) for share in shared.attempts] == pytest.approx([0.02, 0.02, 0.02])
    assert shared.nodes[0].gpu_idle == 0


def test_who_left_no_record_held_what_no_other_did() -> None:
    """A lost attempt beside one that held the GPU bears none of it, and all of it afterwards."""
    attempts = [
        attempt("a", AttemptClass.COMPLETED, stage("segment", 0, 4, cores=2, gpus=1)),
        attempt("b", AttemptClass.LOST, span=(0, 10)),
    ]
    costs = cost_of(attempts, [node(0, 10)], GPU_NODE, at(10))
    cents = [float(share.usd) * 100 for share in costs.attempts]
    assert cents == pytest.approx([4 * 0.75 + 4 * 0.125, 4 * 0.125 + 6])
    assert costs.nodes[0].gpu_idle == 0


@pytest.mark.parametrize(
    ("price", "share"),
    [
        # 0.35 of 0.539999; as on the list, whatever spot takes off
        (Price("n", "gcp", "", "spot", Decimal("0.2"), 4, "T4", 1, "s", date(2026, 1, 1), "", Decimal(15)), 0.648149),
        # 0.526 less 4 cores and 16 GiB at the prices of the N1 is 0.331764
        (
            Price("x", "aws", "", "on-demand", Decimal("0.526"), 4, "RTX", 1, "s", date(2026, 1, 1), "", Decimal(16)),
            0.630730,
        ),
        (Price("x", "", "", "owned", Decimal("0.2"), 32, "RTX", 1, "s", date(2026, 1, 1)), 0.5),
        (Price("x", "", "", "owned", Decimal(0), 32, "RTX", 1, "s", date(2026, 1, 1)), 0),
        (Price("m", "", "", "spot", Decimal(1), 2, "", 0, "s", date(2026, 1, 1)), 0),
    ],
)
def test_parts_of_a_price(price: Price, share: float) -> None:
    """The GPU's share by list prices; by what cores and memory leave where none lists it, at least half."""
    parts = parts_of(price)
    assert parts.gpu == pytest.approx(share, abs=1e-5)
    assert parts.gpu + parts.cores + parts.memory == pytest.approx(1)


SECONDS = st.floats(-50, 4000, allow_nan=False).map(lambda s: round(s, 6))
STAGES = st.lists(
    st.tuples(
        st.sampled_from(["read", "segment", "store"]),
        SECONDS,
        st.floats(0, 900).map(lambda s: round(s, 6)),
        st.floats(0, 64),
        st.sampled_from([0.0, 0.0, 0.4, 1.0, 1.5]),
    ),
    max_size=4,
)
ENDS = st.sampled_from([*((kind, LOST) for kind in AttemptClass), (AttemptClass.LOST, PREEMPTED), (None, LOST)])
"""How an attempt ended, and the code of its failure."""

ATTEMPTS = st.lists(st.tuples(st.sampled_from("nmx"), ENDS, SECONDS, SECONDS, STAGES), max_size=12)
Drawn = Sequence[
    tuple[str, tuple[AttemptClass | None, str], float, float, list[tuple[str, float, float, float, float]]]
]
TIMES = st.sampled_from([None, None, Decimal("0.5"), Decimal(3), Decimal(0)])
"""How many times the run's price a node costs; None: it has no price of its own."""

LIVES = st.lists(st.tuples(st.sampled_from("nm"), st.floats(1, 2000).map(lambda s: round(s, 6)), TIMES), max_size=4)


def schedule(drawn: Drawn) -> list[Attempt]:
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
            failure=None if outcome in (None, AttemptClass.COMPLETED) else Failure("", code, "why"),
            consumption=tuple(
                stage(name, begin, begin + wall, cores, gpus) for name, begin, wall, cores, gpus in stages
            ),
        )
        for i, (where, (outcome, code), started, ended, stages) in enumerate(drawn)
    ]


@settings(max_examples=300, deadline=None)
@given(
    drawn=ATTEMPTS,
    lives=LIVES,
    usd_per_hour=st.decimals("0.01", "90", places=4),
    gpus=st.integers(0, 3),
    gpu_part=st.one_of(st.none(), st.decimals(0, 1, places=3)),
)
def test_identity(
    drawn: Drawn,
    lives: list[tuple[str, float, Decimal | None]],
    usd_per_hour: Decimal,
    gpus: int,
    gpu_part: Decimal | None,
) -> None:
    """Each node's price x lifetime = start-up + idle + idle GPUs + drain + all attempts, to 1e-6, whoever held what."""
    part = None if gpu_part is None else gpu_part * usd_per_hour
    price = Price("m", "", "", "spot", usd_per_hour, 2, "T4", gpus, "paper", date(2026, 11, 1), gpu_usd_per_hour=part)
    begin = {"n": 0.0, "m": 100.0}
    nodes = []
    for name, length, times in lives:
        own = None if times is None else replace(price, usd_per_hour=usd_per_hour * times, gpu_usd_per_hour=None)
        nodes.append(replace(node(begin[name], begin[name] + length, name), price=own))
        begin[name] += length + 7
    costs = cost_of(schedule(drawn), nodes, price, at(3000))
    shares = sum((share.usd for share in costs.attempts), Decimal(0))
    assert all(share.usd >= 0 for share in costs.attempts)
    preempted = [share.outcome == "preempted" for share in costs.attempts]
    assert preempted == [code == PREEMPTED for _, (_, code), *_ in drawn]
    assert float(sum(usd for _, usd in costs.by_outcome)) == pytest.approx(float(shares), rel=1e-9)
    parts = [part for life in costs.nodes for part in (life.start_up, life.idle, life.gpu_idle, life.drain)]
    assert all(amount >= Decimal("-1e-9") for amount in parts)
    assert float(shares + costs.overhead) == pytest.approx(float(costs.total), rel=1e-6, abs=1e-9)
    declared = sum(length * float(1 if times is None else times) for _, length, times in lives)
    assert float(spent_on_nodes(nodes, price)) == pytest.approx(float(price.usd_per_s) * declared, rel=1e-6)
    if shares:
        assert float(sum(share.usd * costs.loading for share in costs.attempts)) == pytest.approx(float(costs.total))
