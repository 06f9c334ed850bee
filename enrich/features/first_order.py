"""First-order features from histograms.

CT values are whole numbers, so one histogram of each label holds everything that the
first-order features need, exactly, and the histogram of a union is a sum. Values that
are not integers (PET, derived MR) are sorted per label into the same form.

Definitions and their numerical details (bins of 25 aligned to multiples of 25, linear
percentiles, the closed 10-90 percentile range of the robust deviation, 0 for the
skewness and kurtosis of a flat region) are those of pyradiomics, whose documentation
says where they differ from IBSI's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import Error
from .feature_parameters import BIN_WIDTH
from .runs import WIDEST, Runs

LARGEST_TABLE = 1 << 24
"""Counters of all labels together (64 MiB); wider ranges of integers are sorted instead."""


class NotFinite(Error):
    """A segmented voxel holds no number."""

    code = "INTENSITY_NOT_FINITE"
    refused = True

    def __init__(self, label: int, voxels: int) -> None:
        super().__init__(label, voxels)

    def __str__(self) -> str:
        """The label-map number and how many of its voxels are NaN or infinite."""
        return f"label {self.args[0]} has {self.args[1]} voxels that are NaN or infinite"


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often each value occurs.

    Attributes
    ----------
    values : ndarray of float64
        Distinct and ascending, at least one.
    counts : ndarray of int64
        Voxels of each value, at least 1.
    dtype : numpy.dtype
        Of the image; bins are aligned in its precision, as pyradiomics does.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())


def countable(image: NDArray[np.generic], labels: NDArray[np.unsignedinteger]) -> tuple[int, int] | None:
    """Lowest value and how many from it to the highest, if they are integers near enough to each other to be counted.

    Parameters
    ----------
    image, labels : ndarray (k, j, i)
        Of one shape, not empty.
    """
    if not np.issubdtype(image.dtype, np.integer):
        return None
    low, high = int(image.min()), int(image.max())
    width = high - low + 1
    return (low, width) if width <= WIDEST and width * (int(labels.max()) + 1) <= LARGEST_TABLE else None


def histograms(image: NDArray[np.generic], labels: NDArray[np.unsignedinteger], runs: Runs) -> dict[int, Histogram]:
    """Histogram of each number present in a label map, 0 left out.

    Parameters
    ----------
    image, labels : ndarray (k, j, i)
        Integers or floats, and label-map numbers, of one shape.
    runs : Runs
        Of both, with counts if the image is ``countable``.

    Raises
    ------
    NotFinite
        If a labelled voxel is NaN or infinite.
    """
    return _counted(runs, image.dtype) if runs.counts.size else _sorted(image, labels, runs)


def union(parts: Iterable[Histogram]) -> Histogram:
    """Histogram of several disjoint labels together."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    values, where = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    counts = np.bincount(where, weights=np.concatenate([part.counts for part in parts]))
    return Histogram(values, counts.astype(np.int64), parts[0].dtype)


def _counted(runs: Runs, dtype: np.dtype[np.generic]) -> dict[int, Histogram]:
    """Histograms of integers."""
    found = {}
    for number in runs.regions:
        occupied = np.flatnonzero(runs.counts[number])
        counts = runs.counts[number, occupied].astype(np.int64)
        found[number] = Histogram((occupied + runs.lowest).astype(np.float64), counts, dtype)
    return found


def _sorted(image: NDArray[np.generic], labels: NDArray[np.unsignedinteger], runs: Runs) -> dict[int, Histogram]:
    """Histograms of any numbers, by sorting what lies in each label."""
    found = {}
    for number, region in runs.regions.items():
        box = tuple(slice(int(first), int(last) + 1) for first, last in zip(region.first, region.last, strict=True))
        inside = image[box][labels[box] == number]
        if (broken := int(np.count_nonzero(~np.isfinite(inside)))) > 0:
            raise NotFinite(number, broken)
        values, counts = np.unique(inside, return_counts=True)
        found[number] = Histogram(values.astype(np.float64), counts.astype(np.int64), image.dtype)
    return found


