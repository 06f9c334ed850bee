"""What every ledger does. A new one is added by one entry in LEDGERS."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from voxfleet.cluster.ledger import (
    MOST_FAILS,
    MOST_LOSSES,
    AttemptClass,
    Counts,
    Lease,
    Ledger,
    LedgerError,
    NoSuchRun,
    Publication,
    Run,
    RunMismatch,
    owner_name,
)
from voxfleet.cluster.ledgers.attempt import PAUSES_S, PREEMPTED
from voxfleet.cluster.ledgers.postgres import PostgresLedger
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.node_memory import NodeMemory
from voxfleet.runners.workitem import Failure, Outcome, State, Workitem

LEDGERS: dict[str, Callable[[Path], Ledger]] = {
    "postgres": lambda folder: PostgresLedger(os.environ["VOXFLEET_TEST_POSTGRES"], str(folder)[-60:]),
    "sqlite": lambda folder: SqliteLedger(folder / "ledger.sqlite"),
}
"""Opens the one ledger that belongs to a folder; the folder is new for each test."""

OWNER, OTHER = "cell-a", "cell-b"
RUN = Run(
    name="nlst",
    source="dir:/in",
    target="dir:/out",
    models=("ct-threshold 1.0",),
    parameters={"segmentation_type": "BINARY"},
    platform_version="0.1.0",
    machine="local",
    created=datetime(2026, 11, 21, tzinfo=UTC),
    budget_usd=Decimal("12.50"),
)


@pytest.fixture(params=sorted(LEDGERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Name of a ledger in LEDGERS, its server running."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)


@pytest.fixture
def ledger(kind: str, tmp_path: Path) -> Iterator[Ledger]:
    """An open ledger with a run and nothing in it."""
    opened = LEDGERS[kind](tmp_path)
    opened.create_run(RUN)
    yield opened
    opened.close()


def workitem(number: int, size: int | None = 1000) -> Workitem:
    """The workitem of series 1.2.NUMBER."""
    return Workitem(
        study_instance_uid="1.2",
        series_instance_uid=f"1.2.{number}",
        modality="CT",
        instances=3,
        source="dir:/in",
        target="dir:/out",
        model="ct-threshold",
        model_version="1.0",
        weights_sha256="none",
        parameters=(("hu", "-500"), ("smooth", "true")),
        bytes=size,
        features='{"pyradiomics": "3.1.4"}',
    )


def completed(lease: Lease, uid: str = "2.25.1") -> Outcome:
    """A COMPLETED outcome with two stages and one object."""
    used = (
        Consumption("read", 100.0, 2.0, 1.5, 0.0, 10, 20, 0),
        Consumption("segment", 102.0, 3.0, 4.0, 3.0, 50, 0, 7),
    )
    stored = (StoredObject("1.2.840.10008.5.1.4.1.1.66.4", uid, "2.25.9", "dir:/out/x.dcm", "ab" * 32, 7),)
    return Outcome(lease.workitem.key, State.COMPLETED, used, stored, repairs=("tilt removed",), node="n1")


def failed(lease: Lease, *, retryable: bool = False, refused: bool = False, lost: bool = False) -> Outcome:
    """A CANCELED outcome."""
    failure = Failure("read", "GANTRY_TILT", "tilted by 12 degrees", retryable, refused, lost)
    return Outcome(lease.workitem.key, State.CANCELED, (Consumption("read", 1.0, 1.0, 1.0),), failure=failure)


def one(ledger: Ledger, owner: str = OWNER, ttl_s: float = 60.0) -> Lease:
    """The one lease that is to be had now."""
    (lease,) = ledger.lease(owner, 1, ttl_s)
    return lease


class TestRun:
    """A ledger is of one run."""

    def test_is_what_it_was_made_from(self, ledger: Ledger) -> None:
        """The run read back equals the run created, its budget to the cent."""
        assert ledger.run() == RUN

    def test_created_again(self, ledger: Ledger) -> None:
        """The same work again is the same run, whatever the machine, the date and the budget."""
        again = replace(RUN, machine="g4dn.xlarge", budget_usd=None, created=RUN.created + timedelta(days=1))
        assert ledger.create_run(again) == RUN

    @pytest.mark.parametrize("change", [{"target": "dir:/x"}, {"models": ("a 1",)}, {"parameters": {}}])
    def test_of_other_work_is_refused(self, ledger: Ledger, change: dict[str, object]) -> None:
        """Another target, model or parameter is another run; the message says which."""
        with pytest.raises(RunMismatch, match=next(iter(change))):
            ledger.create_run(replace(RUN, **change))  # type: ignore[arg-type]

    def test_budget_can_be_raised(self, ledger: Ledger) -> None:
        """A stopped run goes on with another budget."""
        ledger.set_budget(Decimal("99.99"))
        assert ledger.run().budget_usd == Decimal("99.99")

    def test_price_is_kept_to_the_last_part(self, ledger: Ledger) -> None:
        """Each part of a price is read back as it was; machine, region and market follow it."""
        kept = Price(
            "local", "aws", "us-east-1", "on-demand", Decimal("0.0960000001"), 2, "T4", 1, "a list; of \"today\"",
            date(2026, 11, 1), "m6i.large", Decimal("7.5"), Decimal("0.02"),
        )  # fmt: skip
        assert ledger.run().price is None
        ledger.set_price(kept)
        found = ledger.run()
        assert found.price == kept
        assert (found.machine, found.region, found.market) == ("local", "us-east-1", "on-demand")

    def test_price_is_kept_from_the_beginning(self, kind: str, tmp_path: Path) -> None:
        """A run created with a price has it, one without optional parts too."""
        price = Price("toy", "", "", "spot", Decimal(36), 1, "", 0, "paper", date(2026, 11, 1))
        opened = LEDGERS[kind](tmp_path)
        opened.create_run(replace(RUN, price=price))
        assert opened.run().price == price
        opened.close()

    def test_is_not_there(self, kind: str, tmp_path: Path) -> None:
        """A ledger without a run says so."""
        with pytest.raises(NoSuchRun):
            LEDGERS[kind](tmp_path).run()


class TestAdd:
    """Taking workitems in."""

    def test_keeps_every_field(self, ledger: Ledger) -> None:
        """A workitem comes back equal, unknown size and parameters included."""
        works = [workitem(1), replace(workitem(2, None), repair=True, segmentation_type="LABELMAP", parameters=())]
        ledger.add(works)
        assert [item.workitem for item in ledger.items()] == works
        assert [item.workitem.key for item in ledger.items()] == [work.key for work in works]

    def test_again_adds_nothing(self, ledger: Ledger) -> None:
        """The same workitems twice, or among new ones, are there once and stay in their state."""
        assert ledger.add([workitem(1), workitem(2)]) == 2
        lease = one(ledger)
        ledger.finish(lease, completed(lease))
        assert ledger.add([workitem(1), workitem(2), workitem(3)]) == 1
        assert ledger.counts() == Counts(scheduled=2, completed=1)

    def test_all_or_nothing(self, ledger: Ledger) -> None:
        """Where the source breaks off in the middle, nothing of the batch is in."""

        def broken() -> Iterator[Workitem]:
            yield workitem(1)
            raise OSError("source is gone")

        with pytest.raises(OSError, match="source is gone"):
            ledger.add(broken())
        assert ledger.counts().total == 0

    def test_nothing(self, ledger: Ledger) -> None:
        """No workitems are no workitems."""
        assert ledger.add([]) == 0
        assert ledger.lease(OWNER, 5) == ()


class TestRefusals:
    """What never became a workitem."""

    def test_are_counted_once(self, ledger: Ledger) -> None:
        """An object that never became a workitem is counted, once, and is no workitem."""
        assert ledger.refuse("a/b.dcm", "NOT_DICOM", "no DICM at byte 128")
        assert not ledger.refuse("a/b.dcm", "NOT_DICOM", "no DICM at byte 128")
        assert ledger.counts() == Counts(never_workitems=1)
        assert [(r.identifier, r.code) for r in ledger.refusals()] == [("a/b.dcm", "NOT_DICOM")]


class TestLease:
    """Handing workitems out."""

    def test_order(self, ledger: Ledger) -> None:
        """The largest first; of equals in order of add; an unknown size counts 512 x 512 x 2 a slice."""
        ledger.add([workitem(1, 10), workitem(2, 99), workitem(3, 10), workitem(4, None), workitem(5, 2_000_000)])
        order = [lease.workitem.series_instance_uid for lease in ledger.lease(OWNER, 9)]
        assert order == ["1.2.5", "1.2.4", "1.2.2", "1.2.1", "1.2.3"]

    def test_gives_each_once(self, ledger: Ledger) -> None:
        """What one owner holds, no other gets."""
        ledger.add(workitem(n) for n in range(5))
        mine, theirs = ledger.lease(OWNER, 3), ledger.lease(OTHER, 9)
        assert (len(mine), len(theirs)) == (3, 2)
        assert not {lease.workitem.key for lease in mine} & {lease.workitem.key for lease in theirs}
        assert ledger.counts().in_progress == 5

    def test_what_was_tried_comes_last(self, ledger: Ledger) -> None:
        """An item that was lost waits until all others were tried, however large it is."""
        ledger.add([workitem(1, 99), workitem(2, 1)])
        ledger.lose([one(ledger)], "machine died")
        assert [lease.workitem.series_instance_uid for lease in ledger.lease(OWNER, 2)] == ["1.2.2", "1.2.1"]

    def test_of_some_models(self, kind: str, tmp_path: Path) -> None:
        """Only of these, in the same order over all of them, with the models of a series together; waiting counts so.

        Another driver gets what is left; what met an outage, or outgrew the node, is not leased by model either.
        """
        ledger = LEDGERS[kind](tmp_path)
        run = ledger.create_run(replace(RUN, models=("net 1.0", "other 1.0", "ct-threshold 1.0")))
        with ledger._database.write(durable=True) as sql:  # type: ignore[attr-defined]
            sql.execute("DROP INDEX item_ready_of_model")
        assert ledger.create_run(run) == run, "one that an older version began may be leased by model, too"
        items = [workitem(number, size) for number, size in ((1, 10), (2, 99), (3, 50))]
        ledger.add(replace(each, model=model) for each in items for model in ("net", "other", "ct-threshold"))
        taken = ledger.lease(OWNER, 4, 60, SMALL, ("other", "net"))
        named = [(lease.workitem.series_instance_uid, lease.workitem.model) for lease in taken]
        assert named == [("1.2.2", "net"), ("1.2.2", "other"), ("1.2.3", "net"), ("1.2.3", "other")]
        assert (ledger.waiting(SMALL, ("ct-threshold",)), ledger.waiting(SMALL, ("net", "other"))) == (3, 2)
        (rule,) = ledger.lease(OTHER, 1, 60, SMALL, ("ct-threshold",))
        assert rule.workitem == items[1]
        outgrown = Failure("segment", "OUT_OF_MEMORY", "9.1 GiB passed the cap")
        ledger.finish(rule, Outcome(rule.workitem.key, State.CANCELED, failure=outgrown))
        away = Failure("store", "ARCHIVE_UNAVAILABLE", "answered 503", retryable=True, lost=True, outage=True)
        ledger.finish(taken[0], Outcome(taken[0].workitem.key, State.CANCELED, failure=away))
        rest = ledger.lease(OTHER, 9, 60, SMALL, ("net", "ct-threshold"))
        assert [lease.workitem.series_instance_uid for lease in rest] == ["1.2.3", "1.2.1", "1.2.1"]
        assert (ledger.waiting(SMALL, ("ct-threshold",)), ledger.waiting(LARGE, ("ct-threshold",))) == (0, 1)
        ledger.close()

    def test_fence_rises_and_attempts_count(self, ledger: Ledger) -> None:
        """Each lease of an item has a higher fence and the next attempt number."""
        ledger.add([workitem(1)])
        first = one(ledger)
        ledger.lose([first], "machine died")
        second = one(ledger)
        assert (first.attempt, second.attempt) == (1, 2)
        assert second.fence > first.fence


class TestFinish:
    """How an attempt ends."""

    def test_completed(self, ledger: Ledger) -> None:
        """A completed attempt leaves its consumption, objects, repairs and node; the item is COMPLETED."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        assert ledger.start(lease, "n1")
        outcome = completed(lease)
        assert ledger.finish(lease, outcome)
        (item,), (attempt,), (stored,) = ledger.items(), ledger.attempts(), ledger.stored()
        assert (item.state, item.fails, item.losses, item.failure) == (State.COMPLETED, 0, 0, None)
        assert item.repairs == ("tilt removed",)
        assert (attempt.outcome, attempt.node, attempt.owner) == (AttemptClass.COMPLETED, "n1", OWNER)
        assert attempt.consumption == outcome.consumption
        assert attempt.ended is not None
        assert attempt.started <= attempt.ended
        assert (stored.key, stored.object) == (lease.workitem.key, outcome.stored[0])
        (usage,) = ledger.usage()
        assert (usage.wall_s, usage.cpu_s, usage.gpu_s, usage.bytes_in, usage.bytes_out) == (5.0, 5.5, 3.0, 20, 7)

    def test_refused_is_never_tried_again(self, ledger: Ledger) -> None:
        """A refusal is CANCELED at once, counted apart, and not by retry_failed either."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        ledger.finish(lease, failed(lease, refused=True))
        assert ledger.counts() == Counts(refused=1)
        assert ledger.retry_failed() == 0
        assert ledger.items()[0].failure == Failure("read", "GANTRY_TILT", "tilted by 12 degrees", refused=True)

    def test_failure_that_stays(self, ledger: Ledger) -> None:
        """What is not retryable is CANCELED at the first failure."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        ledger.finish(lease, failed(lease))
        assert ledger.counts() == Counts(failed=1)
        assert ledger.items()[0].fails == 1

    def test_failure_that_may_pass(self, ledger: Ledger) -> None:
        """What is retryable is tried twice and no more; retry_failed gives it two more."""
        ledger.add([workitem(1)])
        for _ in range(2):
            for _ in range(MOST_FAILS):
                lease = one(ledger)
                ledger.finish(lease, failed(lease, retryable=True))
            assert ledger.counts() == Counts(failed=1)
            assert ledger.lease(OWNER, 1) == ()
            assert ledger.retry_failed() == 1
        assert len(ledger.attempts()) == 2 * MOST_FAILS

    def test_losses_are_not_fails(self, ledger: Ledger) -> None:
        """Lost attempts are tried five times, and leave both chances of the item's own."""
        ledger.add([workitem(1)])
        for _ in range(MOST_LOSSES - 1):
            lease = one(ledger)
            ledger.finish(lease, failed(lease, lost=True))
        (item,) = ledger.items()
        assert (item.state, item.fails, item.losses) == (State.SCHEDULED, 0, MOST_LOSSES - 1)
        lease = one(ledger)
        ledger.finish(lease, failed(lease, retryable=True))
        assert ledger.counts().scheduled == 1
        lease = one(ledger)
        ledger.lose([lease], "machine died")
        assert ledger.counts() == Counts(failed=1)
        assert {a.outcome for a in ledger.attempts()} == {AttemptClass.LOST, AttemptClass.FAILED}

    def test_of_another_workitem(self, ledger: Ledger) -> None:
        """An outcome that is not the lease's is an error and changes nothing."""
        ledger.add([workitem(1), workitem(2)])
        mine, other = ledger.lease(OWNER, 2)
        with pytest.raises(LedgerError):
            ledger.finish(mine, completed(other))
        assert ledger.counts().in_progress == 2

    def test_twice(self, ledger: Ledger) -> None:
        """The second finish of one lease is fenced: nothing is stored or counted twice."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        assert ledger.finish(lease, completed(lease))
        assert not ledger.finish(lease, completed(lease))
        assert (len(ledger.attempts()), len(ledger.stored())) == (1, 1)


SMALL, LARGE, WITH_GPU = NodeMemory(8 * 2**30), NodeMemory(64 * 2**30), NodeMemory(8 * 2**30, 24 * 2**30)


ASKED_LONG_AGO = (
    f"UPDATE idle SET until = until - 3600 WHERE owner <> '{OWNER}'",
    f"UPDATE attempt SET ended = ended - 3600 WHERE owner <> '{OWNER}'",
    f"UPDATE owner SET lease_s = 0 WHERE owner <> '{OWNER}'",
)
"""All nodes but the owner's did what they did an hour ago, and their driver had all the time to be heard again."""


