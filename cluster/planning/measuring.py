"""Where the times of a plan come from: a pilot now, a run that was, or the card of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...enrich.features.feature_parameters import content_sha256
from ...models.model import ModelCard
from ...runners.worklist import wish
from ..commands import archive_uri
from ..enrichment import Plan
from ..ledgers.opening import open_ledger
from ..prices.price import LOCAL, price_of
from ..run_folder import RunFolder
from .pilot import run_pilot
from .timing import NotMeasured, Timing, timing_of, timing_of_card


@dataclass(frozen=True, slots=True)
class Measure:
    """What is to be measured, and how.

    Attributes
    ----------
    pilot : int
        Series that are run first; 0: none.
    from_run : str
        A run whose times are taken; empty: none.
    least_instances : int
        A pilot leaves out series of fewer instances, as its plan does.
    features : str
        Content of a parameter file of pyradiomics; empty for the published features.
    """

    pilot: int = 0
    from_run: str = ""
    least_instances: int = 1
    features: str = ""


def measured(card: ModelCard, source: str, how: Measure, progress: Callable[[int, int], None]) -> Timing:
    """Times of `card` on the series of `source`.

    Raises
    ------
    NotMeasured
        If nothing was measured of it, or not with these features.
    NoSizes, RunMismatch
        As of `run_pilot`.
    """
    if how.from_run:
        return _of_run(card, how)
    if how.pilot:
        return _of_pilot(card, source, how, progress)
    if how.features:
        raise NotMeasured(card.name, "its card knows no seconds of these features: use --pilot N or --from-run RUN")
    return timing_of_card(card)


def _of_run(card: ModelCard, how: Measure) -> Timing:
    folder = RunFolder(how.from_run).must_exist()
    ledger = open_ledger(folder)
    known = ledger.run().parameters.get(f"{card.name}.features_sha256", "")
    if how.features and known != content_sha256(how.features):
        raise NotMeasured(card.name, f"run {folder.path} measured other features than those of --features")
    return timing_of(ledger, card.name, f"run {folder.path}")


def _of_pilot(card: ModelCard, source: str, how: Measure, progress: Callable[[int, int], None]) -> Timing:
    uri = archive_uri(source)
    # One folder for each piece of work: a pilot of it that stands is gone on with.
    folder = RunFolder(f"pilot-{card.name}-{content_sha256(f'{uri} {how.features}')[:8]}")
    plan = Plan(
        source=uri,
        target=archive_uri(f"dir:{folder.path / 'archive'}"),
        wishes=(wish(card, {}, "BINARY", repair=False, features=how.features),),
        folder=folder,
        price=price_of(LOCAL),
    )
    return run_pilot(plan, how.pilot, how.least_instances, progress)
