"""A fleet of cells on Kubernetes, kept up until nothing is left in the ledger or the budget is spent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from ... import Error
from ..budgets.governor import BudgetSpent, Governor
from ..ledger import Counts, Ledger
from ..ledgers.run_record import LEFT
from .cell import ENDED, CellState
from .manifest import FALLBACKS, groups_of, within
from .replacing import Create, End, Remove, Replacing, Work

if TYPE_CHECKING:
    from .kuberay import Cells

LOOK_S = 10.0
"""Cells and ledger are looked at again after so long."""

LAST_WORDS = 5
"""Lines of a dead cell's command that are told."""

CELL, CREATED, THERE = "cell", "created", "is there already"
"""Kind of the events that tell of cells, by name; and what one says of a cell that was created."""

_LOG = logging.getLogger(__name__)


class CellsDie(Error):
    """Cells died one after the other and nothing was done: they are not replaced any more."""

    code = "CELLS_DIE"

    def __init__(self, run: str, reason: str) -> None:
        super().__init__(run, reason)

    def __str__(self) -> str:
        run, reason = self.args
        return f"{run}: {reason}; see `voxfleet cluster logs CELL`, and give the same command again"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The cells of a run.

    Attributes
    ----------
    jobs : sequence of mapping
        Their RayJobs.
    context : str
        Of the user's kubeconfig; empty: the current one.
    most_nodes : int or None
        Workers that all cells together may have.
    """

    jobs: Sequence[Mapping[str, Any]]
    context: str = ""
    most_nodes: int | None = None

    @property
    def run(self) -> str:
        """Name of the run."""
        return str(self.jobs[0]["metadata"]["labels"]["run"])

    @property
    def namespace(self) -> str:
        """In which the cells are."""
        return str(self.jobs[0]["metadata"]["namespace"])

    @property
    def groups(self) -> frozenset[str]:
        """Names of the groups of their machines."""
        return groups_of(self.jobs)

    @property
    def workers(self) -> dict[str, int]:
        """Machines at work of each cell, by its name: those to fall back on stand in for others."""
        return {
            job["metadata"]["name"]: sum(
                group["maxReplicas"]
                for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
                if group["groupName"] not in FALLBACKS
            )
            for job in self.jobs
        }


def keep_up(cells: Cells, fleet: Fleet, ledger: Ledger, governor: Governor, observe: Callable[[], None]) -> None:
    """Create the cells, replace those that die, and wait until all have ended.

    A stop leaves them as they are: they go on by themselves. The last of the budget ends them all.

    Raises
    ------
    CellsDie
        If cells only die.
    CellExists
        If a cell of the run is at work that was made otherwise.
    KubernetesError
        If the API server refuses; while it does not answer, cells go on by themselves.
    """
    keeper = _Keeper(cells, fleet, ledger, governor)
    keeper.must_be_the_same()
    try:
        while not governor.stop.is_set() and not keeper.look():
            observe()
            governor.stop.wait(LOOK_S)
    except BudgetSpent:
        keeper.remove_all()
        raise


class _Keeper:
    """Carries out what `Replacing` says."""

    def __init__(self, cells: Cells, fleet: Fleet, ledger: Ledger, governor: Governor) -> None:
        self._cells, self._fleet, self._ledger, self._governor = cells, fleet, ledger, governor
        self._jobs = {job["metadata"]["name"]: job for job in fleet.jobs}
        self._replacing = Replacing(fleet.workers, fleet.most_nodes)

    def must_be_the_same(self) -> None:
        """Find out, before anything is done, that cells that are at work are those that are asked for."""
        for state in self._states():
            if state.deployment not in ENDED:
                self._cells.submit(self._jobs[state.name], dry_run=True)

    def look(self) -> bool:
        """Look at cells and ledger, and do what follows; whether that was all."""
        # Nobody else does where every cell is gone.
        self._ledger.expire()
        try:
            states = {state.name: state.deployment for state in self._states()}
            # After the cells: what one did before it was seen to have ended is done.
            counts = self._ledger.counts()
            may_begin = self._governor.may_lease(counts.in_progress)
            if self._governor.stop.is_set():
                # Asked now, it has money for nothing; and cells go on by themselves.
                return True
            work = self._work(counts, states, may_begin=may_begin)
            return any(self._does(action) for action in self._replacing.handle(states, work, monotonic()))
        except Error as exc:
            if not exc.retryable:
                raise
            _LOG.warning("%s; cells go on by themselves", exc)
            return False

    def remove_all(self) -> None:
        """Delete every cell with its machines, also those after one that cannot be deleted."""
        failure: Error | None = None
        removed: list[str] = []
        for state in self._states():
            try:
                self._cells.delete(state.name)
                removed.append(state.name)
            except Error as exc:
                failure = exc
        for name in removed:
            # It may be that the ledger is away.
            with suppress(Error):
                self._note("warning", f"{name}: removed, the budget is spent")
        if failure is not None:
            raise failure

    def _states(self) -> tuple[CellState, ...]:
        return tuple(state for state in self._cells.states(self._fleet.run) if state.name in self._jobs)

    def _work(self, counts: Counts, states: Mapping[str, str], *, may_begin: bool) -> Work:
        """Where the run stands; who left, and whose nodes are up, is asked only where cells may have to be created."""
        work = Work(counts.open, counts.total - counts.open, may_begin, self._ledger.leasable())
        if all(states.get(name, ENDED[0]) not in ENDED for name in self._jobs):
            return work
        at_work = [node for node in self._ledger.nodes() if node.down is None and not node.head]
        up = Counter(f"{self._fleet.run}-{node.cell}" for node in at_work)
        return replace(work, left=self._left(), nodes=up)

    def _left(self) -> frozenset[str]:
        """Cells that ended since there was nothing to lease, and were not created again."""
        left = set[str]()
        for event in self._ledger.events():
            name, _, told = event.detail.partition(": ")
            if event.kind == LEFT:
                left.add(f"{self._fleet.run}-{name}")
            elif event.kind == CELL and told in (CREATED, THERE):
                left.discard(name)
        return frozenset(left)

    def _does(self, action: Create | Remove | End) -> bool:
        match action:
            case Create(name):
                made = self._cells.submit(within(self._jobs[name], self._governor.left_s))
                self._note("info", f"{name}: {CREATED if made else THERE}")
            case Remove(name, reason):
                said = self._last_words(name)
                self._note("warning", f"{name}: removed: {reason}{f'; it said last: {said}' if said else ''}")
                self._cells.delete(name)
            case End(failure):
                if failure:
                    raise CellsDie(self._fleet.run, failure)
                return True
        return False

    def _last_words(self, name: str) -> str:
        """What a cell said last; empty where its pod is gone, or never began: it is removed all the same."""
        try:
            return " / ".join(self._cells.logs(name, LAST_WORDS).split("\n")).strip(" /")
        except Error:
            return ""

    def _note(self, level: str, text: str) -> None:
        """Say it to the ledger and to the log."""
        _LOG.log(logging.getLevelName(level.upper()), "%s", text)
        self._ledger.event(level, CELL, text)
