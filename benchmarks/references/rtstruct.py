"""RTSTRUCT: an RT Structure Set's contours (PS3.3 C.8.8.6), filled on the image's grid.

- A voxel belongs to an ROI if its centre does (`polygon`).
- Contours of one ROI on one plane that lie within each other make holes (exclusive or, as SlicerRT,
  plastimatch and dcmrtstruct2nii read them); CLOSEDPLANAR_XOR says so itself. A keyhole needs nothing: its
  channel is walked twice. CLOSED_PLANAR contours that overlap in part are refused.
- Contours that all lie on slices of the image fill these slices and none between. Where they were drawn on
  other slices, a contour stands for half the distance to the next on both sides of it.
- Contours may lie at any angle to the image: voxel centres are then carried onto the contours' planes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ...enrich.digest import file_sha256
from ...enrich.encoding.equipment import code_of
from ...enrich.series import SourceImage
from .coding import laterality_of
from .contours import (
    ContourFault,
    NonPlanarContour,
    ZeroAreaContour,
    exclusive,
    filled,
    nested,
    slices_of_planes,
    stacked,
)
from .dicom_file import is_of_class, opened, readable
from .errors import InvalidReference
from .mark import MarkedLine, MarkedPoint
from .oblique import ObliqueContour, fill_oblique
from .packed_mask import PackedMask
from .placing import check_points_inside, check_subject
from .polygon import Turns
from .reference import Annotation, Origin, Reading, Remark, Structure, Subject, check_usable

NAME = "RTSTRUCT"
SOP_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.481.3"})
"""RT Structure Set Storage."""
CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
PLANAR_MM = 0.1
"""Points of a contour may lie this far off its plane."""
_CORNERS = 3


def recognises(path: Path) -> bool:
    """Whether a file is an RTSTRUCT."""
    return is_of_class(path, SOP_CLASSES)


def subject(path: Path) -> Subject:
    """Patient, images and frame of reference of an RTSTRUCT."""
    with readable(path):
        return _subject(opened(path, with_pixels=False))


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """ROIs of an RTSTRUCT on the image's grid, one annotation for each interpreter.

    An ROI with a contour that crosses itself, is not flat, or overlaps another in part is left out and
    told of in the remarks; a contour without area is passed over and told of.

    Raises
    ------
    OtherPatient, OtherSeries, OtherFrameOfReference, OutsideImage, NothingUsable, UnreadableReference
        If the object is not of the image, reaches beyond it, or none of its ROIs can be used.
    """
    dataset = opened(path, with_pixels=False)
    source = str(path)
    with readable(path):
        check_subject(source, _subject(dataset), image)
        by_reader = _rois(dataset, image)
        origin = Origin(source, NAME, file_sha256(path), str(dataset.SOPInstanceUID))
        return tuple(_annotation(origin, reader, rois, image, reading) for reader, rois in by_reader.items())


def _subject(dataset: Dataset) -> Subject:
    """Series of the Referenced Frame of Reference Sequence; the frame of reference of the ROIs."""
    series, frames = set(), set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(str(frame.get("FrameOfReferenceUID") or ""))
        for study in frame.get("RTReferencedStudySequence") or ():
            series |= {str(each.SeriesInstanceUID) for each in study.get("RTReferencedSeriesSequence") or ()}
    frames |= {str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in dataset.StructureSetROISequence}
    frames -= {""}
    return Subject(
        patient_id=str(dataset.get("PatientID") or "") or None,
        study_instance_uids=frozenset({str(dataset.StudyInstanceUID)}),
        series_instance_uids=frozenset(series),
        frame_of_reference_uid=frames.pop() if len(frames) == 1 else "",
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Contour:
    """Points (n, 3), LPS mm, of one Contour Sequence item."""

    number: int
    kind: str
    points: NDArray[np.float64]
    slab_mm: float | None


@dataclass(frozen=True, slots=True, eq=False)
class _Roi:
    name: str
    observation: Dataset
    contours: list[_Contour]


def _rois(dataset: Dataset, image: SourceImage) -> dict[str, list[_Roi]]:
    """ROIs in the frame of reference of the image, by interpreter."""
    observations = {int(each.ReferencedROINumber): each for each in dataset.get("RTROIObservationsSequence") or ()}
    contours = {int(each.ReferencedROINumber): each for each in dataset.get("ROIContourSequence") or ()}
    by_reader: dict[str, list[_Roi]] = {}
    for item in dataset.StructureSetROISequence:
        frame = item.get("ReferencedFrameOfReferenceUID")
        if frame and frame != image.volume.frame_of_reference_uid:
            continue
        number = int(item.ROINumber)
        observation = observations.get(number, Dataset())
        reader = str(observation.get("ROIInterpreter") or dataset.get("OperatorsName") or "").strip("^ ")
        drawn = contours.get(number, Dataset()).get("ContourSequence") or ()
        roi = _Roi(str(item.get("ROIName") or f"ROI {number}"), observation, list(_contours(drawn)))
        by_reader.setdefault(reader, []).append(roi)
    return by_reader


def _contours(items: list[Dataset] | tuple[()]) -> Iterator[_Contour]:
    for number, item in enumerate(items, start=1):
        points = np.array(item.ContourData, float).reshape(-1, 3)
        slab = item.get("ContourSlabThickness")
        yield _Contour(number, str(item.ContourGeometricType), points, float(slab) if slab else None)


@dataclass(slots=True, eq=False)
class _Gathered:
    """What the ROIs of one reader come to."""

    structures: list[Structure] = field(default_factory=list)
    masks: dict[int, PackedMask] = field(default_factory=dict)
    points: list[MarkedPoint] = field(default_factory=list)
    lines: list[MarkedLine] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def _annotation(origin: Origin, reader: str, rois: list[_Roi], image: SourceImage, reading: Reading) -> Annotation:
    geometry = image.volume.get_geometry()
    gathered = _Gathered()
    for number, roi in enumerate(rois, start=1):
        gathered.structures.append(_structure(number, roi, reading))
        _mark(origin.source, number, roi, geometry, gathered)
        try:
            mask = _filled(origin.source, roi, geometry, gathered.remarks)
        except ContourFault as fault:
            gathered.remarks.append(fault.remark(roi.name))
        else:
            if mask is not None:
                gathered.masks[number] = mask
    remarks = tuple(gathered.remarks)
    check_usable(origin.source, remarks, len(gathered.masks) + len(gathered.points) + len(gathered.lines))
    return Annotation(
        image.series.series_instance_uid,
        reader,
        origin,
        geometry,
        tuple(gathered.structures),
        gathered.masks,
        points=tuple(gathered.points),
        lines=tuple(gathered.lines),
        remarks=remarks,
    )


def _structure(number: int, roi: _Roi, reading: Reading) -> Structure:
    """Structure by the table's codes for the ROI Name, else by the RT ROI Identification Code Sequence."""
    identified = roi.observation.get("RTROIIdentificationCodeSequence")
    if roi.name in reading.codes or not identified:
        return reading.structure(number, roi.name)
    modifiers = identified[0].get("SegmentedPropertyTypeModifierCodeSequence") or ()
    return Structure(number, roi.name, type=code_of(identified[0]), laterality=laterality_of(modifiers))


