"""Timing: how long a node has to do with one series, by its number of slices, and how sure that is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ... import Error
from ...models.model import ModelCard
from ...runners.workitem import Workitem
from ..accounts.cost import cost_of
from ..ledger import AttemptClass, Ledger
from ..prices.price import Price

ROUNDS = 5
"""Of reweighted least squares; the weights no longer move after three."""

TWO_PARAMETERS = 2

ASSUMED_SIGMA = 0.25
"""Scatter of the logarithm of the seconds, where none was measured."""

ASSUMED_RELATIVE = 0.25
"""Relative standard error of a mean that somebody told us, or that was measured on other series and machines."""

TOLD_FREEDOM = 1000
"""Degrees of freedom of what is assumed: Student's t is then a normal distribution."""

WAYS = "use --pilot N, --from-run RUN or --seconds-per-series S"

DOLLAR_A_SECOND = Price(
    "node", "", "", "owned", Decimal(1000), 0, "", 0, "a unit, to share out seconds", date(2026, 1, 1)
)

Floats = npt.NDArray[np.float64]


class NotMeasured(Error):
    """Nothing is known of how long a model takes."""

    code = "NOT_MEASURED"

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Timing:
    """Node-seconds of a series: ``fixed_s + per_slice_s x slices``, times a log-normal scatter.

    Attributes
    ----------
    sigma : float
        Standard deviation of the logarithm of the scatter.
    covariance : tuple of float
        Of `fixed_s` and `per_slice_s`: variance, covariance, variance.
    freedom : int
        Degrees of freedom that the fit left; at least 1.
    series : int
        How many were measured; 0 for a figure that was told.
    start_up_s : float
        From the start of a node's program to its first stage: the model is loaded.
    output_per_slice : float or None
        Bytes stored for each slice; None: not known.
    output_scatter : float
        Relative standard deviation of these from series to series.
    elsewhere : float
        Relative standard error of both that comes from their being measured on other series and another machine.
    gpu_share : float
        Part of the seconds during which the GPU was held.
    source : str
        Where and on what it was measured.
    """

    fixed_s: float
    per_slice_s: float
    sigma: float
    covariance: tuple[float, float, float]
    freedom: int
    series: int
    source: str
    start_up_s: float = 0.0
    output_per_slice: float | None = None
    output_scatter: float = 0.0
    elsewhere: float = 0.0
    gpu_share: float = 0.0

    def expected_s(self, slices: Floats) -> Floats:
        """Mean node-seconds of series of so many slices."""
        return self.fixed_s + self.per_slice_s * slices

    def relative_error(self, slices: Floats) -> float:
        """Relative standard error of the sum over series of so many slices: of the fit, and of their scatter."""
        expected = self.expected_s(slices)
        total, number, summed = float(expected.sum()), slices.size, float(slices.sum())
        fixed, both, slope = self.covariance
        of_fit = number * number * fixed + 2 * number * summed * both + summed * summed * slope
        of_scatter = math.expm1(self.sigma**2) * float((expected**2).sum())
        return math.hypot(math.sqrt(max(0.0, of_fit) + of_scatter) / total, self.elsewhere)

    def factors(self, slices: Floats, probabilities: Sequence[float]) -> list[float]:
        """By what the sum over these series may differ from the expected one, at quantiles of Student's t."""
        error = self.relative_error(slices)
        return [max(0.05, 1 + error * float(stats.t.ppf(p, self.freedom))) for p in probabilities]

    def output_bytes(self, slices: Floats, probabilities: Sequence[float]) -> list[float]:
        """Bytes stored for series of so many slices, at quantiles of Student's t; none where nothing is known."""
        if self.output_per_slice is None:
            return []
        total = float(slices.sum())
        of_series = 1 / max(1, self.series) + float((slices**2).sum()) / total**2
        error = math.hypot(self.output_scatter * math.sqrt(of_series), self.elsewhere)
        expected = self.output_per_slice * total
        return [expected * max(0.05, 1 + error * float(stats.t.ppf(p, self.freedom))) for p in probabilities]

    def faster(self, factor: float) -> Timing:
        """The same on a machine whose GPU is `factor` times as fast, the other seconds as they are."""
        scale = 1 - self.gpu_share + self.gpu_share / factor
        fixed, both, slope = (scale * scale * each for each in self.covariance)
        return replace(
            self,
            fixed_s=self.fixed_s * scale,
            per_slice_s=self.per_slice_s * scale,
            covariance=(fixed, both, slope),
            gpu_share=self.gpu_share / factor / scale,
        )


def fit(slices: Sequence[float], seconds: Sequence[float], source: str) -> Timing:
    """Timing from measured series, by least squares weighted with the inverse of the squared expectation.

    A straight line through three series or more of different sizes; through the origin where
    there are fewer, or where the line would begin or fall below zero.

    Raises
    ------
    NotMeasured
        If there are fewer than two series, or one without slices or seconds.
    """
    x, y = np.asarray(slices, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    if x.size < TWO_PARAMETERS:
        raise NotMeasured(source, f"{x.size} completed series; two at least are needed")
    if min(x.min(), y.min()) <= 0:
        raise NotMeasured(source, "a series without slices or without seconds")
    columns = np.stack([np.ones_like(x), x], axis=1)
    if x.size <= TWO_PARAMETERS or np.ptp(x) == 0:
        columns = columns[:, 1:]
    values, inverse = _weighted(columns, y)
    if columns.shape[1] == TWO_PARAMETERS and values.min() < 0:
        keep = 1 if values[0] < 0 else 0
        columns = columns[:, keep : keep + 1]
        values, inverse = _weighted(columns, y)
        names = [keep]
    else:
        names = [0, 1] if columns.shape[1] == TWO_PARAMETERS else [1]
    freedom = x.size - len(names)
    relative = y / (columns @ values) - 1
    variance = float((relative**2).sum()) / freedom
    parameters, covariance = np.zeros(2), np.zeros((2, 2))
    parameters[names] = values
    covariance[np.ix_(names, names)] = inverse * variance
    return Timing(
        fixed_s=float(parameters[0]),
        per_slice_s=float(parameters[1]),
        sigma=math.sqrt(math.log1p(variance)),
        covariance=(float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])),
        freedom=freedom,
        series=x.size,
        source=source,
    )