def let_pass(ledger: Ledger, *changes: str) -> None:
    """Let it be later: the ledger's times are moved, and the test waits for none of them."""
    with ledger._database.write(durable=False) as sql:  # type: ignore[attr-defined]
        for change in changes:
            sql.execute(change)


def ran_out(ledger: Ledger, memory: NodeMemory) -> None:
    """An item is leased for a node with this memory, and it does not suffice."""
    (lease,) = ledger.lease(OWNER, 1, 60, memory)
    failure = Failure("segment", "OUT_OF_MEMORY", "9.1 GiB passed the cap")
    assert ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))


class TestMemory:
    """What ran out of memory goes where there is more, and nowhere else."""

    @pytest.mark.parametrize("larger", [LARGE, WITH_GPU])
    def test_a_larger_node_takes_it(self, ledger: Ledger, larger: NodeMemory) -> None:
        """The same class, another machine of its type and one that says nothing get none of it; a larger one does.

        The attempts say for which class they were.
        """
        ledger.add([workitem(1, 9), workitem(2, 1)])
        ran_out(ledger, SMALL)
        assert ledger.counts().outgrown == 1
        held = ledger.lease(OTHER, 1, 60, larger)
        assert ledger.counts().outgrown == 0
        assert [lease.workitem.series_instance_uid for lease in held] == ["1.2.2"]
        twin = NodeMemory(SMALL.host_bytes + 2**26, SMALL.gpu_bytes)
        for memory in (SMALL, twin, NodeMemory()):
            assert ledger.lease(OWNER, 5, 60, memory) == ()
            assert ledger.waiting(memory) == 0
        assert ledger.waiting(larger) == 1
        ledger.finish(held[0], completed(held[0]))
        (lease,) = ledger.lease(OTHER, 5, 60, larger)
        assert ledger.finish(lease, completed(lease, "2.25.2"))
        assert ledger.counts() == Counts(completed=2)
        assert [attempt.memory for attempt in ledger.attempts()] == [SMALL, larger, larger]

    def test_it_waits_while_larger_nodes_may_come(self, ledger: Ledger) -> None:
        """As long as anything else is to be done, it is not given up."""
        ledger.add([workitem(1, 9), workitem(2, 1)])
        ran_out(ledger, SMALL)
        (other,) = ledger.lease(OWNER, 5, 60, SMALL)
        assert ledger.lease(OTHER, 5, 60, SMALL) == ()
        assert ledger.counts() == Counts(scheduled=1, in_progress=1, outgrown=1)
        assert ledger.leasable() == 0
        ledger.finish(other, completed(other))
        assert ledger.leasable() == 1, "some node has to find out that there is none for it"
        assert ledger.lease(OWNER, 5, 60, SMALL) == ()
        assert ledger.counts() == Counts(completed=1, failed=1)

    def test_it_waits_for_a_larger_node_that_has_nothing_to_do(self, ledger: Ledger) -> None:
        """A larger node that asked a moment ago is one of the run's; one that was silent for its time is not."""
        ledger.add([workitem(1)])
        (lease,) = ledger.lease(OWNER, 1, 60, SMALL)
        assert ledger.lease(OTHER, 1, 60, LARGE) == ()
        failure = Failure("segment", "OUT_OF_MEMORY", "9.1 GiB passed the cap")
        ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert ledger.counts() == Counts(scheduled=1)
        let_pass(ledger, *ASKED_LONG_AGO)
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert ledger.counts() == Counts(failed=1)

    @pytest.mark.parametrize("done", [0, 1])
    def test_a_larger_node_that_could_not_ask_is_waited_for(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, done: int
    ) -> None:
        """The ledger was away for longer than a node counts as there: who is back first does not give the item up.

        Whether the larger one had been asking, or had ended something; once it had the time to ask, and did not, it
        is given up.
        """
        ledger.add([workitem(1, 9), workitem(2, 1)][: 1 + done])
        lease = ledger.lease(OWNER, 1, 60, SMALL)[0]
        for each in ledger.lease(OTHER, 1, 60, LARGE):
            ledger.finish(each, completed(each))
        failure = Failure("segment", "OUT_OF_MEMORY", "9.1 GiB passed the cap")
        ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))
        let_pass(ledger, *ASKED_LONG_AGO[:2])
        with monkeypatch.context() as away:
            away.setattr("voxfleet.cluster.ledgers.contact.BREAK_S", 0.05)
            time.sleep(0.06)
            assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert ledger.counts() == Counts(scheduled=1, completed=done)
        let_pass(ledger, *ASKED_LONG_AGO)
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert ledger.counts() == Counts(failed=1, completed=done)

    def test_it_is_not_given_up_in_the_pause_after_an_outage(self, ledger: Ledger) -> None:
        """A larger node met an archive that is away, and left: nor for the 15 minutes in which it may come again."""
        ledger.add([workitem(1)])
        ran_out(ledger, SMALL)
        (lease,) = ledger.lease(OTHER, 1, 60, LARGE)
        failure = Failure("store", "ARCHIVE_UNAVAILABLE", "answered 503", retryable=True, lost=True, outage=True)
        ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))
        ledger.release(OTHER, "nothing to lease")
        let_pass(ledger, *ASKED_LONG_AGO)
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        let_pass(ledger, "UPDATE item SET due = due - 15 - 600")
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert (ledger.counts().scheduled, ledger.leasable()) == (1, 1)
        let_pass(ledger, "UPDATE item SET due = due - 300")
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert ledger.counts() == Counts(failed=1)

    def test_a_node_that_takes_other_models_is_not_waited_for(self, kind: str, tmp_path: Path) -> None:
        """Larger, but it asks for other models alone: the item waits for one that asks for its own, and is given up."""
        ledger = LEDGERS[kind](tmp_path)
        ledger.create_run(replace(RUN, models=("ct-threshold 1.0", "other 1.0")))
        ledger.add([workitem(1)])
        (lease,) = ledger.lease(OWNER, 1, 60, SMALL)
        assert ledger.lease(OTHER, 1, 60, LARGE, ("ct-threshold",)) == ()
        failure = Failure("segment", "OUT_OF_MEMORY", "9.1 GiB passed the cap")
        ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        assert ledger.counts() == Counts(scheduled=1)
        let_pass(ledger, *ASKED_LONG_AGO)
        assert ledger.counts() == Counts(scheduled=1, outgrown=1)
        assert ledger.lease("cell-c", 1, 60, LARGE, ("other",)) == ()
        assert ledger.counts() == Counts(failed=1)
        ledger.close()

    def test_where_no_node_has_more_it_is_quarantined_with_the_next_step(self, ledger: Ledger) -> None:
        """The failure keeps its code, says what it had, and what to do; retry_failed lets any node try it again."""
        ledger.add([workitem(1)])
        ran_out(ledger, SMALL)
        assert ledger.lease(OWNER, 1, 60, SMALL) == ()
        (item,) = ledger.items()
        assert item.failure is not None
        assert (item.state, item.failure.code) == (State.CANCELED, "OUT_OF_MEMORY")
        assert "more than 8.0 GiB for a stage; run again with --retry-failed on nodes with more" in item.failure.message
        assert ledger.retry_failed() == 1
        ran_out(ledger, SMALL)
        ran_out(ledger, LARGE)
        assert ledger.lease(OWNER, 1, 60, LARGE) == ()
        (item,) = ledger.items()
        assert item.failure is not None
        assert "64.0 GiB" in item.failure.message


