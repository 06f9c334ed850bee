"""The same features by the pyradiomics library, for those who want its own numbers.

Optional: ``pip install voxfleet[radiomics]``, which needs a C compiler. Minutes for a
hundred structures, and hours for a segment of the whole body, because it compares every
vertex of a mesh with every other.
"""

from __future__ import annotations

import highdicom as hd
import numpy as np
from numpy.typing import NDArray

from ...models.segmentation import Segmentation
from ..measurement import Measured
from ..radiomics import SegmentFeatures, assemble, check_geometry
from .feature_codes import RADIOMICS
from .feature_parameters import BIN_WIDTH

SETTINGS = {"binWidth": BIN_WIDTH, "geometryTolerance": 1e-3, "additionalInfo": False}
"""Those of the published collection: no resampling, no normalization."""


def measure(volume: hd.Volume, segmentation: Segmentation) -> Measured:
    """Give what ``radiomics.measure`` gives, computed by pyradiomics on the box of each segment."""
    check_geometry(volume, segmentation)
    array = segmentation.labelmap.array
    numbers, counts = np.unique(array, return_counts=True)
    features = {}
    for segment in segmentation.segments:
        mask = segmentation.mask(segment.number)
        if mask.any():
            features[segment.number] = features_of(volume.array, mask, volume.spacing)
    return assemble(segmentation, {int(n): int(c) for n, c in zip(numbers, counts, strict=True) if n}, features)


def features_of(
    image: NDArray[np.generic], mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> SegmentFeatures:
    """Features of one mask by pyradiomics, or the reason that it refuses the mask for.

    Parameters
    ----------
    image, mask : ndarray (k, j, i)
        Of one shape; the mask has a voxel at least.
    spacing_mm : tuple of float
        Between voxel centres, (k, j, i).
    """
    import SimpleITK as sitk  # noqa: N813
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = tuple(slice(int(side[0]), int(side[-1]) + 1) for side in sides)
    pair = [sitk.GetImageFromArray(np.ascontiguousarray(part[box])) for part in (image, mask.astype(np.uint8))]
    for itk_image in pair:
        itk_image.SetSpacing([float(step) for step in spacing_mm[::-1]])
    extractor = RadiomicsFeatureExtractor(**SETTINGS)
    extractor.disableAllFeatures()
    extractor.enableFeatureClassByName("shape")
    extractor.enableFeatureClassByName("firstorder")
    try:
        result = extractor.execute(*pair)
    except ValueError as refusal:
        return str(refusal)
    return {feature.name: float(result[f"original_{feature.name}"]) for feature in RADIOMICS}
