"""What a fault cost a run, read from its ledger: attempts lost, work begun again, outputs doubled, recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...cluster.ledger import Attempt, AttemptClass, Ledger


@dataclass(frozen=True, slots=True)
class Harm:
    """One thing that was done to a run.

    Attributes
    ----------
    at : float
        Unix seconds by the clock of the ledger's machine. Where something was away for a time: when it came back.
    victim : str
        Owner or node of the attempts that it may cost; empty: any.
    """

    at: float
    victim: str = ""


@dataclass(frozen=True, slots=True)
class Toll:
    """What harms cost a run.

    Attributes
    ----------
    times : int
        How many harms there were.
    lost : int
        Attempts that the infrastructure lost.
    begun_again : int or None
        GPU stages that were begun beyond one a workitem; None where nobody counted.
    doubled : int
        Workitems completed more than once, and outputs beyond those of the completed workitems.
    left_open : int
        Workitems neither done nor given up.
    recovery_s : tuple of float
        One for each harm that lost something: until all of it could be leased again. Where none did, one: until
        the next workitem after the last harm was completed.
    """

    times: int
    lost: int
    begun_again: int | None
    doubled: int
    left_open: int
    recovery_s: tuple[float, ...]


def toll_of(
    ledger: Ledger, harms: Sequence[Harm], begun: Mapping[str, int] | None = None, held: int | None = None
) -> Toll:
    """What harms cost the run of a ledger.

    Parameters
    ----------
    begun : mapping, optional
        How often the GPU stage of each series was begun.
    held : int, optional
        How many objects the target holds; counts only for a run that has ended.
    """
    attempts, left_open = ledger.attempts(), ledger.counts().open
    stored = [each.object.sop_instance_uid for each in ledger.stored()]
    completed = Counter(each.key for each in attempts if each.outcome is AttemptClass.COMPLETED)
    beyond = 0 if held is None or left_open else max(held - len(stored), 0)
    return Toll(
        times=len(harms),
        lost=sum(each.outcome is AttemptClass.LOST for each in attempts),
        begun_again=None if begun is None else sum(number - 1 for number in begun.values()),
        doubled=completed.total() - len(completed) + len(stored) - len(set(stored)) + beyond,
        left_open=left_open,
        recovery_s=freed_s(attempts, harms) or went_on_s(attempts, harms),
    )


def freed_s(attempts: Sequence[Attempt], harms: Sequence[Harm]) -> tuple[float, ...]:
    """For each harm that lost something, seconds until the last of that could be leased again.

    What was lost was lost by the last harm to its owner or node while it was under way.
    """
    taken: dict[Harm, float] = {}
    for each in attempts:
        if each.outcome is AttemptClass.LOST and each.ended is not None:
            begun, ended = each.started.timestamp(), each.ended.timestamp()
            those = [harm for harm in harms if begun <= harm.at <= ended]
            own = [harm for harm in those if harm.victim in ("", each.owner, each.node)]
            if own:
                last = max(own, key=lambda harm: harm.at)
                taken[last] = max(taken.get(last, 0.0), ended - last.at)
    return tuple(taken[harm] for harm in harms if harm in taken)


def went_on_s(attempts: Sequence[Attempt], harms: Sequence[Harm]) -> tuple[float, ...]:
    """Seconds from the last harm until the next workitem was completed; empty where none was."""
    last = max((harm.at for harm in harms), default=float("inf"))
    ends = [
        each.ended.timestamp()
        for each in attempts
        if each.outcome is AttemptClass.COMPLETED and each.ended is not None and each.ended.timestamp() > last
    ]
    return (min(ends) - last,) if ends else ()