def _mark(source: str, number: int, roi: _Roi, geometry: hd.VolumeGeometry, gathered: _Gathered) -> None:
    """Points and open contours of an ROI."""
    for contour in roi.contours:
        if contour.kind in CLOSED:
            continue
        check_points_inside(source, roi.name, contour.points, geometry)
        places = [(float(x), float(y), float(z)) for x, y, z in contour.points]
        if contour.kind == "POINT":
            gathered.points += [MarkedPoint(number, place) for place in places]
        elif contour.kind in ("OPEN_PLANAR", "OPEN_NONPLANAR"):
            gathered.lines.append(MarkedLine(number, tuple(places)))
        else:
            raise InvalidReference(
                source, f"{roi.name}: Contour Geometric Type {contour.kind} is none of PS3.3 C.8.8.6.1"
            )


def _filled(source: str, roi: _Roi, geometry: hd.VolumeGeometry, remarks: list[Remark]) -> PackedMask | None:
    """Voxels within the closed contours of an ROI; None if it has none.

    Raises
    ------
    ContourFault
        If what the contours cover is not certain.
    """
    closed: list[_Contour] = []
    for contour in (each for each in roi.contours if each.kind in CLOSED):
        if any(_is_same(contour, other) for other in closed):
            remarks.append(Remark("REPEATED_CONTOUR", roi.name, f"contour {contour.number} is there twice"))
        elif _has_area(contour):
            closed.append(contour)
        else:
            reason = f"contour {contour.number}: its {len(contour.points)} points enclose no area"
            remarks.append(Remark(ZeroAreaContour.code, roi.name, reason))
    if not closed:
        if any(each.kind in CLOSED for each in roi.contours):
            raise ZeroAreaContour("all contours", "none encloses an area")
        return None
    indices = [geometry.map_reference_to_indices(each.points) for each in closed]
    if all(float(np.ptp(each[:, 0])) * geometry.spacing[0] <= PLANAR_MM for each in indices):
        mask = _parallel(source, roi.name, closed, indices, geometry)
    else:
        mask = fill_oblique(source, roi.name, [_oblique(each) for each in closed], geometry, _slab_mm(closed))
    if mask.empty:
        raise ZeroAreaContour("all contours", "they hold no voxel's centre: the structure is smaller than a voxel")
    return mask


