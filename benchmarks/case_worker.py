"""What a child process of a benchmark does: score a series, or draw one; the one place that catches all."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

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
        return Failure("score", "BAD_REQUEST", f"not a request: {type(request).__name__}")
    except Error as exc:
        _LOG.warning("%s: %s", exc.code, exc)
        return Failure.from_error("score", exc)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - one bad series never stops a benchmark
        _LOG.exception("a case")
        return Failure.from_error("score", exc)
    finally:
        _clear(request)


def _clear(request: object) -> None:
    """Remove what was copied of the series, if its archive is not a folder."""
    case = request.case if isinstance(request, PictureRequest) else request
    if isinstance(case, CaseRequest):
        shutil.rmtree(Path(case.scratch) / case.entry.series_instance_uid, ignore_errors=True)