class TestOutage:
    """An archive that does not answer is the infrastructure's fault."""

    def test_it_is_tried_five_times_with_pauses(self, ledger: Ledger) -> None:
        """Each loss to it is followed by a pause; the fifth is the last; none counts as the item's own failure."""
        ledger.add([workitem(1), workitem(2)])
        other = one(ledger)
        failure = Failure("store", "ARCHIVE_UNAVAILABLE", "answered 503", retryable=True, lost=True, outage=True)
        for losses in range(1, MOST_LOSSES + 1):
            lease = one(ledger)
            ledger.finish(lease, Outcome(lease.workitem.key, State.CANCELED, failure=failure))
            (item,) = (each for each in ledger.items() if each.workitem == lease.workitem)
            assert (item.fails, item.losses) == (0, losses)
            if losses < MOST_LOSSES:
                let_pass(ledger, f"UPDATE item SET due = due - {PAUSES_S[losses - 1] - 14}")
                assert ledger.lease(OWNER, 1) == ()
                assert ledger.leasable() == 0
                assert ledger.waiting(SMALL) == 1
                let_pass(ledger, "UPDATE item SET due = due - 14")
                assert ledger.leasable() == 1
        assert ledger.finish(other, completed(other))
        assert ledger.counts() == Counts(completed=1, failed=1)
        assert item.failure is not None
        assert item.failure.code == "LOST_TOO_OFTEN"
        assert "answered 503" in item.failure.message


