"""The images that features are computed on, and the part of the volume that each needs.

A segment is measured on its box, and a filter on the box with a margin. What comes out equals
what pyradiomics gives on the whole volume: exactly for the original image, Gradient and Wavelet
(whose wrap-around at the volume's ends is copied); exactly for Square, SquareRoot, Logarithm and
Exponential, which scale by the largest absolute value of the volume, because the box is given
one more slice that holds it; and but for rounding for LoG, whose kernel has no end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..measurement import ORIGINAL
from .feature_parameters import FeatureParameters

LOG_MARGIN_SIGMAS = 16.0
"""Recursive Gaussians fall by exp(-1.37) in one sigma (Deriche's poles in ITK): 3e-10 is left here."""
LEAST_MARGIN = 4
"""Voxels on each side for LoG, which needs four in each direction."""
GLOBAL_FILTERS = ("Square", "SquareRoot", "Logarithm", "Exponential")
"""Filters voxel by voxel, scaled by the largest absolute value of the image."""
NAMES = {
    "Original": ORIGINAL,
    "Square": "square",
    "SquareRoot": "squareroot",
    "Logarithm": "logarithm",
    "Exponential": "exponential",
    "Gradient": "gradient",
    "LBP2D": "lbp-2D",
}
"""pyradiomics' prefix of the features of a filter that gives one image."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class ImageType:
    """One of pyradiomics' image types, with its settings.

    Attributes
    ----------
    name : str
        E.g. ``LoG``.
    custom : mapping
        What the parameter file sets for this image type alone.
    settings : mapping
        All settings, those of the image type before those of the file.
    """

    name: str
    custom: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def filters(self) -> tuple[str, ...]:
        """Names, by pyradiomics, of the images that it gives: several for LoG and Wavelet."""
        if self.name == "LoG":
            return tuple(f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D" for sigma in self.settings["sigma"])
        if self.name == "Wavelet":
            return self._wavelets()
        return (NAMES[self.name],)

    def margin(self, spacing_mm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Voxels (k, j, i) that it needs on each side of what is measured."""
        if self.settings.get("preCrop"):
            return (int(self.settings.get("padDistance", 5)),) * 3
        if self.name == "LoG":
            reach = LOG_MARGIN_SIGMAS * max(self.settings["sigma"])
            k, j, i = (max(LEAST_MARGIN, math.ceil(reach / step)) for step in spacing_mm)
            return k, j, i
        return (self._reach(),) * 3

    @property
    def wraps(self) -> bool:
        """Whether the filter takes the volume for periodic."""
        return self.name == "Wavelet" and not self.settings.get("preCrop")

    @property
    def needs_extreme(self) -> bool:
        """Whether the result hangs on the largest absolute value of the whole volume."""
        return self.name in GLOBAL_FILTERS and not self.settings.get("preCrop")

    def _reach(self) -> int:
        """Voxels, for filters whose reach does not hang on the spacing."""
        if self.name == "Wavelet":
            import pywt

            taps = pywt.Wavelet(self.settings.get("wavelet", "coif1")).dec_len
            return int(taps * (self.settings.get("start_level", 0) + self.settings.get("level", 1)))
        if self.name == "LBP2D":
            return math.ceil(float(self.settings.get("lbp2DRadius", 1))) + 1
        return 2 if self.name == "Gradient" else 0

    def _wavelets(self) -> tuple[str, ...]:
        """Detail images of each level, then the approximation of the last."""
        axes = 2 if self.settings.get("force2D") else 3
        details = [format(number, f"0{axes}b").translate({48: "L", 49: "H"}) for number in range(1, 2**axes)]
        levels = [f"wavelet{level if level > 1 else ''}" for level in range(1, self.settings.get("level", 1) + 1)]
        return (*(f"{level}-{each}" for level in levels for each in details), f"{levels[-1]}-{'L' * axes}")


def image_types(parameters: FeatureParameters) -> tuple[ImageType, ...]:
    """The image types that a parameter file asks for, in the order of their names; the original where it names none."""
    settings = parameters.mappings["setting"]
    asked = parameters.mappings["imageType"] or {"Original": {}}
    return tuple(ImageType(name, custom, {**settings, **custom}) for name, custom in asked.items())


def needs_whole_volume(parameters: FeatureParameters) -> bool:
    """Whether a box does not do: pyradiomics lays the grid of resampled voxels out from the volume's corner."""
    settings = parameters.mappings["setting"]
    return settings.get("resampledPixelSpacing") is not None and settings.get("interpolator", "") is not None


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """The part of a volume that one filter needs to measure one segment.

    Attributes
    ----------
    image : ndarray (k, j, i)
        Values of the volume.
    mask : ndarray of uint8 (k, j, i)
        1 in the segment.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.uint8]


def crop(
    image: NDArray[np.generic], mask: NDArray[np.bool_], box: Box, margin: tuple[int, int, int], *, wraps: bool
) -> Crop:
    """A box with its margin.

    Parameters
    ----------
    image : ndarray (k, j, i)
        The whole volume.
    mask : ndarray of bool
        Of the shape of `box`.
    margin : tuple of int
        Voxels on each side; less where the volume ends, unless it `wraps`.
    """
    if wraps:
        indices = [_wrapped(part, size, pad) for part, size, pad in zip(box, image.shape, margin, strict=True)]
        around = tuple(
            (pad, len(index) - pad - side) for index, pad, side in zip(indices, margin, mask.shape, strict=True)
        )
        part = image[np.ix_(*indices)]
    else:
        parts = [
            slice(max(0, side.start - pad), min(size, side.stop + pad))
            for side, size, pad in zip(box, image.shape, margin, strict=True)
        ]
        around = tuple((side.start - part.start, part.stop - side.stop) for side, part in zip(box, parts, strict=True))
        part = image[tuple(parts)]
    return Crop(np.ascontiguousarray(part), np.pad(mask.astype(np.uint8), around))


def with_extreme(cropped: Crop, extreme: float) -> Crop:
    """The crop with one more slice, outside the segment, that holds a value."""
    _, rows, columns = cropped.image.shape
    plane = np.zeros((1, rows, columns), cropped.image.dtype)
    plane[0, 0, 0] = extreme
    return Crop(
        np.concatenate([cropped.image, plane]),
        np.concatenate([cropped.mask, np.zeros((1, rows, columns), np.uint8)]),
    )


def extreme_of(image: NDArray[np.generic]) -> float:
    """The value of largest absolute value; a volume's values are exact as doubles."""
    low, high = float(image.min()), float(image.max())
    return high if abs(high) >= abs(low) else low


def _wrapped(side: slice, size: int, pad: int) -> NDArray[np.intp]:
    """Indices of a side with its margin, where a volume of odd size is first made even with its first voxel."""
    even = size + size % 2
    indices = np.arange(side.start - pad, side.stop + pad) % even
    return np.where(indices < size, indices, 0)
