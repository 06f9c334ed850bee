"""The stages of one lane, in order, for one series; the one place that catches all."""

from __future__ import annotations

import logging
from dataclasses import replace

from .. import Error
from ..enrich.archives.outage import is_outage
from ..models.memory import OutOfMemory, ran_out_of_memory
from .consumption import Consumption, Meter
from .request import Answer, Request
from .stages import LANES
from .workitem import Failure

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
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - one bad series never stops a run
        _LOG.exception("series %s, stage %s", request.workitem.series_instance_uid, meter.stage)
        failure = Failure.from_error(meter.stage, exc)
        if ran_out_of_memory(exc):
            failure = replace(failure, code=OutOfMemory.code)
    else:
        return Answer(_new(meter, request), delivery=delivery)
    return Answer(_new(meter, request), failure)


def _new(meter: Meter, request: Request) -> tuple[Consumption, ...]:
    return tuple(meter.consumption[len(request.before) :])
