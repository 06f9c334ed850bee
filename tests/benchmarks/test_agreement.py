"""Readers against each other, their consensus, and a model against all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from voxfleet.benchmarks.agreement import (
    BETWEEN_READERS,
    MAJORITY_VOTE,
    STAPLE,
    AgreedLabel,
    DecidedBy,
    NoMajority,
    ReadSeries,
    TooFewReaders,
    agree_on_label,
    consensus,
    inter_observer,
    majority_vote,
    score_readers,
    staple,
)
from voxfleet.benchmarks.mask_pair import Grid
from voxfleet.benchmarks.metrics.catalogue import segment_metrics
from voxfleet.benchmarks.references.packed_mask import PackedMask, pack

GRID = Grid((4, 12, 12), (3.0, 1.0, 1.0))
DICE = segment_metrics()[:1]


def row(start: int, stop: int) -> PackedMask:
    """Voxels of one row of one slice."""
    mask = np.zeros(GRID.shape, bool)
    mask[1, 5, start:stop] = True
    return pack(mask, GRID.shape)


def voxels(mask: PackedMask) -> list[int]:
    """Columns of the row that a mask has."""
    return np.flatnonzero(mask.whole()[1, 5]).tolist()


READERS = {
    "Ann": {"tumour": row(2, 6), "node": row(0, 0)},
    "Bob": {"tumour": row(2, 8), "node": row(9, 11)},
    "Cay": {"tumour": row(3, 7)},
}
SERIES = ReadSeries("P1", "1.2.3", GRID, READERS)


def test_each_two_readers_by_hand():
    """Ann and Bob share 4 of 4 and 6 voxels, Ann and Cay 3 of 4 and 4, Bob and Cay 4 of 6 and 4."""
    scores = score_readers(SERIES, DICE)
    found = {(score.case.reference, score.case.model, score.segment): score.value for score in scores}
    assert found == {
        ("Ann", "Bob", "tumour"): 8 / 10,
        ("Ann", "Bob", "node"): 0.0,
        ("Ann", "Cay", "tumour"): 6 / 8,
        ("Bob", "Cay", "tumour"): 8 / 10,
    }
    ceiling = {score.segment: score.value for score in inter_observer(scores)}
    assert ceiling == pytest.approx({"tumour": (0.8 + 0.75 + 0.8) / 3, "node": 0.0})
    assert {score.case.model for score in inter_observer(scores)} == {BETWEEN_READERS}


def test_readers_are_scored_by_symmetric_metrics():
    """Which of two readers comes first does not matter."""
    there = score_readers(SERIES)
    back = score_readers(ReadSeries("P1", "1.2.3", GRID, dict(reversed(READERS.items()))))
    assert {(s.segment, s.metric, round(s.value, 9)) for s in there} == {
        (s.segment, s.metric, round(s.value, 9)) for s in back
    }
    assert "sensitivity" not in {score.metric for score in there}


def test_majority_by_hand():
    """Columns 3 to 5 have three votes, 2 and 6 two: all of 2 to 6. Of two readers both are needed."""
    assert voxels(majority_vote([reading["tumour"] for reading in READERS.values()])) == [2, 3, 4, 5, 6]
    assert voxels(majority_vote([row(2, 6), row(4, 8)])) == [4, 5]
    assert majority_vote([row(0, 0), row(0, 0)]).empty


def test_majority_equals_simpleitk():
    """Three readers' vote is SimpleITK's label voting."""
    generator = np.random.default_rng(2)
    arrays = [generator.random(GRID.shape) < 0.5 for _ in range(3)]
    voted = sitk.LabelVoting([sitk.GetImageFromArray(array.astype(np.uint8)) for array in arrays])
    ours = majority_vote([pack(array, GRID.shape) for array in arrays])
    assert np.array_equal(ours.whole(), sitk.GetArrayFromImage(voted) == 1)


def test_staple_trusts_the_better_readers():
    """Two readers who agree outvote a third who marks at random, and get the higher estimates."""
    generator = np.random.default_rng(8)
    truth = np.zeros((6, 20, 20), bool)
    truth[1:5, 3:17, 3:17] = True
    arrays = [truth ^ (generator.random(truth.shape) < wrong) for wrong in (0.02, 0.03, 0.4)]
    found = staple([pack(array, truth.shape) for array in arrays])
    agreed = found.mask.whole()
    assert np.count_nonzero(agreed ^ truth) < 0.05 * truth.size
    assert min(*found.sensitivity[:2], *found.specificity[:2]) > 0.9
    # The third is right in 6 of 10 voxels: of 784 within, and of 1616 outside besides the rim of 1472.
    assert found.sensitivity[2] == pytest.approx(0.6, abs=0.05)
    assert found.specificity[2] == pytest.approx((0.6 * 1616 + 1472) / (1616 + 1472), abs=0.05)


def test_staple_by_its_own_equations():
    """The estimate fulfils Warfield's equations: probabilities of parameters, parameters of probabilities.

    Five readers of a block, who err in 1 to 4 of 10 voxels: what three of them say is likely, and not certain.
    """
    generator = np.random.default_rng(11)
    block = np.zeros((3, 8, 8), bool)
    block[1, 2:6, 2:6] = True
    masks = [pack(block ^ (generator.random(block.shape) < wrong), block.shape) for wrong in (0.1, 0.2, 0.3, 0.3, 0.4)]
    found = staple(masks)
    votes = np.stack([np.pad(mask.whole(), 1).ravel() for mask in masks])
    prior = votes.mean()
    p, q = (np.array(each)[:, None] for each in (found.sensitivity, found.specificity))
    inside = prior * np.prod(np.where(votes, p, 1 - p), axis=0)
    outside = (1 - prior) * np.prod(np.where(votes, 1 - q, q), axis=0)
    weight = inside / (inside + outside)
    assert (votes @ weight) / weight.sum() == pytest.approx(np.ravel(p), abs=1e-6)
    assert ((~votes) @ (1 - weight)) / (1 - weight).sum() == pytest.approx(np.ravel(q), abs=1e-6)
    assert np.count_nonzero((weight >= 0.5) & (weight < 0.9)) == 55
    assert np.array_equal((weight >= 0.5).reshape(5, 10, 10)[1:-1, 1:-1, 1:-1], found.mask.whole())


def test_staple_of_nothing():
    """Where nobody marked anything the consensus is empty."""
    found = staple([row(0, 0), row(0, 0)])
    assert found.mask.empty
    assert all(math.isnan(value) for value in (*found.sensitivity, *found.specificity))


def test_consensus_of_what_two_looked_for():
    """The vote on the tumour is what two of three marked; on the node, one of two readers is no majority."""
    found = consensus(READERS)
    assert found.keys() == {MAJORITY_VOTE, STAPLE}
    assert np.array_equal(found[MAJORITY_VOTE]["tumour"].whole(), row(2, 7).whole())
    assert found[MAJORITY_VOTE]["node"].empty


@pytest.mark.parametrize("agree", [majority_vote, staple])
def test_one_reader_is_no_consensus(agree):
    """A consensus takes two."""
    with pytest.raises(TooFewReaders, match="takes 2 readers or more, not 1"):
        agree([row(2, 6)])


@pytest.mark.parametrize(
    ("labels", "adjudicator", "expected"),
    [
        (("mild", "mild", "mild"), None, AgreedLabel("mild", DecidedBy.ALL)),
        (("mild", "severe", "severe"), None, AgreedLabel("severe", DecidedBy.MAJORITY)),
        (("mild", "severe", "severe"), "mild", AgreedLabel("severe", DecidedBy.MAJORITY)),
        (("mild", "moderate", "severe"), "moderate", AgreedLabel("moderate", DecidedBy.ADJUDICATOR)),
        (("mild", "severe"), "severe", AgreedLabel("severe", DecidedBy.ADJUDICATOR)),
    ],
)
def test_radiograph_labels(labels, adjudicator, expected):
    """Two of three decide; only where all differ does the adjudicator."""
    assert agree_on_label(labels, adjudicator) == expected


def test_without_adjudicator_nothing_is_guessed():
    """Three readers of three minds need a fourth."""
    with pytest.raises(NoMajority, match="no majority among mild, moderate, severe: give the adjudicator's label"):
        agree_on_label(("mild", "moderate", "severe"))
