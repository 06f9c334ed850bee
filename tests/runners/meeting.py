"""What supervised children run where a test shows that two of them work at the same time.

They meet at a named pipe: whoever opens it waits until somebody opens its other end, so that both
go on only if both are there. Nothing is timed.
"""

from __future__ import annotations

import os

from voxfleet.runners.consumption import Consumption
from voxfleet.runners.request import Answer, Delivery, Request

PIPE = "pipe"
MEETS = {"ahead-0": "segment", "ahead-1": "prepare", "beside-0": "segment", "beside-1": "segment"}
"""In which lane each of two workitems comes to the pipe."""


def lane(request: object) -> Answer:
    """Pass every lane; on the way, meet the other one of a pair. Who did it is told as the stage's name."""
    assert isinstance(request, Request)
    uid = request.workitem.series_instance_uid
    if MEETS.get(uid) == request.lane:
        os.close(os.open(request.settings.results / PIPE, os.O_WRONLY if uid.endswith("1") else os.O_RDONLY))
    used = Consumption(f"{request.lane} {request.settings.device} {os.getpid()}", 0.0, 0.0, 0.0)
    return Answer((used,), delivery=Delivery(()) if request.lane == "deliver" else None)