def _is_same(one: _Contour, other: _Contour) -> bool:
    """Whether two contours have the same points in the same order: a copy, and no hole."""
    return one.points.shape == other.points.shape and np.array_equal(one.points, other.points)


def _has_area(contour: _Contour) -> bool:
    """Whether points span a plane."""
    if len(contour.points) < _CORNERS:
        return False
    spread = np.linalg.svd(contour.points - contour.points.mean(axis=0), compute_uv=False)
    return bool(spread[1] > 1e-6)  # noqa: PLR2004 - mm: no pen is that fine


def _parallel(
    source: str, name: str, closed: list[_Contour], indices: list[NDArray[np.float64]], geometry: hd.VolumeGeometry
) -> PackedMask:
    """Contours that lie along the image's slices, filled row by row."""
    planes: dict[float, list[tuple[_Contour, Turns]]] = {}
    for contour, index in zip(closed, indices, strict=True):
        k = round(float(index[:, 0].mean()), 2)
        planes.setdefault(k, []).append((contour, filled(f"contour {contour.number}", index[:, 1:])))
    filled_planes = {k: _combined(f"plane {k}", drawn) for k, drawn in planes.items()}
    slab_mm = _slab_mm(closed)
    slab = None if slab_mm is None else slab_mm / geometry.spacing[0]
    chosen = slices_of_planes(sorted(planes), slab, geometry.spatial_shape[0])
    return stacked(source, name, ((k, filled_planes[plane]) for k, plane in chosen), geometry.spatial_shape)


def _combined(where: str, drawn: list[tuple[_Contour, Turns]]) -> Turns:
    if all(contour.kind == "CLOSEDPLANAR_XOR" for contour, _ in drawn):
        return exclusive(each for _, each in drawn)
    return exclusive(nested(where, [each for _, each in drawn]))


def _slab_mm(closed: list[_Contour]) -> float | None:
    """Contour Slab Thickness, where all contours have the same."""
    told = {contour.slab_mm for contour in closed}
    return told.pop() if len(told) == 1 else None


def _oblique(contour: _Contour) -> ObliqueContour:
    """A contour on its own plane.

    Raises
    ------
    NonPlanarContour
        If its points do not lie on one.
    """
    centre = contour.points.mean(axis=0)
    _, _, axes = np.linalg.svd(contour.points - centre, full_matrices=False)
    off = np.abs((contour.points - centre) @ axes[2]).max()
    if off > PLANAR_MM:
        raise NonPlanarContour(f"contour {contour.number}", f"its points lie up to {off:.2f} mm off their plane")
    return ObliqueContour(f"contour {contour.number}", contour.points, axes[2])
