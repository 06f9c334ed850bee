"""What supervised children run in tests of faults: real processes that really misbehave."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from voxfleet.runners.request import Answer, Delivery, Request
from voxfleet.runners.workitem import Failure

_hoard: list[bytearray] = []


def misbehave(request: object) -> object:  # noqa: C901, PLR0912 - a case for each way to go wrong
    """Do what the request says, to this very process."""
    match request:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            sys.exit(7)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(600)
        case "spin":
            begun = time.monotonic()
            while time.monotonic() < begun + 600:
                pass
        case "told to end":
            os.kill(os.getpid(), signal.SIGTERM)
        case "killed by SIGTERM":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        case "helper":
            return subprocess.Popen(["sleep", "600"]).pid
        case "half an answer":
            for number in range(3, 20):
                with suppress(OSError):
                    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                        os.write(number, (100).to_bytes(8, "little"))
            time.sleep(600)
        case "leak":
            for _ in range(400):
                _hoard.append(bytearray(os.urandom(2**20) * 8))
                time.sleep(0.01)
        case "print":
            print("to standard output")  # noqa: T201 - the point of the case
        case "pid":
            return os.getpid()
    return request


class Unreadable:
    """Cannot be made again from its pickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


def lane(request: object) -> object:
    """Pass every lane; the series UID says what goes wrong, and where."""
    assert isinstance(request, Request)
    uid, _, where = request.workitem.series_instance_uid.partition("@")
    if where in ("", request.lane):
        match uid:
            case "1.1":
                return Answer((), Failure(request.lane, "BROKEN", "as asked"))
            case "1.2":
                misbehave("segfault")
            case "1.3":
                misbehave("hang")
            case "1.4":
                misbehave("die")
            case "1.5":
                return Unreadable()
    return Answer((), delivery=Delivery(()) if request.lane == "deliver" else None)
