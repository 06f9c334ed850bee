"""SEG: a segmentation as a DICOM object (PS3.3 A.51 Segmentation IOD, A.90 Label Map Segmentation IOD)."""

from __future__ import annotations

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless, SegmentationStorage

from .. import Error
from ..models.segmentation import Segment, Segmentation
from .encoding.composite import SeriesRole, new_instance, source_references
from .encoding.encoded import keep_encoding
from .encoding.equipment import MANUFACTURER, Producer, ascii_line, ascii_text, code_item
from .encoding.functional_groups import PlaneGroups, SourceFrame, functional_groups, plane_groups
from .encoding.patient_study import text
from .encoding.seg_kinds import BINARY, BINARY_DEFLATED, LABELMAP
from .encoding.segment_frames import (
    SegmentFrame,
    binary_frames,
    encode_labelmap,
    labelmap_frames,
    pack_binary,
    segment_counts,
)
from .series import SourceImage

LabelMapSegmentationStorage = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Not among the names of pydicom 3.0."""
PURPOSE = "Segmentation of Series"
ROLES = {
    BINARY: SeriesRole("seg", SegmentationStorage, "SEG", 0, PURPOSE),
    BINARY_DEFLATED: SeriesRole("seg", SegmentationStorage, "SEG", 0, PURPOSE),
    LABELMAP: SeriesRole("seg", LabelMapSegmentationStorage, "SEG", 0, PURPOSE),
}
BACKGROUND = Code("125040", "DCM", "Background")
SAME_POSITION_MM = 1e-3
"""A slice of the volume closer than this to its source slice takes its position as written there."""


class EncodeError(Error):
    """A segmentation that cannot be written as a SEG of this source."""

    code = "ENCODE_FAILED"

    def __init__(self, series_instance_uid: str, reason: str) -> None:
        super().__init__(series_instance_uid, reason)

    def __str__(self) -> str:
        return f"series {self.args[0]}: {self.args[1]}"


class OverlappingSegments(EncodeError):
    """Segments that share voxels, asked for as a label map, which holds one segment a voxel."""

    code = "OVERLAPPING_SEGMENTS"
    refused = True


def encode_seg(
    source: SourceImage, segmentation: Segmentation, producer: Producer, *, segmentation_type: str = BINARY
) -> Dataset:
    """SEG of one segmentation: all segments the model can find, frames for those it found.

    Parameters
    ----------
    source : SourceImage
        What was segmented; patient, study and frame of reference are copied from it.
    segmentation : Segmentation
        On the grid of ``source.volume``. Where nothing was found, the SEG holds one frame of zeros.
    producer : Producer
        The model and the workitem's key; UIDs derive from it.
    segmentation_type : str
        ``BINARY`` (1-bit frames, overlap allowed), ``BINARY_DEFLATED`` (the same, and the file is deflated)
        or ``LABELMAP`` (RLE, background segment 0).

    Raises
    ------
    OverlappingSegments
        If segments share voxels and LABELMAP is asked for.
    EncodeError
        If the segmentation is not on the source's grid, or the type is unknown.
    """
    _check(source, segmentation, segmentation_type)
    dataset = new_instance(source, producer, ROLES[segmentation_type])
    _add_image(dataset, source, segmentation, producer)
    _add_references(dataset, source)
    if segmentation_type == LABELMAP:
        frames = labelmap_frames(segmentation)
        _add_labelmap(dataset, segmentation, frames)
    else:
        frames = binary_frames(segment_counts(segmentation))
        _add_binary(dataset, segmentation, frames)
    if segmentation_type == BINARY_DEFLATED:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    _add_dimensions(dataset, producer, with_segment=segmentation_type != LABELMAP)
    _add_functional_groups(dataset, source, frames)
    dataset.SegmentSequence = [_segment_item(segment, producer) for segment in segmentation.segments]
    if segmentation_type == LABELMAP:
        dataset.SegmentSequence.insert(0, _background_item())
    keep_encoding(dataset)
    return dataset


def _check(source: SourceImage, segmentation: Segmentation, segmentation_type: str) -> None:
    series = source.series.series_instance_uid
    if segmentation_type not in ROLES:
        raise EncodeError(series, f"segmentation type {segmentation_type!r} is none of {', '.join(ROLES)}")
    if segmentation_type == LABELMAP and segmentation.overlapping:
        names = ", ".join(segment.name for segment in segmentation.segments if segment.contains)
        raise OverlappingSegments(series, f"{names} share voxels with other segments; LABELMAP cannot hold them")
    if not segmentation.labelmap.geometry_equal(source.volume):
        raise EncodeError(series, "the segmentation is not on the grid of its source volume")
    if not segmentation.segments:
        raise EncodeError(series, "a SEG needs at least one segment")


def _add_image(dataset: Dataset, source: SourceImage, segmentation: Segmentation, producer: Producer) -> None:
    """Frame of Reference, General Image, Image Pixel and Segmentation Image modules, less what depends on the type."""
    header = source.headers[0]
    dataset.FrameOfReferenceUID = header.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = text(header, "PositionReferenceIndicator")
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = ascii_line(f"Segmentation by {producer.algorithm_name}")
    dataset.ContentCreatorName = f"{MANUFACTURER}^"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelRepresentation = 0
    dataset.Rows, dataset.Columns = segmentation.labelmap.array.shape[1:]
    if source.repairs:
        dataset.DerivationDescription = ascii_text("; ".join(source.repairs))[:1024]
    dataset.LossyImageCompression = "00"
    lossy = next((h for h in source.headers if text(h, "LossyImageCompression") == "01"), None)
    if lossy is not None:
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in lossy:
                dataset.add(lossy[keyword])


def _add_references(dataset: Dataset, source: SourceImage) -> None:
    """Common Instance Reference module (PS3.3 C.12.2): every instance of the source series."""
    series = Dataset()
    series.SeriesInstanceUID = source.headers[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = source_references(source)
    dataset.ReferencedSeriesSequence = [series]


def _add_binary(dataset: Dataset, segmentation: Segmentation, frames: tuple[SegmentFrame, ...]) -> None:
    dataset.SegmentationType = BINARY
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.SegmentsOverlap = "YES" if segmentation.overlapping and _share_voxels(segmentation) else "NO"
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = pack_binary(segmentation, frames)
    dataset["PixelData"].VR = "OB"


def _add_labelmap(dataset: Dataset, segmentation: Segmentation, frames: tuple[SegmentFrame, ...]) -> None:
    bits = 8 if len(segmentation.segments) <= np.iinfo(np.uint8).max else 16
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.SegmentationType = LABELMAP
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelPaddingValue = 0
    dataset["PixelPaddingValue"].VR = "US"
    dataset.SegmentsOverlap = "NO"
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = encode_labelmap(segmentation, frames, bits)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _share_voxels(segmentation: Segmentation) -> bool:
    present = set(np.unique(segmentation.labelmap.array).tolist())
    return any(present & set(segment.contains) for segment in segmentation.segments)


def _add_dimensions(dataset: Dataset, producer: Producer, *, with_segment: bool) -> None:
    """Multi-frame Dimension module (PS3.3 C.7.6.17): by segment, then by position."""
    organization = Dataset()
    organization.DimensionOrganizationUID = producer.uid("seg.dimensions")
    dataset.DimensionOrganizationSequence = [organization]
    indices = [(Tag(0x0020, 0x0032), Tag(0x0020, 0x9113), "Image Position Patient")]
    if with_segment:
        indices.insert(0, (Tag(0x0062, 0x000B), Tag(0x0062, 0x000A), "Segment Number"))
    items = []
    for pointer, group, label in indices:
        item = Dataset()
        item.DimensionOrganizationUID = organization.DimensionOrganizationUID
        item.DimensionIndexPointer = pointer
        item.FunctionalGroupPointer = group
        item.DimensionDescriptionLabel = label
        items.append(item)
    dataset.DimensionIndexSequence = items


def _add_functional_groups(dataset: Dataset, source: SourceImage, frames: tuple[SegmentFrame, ...]) -> None:
    """Multi-frame Functional Groups module (PS3.3 C.7.6.16); sources in one list where no frame has its own."""
    shared = Dataset()
    shared.PlaneOrientationSequence = source.volume.get_plane_orientation()
    shared.PixelMeasuresSequence = source.volume.get_pixel_measures()
    dataset.SharedFunctionalGroupsSequence = [shared]
    planes = _planes_of_source(source)
    if not planes:
        dataset.SourceImageSequence = source_references(source)
    raw = functional_groups(frames, _plane_groups(source, planes, sorted({frame.k for frame in frames})))
    dataset[raw.tag] = raw


def _planes_of_source(source: SourceImage) -> dict[int, tuple[SourceFrame, list[float]]]:
    """The source's frame, and its position, for each slice k; none where the volume was resampled."""
    header = source.headers[0]
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is None:
        planes = [(SourceFrame(str(h.SOPClassUID), str(h.SOPInstanceUID)), _position(h)) for h in source.headers]
    else:
        planes = []
        for number in source.frame_numbers:
            frame = SourceFrame(str(header.SOPClassUID), str(header.SOPInstanceUID), number)
            places = (frames[number - 1], header.SharedFunctionalGroupsSequence[0])
            place = next(groups for groups in places if "PlanePositionSequence" in groups)
            planes.append((frame, _position(place.PlanePositionSequence[0])))
    if source.repairs and not _in_place(source, [position for _, position in planes]):
        return {}
    return dict(enumerate(planes))