class TestAdopt:
    """Taking what the archive holds for done."""

    def test_scheduled_item_is_completed_without_an_attempt(self, ledger: Ledger) -> None:
        """It is leased to nobody any more, its objects are known, and it cost this run nothing."""
        ledger.add([workitem(1), workitem(2)])
        first = workitem(1)
        found = StoredObject("1.2.840.10008.5.1.4.1.1.66.4", "2.25.7", "2.25.8", "dir:x", "0" * 64, 10, True)
        assert ledger.adopt(first.key, [found])
        assert [(s.key, s.object) for s in ledger.stored()] == [(first.key, found)]
        assert (ledger.counts(), ledger.attempts()) == (Counts(scheduled=1, completed=1), ())
        assert [lease.workitem for lease in ledger.lease(OWNER, 5)] == [workitem(2)]

    def test_only_a_scheduled_one(self, ledger: Ledger) -> None:
        """What somebody works on, what is done and what is unknown are left as they are."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        assert not ledger.adopt(lease.workitem.key, [])
        assert ledger.finish(lease, completed(lease))
        assert not ledger.adopt(lease.workitem.key, [])
        assert not ledger.adopt("no such key", [])
        assert ledger.counts() == Counts(completed=1)


class TestPublication:
    """The way from a staging store to the archive."""

    def test_backlog_gets_shorter(self, ledger: Ledger) -> None:
        """Stored objects wait until they are published or rejected; SEG comes before SR."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        objects = [
            StoredObject("1.2.840.10008.5.1.4.1.1.66.4", f"2.25.{n}", "2.25.8", "dir:x", "0" * 64, 10) for n in (9, 1)
        ]
        ledger.finish(lease, replace(completed(lease), stored=tuple(objects)))
        seg, sr = ledger.backlog(5)
        assert seg.workitem == workitem(1)
        assert [seg.object, sr.object] == objects
        assert ledger.backlog(1) == (seg,)
        assert (ledger.backlog(5, seg), ledger.backlog(5, sr)) == ((sr,), ())
        assert ledger.publication() == Publication(waiting=2)
        ledger.published(seg, "dicomweb+https://pacs")
        ledger.rejected(sr, "no such SOP class")
        assert (ledger.backlog(5), ledger.publication()) == ((), Publication(published=1, rejected=1))
        assert ledger.publish_again() == 1
        assert ledger.backlog(5) == (sr,)


