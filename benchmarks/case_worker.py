"""What a child process of a benchmark does: score a series, or draw one; the one place that catches all."""

from __future__ import annotations

import logging

from .. import Error
from ..runners.pictures import Picture
from ..runners.workitem import Failure
from .case import CaseRequest, CaseResult, PictureRequest
from .case_picture import draw_case
from .case_scoring import score_case

_LOG = logging.getLogger(__name__)

Answer = CaseResult | tuple[Picture, ...] | Failure


def perform(request: object) -> Answer:
    """The answer to a request; whatever goes wrong becomes a recorded failure."""
    try:
        if isinstance(request, CaseRequest):
            return score_case(request)
        if isinstance(request, PictureRequest):
            return draw_case(request)
    except Error as exc:
        _LOG.warning("%s: %s", exc.code, exc)
        return Failure.from_error("score", exc)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - one bad series never stops a benchmark
        _LOG.exception("a case")
        return Failure.from_error("score", exc)
    return Failure("score", "BAD_REQUEST", f"not a request: {type(request).__name__}")
