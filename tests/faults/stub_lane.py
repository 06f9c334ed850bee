"""What the children of a driver with stub stages run: it imports little, so that a child is there at once."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.request import Answer, Delivery, Request
from voxfleet.runners.workitem import Failure

if skew_s := float(os.environ.get("STUB_SKEW_S", "0")):
    # A machine whose clock is wrong, in this process and in its children.
    _right_time = time.time
    time.time = lambda: _right_time() + skew_s

_hoard: list[bytes] = []

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def lane(request: object) -> Answer:
    """One lane of a workitem.

    Its parameters are ``seconds`` to segment, ``deliver`` seconds, a ``fault``, and the lane in which it ``waits``
    until there is a file ``FOLDER/go``: it has ``FOLDER/waiting/SERIES`` then.
    """
    assert isinstance(request, Request)
    wanted, series = dict(request.workitem.parameters), request.workitem.series_instance_uid
    folder, started = request.settings.results, time.time()
    if request.lane == "segment":
        with (folder / "segmented" / series).open("a") as told:
            told.write(f"{request.settings.node}\n")
    if request.lane == wanted.get("waits"):
        _wait(folder, series)
    if request.lane == "prepare":
        return Answer((Consumption("read", started, 0.0, 0.0),))
    if request.lane == "segment":
        seconds = float(wanted.get("seconds", 0))
        time.sleep(seconds)
        used = (Consumption("segment", started, seconds, 0.0, seconds),)
        return Answer(used, _fault(wanted.get("fault", ""), request.settings.memory_bytes))
    time.sleep(float(wanted.get("deliver", 0)))
    path = folder / "stored" / series
    try:
        path.touch(exist_ok=False)
        already_there = False
    except FileExistsError:
        already_there = True
    stored = StoredObject(SEG, f"{series}.1", series, str(path), "0" * 64, 1, already_there)
    return Answer((Consumption("store", started, 0.0, 0.0),), delivery=Delivery((stored,)))


def _wait(folder: Path, series: str) -> None:
    (folder / "waiting" / series).touch()
    while not (folder / "go").exists():
        time.sleep(0.02)


def _fault(name: str, memory_bytes: int) -> Failure | None:
    if name == "segfault":
        ctypes.string_at(0)
    for _ in range(40 if name == "leak" else 0):
        _hoard.append(os.urandom(2**20) * 16)
        time.sleep(0.01)
    if name.startswith("needs-") and memory_bytes < int(name.removeprefix("needs-")):
        return Failure("segment", "OUT_OF_MEMORY", f"more than {memory_bytes} bytes")
    if name.startswith("needs-"):
        return None
    if name in ("hang", "leak"):
        time.sleep(600)
    return Failure("segment", "MODEL_ERROR", "as asked") if name == "raise" else None
