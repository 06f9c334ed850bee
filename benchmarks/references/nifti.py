"""NIfTI: label maps and masks, whose affine tells where they lie (RAS mm, turned to LPS)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from ...enrich.nifti import NIFTI_ENDINGS
from ...enrich.series import SourceImage
from .errors import GeometryUnknown, UnreadableReference
from .label_map import LabelMapFile, annotation_of_labels, path_names
from .reference import Annotation, Reading, Structure, Subject

NAME = "NIfTI"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DAMAGE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError)
_DIMENSIONS = 3


def recognises(path: Path) -> bool:
    """Whether a file's name ends as NIfTI files do."""
    return path.name.endswith(NIFTI_ENDINGS)


def subject(path: Path) -> Subject:
    """Grid and path of a label map: NIfTI holds no identifier."""
    file = _opened(path)
    shape = tuple(int(n) for n in file.shape[:_DIMENSIONS])
    grid = hd.VolumeGeometry(_affine(path, file), shape, "PATIENT")
    return Subject(names=path_names(path), grid=grid)


def read(path: Path, image: SourceImage, reading: Reading) -> tuple[Annotation, ...]:
    """The structures of one file, with the names and codes of the ``.json`` beside it, if `nifti.write` made it.

    A file ``segmentation_{contour}_{observer}.nii.gz`` is one contour of that observer.

    Raises
    ------
    GeometryUnknown, OutsideImage, NoLabelMap, UnreadableReference
        If the header tells no place, voxels lie beyond the image, or the values are no labels.
    """
    file = _opened(path)
    affine = _affine(path, file)
    try:
        array = np.asanyarray(file.dataobj)
    except _DAMAGE as exc:
        raise UnreadableReference(str(path), f"its voxels cannot be read ({type(exc).__name__})") from exc
    if array.ndim > _DIMENSIONS and array.size == np.prod(array.shape[:_DIMENSIONS]):
        array = array.reshape(array.shape[:_DIMENSIONS])
    labels = _described(path, array, affine)
    return (annotation_of_labels(path, NAME, labels, Subject(), image, reading),)


def _opened(path: Path) -> nibabel.Nifti1Image:
    try:
        file = nibabel.Nifti1Image.from_filename(path)
    except _DAMAGE as exc:
        raise UnreadableReference(str(path), f"is no NIfTI file that can be read ({type(exc).__name__})") from exc
    if len(file.shape) < _DIMENSIONS:
        raise UnreadableReference(str(path), f"has {len(file.shape)} axes and not three")
    return file


def _affine(path: Path, file: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """From indices to LPS mm.

    Raises
    ------
    GeometryUnknown
        If the header has neither sform nor qform, or its unit is not mm.
    """
    if int(file.header["sform_code"]) == 0 and int(file.header["qform_code"]) == 0:
        raise GeometryUnknown(str(path), "its header has neither sform nor qform: where it lies would be a guess")
    unit = file.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise GeometryUnknown(str(path), f"its unit is {unit} and not mm")
    affine: NDArray[np.float64] = _RAS_TO_LPS @ np.asarray(file.affine, float)
    return affine


def _beside(path: Path) -> list[dict[str, Any]]:
    """Items of the JSON file that `enrich.nifti.write_nifti` puts beside its label map; none without one."""
    ending = next(each for each in NIFTI_ENDINGS if path.name.endswith(each))
    sidecar = path.with_name(path.name.removesuffix(ending) + ".json")
    if not sidecar.is_file():
        return []
    try:
        items = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UnreadableReference(str(sidecar), "is no JSON that can be read") from exc
    return items if isinstance(items, list) else []


def _described(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64]) -> LabelMapFile:
    """Label map with what the file beside it says."""
    items = _beside(path)
    try:
        structures = {int(item["number"]): _structure(item) for item in items}
        contains = {int(item["number"]): tuple(int(n) for n in item.get("contains") or ()) for item in items}
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise UnreadableReference(str(path), "the .json beside it is no list of labels as Voxfleet writes it") from exc
    if missing := {n for inner in contains.values() for n in inner} - set(structures):
        raise UnreadableReference(str(path), f"the .json beside it does not describe its label {min(missing)}")
    return LabelMapFile(array, affine, structures or None, contains)


def _structure(item: dict[str, Any]) -> Structure:
    return Structure(
        int(item["number"]),
        str(item["name"]),
        _code(item.get("category")),
        _code(item.get("type")),
        _code(item.get("laterality")),
        _code(item.get("anatomic_region")),
    )


def _code(item: object) -> Code | None:
    if item is None:
        return None
    if not isinstance(item, dict):
        raise TypeError(item)
    return Code(item["value"], item["scheme"], item["meaning"])
