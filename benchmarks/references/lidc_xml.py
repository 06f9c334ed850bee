"""LIDC-IDRI XML: nodules of each reading session, outlined pixel by pixel.

A reader's outline is the ring of pixels just outside what it goes round (LIDC: an "outer border"), so pixels
on the line do not belong to a nodule; nor, by the same rule, to the part that an outline with ``inclusion``
FALSE takes away. Nodules under 3 mm and non-nodules are one point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, fromstring

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from ...enrich.digest import file_sha256
from ...enrich.series import SourceImage
from ...models.codes import LUNG, MORPHOLOGICALLY_ABNORMAL_STRUCTURE
from .contours import ContourFault, filled, stacked
from .dicom_file import readable
from .errors import UnreadableReference
from .mark import MarkedPoint, MarkedValue
from .packed_mask import PackedMask, without
from .placing import InstancePlaces, check_subject
from .polygon import Turns
from .reference import Annotation, Origin, Reading, Remark, Structure, Subject, check_usable

NAME = "LIDC XML"
NODULE = Code("27925004", "SCT", "Nodule")
_ROOT = "LidcReadMessage"
_HEAD_BYTES = 4096


def recognises(path: Path) -> bool:
    """Whether a file is a message of LIDC's readers about a CT."""
    if path.suffix.lower() != ".xml":
        return False
    try:
        with path.open("rb") as file:
            return _ROOT.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def subject(path: Path) -> Subject:
    """Study and series of the message."""
    header = _find(_root(path), "ResponseHeader")
    series = _text(header, "SeriesInstanceUid") or _text(header, "CTSeriesInstanceUid")
    return Subject(
        study_instance_uids=frozenset({_text(header, "StudyInstanceUID")} - {""}),
        series_instance_uids=frozenset({series} - {""}),
    )


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """Nodules and non-nodules on the image's grid, one annotation a reading session, also where it found none.

    Raises
    ------
    OtherSeries, OutsideImage, NothingUsable, UnreadableReference
        If the message is not of the image, names slices that it does not have, or is broken.
    """
    del reading  # LIDC's codes are its own
    source = str(path)
    check_subject(source, subject(path), image)
    origin = Origin(source, NAME, file_sha256(path))
    places = InstancePlaces(source, image)
    sessions = _all(_root(path), "readingSession")
    with readable(path):
        return tuple(
            _annotation(origin, f"session {number}", session, places) for number, session in enumerate(sessions, 1)
        )


def _root(path: Path) -> Element:
    try:
        data = path.read_bytes()
        if b"<!DOCTYPE" in data:
            raise UnreadableReference(str(path), "declares a document type, which no message of LIDC does")
        root = fromstring(data)  # noqa: S314 - without a document type there are no entities to expand
    except (OSError, ParseError) as exc:
        raise UnreadableReference(str(path), f"is no XML that can be read ({type(exc).__name__})") from exc
    if _bare(root.tag) != _ROOT:
        raise UnreadableReference(str(path), f"its root is {_bare(root.tag)} and not {_ROOT}")
    return root


@dataclass(slots=True, eq=False)
class _Session:
    """What one reading session comes to."""

    structures: list[Structure] = field(default_factory=list)
    masks: dict[int, PackedMask] = field(default_factory=dict)
    points: list[MarkedPoint] = field(default_factory=list)
    values: list[MarkedValue] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def add(self, name: str, *, nodule: bool) -> int:
        number = len(self.structures) + 1
        if nodule:
            category = MORPHOLOGICALLY_ABNORMAL_STRUCTURE
            self.structures.append(Structure(number, name, category, NODULE, anatomic_region=LUNG))
        else:
            self.structures.append(Structure(number, f"non-nodule {name}"))
        return number