def first_order(histogram: Histogram, voxel_volume_mm3: float) -> dict[str, float]:
    """The 18 first-order features of pyradiomics, by its names.

    Parameters
    ----------
    histogram : Histogram
        Of one segment.
    voxel_volume_mm3 : float
        For TotalEnergy, which is Energy times this.

    Returns
    -------
    dict
        Feature name without class to value in units of the image. Kurtosis is
        pyradiomics' own (3 for a normal distribution).
    """
    values, counts, size = histogram.values, histogram.counts, histogram.size
    p10, p25, p75, p90 = (percentile(histogram, q) for q in (10, 25, 75, 90))
    mean = float(values @ counts) / size
    energy = float((values * values) @ counts)
    middle = (values >= p10) & (values <= p90)
    return {
        "Energy": energy,
        "TotalEnergy": energy * voxel_volume_mm3,
        "Minimum": float(values[0]),
        "10Percentile": p10,
        "90Percentile": p90,
        "Maximum": float(values[-1]),
        "Mean": mean,
        "Median": _median(histogram),
        "InterquartileRange": p75 - p25,
        "Range": float(values[-1] - values[0]),
        "MeanAbsoluteDeviation": _absolute_deviation(values, counts),
        "RobustMeanAbsoluteDeviation": _absolute_deviation(values[middle], counts[middle]),
        "RootMeanSquared": float(np.sqrt(energy / size)),
        **_moments(values - mean, counts, size),
        **_binned(histogram),
    }


def percentile(histogram: Histogram, q: int) -> float:
    """Percentile by linear interpolation between ranks.

    Rounds exactly as ``numpy.percentile`` does on the voxels themselves: whether the voxels
    that equal the 10th or 90th percentile count for the robust deviation hangs on the last bit.
    """
    rank = (histogram.size - 1) * (q / 100)
    below = int(rank)
    share = rank - below
    ends = np.cumsum(histogram.counts)
    a, b = (
        float(histogram.values[np.searchsorted(ends, position, side="right")])
        for position in (below, min(below + 1, histogram.size - 1))
    )
    return b - (b - a) * (1 - share) if share >= 0.5 else a + (b - a) * share  # noqa: PLR2004


def _median(histogram: Histogram) -> float:
    """Middle value, or the mean of the two in the middle."""
    ends = np.cumsum(histogram.counts)
    lower = histogram.values[np.searchsorted(ends, (histogram.size - 1) // 2, side="right")]
    upper = histogram.values[np.searchsorted(ends, histogram.size // 2, side="right")]
    return float((lower + upper) / 2)


def _absolute_deviation(values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Mean distance from the mean; NaN where no voxel is left, as in pyradiomics."""
    size = int(counts.sum())
    if not size:
        return float("nan")
    return float(np.abs(values - float(values @ counts) / size) @ counts) / size


def _moments(centred: NDArray[np.float64], counts: NDArray[np.int64], size: int) -> dict[str, float]:
    """Variance, and the skewness and kurtosis that pyradiomics sets to 0 where the region is flat."""
    if centred.size == 1:
        return {"Variance": 0.0, "Skewness": 0.0, "Kurtosis": 0.0}
    square = centred * centred
    m2, m3, m4 = (float(power @ counts) / size for power in (square, square * centred, square * square))
    return {"Variance": m2, "Skewness": m3 / m2**1.5, "Kurtosis": m4 / m2**2}


def _binned(histogram: Histogram) -> dict[str, float]:
    """Entropy and Uniformity of the histogram in bins of ``BIN_WIDTH``."""
    values = histogram.values
    if np.issubdtype(histogram.dtype, np.floating):
        # pyradiomics places its edges in the image's own precision, and there they may be off by a bit.
        low = values[0].astype(histogram.dtype)
        high = values[-1].astype(histogram.dtype)
        edges = np.arange(low - low % BIN_WIDTH, high + 2 * BIN_WIDTH, BIN_WIDTH)
        bins = np.digitize(values.astype(histogram.dtype), edges)
    else:
        bins = (values // BIN_WIDTH).astype(np.int64)
        bins -= bins[0]
    shares = np.bincount(bins, weights=histogram.counts) / histogram.size
    shares = shares[shares > 0]
    entropy = -float(np.sum(shares * np.log2(shares + np.spacing(1))))
    return {"Entropy": entropy, "Uniformity": float(shares @ shares)}
