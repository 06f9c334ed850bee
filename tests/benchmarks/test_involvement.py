"""Lung involvement in per cent and in classes."""

from __future__ import annotations

import numpy as np
import pytest
from voxfleet.benchmarks.involvement import (
    NoInvolvement,
    Severity,
    compare_involvement,
    involvement_percent,
    severity_of,
)
from voxfleet.benchmarks.references.packed_mask import pack

SHAPE = (4, 5, 10)


def test_percent_by_hand():
    """Lungs of 40 voxels, a finding of 12 of which 10 lie within: 25 %."""
    lungs, finding = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    lungs[1:3, 1:3] = True
    finding[1, 1] = finding[0, 0, :2] = True
    assert involvement_percent(pack(finding, SHAPE), pack(lungs, SHAPE)) == 25.0
    assert involvement_percent(pack(finding & False, SHAPE), pack(lungs, SHAPE)) == 0.0


@pytest.mark.parametrize(
    ("percent", "severity"),
    [(0, "none"), (0.1, "mild"), (25, "mild"), (25.1, "moderate"), (50, "moderate"), (50.1, "severe"), (100, "severe")],
)
def test_classes(percent, severity):
    """Up to a quarter mild, up to half moderate, more severe."""
    assert severity_of(percent) is Severity(severity)


def test_agreement_by_hand():
    """Four series: the model has 1, 1, 2 and 4 points more, and one class differs by one."""
    found = compare_involvement([10, 20, 24, 60], [11, 21, 26, 64])
    assert found.series == 4
    assert found.confusion.tolist() == [[0, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert found.limits.bias == pytest.approx(2.0)
    assert found.limits.sd == pytest.approx(np.sqrt(2.0))
    # Linear weights n apart / 3. Seen: 1/3 of one in four. By chance, rows mild 3/4 and severe 1/4,
    # columns mild 2/4, moderate 1/4, severe 1/4: 3/4 (1/4 1/3 + 1/4 2/3) + 1/4 (2/4 2/3 + 1/4 1/3).
    chance = 3 / 4 * (1 / 12 + 2 / 12) + 1 / 4 * (2 / 6 + 1 / 12)
    assert found.weighted_kappa.value == pytest.approx(1 - (1 / 12) / chance)
    assert found.icc.value > 0.99


def test_what_is_refused():
    """No lungs, other grids, more than all."""
    lungs = pack(np.ones(SHAPE, bool), SHAPE)
    with pytest.raises(NoInvolvement, match="the lungs have no voxel"):
        involvement_percent(lungs, pack(np.zeros(SHAPE, bool), SHAPE))
    with pytest.raises(NoInvolvement, match="resample one onto the other"):
        involvement_percent(pack(np.ones((1, 1, 1), bool), (1, 1, 1)), lungs)
    with pytest.raises(NoInvolvement, match="not from 0 to 100"):
        severity_of(100.1)
