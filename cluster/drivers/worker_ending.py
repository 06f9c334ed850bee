"""How a worker ended: what it did, why it left, and whether its scheduler is to begin it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic
from typing import Any, cast

import typer
from rich.console import Console

from ... import Error
from ...runners.cli import EXIT_DONE, EXIT_ERROR, EXIT_STOPPED, EXIT_TAKEN_AWAY
from ...runners.workitem import Outcome
from ..budgets.governor import BudgetSpent, Governor
from ..ledger import AttemptClass, Lease, Ledger
from ..ledgers.attempt import LOST, attempt_class
from ..prices.price import Price
from .stop import has_notice


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended.

    Attributes
    ----------
    outcome : str
        ``done``, ``preempted``, ``out_of_budget``, ``limit``, ``interrupted``, ``idle`` or ``error``.
    reason : str
        In words, or an error's code and words.
    exit_code : int
        Of the command.
    left : int or None
        Workitems of the run that are left; None: not known.
    """

    outcome: str
    reason: str
    exit_code: int
    left: int | None = None


def ending_of(left: int, governor: Governor) -> Ending:
    """How a worker ended that has given back, or lost, all it held, with so many workitems of the run left.

    A machine that is taken away comes before the budget: what its last reserves were reckoned for is not in flight
    any more, and if nothing can be begun the worker that comes after finds that out at once.
    """
    if not left:
        return Ending("done", "nothing is left", EXIT_DONE, 0)
    if has_notice(governor.stop):
        return Ending("preempted", "told by SIGTERM to leave this machine", EXIT_TAKEN_AWAY, left)
    if governor.stop.is_set():
        return Ending("interrupted", "told to stop", EXIT_STOPPED, left)
    if governor.out_of_budget:
        reason = "what is left of the budget does not pay for another series"
        return Ending("out_of_budget", reason, EXIT_STOPPED, left)
    if governor.paused:
        return Ending("limit", governor.paused, EXIT_STOPPED, left)
    return Ending("idle", "nothing to lease here", EXIT_STOPPED, left)


@dataclass(slots=True)
class Tally:
    """What one driver told its ledger, counted here: known also while the ledger is away.

    Attributes
    ----------
    attempts : Counter of AttemptClass
        How its attempts ended. One whose answer came when others had its workitem counts as lost.
    """

    attempts: Counter[AttemptClass] = field(default_factory=Counter)
    _up: dict[str, tuple[Price | None, float]] = field(default_factory=dict)
    _lives: list[tuple[Price | None, float]] = field(default_factory=list)

    def usd(self, price: Price) -> Decimal:
        """What its nodes have cost so far, by this machine's clock: each at its own price, or else at this one."""
        now = monotonic()
        lives = [*self._lives, *((own, now - up) for own, up in self._up.values())]
        return sum(((own or price).usd_of(seconds) for own, seconds in lives), Decimal(0))

    def up(self, node: str, price: Price | None) -> None:
        """A node costs money from now on, unless it does so already."""
        self._up.setdefault(node, (price, monotonic()))

    def down(self, node: str) -> None:
        """A node costs nothing more."""
        if node in self._up:
            price, up = self._up.pop(node)
            self._lives.append((price, monotonic() - up))


class _Tallied:
    """A ledger; what ends, comes up and goes down by it is counted."""

    def __init__(self, ledger: Ledger, tally: Tally) -> None:
        self._ledger, self._tally = ledger, tally

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def finish(self, lease: Lease, outcome: Outcome, node: str = "") -> bool:
        held = self._ledger.finish(lease, outcome, node)
        self._count(outcome, held=held)
        return held

    def finish_all(self, ended: Sequence[tuple[Lease, Outcome, str]]) -> tuple[bool, ...]:
        all_held = self._ledger.finish_all(ended)
        for (_, outcome, _), held in zip(ended, all_held, strict=True):
            self._count(outcome, held=held)
        return all_held

    def lose(self, leases: Sequence[Lease], reason: str, node: str = "", code: str = LOST) -> int:
        lost = self._ledger.lose(leases, reason, node, code)
        self._tally.attempts[AttemptClass.LOST] += lost
        return lost

    def node_up(self, node: str, machine: str, owner: str, cell: str = "", price: Price | None = None) -> None:
        self._tally.up(node, price)
        self._ledger.node_up(node, machine, owner, cell, price)

    def head_up(self, node: str, machine: str, owner: str, cell: str = "", price: Price | None = None) -> None:
        self._tally.up(node, price)
        self._ledger.head_up(node, machine, owner, cell, price)

    def node_down(self, node: str, owner: str) -> None:
        self._tally.down(node)
        self._ledger.node_down(node, owner)

    def _count(self, outcome: Outcome, *, held: bool) -> None:
        self._tally.attempts[attempt_class(outcome) if held else AttemptClass.LOST] += 1


class WorkerReport:
    """Of one worker, from its begin: whatever comes of it, there is something to tell."""

    def __init__(self, run: str) -> None:
        self._run, self._begun, self._tally = run, monotonic(), Tally()
        self.node = ""
        self.price: Price | None = None
        self.ending = Ending("error", "not begun", EXIT_ERROR)

    def counts(self, ledger: Ledger) -> Ledger:
        """`ledger`, of which this counts what the worker tells it."""
        return cast("Ledger", _Tallied(ledger, self._tally))

    def document(self) -> dict[str, object]:
        """What there is to tell, for JSON; amounts as strings with all their digits."""
        return {
            "run": self._run,
            "node": self.node,
            "outcome": self.ending.outcome,
            "reason": self.ending.reason,
            "exit_code": self.ending.exit_code,
            "attempts": {kind.value: self._tally.attempts[kind] for kind in AttemptClass},
            "left": self.ending.left,
            "seconds": round(monotonic() - self._begun, 3),
            "usd": None if self.price is None else str(self._tally.usd(self.price)),
        }


@contextmanager
def told_at_end(run: str, *, as_json: bool) -> Iterator[WorkerReport]:
    """A worker's report, printed as one JSON document if wanted, also where an error or a second signal ends it."""
    report = WorkerReport(run)
    try:
        yield report
    except BaseException as exc:
        report.ending = _ended_by(exc)
        raise
    finally:
        if as_json:
            Console(soft_wrap=True).print_json(data=report.document())


def _ended_by(error: BaseException) -> Ending:
    """How a worker ended that was left by this."""
    code = getattr(error, "exit_code", EXIT_ERROR)
    if isinstance(error, Error):
        return Ending("error", f"{error.code}: {error}", EXIT_ERROR)
    if isinstance(error, typer.Exit) and isinstance(error.__cause__, BudgetSpent):
        return Ending("out_of_budget", str(error.__cause__), code)
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        outcome = "preempted" if error.code == EXIT_TAKEN_AWAY else "interrupted"
        return Ending(outcome, "told to stop twice: left at once", error.code)
    return Ending("error", f"{type(error).__name__}: {error}", code)