class TestTogether:
    """What begins or ends together is recorded together, each by its own lease."""

    def test_each_is_told_for_itself(self, ledger: Ledger) -> None:
        """Two that are held are begun and ended; one that was given back is neither, and says so."""
        ledger.add(workitem(n) for n in range(3))
        first, back, last = ledger.lease(OWNER, 3)
        ledger.give_back([back])
        assert ledger.start_all([(first, "n1"), (back, "n2"), (last, "n3")]) == (True, False, True)
        ended = [(lease, completed(lease, f"2.25.{n}"), "") for n, lease in enumerate((last, back))]
        ended.append((first, failed(first, refused=True), "n4"))
        assert ledger.finish_all(ended) == (True, False, True)
        assert ledger.counts() == Counts(scheduled=1, completed=1, refused=1)
        assert {each.key: each.node for each in ledger.attempts()} == {
            first.workitem.key: "n4",
            last.workitem.key: "n1",
        }
        assert [each.object.sop_instance_uid for each in ledger.stored()] == ["2.25.0"]
        assert {(each.outcome, each.attempts, each.wall_s) for each in ledger.usage()} == {
            (AttemptClass.COMPLETED, 1, 5.0),
            (AttemptClass.REFUSED, 1, 1.0),
        }

    def test_all_or_nothing(self, ledger: Ledger) -> None:
        """An outcome of another item among them: nothing of all is recorded."""
        ledger.add(workitem(n) for n in range(2))
        one_lease, other = ledger.lease(OWNER, 2)
        with pytest.raises(LedgerError):
            ledger.finish_all([(one_lease, completed(one_lease), ""), (other, completed(one_lease), "")])
        assert ledger.counts() == Counts(in_progress=2)

    def test_an_old_lease_beside_the_new_one(self, ledger: Ledger) -> None:
        """Of two leases on one item only the newest ends it."""
        ledger.add([workitem(1)])
        old = one(ledger)
        ledger.lose([old], "agent died")
        new = one(ledger)
        assert ledger.finish_all([(old, completed(old, "2.25.7"), ""), (new, completed(new), "")]) == (False, True)
        assert [each.object.sop_instance_uid for each in ledger.stored()] == ["2.25.1"]

    def test_more_than_a_statement_names(self, ledger: Ledger) -> None:
        """Six hundred at once are all leased, begun and ended."""
        ledger.add(workitem(n) for n in range(600))
        leases = ledger.lease(OWNER, 600)
        assert all(ledger.start_all([(lease, "n1") for lease in leases]))
        assert all(ledger.finish_all([(lease, completed(lease, f"2.25.{lease.workitem.key}"), "") for lease in leases]))
        assert (ledger.counts().completed, len(ledger.stored())) == (600, 600)

    def test_troubles(self, ledger: Ledger) -> None:
        """Reasons are counted over items and refused objects, the most frequent first, each with an example."""
        ledger.add(workitem(n) for n in range(4))
        ledger.refuse("a.pdf", "NOT_DICOM", "no DICM at byte 128")
        for lease in ledger.lease(OWNER, 3):
            ledger.finish(lease, failed(lease, refused=lease.workitem.series_instance_uid != "1.2.0"))
        assert [(each.refused, each.stage, each.code, each.count) for each in ledger.troubles()] == [
            (True, "read", "GANTRY_TILT", 2),
            (False, "read", "GANTRY_TILT", 1),
            (True, "search", "NOT_DICOM", 1),
        ]
        assert ledger.troubles()[0].example == "tilted by 12 degrees"


