"""A benchmark as asked for, and all that became of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .. import Error, __version__
from ..enrich.archives.archive import RefusedObject
from ..runners.worklist import Wish
from .candidates import CandidateTable
from .case import CaseRequest, CaseResult, Rules, to_plain
from .retest import ScanPair

NEEDED = {
    "nrrd": "pynrrd",
    "SimpleITK": "simpleitk",
    "statsmodels": "statsmodels",
    "surface_distance": "surface-distance-based-measures",
}
"""Modules of the extra ``benchmark``, with their packages."""


class BenchmarkNeedsExtra(Error):
    """The libraries of the metrics are not installed."""

    code = "NEEDS_EXTRA"

    def __init__(self, package: str) -> None:
        super().__init__(package)

    def __str__(self) -> str:
        return f"benchmark needs {self.args[0]}, which is not installed: pip install 'voxfleet[benchmark]'"


class NothingToBenchmark(Error):
    """Neither a model nor predictions, or one name for two of them."""

    code = "NOTHING_TO_BENCHMARK"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions that exist, under the name that they are scored by."""

    name: str
    place: str


@dataclass(frozen=True, slots=True)
class Study:
    """What is held against what, and where it is kept.

    Attributes
    ----------
    source : str
        URI of the archive of images.
    wishes : tuple of Wish
        Models to be run.
    predictions : tuple of Predictions
        What models made before.
    command : str
        That reproduces it.
    retest : tuple of ScanPair
        Series that are two scans of one patient.
    detectors : tuple of CandidateTable
        Candidates for lesions that exist.
    """

    source: str
    rules: Rules
    wishes: tuple[Wish, ...]
    predictions: tuple[Predictions, ...]
    out: Path
    command: str
    workers: int = 1
    retest: tuple[ScanPair, ...] = ()
    detectors: tuple[CandidateTable, ...] = ()

    def __post_init__(self) -> None:
        names = self.named
        if not names and not self.rules.consensus:
            raise NothingToBenchmark(
                "give --model, --predictions or --candidates, or --readers to compare the experts alone"
            )
        for name in names:
            if names.count(name) > 1:
                raise NothingToBenchmark(f"two of the models are called {name}: give PLACE=NAME")

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models, in the order of reports."""
        return (*(each.card.name for each in self.wishes), *(each.name for each in self.predictions))

    @property
    def named(self) -> tuple[str, ...]:
        """Names of all models and detectors."""
        return (*self.models, *(each.name for each in self.detectors))

    @property
    def cases(self) -> Path:
        """Folder of what became of each series: the same command goes on with it."""
        return self.out / "cases"

    @property
    def reports(self) -> Path:
        """Folder of the SR of scores."""
        return self.out / "sr"

    @property
    def results(self) -> Path:
        """Folder archive of the models' SEG and SR."""
        return self.out / "results"

    @property
    def scratch(self) -> Path:
        """Copies of what archives hold."""
        return self.out / "scratch"


@dataclass(frozen=True, slots=True)
class Spending:
    """What one model's results cost: dollars a series, fully loaded, by Series Instance UID; and the price."""

    model: str
    usd: dict[str, float]
    price: str


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's provenance.

    Attributes
    ----------
    made_by : str
        ``this run``, or the place of the predictions.
    """

    name: str
    version: str
    weights_sha256: str
    made_by: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A file of the source, the references or the predictions that could not be used."""

    what: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StudyResult:
    """All that became of a benchmark."""

    study: Study
    cases: tuple[CaseResult, ...]
    models: tuple[ModelSource, ...]
    spending: tuple[Spending, ...]
    unread: tuple[Unread, ...]

    @property
    def scored(self) -> tuple[CaseResult, ...]:
        """Series that have a reference."""
        return tuple(each for each in self.cases if each.readers)


def check_installed() -> None:
    """Refuse to begin without the libraries of the metrics.

    Raises
    ------
    BenchmarkNeedsExtra
        Naming the first that is absent.
    """
    for module, package in NEEDED.items():
        if find_spec(module) is None:
            raise BenchmarkNeedsExtra(package)


def refused(each: RefusedObject) -> Unread:
    """A refused object of an archive as the report lists it."""
    return Unread(each.identifier, each.code, each.reason)


def digest_of(request: CaseRequest, state: str) -> str:
    """Name of a case's result on disk: changes with all that decides it.

    Parameters
    ----------
    state : str
        Of the files that references and predictions are read from.
    """
    plain = {**to_plain(request), "scratch": "", "version": __version__, "state": state}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
