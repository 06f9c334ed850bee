"""Annotation: what one reader marked on one series; and what every format's file offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import highdicom as hd
from pydicom.sr.coding import Code

from ...enrich.series import SourceImage
from ...models.segmentation import Segmentation
from .errors import InvalidReference, NothingUsable
from .mark import GlobalLabel, MarkedBox, MarkedLine, MarkedPoint, MarkedValue
from .packed_mask import PackedMask, pack_labels, union


@dataclass(frozen=True, slots=True)
class Structure:
    """What was marked.

    Attributes
    ----------
    number : int
        From 1, in the order of the file; names it within its `Annotation`.
    name : str
        In the expert's words: Segment Label, ROI Name, label, file name.
    category, type : Code or None
        As Segmented Property Category and Type; None where the format has no codes and no table gave them.
    laterality : Code or None
        As Segmented Property Type Modifier, or of the anatomic region.
    anatomic_region : Code or None
        Where a finding lies.
    """

    number: int
    name: str
    category: Code | None = None
    type: Code | None = None
    laterality: Code | None = None
    anatomic_region: Code | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something of a file that is not in its `Annotation`, or was mended; counted in the report.

    Attributes
    ----------
    code : str
        In capitals, e.g. ``ZERO_AREA_CONTOUR``; stable, for machines.
    structure : str
        Name of the structure; empty where the remark is of the file.
    left_out : bool
        Whether the structure as a whole is left out, because what it covers is not certain.
    """

    code: str
    structure: str
    reason: str
    left_out: bool = False

    def __str__(self) -> str:
        return f"{self.code}: {self.structure}: {self.reason}" if self.structure else f"{self.code}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an annotation comes from: the expert's side of a score's provenance.

    Attributes
    ----------
    source : str
        Path or URI of the file.
    format : str
        Name of the format, one of `formats.FORMATS`.
    sha256 : str
        Of the file's bytes; empty for what a model made just now.
    sop_instance_uid : str
        Of a DICOM object; empty otherwise.
    """

    source: str
    format: str
    sha256: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """What one reader marked on one series, on the grid of its volume.

    Attributes
    ----------
    series_instance_uid : str
        Of the image.
    reader : str
        Who marked it: the name or identifier that the file gives; empty where it gives none.
    geometry : highdicom.VolumeGeometry
        Of the image: shape (k, j, i), affine to LPS mm.
    structures : tuple of Structure
        Numbered 1..N.
    masks : mapping of int to PackedMask
        Of the structures that were outlined, on `geometry`; they may share voxels. A structure that
        is only pointed at, boxed or measured has none.
    remarks : tuple of Remark
        What the file holds and this does not.
    resampled : bool
        Whether the file's voxels are not the image's: it may be of another series of the same frame of reference.
    """

    series_instance_uid: str
    reader: str
    origin: Origin
    geometry: hd.VolumeGeometry
    structures: tuple[Structure, ...]
    masks: dict[int, PackedMask] = field(default_factory=dict)
    points: tuple[MarkedPoint, ...] = ()
    boxes: tuple[MarkedBox, ...] = ()
    lines: tuple[MarkedLine, ...] = ()
    values: tuple[MarkedValue, ...] = ()
    labels: tuple[GlobalLabel, ...] = ()
    remarks: tuple[Remark, ...] = ()
    resampled: bool = False

    def __post_init__(self) -> None:
        numbers = [structure.number for structure in self.structures]
        if numbers != list(range(1, len(numbers) + 1)):
            raise InvalidReference(self.origin.source, f"structure numbers {numbers} are not 1..N")
        marked = {point.structure for point in self.points} | {box.structure for box in self.boxes}
        marked |= {line.structure for line in self.lines} | set(self.masks)
        if unknown := marked - set(numbers):
            raise InvalidReference(self.origin.source, f"structure {min(unknown)} is marked and not described")
        for mask in self.masks.values():
            if mask.shape != self.geometry.spatial_shape:
                raise InvalidReference(self.origin.source, f"a mask of {mask.shape} is not on the image's grid")

    def structure(self, number: int) -> Structure:
        """Structure of a number."""
        return self.structures[number - 1]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom and what a file says that it is about, read without the image.

    Attributes
    ----------
    patient_id : str or None
        None where the file does not say.
    study_instance_uids, series_instance_uids, sop_instance_uids : frozenset of str
        Of the images that it refers to; empty where it refers to none.
    frame_of_reference_uid : str
        Empty where the format has none.
    names : frozenset of str
        Parts of the file's path, for formats that hold no identifier.
    grid : VolumeGeometry or None
        Of a label map whose format holds no identifier.
    """

    patient_id: str | None = None
    study_instance_uids: frozenset[str] = frozenset()
    series_instance_uids: frozenset[str] = frozenset()
    sop_instance_uids: frozenset[str] = frozenset()
    frame_of_reference_uid: str = ""
    names: frozenset[str] = frozenset()
    grid: hd.VolumeGeometry | None = None


