"""A label map as NIfTI, with the names of its labels beside it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from pydicom.sr.coding import Code

from ..models.segmentation import Segment, Segmentation
from .atomic import replacing, write_text

SCANNER_ANATOMICAL = 1
"""NIFTI_XFORM_SCANNER_ANAT: coordinates are those of the scanner (nifti1.h)."""

NIFTI_ENDINGS = (".nii.gz", ".nii")


def write_nifti(segmentation: Segmentation, path: Path) -> None:
    """Write the label map to `path`, and its segments to a JSON file of the same stem.

    The array is turned from DICOM's (k, j, i) to NIfTI's (i, j, k), and the affine from LPS
    to RAS millimetres; no voxel is resampled. Values are the segment numbers, as integers.

    Parameters
    ----------
    path : Path
        Ends with ``.nii.gz`` or ``.nii``; ``x.nii.gz`` has its labels in ``x.json``.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    OSError
        If the files cannot be written; a file that was there is then as it was.
    """
    ending = next((each for each in NIFTI_ENDINGS if path.name.endswith(each)), None)
    if ending is None:
        raise ValueError(f"{path.name} ends with neither of {', '.join(NIFTI_ENDINGS)}")
    with replacing(path) as temporary:
        nibabel.save(_image(segmentation), temporary)
    labels = json.dumps([_label(segment) for segment in segmentation.segments], indent=1, ensure_ascii=False)
    write_text(path.with_name(path.name.removesuffix(ending) + ".json"), labels + "\n")


def _image(segmentation: Segmentation) -> nibabel.Nifti1Image:
    labelmap = segmentation.labelmap.permute_spatial_axes((2, 1, 0))
    affine = labelmap.get_affine("RAS")
    image = nibabel.Nifti1Image(np.asarray(labelmap.array), affine)
    image.set_sform(affine, code=SCANNER_ANATOMICAL)
    image.set_qform(affine, code=SCANNER_ANATOMICAL)
    image.header.set_xyzt_units("mm")
    return image


def _label(segment: Segment) -> dict[str, object]:
    return {
        "number": segment.number,
        "label": segment.label,
        "name": segment.name,
        "category": _code(segment.category),
        "type": _code(segment.type),
        "laterality": segment.laterality and _code(segment.laterality),
        "anatomic_region": segment.anatomic_region and _code(segment.anatomic_region),
        "color": segment.color,
        "contains": segment.contains,
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme_designator, "meaning": code.meaning}
