"""Measurements, and what is told of features without a value."""

from __future__ import annotations

import pytest
from voxfleet.enrich.features.texture_codes import FEATURES
from voxfleet.enrich.measurement import FailedFeature, InvalidMeasurement, Measurement, sentences


def test_features_without_a_value_are_told_one_by_one() -> None:
    """A few are named, with the filter where there is one."""
    failed = (FailedFeature(3, "shape_Sphericity", "one voxel"), FailedFeature(3, "glcm_MCC", "flat", "square"))
    assert sentences(failed) == ("segment 3 shape_Sphericity: one voxel", "segment 3 square_glcm_MCC: flat")


def test_many_for_one_reason_are_one_sentence() -> None:
    """A voxel that lacks every feature of a hundred filters does not fill the ledger."""
    many = tuple(FailedFeature(2, f"glcm_{n}", "one voxel") for n in range(1500))
    assert sentences((*many, FailedFeature(4, "glcm_0", "flat"))) == (
        "segment 2 glcm_0 and 1499 more features: one voxel",
        "segment 4 glcm_0: flat",
    )


def test_a_measurement_is_a_number() -> None:
    """Neither NaN nor infinity can be one; its column names the filter."""
    feature = FEATURES["glcm_Contrast"]
    with pytest.raises(InvalidMeasurement, match="glcm_Contrast"):
        Measurement(1, "glcm_Contrast", float("nan"), feature.concept, feature.unit)
    columns = [
        Measurement(1, "glcm_Contrast", 1.0, feature.concept, feature.unit, *f).column for f in ((), ("square",))
    ]
    assert columns == ["glcm_Contrast", "square_glcm_Contrast"]
