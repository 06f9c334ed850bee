"""What supervised children run in tests of faults: real processes that really misbehave."""

from __future__ import annotations

import ctypes
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from voxfleet.runners.request import Answer, Delivery, Request
from voxfleet.runners.workitem import Failure

_hoard: list[bytearray] = []
_open = ExitStack()


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
        case "family":
            return [*family(), os.getpid()]
        case "leaking family":
            Path("family").write_text(" ".join(map(str, family())))
            apart("import os, time; hoard = [os.urandom(2**20) * 8 for _ in range(60)]; time.sleep(600)")
            time.sleep(600)
        case "sharing family":
            _hoard.append(bytearray(os.urandom(2**20) * 200))
            workers = multiprocessing.get_context("fork").Pool(4)
            workers.map(len, ["a worker each"] * 4, 1)
            time.sleep(1)
        case ("begun", str(begun), str(what)):
            tell(begun, str(os.getpid()))
            return misbehave(what)
        case ("image", str(ended)):
            return image(ended)
        case "half an answer":
            for number in range(3, 20):
                with suppress(OSError):
                    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                        os.write(number, (100).to_bytes(8, "little"))
            time.sleep(600)
        case "leak":
            for _ in range(60):
                _hoard.append(bytearray(os.urandom(2**20) * 8))
                time.sleep(0.01)
            time.sleep(600)
        case "print":
            print("to standard output")  # noqa: T201 - the point of the case
        case "pid":
            return os.getpid()
    return request


def tell(path: str, text: str) -> None:
    """Write a file that is whole once it is there."""
    Path(f"{path}.new").write_text(text)
    Path(f"{path}.new").replace(path)


def image(ended: str) -> tuple[int, str]:
    """Begin an image that sleeps, whose removal makes a file, and takes a while: its guard's process id and folder."""
    from voxfleet.models.container.running import workplace

    place = _open.enter_context(workplace())
    assert place.guard.stdin is not None
    order = {"run": [["sleep", "599"]], "remove": [["sleep", "0.5"], ["touch", ended]], "time_limit_s": 600}
    place.guard.stdin.write(json.dumps(order).encode() + b"\n")
    place.guard.stdin.flush()
    return place.guard.pid, str(place.input.parent)


def family() -> list[int]:
    """Process ids of what models start, each asleep: a worker, a program of its own session, and a daemon's orphan."""
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    worker.start()
    assert worker.pid is not None
    return [worker.pid, apart("import time; time.sleep(600)"), daemon()]


def apart(code: str) -> int:
    """Process id of a program in a session of its own, to which no signal of anybody's group comes."""
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid


def daemon() -> int:
    """Process id of one that was started by a process that has ended."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=-3).pid)"
    return int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout)


class Unreadable:
    """Cannot be made again from its pickle."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


def lane(request: object) -> object:
    """Pass every lane; the series UID says what goes wrong, and where."""
    assert isinstance(request, Request)
    uid, _, where = request.workitem.series_instance_uid.partition("@")
    if uid.startswith("3.") and request.lane == "prepare":
        if [*request.settings.scratch.glob("series-*")]:
            return Answer((), Failure(request.lane, "CROWDED", "another series is in the cache"))
        request.settings.series_folder_of(request.workitem).mkdir()
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