def told(mean_s: float, slices: Floats, gpu_share: float) -> Timing:
    """Timing from one figure: the mean node-seconds of a collection, taken to grow with the slices.

    Raises
    ------
    NotMeasured
        If the figure is not positive and finite.
    """
    if not 0 < mean_s < math.inf:
        raise NotMeasured("seconds per series", f"{mean_s} is no duration")
    per_slice = mean_s / float(slices.mean())
    variance = (ASSUMED_RELATIVE * per_slice) ** 2
    text = f"{mean_s:g} s a series, as told; not measured, and taken to be right within 25 % (one standard error)"
    return Timing(0.0, per_slice, ASSUMED_SIGMA, (0.0, 0.0, variance), TOLD_FREEDOM, 0, text, gpu_share=gpu_share)


def timing_of(ledger: Ledger, model: str, source: str) -> Timing:
    """Timing from what a run's completed attempts took of their nodes, shared as their cost is.

    Raises
    ------
    NotMeasured
        If fewer than two series were completed with this model.
    """
    items = {item.workitem.key: item.workitem for item in ledger.items() if item.workitem.model == model}
    # Seconds are asked for, and not what a machine costs.
    attempts, nodes = ledger.attempts(), [replace(node, price=None) for node in ledger.nodes() if not node.head]
    costs = cost_of(attempts, nodes, DOLLAR_A_SECOND, ledger.now())
    measured: list[tuple[Workitem, float]] = []
    gpu_s = wall_s = 0.0
    for attempt, share in zip(attempts, costs.attempts, strict=True):
        if attempt.outcome is AttemptClass.COMPLETED and attempt.key in items and items[attempt.key].instances:
            measured.append((items[attempt.key], float(share.usd / DOLLAR_A_SECOND.usd_per_s)))
            gpu_s += sum(used.gpu_s for used in attempt.consumption)
            wall_s += sum(used.wall_s for used in attempt.consumption)
    found = fit([item.instances for item, _ in measured], [s for _, s in measured], source)
    start_ups = [float(node.start_up / DOLLAR_A_SECOND.usd_per_s) for node in costs.nodes]
    stored: defaultdict[str, int] = defaultdict(int)
    for each in ledger.stored():
        stored[each.key] += each.object.bytes
    per_slice, scatter = bytes_per_slice(
        [item.instances for item, _ in measured], [stored[item.key] for item, _ in measured]
    )
    return replace(
        found,
        start_up_s=sum(start_ups) / len(start_ups) if start_ups else 0.0,
        output_per_slice=per_slice,
        output_scatter=scatter,
        gpu_share=min(1.0, gpu_s / wall_s) if wall_s else 0.0,
    )


def timing_of_card(card: ModelCard) -> Timing:
    """Timing from the series that a model's card tells of; their seconds are taken for a node's.

    Raises
    ------
    NotMeasured
        If the card tells of none, or of fewer than two.
    """
    told_of = card.measured
    if told_of is None:
        raise NotMeasured(card.name, f"its card has no measured seconds: {WAYS}")
    series = told_of.series
    text = f"{len(series)} series on {told_of.machine}, {told_of.date}, from the card of {card.name}"
    found = fit([each.slices for each in series], [each.seconds for each in series], text)
    per_slice, scatter = bytes_per_slice([each.slices for each in series], [each.bytes_out for each in series])
    return replace(
        found,
        # What is assumed of other machines is more than what so few series leave open.
        elsewhere=ASSUMED_RELATIVE,
        freedom=TOLD_FREEDOM,
        output_per_slice=per_slice,
        output_scatter=scatter,
        gpu_share=min(1.0, sum(each.gpu_s for each in series) / sum(each.seconds for each in series)),
    )


def bytes_per_slice(slices: Sequence[float], stored: Sequence[float]) -> tuple[float, float]:
    """Bytes stored for each slice, and the relative scatter of that from series to series."""
    per_slice = sum(stored) / sum(slices)
    if not per_slice:
        return 0.0, 0.0
    relative = [(size / number / per_slice - 1) ** 2 for number, size in zip(slices, stored, strict=True)]
    return per_slice, math.sqrt(sum(relative) / (len(relative) - 1))


def _weighted(columns: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Coefficients, and their covariance for a relative variance of one."""
    expected = np.full_like(y, float(y.mean()))
    values: Floats = np.zeros(columns.shape[1])
    inverse: Floats = np.zeros((columns.shape[1],) * 2)
    for _ in range(ROUNDS):
        weighted: Floats = columns / expected[:, None]
        inverse = np.asarray(np.linalg.pinv(weighted.T @ weighted), dtype=np.float64)
        values = inverse @ (weighted.T @ (y / expected))
        expected = np.maximum(columns @ values, 1e-3 * float(y.mean()))
    return values, inverse
