"""Pilot: some series of a collection run first, through the whole pipeline, to learn what a series takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event

from ...enrich.archives.archive import RefusedObject
from ...enrich.archives.opening import open_archive
from ...runners.workitem import Workitem
from ...runners.worklist import worklist
from ..budgets.governor import Governor
from ..enrichment import Plan, perform
from ..ledgers.sqlite import SqliteLedger
from .series_sizes import NoSizes
from .timing import NotMeasured, Timing, timing_of


def spread(workitems: Sequence[Workitem], number: int) -> list[Workitem]:
    """So many workitems, spread evenly over all in order of size: from the middle of each of `number` parts."""
    ordered = sorted(workitems, key=lambda item: (-item.instances, item.key))
    if number >= len(ordered):
        return ordered
    return [ordered[(2 * part + 1) * len(ordered) // (2 * number)] for part in range(number)]


def run_pilot(plan: Plan, number: int, least_instances: int, progress: Callable[[int, int], None]) -> Timing:
    """Run `number` series of the plan's source, and take their times; a pilot that stands is gone on with.

    Parameters
    ----------
    plan : Plan
        With one model, the pilot's own run folder, and a target of its own.
    least_instances : int
        Series of fewer instances are left out.
    progress : callable
        Told how many series are settled, and of how many.

    Raises
    ------
    NoSizes
        If the source holds no series of the model's modality.
    NotMeasured
        If fewer than two series were completed, or the archive does not answer.
    RunMismatch
        If the folder holds a run of other work.
    """
    card = plan.wishes[0].card
    archive = open_archive(plan.source)
    found = (each for each in worklist(archive, plan.wishes, plan.target) if not isinstance(each, RefusedObject))
    fitting = [each for each in found if each.modality in card.modality and each.instances >= least_instances]
    archive.close()
    chosen = spread(fitting, number)
    if not chosen:
        raise NoSizes(plan.source, f"no series of {least_instances} instances or more that {card.name} takes")
    with plan.folder.locked():
        ledger = SqliteLedger(plan.folder.ledger)
        ledger.create_run(plan.run())
        ledger.add(chosen)
        governor = Governor(ledger, plan.price, None, Event())

        def observe() -> None:
            outage = next((each.failure for each in ledger.attempts() if each.failure and each.failure.outage), None)
            if outage is not None:
                # A run waits until its archive answers again; whoever waits for a plan is told.
                raise NotMeasured(plan.source, f"the pilot met an outage, try again later: {outage.message}")
            counts = ledger.counts()
            progress(counts.total - counts.open, counts.total)

        perform(plan, ledger, governor, observe)
        return timing_of(ledger, card.name, f"pilot of {len(chosen)} series on this machine, {plan.folder.path}")