def _annotation(origin: Origin, reader: str, session: Element, places: InstancePlaces) -> Annotation:
    found = _Session()
    for nodule in _all(session, "unblindedReadNodule"):
        _add_nodule(found, nodule, places)
    for mark in _all(session, "nonNodule"):
        number = found.add(_text(mark, "nonNoduleID"), nodule=False)
        found.points.append(_point(number, _text(mark, "imageSOP_UID"), _edge(mark, "locus"), places))
    remarks = tuple(found.remarks)
    check_usable(origin.source, remarks, len(found.masks) + len(found.points))
    return Annotation(
        places.image.series.series_instance_uid,
        reader,
        origin,
        places.geometry,
        tuple(found.structures),
        found.masks,
        points=tuple(found.points),
        values=tuple(found.values),
        remarks=remarks,
    )


def _add_nodule(found: _Session, nodule: Element, places: InstancePlaces) -> None:
    name = _text(nodule, "noduleID")
    number = found.add(name, nodule=True)
    for rating in next(_all(nodule, "characteristics"), Element("none")):
        if (rating.text or "").strip():
            found.values.append(MarkedValue(number, _bare(rating.tag), float(str(rating.text))))
    rois = list(_all(nodule, "roi"))
    outlines = [(roi, _edge(roi, "edgeMap")) for roi in rois]
    if len(outlines) == 1 and len(outlines[0][1]) == 1:
        found.points.append(_point(number, _text(rois[0], "imageSOP_UID"), outlines[0][1], places))
        return
    try:
        found.masks[number] = _mask(name, outlines, places)
    except ContourFault as fault:
        found.remarks.append(fault.remark(name))


def _mask(name: str, outlines: list[tuple[Element, NDArray[np.int_]]], places: InstancePlaces) -> PackedMask:
    included: list[tuple[int, Turns]] = []
    excluded: list[tuple[int, Turns]] = []
    for number, (roi, edge) in enumerate(outlines, start=1):
        k = places.slice_of(_text(roi, "imageSOP_UID"))
        part = (k, within(f"outline {number}", edge))
        (included if _text(roi, "inclusion").upper() == "TRUE" else excluded).append(part)
    shape = places.image.volume.spatial_shape
    mask = stacked(places.source, name, included, shape)
    away = stacked(places.source, name, excluded, shape)
    return mask if away.empty else without(mask, [away])


def within(where: str, edge: NDArray[np.int_]) -> Turns:
    """Pixels strictly within an outline of whole pixels (n, 2) (row, column): none of the outline's own.

    Raises
    ------
    ContourFault
        If it has no area, or crosses itself.
    """
    found = filled(where, edge.astype(float))
    counts = found.counts.copy()
    for row, column in on_line(edge):
        at = row - found.start[0], column - found.start[1]
        if 0 <= at[0] < counts.shape[0] and 0 <= at[1] < counts.shape[1]:
            counts[at] = 0
    return Turns(found.start, counts)


def on_line(edge: NDArray[np.int_]) -> Iterator[tuple[int, int]]:
    """Pixels whose centres lie on the closed line through whole pixels (n, 2)."""
    for start, end in zip(edge, np.roll(edge, -1, axis=0), strict=True):
        step = end - start
        parts = math.gcd(int(step[0]), int(step[1])) or 1
        for n in range(parts):
            yield int(start[0] + step[0] // parts * n), int(start[1] + step[1] // parts * n)


def _point(number: int, instance: str, edge: NDArray[np.int_], places: InstancePlaces) -> MarkedPoint:
    return MarkedPoint(number, places.positions(places.slice_of(instance), edge[:1].astype(float))[0])


def _edge(parent: Element, tag: str) -> NDArray[np.int_]:
    """Pixels (row, column) of an outline or a point."""
    points = [(int(_text(each, "yCoord")), int(_text(each, "xCoord"))) for each in _all(parent, tag)]
    return np.array(points, int).reshape(-1, 2)


def _bare(tag: str) -> str:
    """Tag without its namespace."""
    return tag.rpartition("}")[2]


def _all(parent: Element, tag: str) -> Iterator[Element]:
    return (child for child in parent if _bare(child.tag) == tag)


def _find(parent: Element, tag: str) -> Element:
    return next(_all(parent, tag), Element(tag))


def _text(parent: Element, tag: str) -> str:
    return (_find(parent, tag).text or "").strip()
