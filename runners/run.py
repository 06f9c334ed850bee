"""The stages of one lane, in order, for one series; the one place that catches all."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

from .. import Error
from ..enrich.archives.outage import is_outage
from ..models.memory import OutOfMemory, ran_out_of_memory
from .consumption import Consumption, Meter
from .request import Answer, Request
from .stages import LANES
from .workitem import NO_SPACE, Failure

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_LOCAL = frozenset({"retrieve", "read", "segment", "measure", "encode"})
"""Stages that write to this machine's disk alone; in those after them it may be an archive's that is full."""

_LOG = logging.getLogger(__name__)


def perform(request: object) -> Answer:
    """The answer to a request; whatever a stage raises becomes a recorded failure."""
    if not isinstance(request, Request):
        return Answer((), Failure("request", "BAD_REQUEST", f"not a request: {type(request).__name__}"))
    meter = Meter(list(request.before))
    try:
        delivery = LANES[request.lane](request.workitem, request.settings, meter)
    except Error as exc:
        _LOG.warning("%s: %s", exc.code, exc)
        away = is_outage(exc)
        failure = replace(Failure.from_error(meter.stage, exc), lost=away, outage=away)
        full = meter.stage in _LOCAL and _disk_is_full(exc)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - one bad series never stops a run
        _LOG.exception("series %s, stage %s", request.workitem.series_instance_uid, meter.stage)
        failure = Failure.from_error(meter.stage, exc)
        if ran_out_of_memory(exc):
            failure = replace(failure, code=OutOfMemory.code)
        full = _disk_is_full(exc)
        failure = replace(failure, lost=_is_within(exc, request.settings.scratch))
    else:
        return Answer(_new(meter, request), delivery=delivery)
    if full:
        failure = replace(failure, code=NO_SPACE, lost=True, outage=False)
    return Answer(_new(meter, request), failure)


def _disk_is_full(error: BaseException) -> bool:
    """Whether an error, or what led to it, says that nothing more can be written."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno in _FULL):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _is_within(error: BaseException, cache: Path) -> bool:
    """Whether an error is about a file of the local cache: gone, or unreadable; not the series' fault."""
    name = error.filename if isinstance(error, OSError) else None
    return isinstance(name, str | os.PathLike) and Path(name).is_relative_to(cache)


def _new(meter: Meter, request: Request) -> tuple[Consumption, ...]:
    return tuple(meter.consumption[len(request.before) :])
