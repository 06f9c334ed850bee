"""Subgroups of series by what their headers say of scanner and patient."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pydicom import Dataset

from .bootstrap import Bootstrap
from .score import Score
from .statistics import Summary, summarise

UNKNOWN = "unknown"
SLICE_THICKNESS_MM = (1.0, 2.5, 5.0)
"""Upper ends of the groups of slice thickness, each within its group."""
AGE_YEARS = (18, 40, 60, 80)
"""Lower ends of the groups of age after the first."""
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
"""Of the units of an Age String (VR AS, PS3.5 section 6.2)."""
DAYS_IN_YEAR = 365.25


@dataclass(frozen=True, slots=True)
class SeriesAttributes:
    """What results may depend on; None where the headers do not say it.

    Attributes
    ----------
    manufacturer : str or None
        Manufacturer (0008,0070), in capitals and without spaces at its ends.
    slice_thickness_mm : float or None
        Slice Thickness (0018,0050).
    sex : str or None
        Patient's Sex (0010,0040): ``F``, ``M`` or ``O``.
    age_years : float or None
        Patient's Age (0010,1010), else Study Date less Patient's Birth Date.
    """

    manufacturer: str | None = None
    slice_thickness_mm: float | None = None
    sex: str | None = None
    age_years: float | None = None


@dataclass(frozen=True, slots=True)
class SubgroupSummary:
    """Summary of the series of one group, e.g. attribute ``sex``, group ``F``."""

    attribute: str
    group: str
    summary: Summary


def attributes_of(header: Dataset) -> SeriesAttributes:
    """What the header of one image of a series says."""
    thickness = header.get("SliceThickness")
    return SeriesAttributes(
        manufacturer=str(header.get("Manufacturer") or "").strip().upper() or None,
        slice_thickness_mm=float(thickness) if thickness else None,
        sex=str(header.get("PatientSex") or "").strip().upper() or None,
        age_years=_age_years(header),
    )


def summarise_subgroups(
    scores: Iterable[Score], attributes: Mapping[str, SeriesAttributes], bootstrap: Bootstrap | None = None
) -> tuple[SubgroupSummary, ...]:
    """Summaries of the groups of each attribute.

    Parameters
    ----------
    scores : iterable of Score
    attributes : mapping
        By Series Instance UID. What is not there, or not known, is the group ``unknown``:
        nothing is dropped.
    """
    kept = list(scores)
    found = []
    for name, group_of in GROUPS.items():
        groups: dict[str, list[Score]] = {}
        for score in kept:
            of_series = attributes.get(score.case.series_instance_uid, SeriesAttributes())
            groups.setdefault(group_of(of_series), []).append(score)
        for group in sorted(groups, key=_order):
            found += [SubgroupSummary(name, group, each) for each in summarise(groups[group], bootstrap)]
    return tuple(found)


def _order(group: str) -> tuple[bool, float, str]:
    """Groups by the first number in their name, then by name; what is unknown comes last."""
    number = re.search(r"\d+(\.\d+)?", group)
    low = float(number[0]) if number else 0.0
    return group == UNKNOWN, low - 0.5 if group.startswith(("<", "up to")) else low, group


def _manufacturer(attributes: SeriesAttributes) -> str:
    return attributes.manufacturer or UNKNOWN


def _sex(attributes: SeriesAttributes) -> str:
    return attributes.sex or UNKNOWN


def _slice_thickness(attributes: SeriesAttributes) -> str:
    thickness = attributes.slice_thickness_mm
    if thickness is None:
        return UNKNOWN
    below = None
    for limit in SLICE_THICKNESS_MM:
        if thickness <= limit:
            return f"up to {limit:g} mm" if below is None else f"over {below:g} to {limit:g} mm"
        below = limit
    return f"over {below:g} mm"


def _age_group(attributes: SeriesAttributes) -> str:
    age = attributes.age_years
    if age is None:
        return UNKNOWN
    low = None
    for limit in AGE_YEARS:
        if age < limit:
            return f"<{limit} years" if low is None else f"{low}-{limit - 1} years"
        low = limit
    return f"{low} years and over"


GROUPS: Mapping[str, Callable[[SeriesAttributes], str]] = {
    "manufacturer": _manufacturer,
    "slice thickness": _slice_thickness,
    "sex": _sex,
    "age group": _age_group,
}


def _age_years(header: Dataset) -> float | None:
    age = re.fullmatch(r"(\d{1,3})([DWMY])", str(header.get("PatientAge") or "").strip().upper())
    if age:
        return int(age[1]) * YEARS[age[2]]
    born, studied = (_date(header.get(name)) for name in ("PatientBirthDate", "StudyDate"))
    if born is None or studied is None or studied < born:
        return None
    return (studied - born).days / DAYS_IN_YEAR


def _date(value: object) -> date | None:
    text = str(value or "").strip()
    try:
        return datetime.strptime(text, "%Y%m%d").date() if text else None
    except ValueError:
        return None
