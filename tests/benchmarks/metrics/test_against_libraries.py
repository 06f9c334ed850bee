"""Metrics are those of two other libraries each, on random masks and uneven spacing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from voxfleet.benchmarks.mask_pair import Grid, MaskPair
from voxfleet.benchmarks.metrics.catalogue import segment_metrics

regionprops = pytest.importorskip("skimage.measure").regionprops
sklearn_metrics = pytest.importorskip("sklearn.metrics")
torch = pytest.importorskip("torch")
monai = pytest.importorskip("monai.metrics")
monai_utils = pytest.importorskip("monai.metrics.utils")
surface_distance = pytest.importorskip("surface_distance")
medpy = pytest.importorskip("medpy.metric.binary")

pytestmark = pytest.mark.filterwarnings("ignore")

GRID = Grid((24, 30, 36), (2.5, 0.8, 0.7))
TOLERANCES_MM = (1.1, 2.3, 4.7)
"""No distances that the grid has, so that nobody's rounding decides."""
METRICS = {metric.name: metric.value for metric in segment_metrics(TOLERANCES_MM)}


@pytest.fixture(params=range(8))
def masks(request) -> tuple[np.ndarray, np.ndarray]:
    """Blobs that overlap more or less, with a rim of background."""
    generator = np.random.default_rng(request.param)
    common, *own = (ndimage.gaussian_filter(generator.standard_normal(GRID.shape), 2) for _ in range(3))
    share = request.param / 8
    blobs = [share * common + (1 - share) * each > 0.03 for each in own]
    for blob in blobs:
        for axis in range(3):
            np.moveaxis(blob, axis, 0)[[0, -1]] = False
    return blobs[0], blobs[1]


def equal(values: dict[str, float], masks: tuple[np.ndarray, np.ndarray]) -> None:
    """Ours are these values, to a millionth."""
    pair = MaskPair(*masks, GRID)
    assert {name: METRICS[name](pair) for name in values} == pytest.approx(values, rel=1e-6)


def as_torch(mask: np.ndarray) -> torch.Tensor:
    """Batch and channel first."""
    return torch.from_numpy(mask)[None, None].float()


def test_overlaps_equal_scikit_learn(masks):
    """Dice, IoU, sensitivity and precision are scikit-learn's F1, Jaccard, recall and precision."""
    flat = [mask.ravel() for mask in masks]
    equal(
        {
            "dice": sklearn_metrics.f1_score(*flat),
            "iou": sklearn_metrics.jaccard_score(*flat),
            "sensitivity": sklearn_metrics.recall_score(*flat),
            "precision": sklearn_metrics.precision_score(*flat),
        },
        masks,
    )


def test_overlaps_and_volumes_equal_simpleitk(masks):
    """Dice, IoU and volume differences are those of SimpleITK's overlap and label filters; so are the centroids."""
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    shapes = []
    for image in images:
        image.SetSpacing(GRID.spacing_mm[::-1])
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(image)
        shapes.append(shape)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(images[1], images[0])
    volume_ml = [shape.GetPhysicalSize(1) / 1000 for shape in shapes]
    apart = np.subtract(*(shape.GetCentroid(1) for shape in shapes))
    equal(
        {
            "dice": overlap.GetDiceCoefficient(1),
            "iou": overlap.GetJaccardCoefficient(1),
            "volume_difference": volume_ml[1] - volume_ml[0],
            "absolute_volume_difference": abs(volume_ml[1] - volume_ml[0]),
            "relative_volume_difference": 100 * (volume_ml[1] - volume_ml[0]) / volume_ml[0],
            "centroid_distance": float(np.linalg.norm(apart)),
        },
        masks,
    )


def test_overlaps_and_volumes_equal_medpy_and_scipy(masks):
    """Sensitivity, precision and relative volume difference are medpy's, the centroids SciPy's."""
    reference, prediction = masks
    centres = [np.array(ndimage.center_of_mass(mask)) for mask in masks]
    equal(
        {
            "dice": medpy.dc(prediction, reference),
            "sensitivity": medpy.recall(prediction, reference),
            "precision": medpy.precision(prediction, reference),
            "relative_volume_difference": 100 * medpy.ravd(prediction, reference),
            "centroid_distance": float(np.linalg.norm((centres[0] - centres[1]) * GRID.spacing_mm)),
        },
        masks,
    )


def test_volumes_equal_scikit_image(masks):
    """Volume differences are those of scikit-image's regions, in mm3."""
    reference, prediction = (regionprops(mask.astype(np.uint8), spacing=GRID.spacing_mm)[0].area for mask in masks)
    equal(
        {
            "volume_difference": (prediction - reference) / 1000,
            "absolute_volume_difference": abs(prediction - reference) / 1000,
        },
        masks,
    )


def test_surfaces_equal_deepmind(masks):
    """Surface Dice, Hausdorff 95 and mean surface distance are those of DeepMind's package."""
    found = surface_distance.compute_surface_distances(*masks, GRID.spacing_mm)
    equal(
        {
            "hausdorff95": surface_distance.compute_robust_hausdorff(found, 95),
            "mean_surface_distance": np.mean(surface_distance.compute_average_surface_distance(found)),
            **{
                f"surface_dice_{tolerance}mm": surface_distance.compute_surface_dice_at_tolerance(found, tolerance)
                for tolerance in TOLERANCES_MM
            },
        },
        masks,
    )


def test_surface_dice_equals_monai(masks):
    """Surface Dice is MONAI's with subvoxels."""
    reference, prediction = (as_torch(mask) for mask in masks)
    found = {}
    for tolerance in TOLERANCES_MM:
        value = monai.compute_surface_dice(
            prediction, reference, [tolerance], include_background=True, spacing=GRID.spacing_mm, use_subvoxels=True
        )
        found[f"surface_dice_{tolerance}mm"] = float(value)
    equal(found, masks)


def test_distances_equal_monai(masks):
    """Hausdorff 95 and mean surface distance are those of MONAI's outlines, distances and areas."""
    reference, prediction = (torch.from_numpy(mask) for mask in masks)
    edges, distances, areas = monai_utils.get_edge_surface_distance(
        prediction, reference, spacing=GRID.spacing_mm, use_subvoxels=True, symmetric=True
    )
    means, percentiles = [], []
    for edge, distance, area in zip(edges, distances, areas, strict=True):
        weight = area[edge].double().numpy()
        order = np.argsort(distance.numpy())
        ascending = distance.double().numpy()[order]
        upto = np.cumsum(weight[order]) / weight.sum()
        means.append(ascending @ weight[order] / weight.sum())
        percentiles.append(ascending[np.searchsorted(upto, 0.95)])
    equal({"mean_surface_distance": np.mean(means), "hausdorff95": max(percentiles)}, masks)


def test_dice_equals_monai(masks):
    """Dice and IoU are MONAI's."""
    reference, prediction = (as_torch(mask) for mask in masks)
    equal(
        {
            "dice": float(monai.compute_dice(prediction, reference)),
            "iou": float(monai.compute_iou(prediction, reference)),
        },
        masks,
    )
