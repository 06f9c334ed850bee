"""The case that speed is measured on: a real CT at clinical resolution with 104 structures, seeded.

TotalSegmentator's example CT (3 mm, Apache-2.0, ``tests/reference_files`` of its
repository) is resampled by B-spline to 512 x 512 voxels of 0.75 mm in slices of 1 mm
or 2.5 mm and given correlated noise of about 11 HU. Its 61 labels are resampled as
one-hots (those outside the grid drop out); unlabelled soft tissue becomes a muscle-like
and a fat-like label of about 2 l each; ellipsoids of 1 to 60 ml fill up to 104.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code
from scipy import ndimage

from ... import Error
from ...models.codes import ANATOMICAL_STRUCTURE
from ...models.segmentation import Segment, Segmentation

EXAMPLE = Path(__file__).parents[3] / "shared" / "data" / "totalsegmentator-example"
"""Where the example lies beside a checkout of ours; any copy of TotalSegmentator's reference files will do."""
STRUCTURES = 104
LABELLED = 61
"""Labels of the example, renumbered from 1; some may lie outside the grid."""
NOISE_HU = 11.0
SEED = 20240104
MUSCLE_HU = (0, 100)
FAT_HU = (-150, -30)
FAT_SLICES = 0.25
"""Share of the slices, from the lowest, that fat is labelled in: about 2 l, like the muscle."""
ELLIPSOID_ML = (1.0, 60.0)


class ExampleMissing(Error):
    """The example CT that the realistic case is made from is not there."""

    code = "EXAMPLE_MISSING"
    refused = True

    def __init__(self, path: str) -> None:
        super().__init__(path)


@dataclass(frozen=True, slots=True)
class CaseSize:
    """Grid of a case: slices, rows and columns, and millimetres between them, all in (k, j, i)."""

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


SIZES = {
    "full": CaseSize("full", (300, 512, 512), (1.0, 0.75, 0.75)),
    "thick": CaseSize("thick", (120, 512, 512), (2.5, 0.75, 0.75)),
    "small": CaseSize("small", (100, 170, 170), (3.0, 2.25, 2.25)),
}
"""The first two are the cases that published figures are measured on; the last is for a quick look."""


@dataclass(frozen=True, slots=True, eq=False)
class RealisticCase:
    """CT (int16, HU) and its 104 structures on one grid."""

    volume: hd.Volume
    segmentation: Segmentation


def make_case(size: CaseSize, example: Path = EXAMPLE, cache: Path | None = None) -> RealisticCase:
    """The realistic case on a grid; the same voxels each time.

    Parameters
    ----------
    size : CaseSize
        One of ``SIZES``.
    example : Path
        Folder with ``example_ct.nii.gz`` and ``example_seg_fast_force_split.nii.gz``.
    cache : Path or None
        Folder to keep the arrays in, because making the full case takes a minute or two.

    Raises
    ------
    ExampleMissing
        If the example is not in the folder.
    """
    kept = cache / f"realistic-{size.name}-{SEED}.npz" if cache else None
    if kept and kept.is_file():
        with np.load(kept) as arrays:
            ct, labels = arrays["ct"], arrays["labels"]
    else:
        ct, labels = _make_arrays(size, example)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, ct=ct, labels=labels)
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0], affine[1, 1], affine[0, 2] = size.spacing_mm
    volume = hd.Volume(ct, affine, "PATIENT", frame_of_reference_uid="1.2.826.0.1.3680043.8.498.1")
    return RealisticCase(volume, Segmentation(volume.with_array(labels), structures()))


def structures(count: int = STRUCTURES) -> tuple[Segment, ...]:
    """Segments 1..count with placeholder names: speed does not depend on what they are called."""
    kind = Code("85756007", "SCT", "Tissue")
    return tuple(
        Segment(number, f"Structure {number}", f"structure_{number}", ANATOMICAL_STRUCTURE, kind, (200, 200, 200))
        for number in range(1, count + 1)
    )


