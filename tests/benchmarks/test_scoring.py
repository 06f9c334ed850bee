"""All structures of a series are scored in boxes as if on the whole image."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from voxfleet.benchmarks.mask_pair import Grid, MaskPair, MasksDiffer
from voxfleet.benchmarks.metrics.catalogue import segment_metrics
from voxfleet.benchmarks.references.packed_mask import pack, pack_labels
from voxfleet.benchmarks.score import Case
from voxfleet.benchmarks.scoring import StructureMasks, score_failure, score_structures

GRID = Grid((12, 14, 16), (3.0, 1.0, 0.5))
CASE = Case("P1", "1.2.3", "model")


@pytest.fixture
def label_maps() -> list[np.ndarray]:
    """Two label maps of boxes 1 to 3, the second shifted; 4 is in neither, 3 in the first only."""
    reference = np.zeros(GRID.shape, np.uint8)
    reference[1:4, 2:6, 3:9], reference[5:9, 1:5, 2:4], reference[9:11, 9:12, 9:15] = 1, 2, 3
    prediction = np.roll(reference, 1, axis=2)
    prediction[prediction == 3] = 0
    return [reference, prediction]


def test_boxes_change_nothing(label_maps):
    """Scores of cut masks are those of whole masks."""
    packed = [pack_labels(labels, range(1, 5)) for labels in label_maps]
    scores = score_structures((StructureMasks(str(n), packed[0][n], packed[1][n]) for n in range(1, 5)), GRID, CASE)
    expected = [
        metric.value(MaskPair(label_maps[0] == n, label_maps[1] == n, GRID))
        for n in range(1, 5)
        for metric in segment_metrics()
    ]
    assert [score.value for score in scores] == pytest.approx(expected, nan_ok=True)
    assert [(score.segment, score.metric) for score in scores] == [
        (str(n), metric.name) for n in range(1, 5) for metric in segment_metrics()
    ]


def test_structures_may_share_voxels(label_maps):
    """A structure within another one is scored on its own."""
    outer, inner = label_maps[0] > 0, label_maps[0] == 1
    scores = score_structures(
        [
            StructureMasks(name, pack(mask, GRID.shape), pack(inner, GRID.shape))
            for name, mask in (("a", outer), ("b", inner))
        ],
        GRID,
        CASE,
        segment_metrics()[:1],
    )
    # 72 voxels against 72 + 32 + 36.
    assert [score.value for score in scores] == [2 * 72 / (72 + 140), 1.0]


def test_example_against_itself_shifted_and_swapped(shared_data):
    """TotalSegmentator's 61 structures: against themselves all best, one voxel off 3 mm away, swapped mostly apart."""
    image = nib.load(shared_data / "totalsegmentator-example" / "example_seg_fast_force_split.nii.gz")
    labels = np.ascontiguousarray(np.asanyarray(image.dataobj).T.astype(np.uint8))
    grid = Grid(labels.shape, (3.0, 3.0, 3.0))
    numbers = [int(number) for number in np.unique(labels) if number]
    reference = pack_labels(labels, numbers)
    values = {}
    for name, prediction in (("same", labels), ("off", np.roll(labels, 1, axis=2)), ("swapped", labels[:, :, ::-1])):
        packed = pack_labels(np.ascontiguousarray(prediction), numbers)
        pairs = [StructureMasks(str(n), reference[n], packed[n]) for n in numbers]
        values[name] = {(s.segment, s.metric): s.value for s in score_structures(pairs, grid, CASE)}
    best = {metric.name: metric.best for metric in segment_metrics()}
    assert len(numbers) == 61
    assert all(value == best[metric] for (_, metric), value in values["same"].items())
    for number in map(str, numbers):
        assert values["off"][number, "hausdorff95"] <= 3.0
        assert values["off"][number, "centroid_distance"] == pytest.approx(3.0)
        assert values["off"][number, "surface_dice_3mm"] == 1.0
        assert 0 < values["off"][number, "dice"] < 1
    assert np.median([values["swapped"][str(number), "dice"] for number in numbers]) < 0.2


def test_failure_counts_as_worst(label_maps):
    """A series without prediction gets Dice 0, the diagonal as distance and a reason, for absent structures too."""
    packed = pack_labels(label_maps[0], (1, 4))
    scores = score_failure({"liver": packed[1], "spleen": packed[4]}, GRID, CASE, "GANTRY_TILT")
    values = {(score.segment, score.metric): score.value for score in scores}
    diagonal_mm = float(np.linalg.norm([36, 14, 8]))
    for name in ("liver", "spleen"):
        assert values[name, "dice"] == values[name, "surface_dice_2mm"] == 0.0
        assert values[name, "hausdorff95"] == pytest.approx(diagonal_mm)
    assert values["liver", "volume_difference"] == pytest.approx(-72 * 1.5e-3)
    assert {score.failure for score in scores} == {"GANTRY_TILT"}


def test_other_grid_is_refused():
    """A mask of another image is not scored."""
    masks = [pack(np.ones(shape, bool), shape) for shape in (GRID.shape, (12, 14, 15))]
    with pytest.raises(MasksDiffer, match=r"liver: mask of \(12, 14, 15\), image of \(12, 14, 16\) voxels"):
        score_structures([StructureMasks("liver", *masks)], GRID, CASE)


@pytest.mark.parametrize("spacing", [(1.0, 0.0, 1.0), (1.0, float("nan"), 1.0), (1.0, -1.0, 1.0)])
def test_spacing_is_positive(spacing):
    """A grid has a size along each axis."""
    with pytest.raises(MasksDiffer, match="not finite and above 0"):
        Grid((1, 1, 1), spacing)
