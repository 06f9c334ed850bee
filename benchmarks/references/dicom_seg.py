"""DICOM SEG: segments of any type (PS3.3 A.51, A.90), put on the image's grid by where their frames lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ...enrich.digest import file_sha256
from ...enrich.encoding.equipment import code_of
from ...enrich.encoding.functional_groups import FramePlace, common_group, frame_places
from ...enrich.seg_decode import DecodeError, decoded_frames
from ...enrich.series import SourceImage
from .coding import current, laterality_of
from .dicom_file import is_of_class, opened, readable, reader_of, references_of
from .errors import GeometryUnknown, UnreadableReference
from .placing import GRID_TOLERANCE, check_subject, on_voxels, place_mask
from .reference import Annotation, Origin, Reading, Structure, Subject

NAME = "DICOM SEG"
SOP_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"})
"""Segmentation Storage and Label Map Segmentation Storage."""
BACKGROUND = ("DCM", "125040")
"""Segmented Property Type of what belongs to no segment of a label map."""


def recognises(path: Path) -> bool:
    """Whether a file is a SEG."""
    return is_of_class(path, SOP_CLASSES)


def subject(path: Path) -> Subject:
    """Patient, images and frame of reference of a SEG."""
    with readable(path):
        return references_of(opened(path, with_pixels=False))


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """Segments of a SEG on the image's grid: one annotation, by the SEG's Content Creator.

    Frames that lie on the image's voxels are copied; others are resampled, nearest neighbour. A FRACTIONAL
    segment is first cut at ``reading.threshold``.

    Raises
    ------
    OtherPatient, OtherSeries, OtherFrameOfReference, OutsideImage, GeometryUnknown, UnreadableReference
        If the SEG is not of the image, does not tell where it lies or cannot be decoded.
    """
    source = str(path)
    dataset = opened(path, with_pixels=True)
    with readable(path):
        check_subject(source, references_of(dataset), image)
        items = [item for item in dataset.SegmentSequence if not _is_background(item)]
        structures = tuple(_structure(n, item, reading) for n, item in enumerate(items, start=1))
        numbers = {int(item.SegmentNumber): n for n, item in enumerate(items, start=1)}
        geometry = image.volume.get_geometry()
        stacks = _stacks(source, dataset, set(numbers), geometry, reading)
        origin = Origin(source, NAME, file_sha256(path), str(dataset.SOPInstanceUID))
    masks = {}
    for segment, number in numbers.items():
        array, affine = stacks.taken(segment)
        masks[number] = place_mask(source, structures[number - 1].name, array, affine, geometry)
    reader = reader_of(dataset)
    resampled = not on_voxels(stacks.affine, (stacks.slices, int(dataset.Rows), stacks.columns), geometry)
    series = image.series.series_instance_uid
    return (Annotation(series, reader, origin, geometry, structures, masks, resampled=resampled),)


def _is_background(item: Dataset) -> bool:
    return int(item.SegmentNumber) == 0 or current(code_of(item.SegmentedPropertyTypeCodeSequence[0])) == BACKGROUND


def _structure(number: int, item: Dataset, reading: Reading) -> Structure:
    """Structure that an item of the Segment Sequence describes (PS3.3 C.8.20.4)."""
    label = str(item.get("SegmentLabel") or f"segment {item.SegmentNumber}")
    if label in reading.codes:
        return reading.structure(number, label)
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    regions = item.get("AnatomicRegionSequence") or ()
    modifiers = [*(kind.get("SegmentedPropertyTypeModifierCodeSequence") or ())]
    modifiers += [m for region in regions for m in region.get("AnatomicRegionModifierSequence") or ()]
    category = item.get("SegmentedPropertyCategoryCodeSequence")
    return Structure(
        number,
        label,
        code_of(category[0]) if category else None,
        code_of(kind),
        laterality_of(modifiers),
        code_of(regions[0]) if regions else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Stacks:
    """Frames of each segment, eight voxels a byte and less empty rows, and the grid that they lie on."""

    affine: NDArray[np.float64]
    slices: int
    columns: int
    frames: dict[int, list[tuple[int, int, NDArray[np.uint8]]]]
    """By Segment Number: slice, first row, packed rows."""

    def add(self, segment: int, k: int, mask: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(mask.any(axis=1))
        if rows.size:
            part = mask[rows[0] : rows[-1] + 1]
            self.frames[segment].append((k, int(rows[0]), np.packbits(part, axis=1)))

    def taken(self, segment: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Box of a segment's voxels and the affine of it; the frames are let go of."""
        frames = self.frames.pop(segment)
        if not frames:
            return np.zeros((1, 1, 1), np.bool_), self.affine
        first_k, first_row = min(k for k, _, _ in frames), min(row for _, row, _ in frames)
        slices = max(k for k, _, _ in frames) - first_k + 1
        rows = max(row + len(bits) for _, row, bits in frames) - first_row
        array = np.zeros((slices, rows, self.columns), np.bool_)
        for k, row, bits in frames:
            part = np.unpackbits(bits, axis=1, count=self.columns).view(np.bool_)
            array[k - first_k, row - first_row : row - first_row + len(bits)] |= part
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ (first_k, first_row, 0)
        return array, affine