def _make_arrays(size: CaseSize, example: Path) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    source, labels_source = example / "example_ct.nii.gz", example / "example_seg_fast_force_split.nii.gz"
    if not (source.is_file() and labels_source.is_file()):
        raise ExampleMissing(str(example))
    generator = np.random.default_rng(SEED)
    coarse = _as_kji(source).astype(np.float32)
    present, renumbered = np.unique(_as_kji(labels_source), return_inverse=True)
    coarse_labels = renumbered.reshape(coarse.shape).astype(np.uint8)
    if len(present) != LABELLED + 1:
        raise ExampleMissing(f"{example} (its label map holds {len(present) - 1} labels, not {LABELLED})")
    step = np.array(size.spacing_mm) / 3.0
    offset = (np.array(coarse.shape) - 1) / 2 - step * (np.array(size.shape) - 1) / 2
    labels = _resample_labels(coarse_labels, size, step, offset)
    ct = _resample_ct(coarse, size, step, offset, generator)
    organs = int(labels.max())
    _add_soft_tissue(ct, labels, organs)
    _add_ellipsoids(labels, size, organs, generator)
    return ct, labels


def _as_kji(path: Path) -> NDArray[np.float64]:
    """NIfTI array (i, j, k) of RAS+ turned to (k, j, i) of LPS+."""
    return np.ascontiguousarray(np.asanyarray(nib.load(path).dataobj)[::-1, ::-1].T)  # type: ignore[attr-defined]


def _resample_ct(
    coarse: NDArray[np.float32],
    size: CaseSize,
    step: NDArray[np.float64],
    offset: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int16]:
    """B-spline to the grid, slice by slice, with in-plane correlated noise."""
    coefficients = ndimage.spline_filter(coarse, order=3, output=np.float32, mode="nearest")
    ct = np.empty(size.shape, np.int16)
    for k in range(size.shape[0]):
        start = offset + step * np.array([k, 0, 0])
        plane = ndimage.affine_transform(
            coefficients, step, start, (1, *size.shape[1:]), order=3, mode="nearest", prefilter=False
        )[0]
        noise = ndimage.gaussian_filter(generator.standard_normal(plane.shape, np.float32), 0.8)
        plane += noise * np.float32(NOISE_HU / noise.std())
        ct[k] = np.clip(np.rint(plane), -1024, 3071)
    return ct


def _resample_labels(
    coarse: NDArray[np.uint8], size: CaseSize, step: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Largest of the linearly resampled one-hots, background among them at one half."""
    labels = np.zeros(size.shape, np.uint8)
    best = np.full(size.shape, 0.5, np.float32)
    for number, box in enumerate(ndimage.find_objects(coarse), start=1):
        if box is None:
            continue
        low = np.array([side.start for side in box]) - 1
        high = np.array([side.stop for side in box]) + 1
        first = np.clip(np.floor((low - offset) / step), 0, size.shape).astype(int)
        last = np.clip(np.ceil((high - offset) / step), 0, size.shape).astype(int)
        if (last <= first).any():
            continue
        target = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        share = ndimage.affine_transform(
            (coarse == number).astype(np.float32), step, offset + step * first, tuple(last - first), order=1
        )
        wins = share > best[target]
        labels[target][wins] = number
        best[target][wins] = share[wins]
    numbers, renumbered = np.unique(labels, return_inverse=True)
    return renumbered.astype(np.uint8).reshape(labels.shape) if len(numbers) <= LABELLED else labels


def _add_soft_tissue(ct: NDArray[np.int16], labels: NDArray[np.uint8], organs: int) -> None:
    """Two labels after the organs, from unlabelled voxels of a smoothed HU band."""
    smooth = np.stack([ndimage.uniform_filter(plane, 5) for plane in ct])
    for number, (low, high), share in ((organs + 1, MUSCLE_HU, 1.0), (organs + 2, FAT_HU, FAT_SLICES)):
        part = slice(0, round(share * len(ct)))
        labels[part][(labels[part] == 0) & (smooth[part] >= low) & (smooth[part] <= high)] = number


def _add_ellipsoids(labels: NDArray[np.uint8], size: CaseSize, organs: int, generator: np.random.Generator) -> None:
    """The labels up to 104: ellipsoids of 1 to 60 ml laid over soft tissue and background."""
    spacing = np.array(size.spacing_mm)
    for number in range(organs + 3, STRUCTURES + 1):
        volume_mm3 = 1000 * generator.uniform(*ELLIPSOID_ML)
        axes = generator.uniform(0.6, 1.6, 3)
        radii = axes * (volume_mm3 / (4 / 3 * np.pi * axes.prod())) ** (1 / 3) / spacing
        centre = np.array([generator.uniform(r + 1, n - r - 2) for r, n in zip(radii, size.shape, strict=True)])
        first, last = np.floor(centre - radii).astype(int), np.ceil(centre + radii).astype(int) + 1
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        grid = np.ogrid[box]
        inside = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1
        labels[box][inside & ((labels[box] == 0) | (labels[box] > organs))] = number
