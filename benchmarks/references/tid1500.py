"""TID 1500 Measurement Report (PS3.16): points, boxes, outlines and measurements of an expert's SR.

Image coordinates (SCOORD) are (column, row) from the top-left corner of the top-left pixel (PS3.3 C.18.6.1.1).
A closed polyline of four corners along rows and columns is a box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from ...enrich.digest import file_sha256
from ...enrich.encoding.content_items import children
from ...enrich.encoding.equipment import code_of
from ...enrich.encoding.report_codes import FINDING, FINDING_SITE, IMAGING_MEASUREMENTS, LATERALITY, TRACKING_IDENTIFIER
from ...enrich.series import SourceImage
from .coding import current, same_code
from .contours import ContourFault, filled, stacked
from .dicom_file import is_of_class, opened, readable
from .errors import OtherFrameOfReference
from .mark import MarkedBox, MarkedLine, MarkedPoint, MarkedValue
from .oblique import ObliqueContour, fill_oblique
from .packed_mask import PackedMask, union
from .placing import InstancePlaces, check_points_inside, check_subject
from .polygon import ellipse
from .reference import Annotation, Origin, Reading, Remark, Structure, Subject, check_usable

NAME = "DICOM SR (TID 1500)"
SOP_CLASSES: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34, 35))
"""Basic Text, Enhanced, Comprehensive, Comprehensive 3D and Extensible SR Storage."""
FINDING_CATEGORY = Code("276214006", "SCT", "Finding category")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
PERSON_OBSERVER = Code("121008", "DCM", "Person Observer Name")
_PIXEL_CENTRE = 0.5
_CORNERS = 4
_GROUP_ITEMS = frozenset({current(c) for c in (FINDING, FINDING_CATEGORY, FINDING_SITE, TRACKING_IDENTIFIER)})


def recognises(path: Path) -> bool:
    """Whether a file is an SR whose root says that it is a Measurement Report."""
    if not is_of_class(path, SOP_CLASSES):
        return False
    templates = opened(path).get("ContentTemplateSequence") or ()
    return any(str(each.get("TemplateIdentifier")) == "1500" for each in templates)


def subject(path: Path) -> Subject:
    """Patient, and the series of the evidence."""
    with readable(path):
        return _subject(opened(path))


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """Measurement groups of a report that are of the image: one annotation, by the report's observer.

    Raises
    ------
    OtherPatient, OtherSeries, OtherFrameOfReference, OutsideImage, NothingUsable, UnreadableReference
        If the report is not of the image, marks what lies beyond it, or is broken.
    """
    dataset, source = opened(path), str(path)
    with readable(path):
        check_subject(source, _subject(dataset), image)
        gathered = _Gathered(InstancePlaces(source, image), reading)
        for measurements in children(dataset, IMAGING_MEASUREMENTS, "CONTAINER"):
            for group in children(measurements, MEASUREMENT_GROUP, "CONTAINER"):
                gathered.add(group)
        reader = next((_words(each) for each in children(dataset, PERSON_OBSERVER)), "")
        origin = Origin(source, NAME, file_sha256(path), str(dataset.SOPInstanceUID))
    return (gathered.annotation(origin, reader),)


def _subject(dataset: Dataset) -> Subject:
    series = set()
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(keyword) or ():
            series |= {str(each.SeriesInstanceUID) for each in study.get("ReferencedSeriesSequence") or ()}
    return Subject(
        patient_id=str(dataset.get("PatientID") or "") or None,
        study_instance_uids=frozenset({str(dataset.StudyInstanceUID)}),
        series_instance_uids=frozenset(series),
    )


@dataclass(slots=True, eq=False)
class _Gathered:
    """What the groups of one report come to."""

    places: InstancePlaces
    reading: Reading
    structures: list[Structure] = field(default_factory=list)
    masks: dict[int, PackedMask] = field(default_factory=dict)
    points: list[MarkedPoint] = field(default_factory=list)
    boxes: list[MarkedBox] = field(default_factory=list)
    lines: list[MarkedLine] = field(default_factory=list)
    values: list[MarkedValue] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def annotation(self, origin: Origin, reader: str) -> Annotation:
        marks = len(self.masks) + len(self.points) + len(self.boxes) + len(self.lines) + len(self.values)
        check_usable(origin.source, tuple(self.remarks), marks)
        return Annotation(
            self.places.image.series.series_instance_uid,
            reader,
            origin,
            self.places.geometry,
            tuple(self.structures),
            self.masks,
            tuple(self.points),
            tuple(self.boxes),
            tuple(self.lines),
            tuple(self.values),
            remarks=tuple(self.remarks),
        )

    def add(self, group: Dataset) -> None:
        """One measurement group, unless all that it marks lies on other images."""
        regions = [item for item in group.get("ContentSequence") or () if item.ValueType in ("SCOORD", "SCOORD3D")]
        mine = [item for item in regions if self._concerns(item)]
        if regions and not mine:
            return
        number = len(self.structures) + 1
        structure = _structure(number, group, self.reading)
        self.structures.append(structure)
        masks: list[PackedMask] = []
        try:
            for region in mine:
                masks += self._mark(structure, region)
        except ContourFault as fault:
            self.remarks.append(fault.remark(structure.name))
            masks = []
        if masks:
            self.masks[number] = union(masks)
        self.values += _values(number, group)

    def _concerns(self, region: Dataset) -> bool:
        """Whether a region is drawn on an instance of the image, or in a frame of reference."""
        if region.ValueType == "SCOORD3D":
            return True
        return self.places.holds(_instance(region))

    def _mark(self, structure: Structure, region: Dataset) -> Iterator[PackedMask]:
        """Add a point, box or line; give the mask of an outline."""
        if region.ValueType == "SCOORD":
            yield from self._mark_image(structure, region)
        else:
            yield from self._mark_space(structure, region)

    def _mark_image(self, structure: Structure, region: Dataset) -> Iterator[PackedMask]:
        k = self.places.slice_of(_instance(region))
        points = np.array(region.GraphicData, float).reshape(-1, 2)[:, ::-1] - _PIXEL_CENTRE
        kind, closed = str(region.GraphicType), len(points) > 1 and np.array_equal(points[0], points[-1])
        if kind in ("POINT", "MULTIPOINT"):
            self.points += [MarkedPoint(structure.number, each) for each in self.places.positions(k, points)]
        elif kind == "POLYLINE" and closed and _is_box(points[:-1]):
            low, high = points.min(axis=0), points.max(axis=0)
            box = (k - 0.5, float(low[0]), float(low[1])), (k + 0.5, float(high[0]), float(high[1]))
            self.places.check_inside(box)
            self.boxes.append(MarkedBox(structure.number, *box))
        elif kind == "POLYLINE" and not closed:
            self.lines.append(MarkedLine(structure.number, tuple(self.places.positions(k, points))))
        else:
            if kind == "POLYLINE":
                plane = filled(f"an outline on slice {k}", points[:-1])
            elif kind == "CIRCLE":
                radius = float(np.linalg.norm(points[1] - points[0]))
                plane = ellipse((points[0][0], points[0][1]), (radius, 0.0), (0.0, radius))
            else:
                centre, one, other = (points[0] + points[1]) / 2, points[1] - points[0], points[3] - points[2]
                plane = ellipse(tuple(centre), tuple(one / 2), tuple(other / 2))
            yield stacked(self.places.source, structure.name, [(k, plane)], self.places.image.volume.spatial_shape)

    def _mark_space(self, structure: Structure, region: Dataset) -> Iterator[PackedMask]:
        frame, own = str(region.ReferencedFrameOfReferenceUID), self.places.image.volume.frame_of_reference_uid
        if frame != own:
            told = f"{structure.name} is marked in frame of reference {frame}, that of the image is {own}"
            raise OtherFrameOfReference(self.places.source, told)
        points = np.array(region.GraphicData, float).reshape(-1, 3)
        check_points_inside(self.places.source, structure.name, points, self.places.geometry)
        kind, number = str(region.GraphicType), structure.number
        if kind in ("POINT", "MULTIPOINT"):
            self.points += [MarkedPoint(number, place) for place in _tuples(points)]
        elif kind == "POLYLINE":
            self.lines.append(MarkedLine(number, tuple(_tuples(points))))
        elif kind == "POLYGON":
            normal = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][2]
            outline = ObliqueContour("an outline", points, normal)
            yield fill_oblique(self.places.source, structure.name, [outline], self.places.geometry)
        else:
            self.remarks.append(Remark("UNKNOWN_DRAWING", structure.name, f"Graphic Type {kind} is not read"))


def _structure(number: int, group: Dataset, reading: Reading) -> Structure:
    """Structure of a group: its finding, or for an organ the site."""
    name = next((_words(each) for each in children(group, TRACKING_IDENTIFIER)), f"group {number}")
    if name in reading.codes:
        return reading.structure(number, name)
    finding = next((_code(each) for each in children(group, FINDING, "CODE")), None)
    category = next((_code(each) for each in children(group, FINDING_CATEGORY, "CODE")), None)
    site_item = next((each for each in children(group, FINDING_SITE, "CODE")), None)
    site = None if site_item is None else _code(site_item)
    side = None if site_item is None else next((_code(each) for each in children(site_item, LATERALITY, "CODE")), None)
    organ = Code("123037004", "SCT", "Anatomical Structure")
    if site is not None and (finding is None or same_code(finding, organ)):
        return Structure(number, name, finding or category, site, side)
    return Structure(number, name, category, finding, side, site)


def _values(number: int, group: Dataset) -> Iterator[MarkedValue]:
    """Numbers and coded answers of a group."""
    for item in group.get("ContentSequence") or ():
        names = item.get("ConceptNameCodeSequence")
        if not names or current(code_of(names[0])) in _GROUP_ITEMS:
            continue
        concept = code_of(names[0])
        if item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
            measured = item.MeasuredValueSequence[0]
            value = measured.get("FloatingPointValue")
            unit = code_of(measured.MeasurementUnitsCodeSequence[0]).value
            number_told = float(measured.NumericValue if value is None else value)
            yield MarkedValue(number, concept.meaning, number_told, unit=unit, concept=concept)
        elif item.ValueType == "CODE" and item.RelationshipType == "CONTAINS":
            yield MarkedValue(number, concept.meaning, answer=_code(item).meaning, concept=concept)


def _instance(region: Dataset) -> str:
    """SOP Instance UID of the image that a region is drawn on; empty if there is none."""
    for child in region.get("ContentSequence") or ():
        if child.ValueType == "IMAGE":
            return str(child.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    return ""


def _is_box(corners: NDArray[np.float64]) -> bool:
    """Whether four corners lie along rows and columns."""
    return len(corners) == _CORNERS and all(len(np.unique(corners[:, axis])) == 2 for axis in (0, 1))  # noqa: PLR2004


def _tuples(points: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    return [(float(x), float(y), float(z)) for x, y, z in points]


def _code(item: Dataset) -> Code:
    return code_of(item.ConceptCodeSequence[0])


def _words(item: Dataset) -> str:
    return str(item.get("TextValue") or item.get("PersonName") or "").strip("^ ")