def _stacks(
    source: str, dataset: Dataset, segments: set[int], geometry: hd.VolumeGeometry, reading: Reading
) -> _Stacks:
    """All frames, by segment."""
    places = frame_places(dataset)
    affine, slices = _own_grid(source, dataset, places, geometry)
    stacks = _Stacks(affine, max(slices, default=0) + 1, int(dataset.Columns), {number: [] for number in segments})
    for k, place, frame in zip(slices, places, _frames(source, dataset), strict=True):
        for segment, mask in _segments(dataset, place, frame, reading):
            if segment in segments:
                stacks.add(segment, k, mask)
            elif dataset.SegmentationType != "LABELMAP":
                raise UnreadableReference(source, f"has frames of segment {segment}, which it does not describe")
    return stacks


def _frames(source: str, dataset: Dataset) -> Iterator[NDArray[np.generic]]:
    try:
        yield from decoded_frames(dataset)
    except DecodeError as exc:
        raise UnreadableReference(source, exc.args[1]) from exc


def _segments(
    dataset: Dataset, place: FramePlace, frame: NDArray[np.generic], reading: Reading
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Segment Number and mask of what one frame holds."""
    if dataset.SegmentationType == "LABELMAP":
        for number in np.unique(frame):
            yield int(number), frame == number
    elif dataset.SegmentationType == "FRACTIONAL":
        yield place.number, np.greater_equal(frame, reading.threshold * float(dataset.MaximumFractionalValue))
    else:
        yield place.number, frame.astype(np.bool_)


def _own_grid(
    source: str, dataset: Dataset, places: tuple[FramePlace, ...], geometry: hd.VolumeGeometry
) -> tuple[NDArray[np.float64], list[int]]:
    """Affine of the frames' grid to LPS mm, k along the normal (row x column), and slice k of each frame.

    The distance of its slices is that of the image where all frames lie on slices of the image; else
    what the SEG says, or the smallest gap.
    """
    orientation = common_group(dataset, "PlaneOrientationSequence", "ImageOrientationPatient")
    measures = common_group(dataset, "PixelMeasuresSequence", "PixelSpacing")
    if orientation is None or measures is None:
        raise GeometryUnknown(source, "its frames differ in orientation or pixel spacing and form no grid")
    cosines = np.array(orientation.ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    positions = np.array([place.position for place in places])
    origin = positions[int(np.argmin(positions @ normal))]
    along = (positions - origin) @ normal
    across = positions - origin - along[:, None] * normal
    if np.abs(across).max() > GRID_TOLERANCE * min(float(each) for each in measures.PixelSpacing):
        raise GeometryUnknown(source, "its frames are shifted in their planes and form no grid")
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    for spacing in _spacings(measures, normal, along, geometry):
        slices = np.rint(along / spacing)
        if np.abs(along - slices * spacing).max() <= max(GRID_TOLERANCE * spacing, GRID_TOLERANCE):
            affine = np.eye(4)
            affine[:3, :3] = np.column_stack((normal * spacing, cosines[3:] * row_mm, cosines[:3] * column_mm))
            affine[:3, 3] = origin
            return affine, [int(k) for k in slices]
    raise GeometryUnknown(source, "its frames are not evenly spaced, and do not lie on the slices of the image")


def _spacings(
    measures: Dataset, normal: NDArray[np.float64], along: NDArray[np.float64], geometry: hd.VolumeGeometry
) -> Iterator[float]:
    """Distances of slices, in mm, to be tried: of the image, as told, as measured, and for one slice its thickness."""
    to_image = geometry.inverse_affine[:3, :3] @ normal
    axis = int(np.argmax(np.abs(to_image)))
    spacing = float(geometry.spacing[axis])
    if abs(abs(to_image[axis]) * spacing - 1) <= GRID_TOLERANCE:
        yield spacing
    if measures.get("SpacingBetweenSlices"):
        yield abs(float(measures.SpacingBetweenSlices))
    gaps = np.diff(np.unique(np.round(along, 4)))
    if gaps.size:
        yield float(gaps.min())
    elif measures.get("SliceThickness"):
        yield float(measures.SliceThickness)
