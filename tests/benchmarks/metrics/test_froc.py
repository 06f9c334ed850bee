"""FROC is MONAI's and that of paper."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.benchmarks.mask_pair import Grid, MaskPair, MasksDiffer
from voxfleet.benchmarks.metrics.froc import RATES, Candidate, Detections, NoLesions, detections_of, froc

GRID = Grid((1, 3, 20), (1.0, 1.0, 1.0))


def test_by_hand():
    """Two series with three lesions; of six candidates three hit, one of them a lesion that is hit already."""
    series = [
        Detections(2, (Candidate(0.9, 1), Candidate(0.7, 1), Candidate(0.8, None))),
        Detections(1, (Candidate(0.6, 1), Candidate(0.95, None), Candidate(0.3, None))),
    ]
    found = froc(series)
    assert found.threshold.tolist() == [np.inf, 0.95, 0.9, 0.8, 0.6, 0.3]
    assert found.false_positives.tolist() == [0, 0.5, 0.5, 1, 1, 1.5]
    assert found.sensitivity == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    # At 1/8 and 1/4 nothing is found, at 1/2 one of three, from 1 on two of three.
    assert [found.sensitivity_at(rate) for rate in (0.25, 0.5, 1, 8)] == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])
    assert found.score == pytest.approx((0 + 0 + 1 / 3 + 4 * 2 / 3) / 7)


def test_equals_monai():
    """The points of the curve are MONAI's, which also reads it at thresholds of the candidates."""
    monai = pytest.importorskip("monai.metrics")
    generator = np.random.default_rng(1)
    series, false, true, lesions = [], [], [], 0
    for _ in range(20):
        confidence = generator.random(9).round(6)
        hits = [1, 2, None, None, None, 3, None, None, None]
        series.append(Detections(4, tuple(map(Candidate, confidence.tolist(), hits))))
        true += [c for c, hit in zip(confidence, hits, strict=True) if hit]
        false += [c for c, hit in zip(confidence, hits, strict=True) if not hit]
        lesions += 4
    rates, sensitivities = monai.compute_froc_curve_data(np.array(false), np.array(true), lesions, 20)
    found = froc(series)
    # MONAI counts what exceeds a threshold and has one for each candidate: its points are among ours.
    ours = set(zip(found.false_positives.round(9).tolist(), found.sensitivity.round(9).tolist(), strict=True))
    assert {(round(float(r), 9), round(float(s), 9)) for r, s in zip(rates, sensitivities, strict=True)} <= ours
    theirs = monai.compute_froc_score(np.array(rates), np.array(sensitivities), RATES)
    # It draws lines between the points; a staircase is lower by less than a lesion.
    assert found.score == pytest.approx(theirs, abs=1 / lesions)


def test_candidates_from_masks():
    """A candidate is as sure as its surest voxel, and hits the lesion that it overlaps."""
    reference, prediction = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    reference[0, 1, 2:6] = reference[0, 1, 15:17] = True
    prediction[0, 1, 3:6] = prediction[0, 1, 10:12] = True
    probability = np.where(prediction, 0.4, 0.0)
    probability[0, 1, 4], probability[0, 1, 11] = 0.9, 0.6
    found = detections_of(MaskPair(reference, prediction, GRID), probability)
    assert found == Detections(2, (Candidate(0.9, 1), Candidate(0.6, None)))


def test_a_failed_series_counts():
    """A series without candidates misses its lesions."""
    assert froc([Detections(1, (Candidate(0.9, 1),)), Detections(1, ())]).sensitivity.max() == 0.5


def test_what_is_refused():
    """No lesion at all, and a probability of another grid."""
    with pytest.raises(NoLesions, match="2 series without a lesion"):
        froc([Detections(0, ()), Detections(0, (Candidate(0.5, None),))])
    mask = np.ones(GRID.shape, bool)
    with pytest.raises(MasksDiffer, match="probability of"):
        detections_of(MaskPair(mask, mask, GRID), np.zeros((1, 1, 1)))