class TestSilence:
    """Drivers that die, and drivers that come back."""

    def test_owner_that_falls_silent_loses_its_items(self, ledger: Ledger) -> None:
        """After its time an owner's items are lost, and an event says so; before it, not."""
        ledger.add([workitem(1), workitem(2)])
        ledger.lease(OWNER, 2, ttl_s=60)
        ledger.node_up("n", "toy", OWNER)
        assert ledger.expire() == 0
        assert ledger.heartbeat(OWNER, ttl_s=0)
        time.sleep(0.002)
        assert ledger.expire() == 2
        # Should it come back, it is told that its node is no longer paid.
        assert not ledger.heartbeat(OWNER)
        assert ledger.counts() == Counts(scheduled=2)
        assert [item.losses for item in ledger.items()] == [1, 1]
        assert any(event.kind == "owner_silent" for event in ledger.events())

    def test_what_falls_silent_after_a_notice_was_preempted(self, ledger: Ledger) -> None:
        """Lost as anything else, and marked: what was begun before its owner's notice, and of that owner alone."""
        ledger.add([workitem(1), workitem(2)])
        ledger.lease(OWNER, 1), ledger.lease(OTHER, 1)
        ledger.notice(OWNER)
        ledger.heartbeat(OWNER, ttl_s=0), ledger.heartbeat(OTHER, ttl_s=0)
        time.sleep(0.002)
        assert ledger.expire() == 2
        ledger.lease(OWNER, 1, ttl_s=0)
        time.sleep(0.002)
        assert ledger.expire() == 1
        assert all(attempt.outcome is AttemptClass.LOST for attempt in ledger.attempts())
        assert [attempt.preempted for attempt in ledger.attempts()] == [True, False, False]

    def test_what_is_given_up_after_a_notice_was_preempted(self, ledger: Ledger) -> None:
        """A loss says by its code that the machine had given notice; without one it did not."""
        ledger.add([workitem(1), workitem(2)])
        first, second = ledger.lease(OWNER, 2)
        assert ledger.lose([first], "its driver was told to stop", "n", PREEMPTED) == 1
        assert ledger.lose([second], "machine died") == 1
        assert [attempt.preempted for attempt in ledger.attempts()] == [True, False]

    def test_heartbeat_holds_all(self, ledger: Ledger) -> None:
        """A heartbeat holds every lease of its owner, and no other's."""
        ledger.add([workitem(1), workitem(2)])
        one(ledger, OWNER, ttl_s=0.05)
        ledger.heartbeat(OWNER, ttl_s=60)
        one(ledger, OTHER, ttl_s=0.05)
        time.sleep(0.06)
        assert ledger.expire() == 1
        assert ledger.counts() == Counts(scheduled=1, in_progress=1)

    def test_zombie_is_fenced(self, ledger: Ledger) -> None:
        """Who comes back after its time can no longer start, finish, lose or give back what another holds."""
        ledger.add([workitem(1)])
        zombie = one(ledger, OWNER, ttl_s=0)
        time.sleep(0.002)
        lease = one(ledger, OTHER)
        assert not ledger.start(zombie, "old")
        assert not ledger.finish(zombie, completed(zombie, "2.25.666"))
        assert ledger.lose([zombie], "late") == 0
        assert ledger.give_back([zombie]) == 0
        assert ledger.finish(lease, completed(lease, "2.25.1"))
        assert [s.object.sop_instance_uid for s in ledger.stored()] == ["2.25.1"]
        assert [a.outcome for a in ledger.attempts()] == [AttemptClass.LOST, AttemptClass.COMPLETED]

    def test_zombie_is_fenced_from_its_own_new_lease(self, ledger: Ledger) -> None:
        """The same owner with a newer lease of the item: the old lease is fenced all the same."""
        ledger.add([workitem(1)])
        old = one(ledger, OWNER, ttl_s=0)
        time.sleep(0.002)
        new = one(ledger, OWNER)
        assert not ledger.finish(old, completed(old))
        assert ledger.finish(new, completed(new))

    def test_what_others_hold(self, ledger: Ledger) -> None:
        """Counted for each owner is what all the others have IN PROGRESS, and nothing that has ended."""
        ledger.add(workitem(n) for n in range(6))
        assert ledger.held_by_others(OWNER) == 0
        ledger.lease(OWNER, 3)
        lease, _ = ledger.lease(OTHER, 2)
        assert (ledger.held_by_others(OWNER), ledger.held_by_others(OTHER), ledger.held_by_others("c")) == (2, 3, 5)
        ledger.finish(lease, completed(lease))
        assert ledger.held_by_others(OWNER) == 1


