"""The models of a benchmark over its series: the pipeline, ledger and budget of ``voxfleet enrich``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from rich.console import Console

from ..cluster.budgets.governor import BudgetSpent, Governor
from ..cluster.commands import observer
from ..cluster.enrichment import Plan, perform, register
from ..cluster.ledger import Ledger
from ..cluster.ledgers.opening import open_ledger
from ..cluster.status.figures import RunSummary
from ..cluster.status.outputs import write_outputs
from ..cluster.status.summary import summarise
from ..models.model import ModelCard
from ..runners.commands import progress_bar
from ..runners.stages import ModalityRefused
from ..runners.workitem import State
from .case import Candidate
from .references.dicom_seg import SOP_CLASSES
from .references.reference import Structure


@dataclass(frozen=True, slots=True)
class ModelRun:
    """What the models of a benchmark gave.

    Attributes
    ----------
    candidates : dict
        By Series Instance UID, in the order of the models.
    open : int
        Workitems that are left, by a budget or a stop.
    """

    summary: RunSummary
    candidates: dict[str, tuple[Candidate, ...]]
    open: int


def run_models(plan: Plan, results: Path, stop: Event, console: Console) -> ModelRun:
    """Run what is left of a plan; what an earlier command did stays done.

    Parameters
    ----------
    results : Path
        Folder archive that is the plan's target.

    Raises
    ------
    RunMismatch
        If the folder holds a run of other work.
    SearchError, AccessDenied, BudgetError
        As of ``enrich``.
    """
    ledger = open_ledger(plan.folder)
    with console.status("searching the source ..."):
        register(plan, ledger, lambda _: None)
    governor = Governor(ledger, plan.price, plan.budget_usd, stop)
    with progress_bar(console) as bar:
        task = bar.add_task("models", total=None, counts="")
        with suppress(BudgetSpent):
            perform(plan, ledger, governor, observer(ledger, governor, lambda **shown: bar.update(task, **shown)))
    summary = summarise(ledger, plan.price)
    write_outputs(plan.folder, summary)
    return ModelRun(summary, _candidates(plan, ledger, results), ledger.counts().open)


def vocabulary_of(card: ModelCard) -> tuple[Structure, ...]:
    """All structures that a model can find."""
    return tuple(
        Structure(s.number, s.name, s.category, s.type, s.laterality, s.anatomic_region) for s in card.segments
    )


def _candidates(plan: Plan, ledger: Ledger, results: Path) -> dict[str, tuple[Candidate, ...]]:
    """Each model's SEG of each series, or why there is none; nothing for series that are still to do.

    A series of another modality than the model takes is nothing that the model failed at.
    """
    cards = {each.card.name: each.card for each in plan.wishes}
    segs = {each.key: each.object for each in ledger.stored() if each.object.sop_class_uid in SOP_CLASSES}
    found: dict[str, list[Candidate]] = {}
    for item in ledger.items():
        work = item.workitem
        words = vocabulary_of(cards[work.model])
        seg = segs.get(work.key)
        if item.state is State.COMPLETED and seg is not None:
            folder = results / work.study_instance_uid / seg.series_instance_uid
            made = Candidate(work.model, seg=str(folder / f"{seg.sop_instance_uid}.dcm"), vocabulary=words)
        elif item.state is State.CANCELED and item.failure is not None and item.failure.code != ModalityRefused.code:
            made = Candidate(work.model, failure=f"{item.failure.code}: {item.failure.message}", vocabulary=words)
        else:
            continue
        found.setdefault(work.series_instance_uid, []).append(made)
    order = list(cards)
    return {uid: tuple(sorted(each, key=lambda one: order.index(one.model))) for uid, each in found.items()}
