"""FROC is MONAI's and that of paper."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.benchmarks.metrics.froc import RATES, Candidate, Detections, NoLesions, PooledDetections

BY_HAND = (
    Detections(2, (Candidate(0.9, (1,)), Candidate(0.7, (1,)), Candidate(0.8))),
    Detections(1, (Candidate(0.6, (1,)), Candidate(0.95), Candidate(0.3))),
)
"""Two scans with three lesions; of six candidates three hit, one of them a lesion that is hit already."""


def test_by_hand():
    """At 1/8 and 1/4 false positives a scan nothing is found, at 1/2 one lesion of three, from 1 on two."""
    found = PooledDetections(BY_HAND).froc()
    assert found.threshold.tolist() == [np.inf, 0.95, 0.9, 0.8, 0.6, 0.3]
    assert found.false_positives.tolist() == [0, 0.5, 0.5, 1, 1, 1.5]
    assert found.sensitivity == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert found.at_rates == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert found.score == pytest.approx((0 + 0 + 1 / 3 + 4 * 2 / 3) / 7)


def test_weights_repeat_scans():
    """A scan of weight 2 is there twice, one of weight 0 not at all."""
    weighed = PooledDetections(BY_HAND).froc(np.array([2, 0]))
    repeated = PooledDetections((BY_HAND[0], BY_HAND[0])).froc()
    assert weighed.at_rates == pytest.approx(repeated.at_rates)
    assert weighed.false_positives.max() == 1


def test_a_candidate_on_two_lesions():
    """Where lesions lie in each other's reach one candidate finds both, as in LUNA16's evaluation."""
    assert PooledDetections((Detections(2, (Candidate(0.5, (1, 2)),)),)).froc().score == 1


def test_equals_monai():
    """The points of the curve are MONAI's, which also reads it at thresholds of the candidates."""
    monai = pytest.importorskip("monai.metrics")
    generator = np.random.default_rng(1)
    scans, false, true, lesions = [], [], [], 0
    for _ in range(20):
        confidence = generator.random(9).round(6)
        hits = [(1,), (2,), (), (), (), (3,), (), (), ()]
        scans.append(Detections(4, tuple(map(Candidate, confidence.tolist(), hits))))
        true += [c for c, hit in zip(confidence, hits, strict=True) if hit]
        false += [c for c, hit in zip(confidence, hits, strict=True) if not hit]
        lesions += 4
    rates, sensitivities = monai.compute_froc_curve_data(np.array(false), np.array(true), lesions, 20)
    found = PooledDetections(scans).froc()
    # MONAI counts what exceeds a threshold and has one for each candidate: its points are among ours.
    ours = set(zip(found.false_positives.round(9).tolist(), found.sensitivity.round(9).tolist(), strict=True))
    assert {(round(float(r), 9), round(float(s), 9)) for r, s in zip(rates, sensitivities, strict=True)} <= ours
    theirs = monai.compute_froc_score(np.array(rates), np.array(sensitivities), RATES)
    # It draws lines between the points; a staircase is lower by less than a lesion.
    assert found.score == pytest.approx(theirs, abs=1 / lesions)


def test_a_scan_without_candidates_counts():
    """It misses its lesions."""
    assert PooledDetections((Detections(1, (Candidate(0.9, (1,)),)), Detections(1))).froc().score == 0.5


def test_no_lesion_at_all():
    """Sensitivity is then undefined."""
    with pytest.raises(NoLesions, match="2 scans without a lesion"):
        PooledDetections((Detections(0), Detections(0, (Candidate(0.5),)))).froc()
