"""Test and retest: two scans of each patient, and how far apart models and readers measure them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import Error
from .case import CaseResult, Problem
from .repeatability import LEAST_SUBJECTS, BlandAltman, Icc, IccForm, Repeatability, bland_altman, icc, repeatability

COLUMNS = ("first", "second")
VOLUME, INVOLVEMENT = "volume", "lung involvement"
UNITS = {VOLUME: "mL", INVOLVEMENT: "%"}


class InvalidRetest(Error):
    """A table of scan pairs that cannot be used."""

    code = "INVALID_RETEST"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path}: {reason}"


@dataclass(frozen=True, slots=True)
class ScanPair:
    """Series Instance UIDs of two scans of one patient."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Retest:
    """One structure measured twice in each patient, by one model or reader.

    Attributes
    ----------
    whose : str
        ``model`` or ``reader``.
    measure : str
        A key of `UNITS`.
    pairs : tuple of (float, float)
        First and second measurement of each patient.
    missing : int
        Pairs of scans without a measurement of either.
    icc : tuple of Icc
        In all forms of `IccForm`.
    """

    whose: str
    name: str
    structure: str
    measure: str
    pairs: tuple[tuple[float, float], ...]
    missing: int
    repeatability: Repeatability
    limits: BlandAltman
    icc: tuple[Icc, ...]

    @property
    def unit(self) -> str:
        """Of the measurements."""
        return UNITS[self.measure]

    @property
    def agreement(self) -> Icc:
        """ICC(2,1)."""
        return next(each for each in self.icc if each.form is IccForm.AGREEMENT)

    @property
    def row(self) -> dict[str, object]:
        """Of a table."""
        repeated, limits = self.repeatability, self.limits
        plain = {
            "whose": self.whose,
            "name": self.name,
            "structure": self.structure,
            "measure": self.measure,
            "unit": self.unit,
            "pairs": len(self.pairs),
            "missing": self.missing,
            "within_subject_sd": repeated.within_subject_sd,
            "repeatability_coefficient": repeated.coefficient,
            "repeatability_coefficient_low": repeated.interval.low,
            "repeatability_coefficient_high": repeated.interval.high,
            "within_subject_cv_percent": repeated.within_subject_cv_percent,
            "bias": limits.bias,
            "lower_limit": limits.lower,
            "upper_limit": limits.upper,
        }
        for each in self.icc:
            key = each.form.value
            plain |= {key: each.value, f"{key}_low": each.interval.low, f"{key}_high": each.interval.high}
        return plain


def read_pairs(path: Path) -> tuple[ScanPair, ...]:
    """Pairs of a CSV table with the columns first and second.

    Raises
    ------
    InvalidRetest
        If it cannot be read, lacks a column or a UID, or names a series twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InvalidRetest(str(path), f"is no CSV table: {exc}") from exc
    if not {*COLUMNS} <= {*names}:
        raise InvalidRetest(str(path), "the table needs the columns first and second: Series Instance UIDs")
    pairs = tuple(ScanPair(*((row[name] or "").strip() for name in COLUMNS)) for row in rows)
    if len(pairs) < LEAST_SUBJECTS:
        raise InvalidRetest(str(path), f"{len(pairs)} pairs of scans: repeatability takes two patients or more")
    for uid, count in Counter(uid for pair in pairs for uid in (pair.first, pair.second)).items():
        if not uid:
            raise InvalidRetest(str(path), "a row lacks one of its two Series Instance UIDs")
        if count > 1:
            raise InvalidRetest(str(path), f"series {uid} is there {count} times: give one pair for each patient")
    return pairs


def usable_pairs(
    cases: Iterable[CaseResult], pairs: Iterable[ScanPair]
) -> tuple[tuple[ScanPair, ...], tuple[Problem, ...]]:
    """Pairs of scored series of one patient each, a patient once; and what is wrong with the others."""
    patients = {case.series_instance_uid: case.patient for case in cases if case.readers}
    usable, problems = [], []
    seen: set[str] = set()
    for pair in pairs:
        fault = _fault(pair, patients, seen)
        if fault is None:
            usable.append(pair)
            seen.add(patients[pair.first])
        else:
            problems.append(fault)
    return tuple(usable), tuple(problems)


def _fault(pair: ScanPair, patients: dict[str, str], seen: set[str]) -> Problem | None:
    for uid in (pair.first, pair.second):
        if uid not in patients:
            return Problem("NO_RETEST", f"series {uid} is not scored: it is not in the source or has no reference")
    if patients[pair.first] != patients[pair.second]:
        return Problem("OTHER_PATIENT", f"series {pair.first} and {pair.second} are of two patients")
    if patients[pair.first] in seen:
        return Problem("REPEATED_PATIENT", f"series {pair.first} and {pair.second}: their patient has a pair already")
    return None


def retests_of(cases: Iterable[CaseResult], pairs: Sequence[ScanPair]) -> tuple[Retest, ...]:
    """All that two patients or more have in both scans, models first.

    Parameters
    ----------
    pairs : sequence of ScanPair
        As `usable_pairs` gives them.
    """
    values: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for case in cases:
        for key, number in _measured(case):
            values.setdefault(key, {}).setdefault(case.series_instance_uid, number)
    found = []
    for key, of in sorted(values.items(), key=lambda item: item[0][0]):
        both = tuple((of[each.first], of[each.second]) for each in pairs if each.first in of and each.second in of)
        if len(both) >= LEAST_SUBJECTS:
            found.append(_retest(key, both, len(pairs) - len(both)))
    return tuple(found)


def _measured(case: CaseResult) -> Iterator[tuple[tuple[str, str, str, str], float]]:
    """What each model and reader measured: whose, name, structure and measure, and the value."""
    for each in case.volumes:
        yield ("model", each.model, each.segment, VOLUME), each.model_ml
        yield ("reader", each.reference, each.segment, VOLUME), each.expert_ml
    for share in case.involvement:
        if not share.failed:
            yield ("model", share.model, "Lungs", INVOLVEMENT), share.model_percent
        yield ("reader", share.reference, "Lungs", INVOLVEMENT), share.expert_percent


def _retest(key: tuple[str, str, str, str], pairs: tuple[tuple[float, float], ...], missing: int) -> Retest:
    first, second = zip(*pairs, strict=True)
    return Retest(
        *key,
        pairs=pairs,
        missing=missing,
        repeatability=repeatability(first, second),
        limits=bland_altman(first, second),
        icc=tuple(icc(pairs, form) for form in IccForm),
    )