class TestRelease:
    """Giving back what was never begun."""

    def test_leaves_no_attempt(self, ledger: Ledger) -> None:
        """A clean stop gives items back as never attempted, and only its own."""
        ledger.add([workitem(1), workitem(2), workitem(3)])
        ledger.lease(OWNER, 2)
        ledger.lease(OTHER, 1)
        assert ledger.release(OWNER, "stopped") == 2
        assert ledger.counts() == Counts(scheduled=2, in_progress=1)
        assert len(ledger.attempts()) == 1
        assert [item.losses for item in ledger.items()] == [0, 0, 0]

    def test_given_back_lease_is_fenced(self, ledger: Ledger) -> None:
        """What was given back cannot be finished any more."""
        ledger.add([workitem(1)])
        lease = one(ledger)
        assert ledger.give_back([lease]) == 1
        assert not ledger.finish(lease, completed(lease))
        assert one(ledger).attempt == 1


class TestNodes:
    """Lives of nodes, and the rate of work."""

    def test_lives(self, ledger: Ledger) -> None:
        """A node lives from up to down; one that never ended ends when it comes up again."""
        ledger.node_up("n1", "g4dn.xlarge", OWNER)
        ledger.node_down("n1", OWNER)
        ledger.node_up("n1", "g4dn.xlarge", OWNER)
        ledger.node_up("n1", "g4dn.xlarge", OWNER, "c0")
        first, second, third = ledger.nodes()
        assert (first.cell, third.cell) == ("", "c0")
        assert first.down is not None
        assert second.down == second.up
        assert third.down is None
        assert third.machine == "g4dn.xlarge"
        assert first.up <= first.down <= second.up

    def test_prices_of_their_own(self, ledger: Ledger) -> None:
        """A life keeps the price it began at; summed by price, lives are as long as told one by one, ended or not."""
        dear = Price("g", "gcp", "r", "on-demand", Decimal("1.10"), 4, "L4", 1, "paper", date(2026, 11, 1))
        ledger.set_prices({"fallback": dear})
        assert ledger.run().prices == {"fallback": dear}
        assert ledger.lived() == ()
        for node, price in (("a", None), ("b", dear), ("c", dear), ("d", None)):
            ledger.node_up(node, "g", OWNER, "c0", price)
        ledger.set_prices({})
        assert ledger.run().prices == {}
        time.sleep(0.01)
        ledger.node_down("a", OWNER)
        ledger.node_down("b", OWNER)
        ledger.node_up("c", "g", OWNER)
        ledger.node_up("d", "g", OTHER, "", dear)
        assert [node.price for node in ledger.nodes()] == [None, dear, dear, None, None, dear]
        owns, others = ledger.lived()
        assert (owns.price, owns.lives, owns.up) == (None, 3, 2)
        assert (others.price, others.lives, others.up) == (dear, 3, 1)
        ledger.node_down("d", OTHER)
        for each in ledger.lived():
            lives = [node.lifetime_s for node in ledger.nodes() if node.price == each.price]
            assert each.seconds == pytest.approx(sum(lives), abs=1e-4)

    def test_heads_are_told_apart(self, ledger: Ledger) -> None:
        """A node that drives a cell is counted as such while it is up, at its price, also beside others at that one."""
        ledger.head_up("h", "e2", OWNER, "c0", None)
        ledger.node_up("n", "g", OWNER, "c0")
        assert [(node.node, node.machine, node.cell, node.head) for node in ledger.nodes()] == [
            ("h", "e2", "c0", True),
            ("n", "g", "c0", False),
        ]
        (lived,) = ledger.lived()
        assert (lived.lives, lived.up, lived.heads) == (2, 2, 1)
        ledger.node_down("h", OWNER)
        (lived,) = ledger.lived()
        assert (lived.lives, lived.up, lived.heads) == (2, 1, 0)

    def test_of_a_driver_that_fell_silent_are_summed(self, ledger: Ledger) -> None:
        """Its nodes' lives end with its last sign of life, and count."""
        ledger.heartbeat(OWNER, 0.0)
        ledger.node_up("n1", "local", OWNER)
        ledger.node_up("n2", "local", OWNER)
        time.sleep(0.002)
        ledger.expire()
        (lived,) = ledger.lived()
        assert (lived.lives, lived.up) == (2, 0)
        assert lived.seconds == pytest.approx(sum(node.lifetime_s for node in ledger.nodes()), abs=1e-4)

    def test_of_a_driver_that_lives_is_seen_now(self, ledger: Ledger) -> None:
        """While a driver sends heartbeats its nodes cost money; afterwards up to the time for which it had leased."""
        ledger.node_up("n1", "local", OWNER)
        ledger.add([workitem(1)])
        lease = one(ledger)
        ledger.start(lease, "n1")
        ledger.finish(lease, completed(lease), "n1")
        (attempt,) = ledger.attempts()
        time.sleep(0.01)
        assert attempt.ended is not None
        assert ledger.nodes()[0].last_seen > attempt.ended
        before = ledger.now()
        ledger.heartbeat(OWNER, 0.0)
        after = ledger.now()
        time.sleep(0.002)
        assert before <= ledger.nodes()[0].last_seen <= after

    def test_of_a_driver_that_was_killed_cost_no_more_than_its_lease(self, ledger: Ledger) -> None:
        """However late somebody takes back what it held: another driver, or itself when it is begun again."""
        ledger.add([workitem(1)])
        for number, begun_again in enumerate((False, True)):
            ledger.node_up("n1", "local", OWNER)
            lease = one(ledger, OWNER, ttl_s=0.1)
            leased = ledger.now()
            ledger.start(lease, "n1")
            time.sleep(0.3)
            if begun_again:
                ledger.heartbeat(OWNER, 0.0)
                time.sleep(0.002)
            assert ledger.expire() == 1
            life = ledger.nodes()[number]
            assert life.down is not None
            assert life.down <= leased + timedelta(seconds=0.1)

    def test_two_drivers_on_one_host_are_seen_apart(self, ledger: Ledger) -> None:
        """The life of a dead driver's node ends with its own last attempt, whatever another one does on that host."""
        ledger.add([workitem(1), workitem(2)])
        ledger.node_up("n1", "local", OWNER), ledger.node_up("n1", "local", OTHER)
        dead = one(ledger, OWNER)
        ledger.start(dead, "n1")
        ledger.finish(dead, completed(dead), "n1")
        time.sleep(0.01)
        other = one(ledger, OTHER)
        ledger.start(other, "n1")
        ledger.finish(other, completed(other, "2.25.2"), "n1")
        ledger.release(OWNER, "its row is gone")
        assert ledger.nodes()[0].last_seen == ledger.attempts()[0].ended
        assert ledger.nodes()[1].last_seen > ledger.nodes()[0].last_seen

    def test_rate_of_the_last_minutes(self, ledger: Ledger) -> None:
        """Settled workitems are counted over the window, or since the first attempt if that is shorter."""
        assert ledger.recent(300).per_s == 0
        ledger.add([workitem(1), workitem(2)])
        lease, _ = ledger.lease(OWNER, 2)
        time.sleep(0.01)
        ledger.finish(lease, completed(lease))
        recent = ledger.recent(300)
        assert recent.settled == 1
        assert 0.01 <= recent.span_s < 60


