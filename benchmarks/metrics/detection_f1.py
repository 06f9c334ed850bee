"""F1 score of the detection of lesions."""

from __future__ import annotations

from collections.abc import Iterable

from ..lesions import LesionMatches, match_lesions
from ..mask_pair import MaskPair
from ..metric import NAN, SegmentMetric, zero


def detection_f1(pair: MaskPair) -> float:
    """F1 score of one series: 2 hits / (2 hits + missed + made up); NaN where neither side has a lesion."""
    return pooled_f1([match_lesions(pair)])


def pooled_f1(series: Iterable[LesionMatches]) -> float:
    """F1 score of the lesions of many series together; NaN where no side has any."""
    counted = tuple(series)
    lesions = sum(each.reference + each.prediction for each in counted)
    return 2 * sum(each.hits for each in counted) / lesions if lesions else NAN


METRIC = SegmentMetric(
    name="detection_f1",
    title="Detection F1 score",
    unit="1",
    best=1.0,
    higher_is_better=True,
    symmetric=True,
    empty="In neither: undefined. In one only: 0.",
    value=detection_f1,
    worst=zero,
)
