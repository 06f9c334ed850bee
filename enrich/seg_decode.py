"""A SEG read: its label map and segments, from any writer that keeps to one geometry."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sr.coding import Code
from pydicom.uid import RLELossless

from .. import Error
from ..models.segmentation import Segment, Segmentation
from .encoding.equipment import code_of
from .encoding.functional_groups import FramePlace, common_group, frame_places
from .encoding.packed_bits import add_packed_frames
from .encoding.rle import decode_rle
from .encoding.seg_kinds import BINARY, LABELMAP
from .reading.pixels import DECODING_PLUGINS

GRID_TOLERANCE = 0.05
"""A corner of a frame may lie off the grid by this part of a voxel."""
UNCOLOURED = (128, 128, 128)
"""sRGB of a segment whose SEG recommends no colour."""


class DecodeError(Error):
    """A SEG whose frames make up no segmentation."""

    code = "DECODE_FAILED"

    def __init__(self, sop_instance_uid: str, reason: str) -> None:
        super().__init__(sop_instance_uid, reason)

    def __str__(self) -> str:
        return f"SEG {self.args[0]}: {self.args[1]}"


def decode_seg(dataset: Dataset, geometry: hd.VolumeGeometry | hd.Volume | None = None) -> Segmentation:
    """Segmentation that a BINARY or LABELMAP SEG holds.

    Parameters
    ----------
    dataset : Dataset
        Of one orientation and one pixel spacing.
    geometry : VolumeGeometry or Volume, optional
        Grid to put it on, e.g. the source volume; otherwise the smallest that holds its frames,
        k ascending along the slice normal (a SEG does not store empty slices).

    Returns
    -------
    Segmentation
        Segments that share voxels are told through ``contains``.

    Raises
    ------
    DecodeError
        If it is FRACTIONAL; if frames are off the grid, or overlap so that no segment holds the shared part alone.
    """
    if dataset.SegmentationType not in (BINARY, LABELMAP):
        reason = (
            f"is of type {dataset.SegmentationType}: only {BINARY} and {LABELMAP} say which voxels belong to a segment"
        )
        raise DecodeError(str(dataset.SOPInstanceUID), reason)
    places = frame_places(dataset)
    plane = _plane(dataset)
    grid = _grid(dataset, places, plane) if geometry is None else _bare(geometry)
    slices = _slices(dataset, places, plane, grid)
    items = [item for item in dataset.SegmentSequence if int(item.SegmentNumber) != 0]
    array: NDArray[np.unsignedinteger] = np.zeros(
        grid.spatial_shape, np.uint8 if len(items) <= np.iinfo(np.uint8).max else np.uint16
    )
    contains: dict[int, tuple[int, ...]] = {}
    if dataset.SegmentationType == LABELMAP:
        for k, frame in zip(slices, decoded_frames(dataset), strict=True):
            if int(frame.max()) > np.iinfo(array.dtype).max:
                raise DecodeError(str(dataset.SOPInstanceUID), f"holds {frame.max()}, and has {len(items)} segments")
            array[k] = frame
    else:
        contains = _paint(dataset, places, slices, array)
    segments = tuple(_segment(item, contains.get(int(item.SegmentNumber), ())) for item in items)
    return Segmentation(hd.Volume(array, grid.affine, "PATIENT", grid.frame_of_reference_uid), segments)


def frame_segments(dataset: Dataset) -> tuple[int, ...]:
    """Referenced Segment Number of each frame; 0 for each frame of a label map."""
    return tuple(place.number for place in frame_places(dataset))


def _bare(geometry: hd.VolumeGeometry | hd.Volume) -> hd.VolumeGeometry:
    return geometry.get_geometry() if isinstance(geometry, hd.Volume) else geometry


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """How all frames lie.

    Attributes
    ----------
    down, along : ndarray of float64, shape (3,)
        From a voxel to that of the next row, and of the next column, in LPS mm.
    gap_mm : float
        From slice to slice; NaN where the SEG does not say.
    """

    down: NDArray[np.float64]
    along: NDArray[np.float64]
    gap_mm: float


def _plane(dataset: Dataset) -> _Plane:
    """Orientation and spacings that all frames share."""
    orientation = common_group(dataset, "PlaneOrientationSequence", "ImageOrientationPatient")
    measures = common_group(dataset, "PixelMeasuresSequence", "PixelSpacing")
    if orientation is None or measures is None:
        raise DecodeError(str(dataset.SOPInstanceUID), "its frames differ in orientation or pixel spacing")
    cosines = np.array(orientation.ImageOrientationPatient, float)
    row_mm, column_mm = (float(value) for value in measures.PixelSpacing)
    gap = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or math.nan
    return _Plane(cosines[3:] * row_mm, cosines[:3] * column_mm, abs(float(gap)))


def _grid(dataset: Dataset, places: tuple[FramePlace, ...], plane: _Plane) -> hd.VolumeGeometry:
    """Smallest grid that holds all frames, k ascending along the normal (row x column)."""
    normal = np.cross(plane.along, plane.down)
    normal /= np.linalg.norm(normal)
    heights = np.array([place.position @ normal for place in places])
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack((normal * plane.gap_mm, plane.down, plane.along))
    affine[:3, 3] = places[int(np.argmin(heights))].position
    slices = round(float(np.ptp(heights)) / plane.gap_mm) + 1
    shape = (slices, int(dataset.Rows), int(dataset.Columns))
    return hd.VolumeGeometry(affine, shape, "PATIENT", str(dataset.FrameOfReferenceUID))


def _slices(dataset: Dataset, places: tuple[FramePlace, ...], plane: _Plane, grid: hd.VolumeGeometry) -> list[int]:
    """Slice k of each frame, three corners of which lie on the grid."""
    uid = str(dataset.SOPInstanceUID)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if (rows, columns) != grid.spatial_shape[1:]:
        raise DecodeError(uid, f"frames of {rows} x {columns} do not fit a grid {grid.spatial_shape}")
    first = np.array([place.position for place in places])
    slices = np.rint(grid.map_reference_to_indices(first)[:, 0]).astype(int)
    wrong = (slices < 0) | (slices >= grid.spatial_shape[0])
    for row, column in ((0, 0), (rows - 1, 0), (0, columns - 1)):
        indices = grid.map_reference_to_indices(first + row * plane.down + column * plane.along)
        expected = np.column_stack((slices, np.full(len(slices), row), np.full(len(slices), column)))
        wrong |= np.abs(indices - expected).max(axis=1) > GRID_TOLERANCE
    if wrong.any():
        raise DecodeError(uid, f"frame {int(np.argmax(wrong)) + 1} does not lie on the grid")
    return [int(k) for k in slices]


def decoded_frames(dataset: Dataset) -> Iterator[NDArray[np.generic]]:
    """Frames in order, (rows, columns); 1-bit frames as bool.

    Raises
    ------
    DecodeError
        If a compressed frame is damaged.
    """
    count = int(dataset.NumberOfFrames)
    if _is_packed(dataset):
        packed = np.frombuffer(dataset.PixelData, np.uint8)
        yield from (_unpacked(dataset, packed, index) for index in range(count))
        return
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder, plugin = get_decoder(syntax), DECODING_PLUGINS.get(syntax, "")
    try:
        streams = generate_frames(dataset.PixelData, number_of_frames=count) if syntax == RLELossless else repeat(b"")
        for index, stream in zip(range(count), streams, strict=False):
            frame = decode_rle(stream, (int(dataset.Rows), int(dataset.Columns)), int(dataset.BitsAllocated))
            if frame is None:
                frame, _ = decoder.as_array(dataset, index=index, decoding_plugin=plugin)
            yield frame.astype(np.bool_) if dataset.BitsAllocated == 1 else frame
    except (RuntimeError, struct.error) as exc:
        reason = f"has a frame that cannot be decoded ({type(exc).__name__})"
        raise DecodeError(str(dataset.SOPInstanceUID), reason) from exc


def _is_packed(dataset: Dataset) -> bool:
    """Whether pixels are single bits, not compressed."""
    return dataset.BitsAllocated == 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated


def _unpacked(dataset: Dataset, packed: NDArray[np.uint8], index: int) -> NDArray[np.bool_]:
    """One frame of single bits, which need not begin on a byte (PS3.5 8.1.1)."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    first, offset = divmod(index * rows * columns, 8)
    bits = np.unpackbits(packed[first : first + -(-(offset + rows * columns) // 8)], bitorder="little")
    return bits[offset : offset + rows * columns].reshape(rows, columns).view(np.bool_)


def _paint(
    dataset: Dataset, places: tuple[FramePlace, ...], slices: list[int], array: NDArray[np.unsignedinteger]
) -> dict[int, tuple[int, ...]]:
    """Fill the label map, small segments over large ones; returns which segments each one contains."""
    if _is_packed(dataset) and array.shape[2] % 8 == 0 and add_packed_frames(dataset.PixelData, places, slices, array):
        return {}
    array[:] = 0
    masks = list(zip(places, slices, decoded_frames(dataset), strict=True))
    sizes: dict[int, int] = {}
    for place, _, mask in masks:
        sizes[place.number] = sizes.get(place.number, 0) + int(np.count_nonzero(mask))
    for place, k, mask in sorted(masks, key=lambda entry: (-sizes[entry[0].number], entry[0].number)):
        array[k][mask] = place.number
    if sum(sizes.values()) == np.count_nonzero(array):
        return {}
    totals = np.bincount(array.ravel(), minlength=int(array.max()) + 1)
    contains: dict[int, tuple[int, ...]] = {}
    for number in sizes:
        counts = np.zeros_like(totals)
        for place, k, mask in masks:
            if place.number == number:
                counts += np.bincount(array[k][mask], minlength=len(totals))
        inner = [int(n) for n in np.flatnonzero(counts) if n != number]
        if any(counts[n] != totals[n] for n in inner):
            reason = f"segment {number} shares a part with another that is no segment of its own"
            raise DecodeError(str(dataset.SOPInstanceUID), reason)
        if inner:
            contains[number] = tuple(inner)
    return contains


def _segment(item: Dataset, contains: tuple[int, ...]) -> Segment:
    """Segment that an item of the Segment Sequence describes."""
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence")
    regions = item.get("AnatomicRegionSequence")
    colour = item.get("RecommendedDisplayCIELabValue")
    label = str(item.SegmentLabel)
    red, green, blue = hd.color.CIELabColor.from_dicom_value(colour).to_rgb(clip=True) if colour else UNCOLOURED
    return Segment(
        number=int(item.SegmentNumber),
        label=label,
        name=str(item.get("SegmentDescription", label)).partition(" : ")[2] or label,
        category=code_of(item.SegmentedPropertyCategoryCodeSequence[0]),
        type=code_of(kind),
        laterality=_first(modifiers),
        anatomic_region=_first(regions),
        color=(red, green, blue),
        contains=contains,
    )


def _first(items: list[Dataset] | None) -> Code | None:
    return code_of(items[0]) if items else None
