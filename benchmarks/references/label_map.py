"""A label map read from a file that holds voxels and little else: NIfTI and NRRD."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...enrich.digest import file_sha256
from ...enrich.series import SourceImage
from .errors import UnreadableReference
from .packed_mask import PackedMask, union
from .placing import check_subject, place_labels
from .reference import Annotation, Origin, Reading, Structure, Subject

MOST_LABELS = 255
"""A file with more numbers than this, and no names for them, is an image and no label map."""
OBSERVER_FILE = re.compile(r"segmentation_(?P<contour>.+)_(?P<observer>[^_]+)")
"""XNAT's convention of the AFRICAI repository: ``Annotations/segmentation_{contour}_{observer}.nii.gz``."""
_DIMENSIONS = 3


class NoLabelMap(UnreadableReference):
    """A volume whose values are no labels: an image, by all that can be told."""

    code = "NO_LABEL_MAP"


@dataclass(frozen=True, slots=True, eq=False)
class LabelMapFile:
    """Labels, and what the file says of them.

    Attributes
    ----------
    array : ndarray, three axes
        Values as stored, in the file's order of axes.
    affine : ndarray (4, 4)
        From the array's indices to LPS mm.
    structures : mapping of int to Structure, or None
        What the file says that its values are.
    contains : mapping of int to tuple of int
        Values whose voxels belong to another value's structure too (see `Segment.contains`).
    """

    array: NDArray[np.generic]
    affine: NDArray[np.float64]
    structures: dict[int, Structure] | None = None
    contains: dict[int, tuple[int, ...]] = field(default_factory=dict)


def stem_of(path: Path) -> str:
    """File name without its endings."""
    return path.name.partition(".")[0]


def contour_and_observer(path: Path) -> tuple[str, str]:
    """Name of the structure, and of the reader (empty unless the name follows XNAT's convention)."""
    match = OBSERVER_FILE.fullmatch(stem_of(path))
    return (match["contour"], match["observer"]) if match else (stem_of(path), "")


def path_names(path: Path) -> frozenset[str]:
    """Parts of a path that may name patient, study or series."""
    parts = path.absolute().parts
    return frozenset({*parts[:-1], stem_of(path), path.name.removesuffix(".gz").rpartition(".")[0]})


def annotation_of_labels(
    path: Path, name: str, file: LabelMapFile, subject: Subject, image: SourceImage, reading: Reading
) -> Annotation:
    """Annotation by the observer that the file's name tells.

    Raises
    ------
    OutsideImage, NoLabelMap, OtherPatient, OtherSeries
        If voxels lie beyond the image, or the values are no labels.
    """
    source = str(path)
    check_subject(source, subject, image)
    labels = _labels(source, file, reading)
    described = file.structures or _described(source, path, labels, reading)
    geometry = image.volume.get_geometry()
    numbers = sorted(described)
    placed = place_labels(source, {n: described[n].name for n in numbers}, labels, file.affine, geometry)
    structures: list[Structure] = []
    masks: dict[int, PackedMask] = {}
    for number, value in enumerate(numbers, start=1):
        told = described[value]
        structures.append(Structure(number, told.name, told.category, told.type, told.laterality, told.anatomic_region))
        masks[number] = union([placed[each] for each in (value, *file.contains.get(value, ()))])
    origin = Origin(source, name, file_sha256(path))
    reader = contour_and_observer(path)[1]
    return Annotation(image.series.series_instance_uid, reader, origin, geometry, tuple(structures), masks)


def _labels(source: str, file: LabelMapFile, reading: Reading) -> NDArray[np.integer]:
    """Values as whole numbers; a map of values from 0 to 1 is cut at the threshold."""
    array = file.array
    if array.ndim != _DIMENSIONS or array.dtype.kind not in "biuf":
        raise NoLabelMap(source, f"{array.ndim} axes of {array.dtype} are no label map: three axes of numbers are")
    if array.dtype.kind == "f":
        numbers = array.astype(np.float32, copy=False)
        if not np.isfinite(numbers).all() or numbers.min(initial=0) < 0:
            raise NoLabelMap(source, "its values are not all finite and from 0 on")
        if not (numbers == np.rint(numbers)).all():
            if numbers.max(initial=0) > 1:
                raise NoLabelMap(source, "its values are neither whole numbers nor fractions of 0 to 1")
            numbers = (numbers >= reading.threshold).astype(np.float32)
        array = numbers
    lowest, highest = array.min(initial=0), array.max(initial=0)
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise NoLabelMap(source, f"its values reach from {lowest} to {highest}")
    return array.astype(np.uint16)


def _described(source: str, path: Path, labels: NDArray[np.integer], reading: Reading) -> dict[int, Structure]:
    """Structures by the table's names of values; a single value by the file's name."""
    found = [int(value) for value in np.flatnonzero(np.bincount(labels.ravel())) if value]
    if reading.values:
        names = dict(reading.values)
        if unknown := [value for value in found if value not in names]:
            raise NoLabelMap(source, f"its value {unknown[0]} has no name in the table of labels")
        return {value: reading.structure(value, name) for value, name in names.items()}
    name = contour_and_observer(path)[0]
    if len(found) > MOST_LABELS:
        raise NoLabelMap(source, f"it holds {len(found)} values and no names of them: an image, it seems")
    if len(found) <= 1:
        return {value: reading.structure(value, name) for value in found or [1]}
    return {value: reading.structure(value, f"{name} {value}") for value in found}
