"""What readers leave beside masks: points, boxes, lines, values, and labels of whole images."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code


@dataclass(frozen=True, slots=True)
class MarkedPoint:
    """A point of a structure (SCOORD POINT, LIDC's small nodules, MD.ai's location)."""

    structure: int
    position_mm: tuple[float, float, float]
    """LPS mm."""


@dataclass(frozen=True, slots=True)
class MarkedBox:
    """A box round a structure, parallel to the voxels.

    Attributes
    ----------
    low, high : tuple of float
        Corners as continuous indices (k, j, i): the centre of the first voxel is 0, its outer faces
        are at -0.5. A rectangle drawn on slice k reaches from k - 0.5 to k + 0.5.
    """

    structure: int
    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class MarkedLine:
    """A line on a structure: the ends of a diameter, or a polyline; LPS mm."""

    structure: int
    points_mm: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class MarkedValue:
    """A number, or an answer, that an expert gave for a structure.

    Attributes
    ----------
    structure : int or None
        None where it is said of the image as a whole.
    name : str
        Meaning of the concept.
    value : float or None
        In `unit`; None where the answer is a word.
    answer : str
        Meaning of a coded answer; empty where it is a number.
    unit : str
        UCUM; empty where there is none.
    concept : Code or None
    """

    structure: int | None
    name: str
    value: float | None = None
    answer: str = ""
    unit: str = ""
    concept: Code | None = None


@dataclass(frozen=True, slots=True)
class GlobalLabel:
    """A label that a reader gave to a study, series or instance as a whole.

    Attributes
    ----------
    scope : str
        ``STUDY``, ``SERIES`` or ``INSTANCE``.
    series_instance_uid, sop_instance_uid : str
        Empty where the scope is wider.
    group : str
        Name of the group of labels (in RICORD one for each reader, or one for all).
    """

    name: str
    scope: str
    study_instance_uid: str
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    reader: str = ""
    group: str = ""
