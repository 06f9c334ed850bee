"""Score: one metric of one segment, of one prediction against one reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import Error


class InvalidScore(Error):
    """A score that cannot be: no metric, no patient, or an infinite value."""

    code = "INVALID_SCORE"

    def __init__(self, score: str, reason: str) -> None:
        super().__init__(score, reason)

    def __str__(self) -> str:
        return f"score {self.args[0]}: {self.args[1]}"


@dataclass(frozen=True, slots=True)
class Case:
    """What is held against what: one series, the model that was run on it, and whose word is the reference.

    Attributes
    ----------
    patient_id : str
        Whom the statistics resample; patients, not series, are independent of each other.
    series_instance_uid : str
        Of the image.
    model : str
        Name of the model, or of the reader whose contours are scored.
    reference : str
        Name of the reader, or of the consensus, that the model is scored against.
    """

    patient_id: str
    series_instance_uid: str
    model: str
    reference: str = "reference"

    def __post_init__(self) -> None:
        for name in ("patient_id", "series_instance_uid", "model", "reference"):
            if not getattr(self, name):
                raise InvalidScore(f"of series {self.series_instance_uid or '?'}", f"its {name} is empty")


@dataclass(frozen=True, slots=True)
class Score:
    """One value of one metric.

    Attributes
    ----------
    case : Case
        Patient, series, model and reference.
    segment : str
        Name of the pair of segments, the same for every model.
    metric : str
        Name in ``metrics.catalogue``, e.g. ``dice``, ``surface_dice_2mm``.
    value : float
        In `unit`; NaN where the metric's rule leaves it undefined (mostly: the structure is in
        neither, see ``metrics.catalogue``). Never infinite.
    unit : str
        UCUM: ``1``, ``mm``, ``mL``, ``%``.
    failure : str or None
        Why the model gave nothing for this series. The value is then the worst one that the
        metric's rule knows: a failure lowers the mean and is counted apart.
    """

    case: Case
    segment: str
    metric: str
    value: float
    unit: str
    failure: str | None = None

    def __post_init__(self) -> None:
        name = f"{self.metric or '?'} of {self.segment or '?'}, series {self.case.series_instance_uid}"
        if not (self.segment and self.metric and self.unit):
            raise InvalidScore(name, "segment, metric or unit is empty")
        if math.isinf(self.value):
            raise InvalidScore(name, f"value is {self.value}")
        if self.failure is not None and (not self.failure or math.isnan(self.value)):
            raise InvalidScore(name, "a failure has a reason and the metric's worst value")

    @property
    def defined(self) -> bool:
        """Whether there is a value: False where the structure is in neither mask."""
        return not math.isnan(self.value)