def _in_place(source: SourceImage, positions: list[list[float]]) -> bool:
    """Whether a repaired volume still has its slices where the source has them."""
    slices = source.volume.spatial_shape[0]
    places = source.volume.map_indices_to_reference(np.array([[k, 0, 0] for k in range(slices)]))
    return len(positions) == slices and np.allclose(places, positions, rtol=0, atol=SAME_POSITION_MM)


def _position(dataset: Dataset) -> list[float]:
    return [float(value) for value in dataset.ImagePositionPatient]


def _plane_groups(
    source: SourceImage, planes: dict[int, tuple[SourceFrame, list[float]]], slices: list[int]
) -> dict[int, PlaneGroups]:
    """Where each slice k lies, and the frame it was derived from (none if the volume was resampled)."""
    grid = source.volume.map_indices_to_reference(np.array([[k, 0, 0] for k in slices]))
    groups = {}
    for k, placed in zip(slices, grid.tolist(), strict=True):
        frame, position = planes.get(k, (None, placed))
        near = all(abs(a - b) <= SAME_POSITION_MM for a, b in zip(position, placed, strict=True))
        groups[k] = plane_groups(frame, position if near else placed)
    return groups


def _segment_item(segment: Segment, producer: Producer) -> Dataset:
    """Item of the Segment Sequence (PS3.3 C.8.20.4)."""
    item = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=ascii_line(segment.label),
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=producer.algorithm_identification(),
        tracking_uid=producer.tracking_uid(segment.number),
        tracking_id=tracking_id(segment, producer),
        anatomic_regions=None if segment.anatomic_region is None else [segment.anatomic_region],
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
    item.SegmentAlgorithmName = producer.algorithm_name
    item.SegmentDescription = ascii_text(f"{producer.card.name} {segment.number} : {segment.name}")[:1024]
    if segment.laterality is not None:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            code_item(segment.laterality)
        ]
    return item


def tracking_id(segment: Segment, producer: Producer) -> str:
    """Tracking ID of a segment, in SEG and SR: ``{model} v{version} {number} {class}``."""
    return ascii_text(f"{producer.algorithm_name} {segment.number} {segment.name}")


def _background_item() -> Dataset:
    """Segment 0 of a label map: what belongs to no segment."""
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    item.SegmentedPropertyCategoryCodeSequence = [code_item(BACKGROUND)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(BACKGROUND)]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = MANUFACTURER
    return item