class ReferenceFormat(Protocol):
    """One format of experts' files. Each module of this folder that `formats.FORMATS` lists is one."""

    NAME: str
    """In reports, e.g. ``DICOM SEG``."""

    def recognises(self, path: Path) -> bool:
        """Whether a file is of this format, by its header or first bytes."""
        ...

    def subject(self, path: Path) -> Subject:
        """What the file is about.

        Raises
        ------
        UnreadableReference
            If it cannot be read.
        """
        ...

    def read(self, path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
        """What each reader marked on the image, one annotation a reader.

        Raises
        ------
        InvalidReference
            In one of its kinds, if the file does not fit the image or is broken as a whole.
        """
        ...


@dataclass(frozen=True, slots=True)
class CodedName:
    """Codes that a table gives to a name."""

    type: Code
    category: Code | None = None
    laterality: Code | None = None
    anatomic_region: Code | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read.

    Attributes
    ----------
    threshold : float
        Voxels of a FRACTIONAL SEG with at least this value (of 0 to 1) belong to the segment.
    codes : mapping of str to CodedName
        Codes for the names of formats that have none (ROI, label and file names); see `label_table`.
    values : mapping of int to str
        Names of the numbers of a label map that has none beside it.
    """

    threshold: float = 0.5
    codes: dict[str, CodedName] = field(default_factory=dict)
    values: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold} is not above 0 and at most 1")

    def structure(self, number: int, name: str) -> Structure:
        """Structure of a name, with the codes that the table gives to it."""
        coded = self.codes.get(name)
        if coded is None:
            return Structure(number, name)
        return Structure(number, name, coded.category, coded.type, coded.laterality, coded.anatomic_region)


def check_usable(source: str, remarks: tuple[Remark, ...], marked: int) -> None:
    """Refuse a file whose structures had all to be left out.

    Raises
    ------
    NothingUsable
        If none of them is marked and some were left out.
    """
    left_out = [str(remark) for remark in remarks if remark.left_out]
    if left_out and not marked:
        raise NothingUsable(source, "; ".join(left_out))


def annotation_of(segmentation: Segmentation, image: SourceImage, model: str) -> Annotation:
    """A model's segmentation as an annotation by that model, so that both sides of a score are of one kind.

    Raises
    ------
    InvalidReference
        If the segmentation is not on the image's grid.
    """
    geometry = image.volume.get_geometry()
    if not segmentation.labelmap.geometry_equal(image.volume):
        raise InvalidReference(model, "its segmentation is not on the grid of the image")
    structures = tuple(
        Structure(s.number, s.name, s.category, s.type, s.laterality, s.anatomic_region) for s in segmentation.segments
    )
    own = pack_labels(segmentation.labelmap.array, [each.number for each in segmentation.segments])
    masks = {s.number: union([own[number] for number in (s.number, *s.contains)]) for s in segmentation.segments}
    return Annotation(
        image.series.series_instance_uid, model, Origin(model, "segmentation"), geometry, structures, masks
    )