def test_events_in_order(ledger: Ledger) -> None:
    """Events come back in order, with the database's time."""
    ledger.event("info", "begun", "a")
    ledger.event("error", "budget", "b")
    assert [(e.level, e.kind, e.detail) for e in ledger.events()] == [("info", "begun", "a"), ("error", "budget", "b")]
    assert abs(ledger.events()[0].at - ledger.now()) < timedelta(seconds=60)


def test_errors_survive_pickling() -> None:
    """Every error of a ledger is the same after pickling."""
    error = RunMismatch("x.sqlite", "it is of other work")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (RunMismatch, str(error))


def test_owner_names_differ() -> None:
    """Two owners never have one name."""
    assert owner_name() != owner_name()


def _take_all(kind: str, folder: Path, owner: str, keys: multiprocessing.Queue[tuple[str, int]]) -> None:
    """Lease, start and finish one by one until there is nothing left."""
    ledger = LEDGERS[kind](folder)
    while leases := ledger.lease(owner, 2):
        for lease in leases:
            if ledger.finish(lease, completed(lease, f"2.25.{lease.workitem.series_instance_uid[4:]}")):
                keys.put((lease.workitem.key, lease.fence))


def test_processes_at_the_same_time(kind: str, ledger: Ledger, tmp_path: Path) -> None:
    """Four processes on one ledger finish every item, each once."""
    ledger.add(workitem(n) for n in range(300))
    context = multiprocessing.get_context("spawn")
    keys: multiprocessing.Queue[tuple[str, int]] = context.Queue()
    workers = [context.Process(target=_take_all, args=(kind, tmp_path, f"w{i}", keys)) for i in range(4)]
    for worker in workers:
        worker.start()
    finished = [keys.get(timeout=60) for _ in range(300)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len({key for key, _ in finished}) == 300
    assert {fence for _, fence in finished} == {1}
    assert ledger.counts() == Counts(completed=300)


VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_ledger as t
ledger = t.LEDGERS[{kind!r}](Path({folder!r}))
print("ready", flush=True)
while leases := ledger.lease("victim", 3, 0.05):
    for lease in leases:
        ledger.start(lease, "n")
        if ledger.finish(lease, t.completed(lease, "2.25." + lease.workitem.series_instance_uid[4:])):
            print(lease.workitem.key, flush=True)
"""


def _done(ledger: Ledger) -> tuple[list[str], list[str], list[str]]:
    """Keys of what is COMPLETED by its state, by its objects, and by its attempts."""
    return (
        [item.workitem.key for item in ledger.items() if item.state is State.COMPLETED],
        [stored.key for stored in ledger.stored()],
        [a.key for a in ledger.attempts() if a.outcome is AttemptClass.COMPLETED],
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment(
    kind: str, ledger: Ledger, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Kill -9 of a process in the midst of leasing and finishing, ten times: nothing is lost or half written.

    What it was told is finished is finished, and in the end every item is done once.
    """
    record_property("times", 10)
    ledger.add(workitem(n) for n in range(3000))
    code = VICTIM.format(here=str(Path(__file__).parent), kind=kind, folder=str(tmp_path))
    told: list[str] = []
    chance = random.Random(5)
    for _ in range(10):
        # In a small pipe it cannot get far ahead of us.
        victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, pipesize=4096)
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        # By what it has done and not by the clock: on a busy machine it might not have begun.
        told += [victim.stdout.readline().strip() for _ in range(chance.randrange(40))]
        time.sleep(chance.uniform(0, 0.02))
        os.kill(victim.pid, signal.SIGKILL)
        told += victim.stdout.read().split()
        victim.wait()
        deadline = time.monotonic() + 60
        while len(set(map(frozenset, (done := _done(ledger))))) > 1:
            # A server may still be at work on the last of what it was sent.
            assert time.monotonic() < deadline, "half of it is written"
            time.sleep(0.05)
        assert {key for key in told if len(key) == 64} <= set(done[0])
        assert len(done[2]) == len(set(done[2]))
    assert 0 < ledger.counts().completed < 3000
    time.sleep(0.06)
    while leases := ledger.lease(OWNER, 100):
        for lease in leases:
            ledger.finish(lease, completed(lease, f"2.25.{lease.workitem.series_instance_uid[4:]}"))
    assert ledger.counts() == Counts(completed=3000)
    assert len({s.object.sop_instance_uid for s in ledger.stored()}) == len(ledger.stored()) == 3000
