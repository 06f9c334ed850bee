"""A process that runs an image for another one, and cleans up whatever becomes of that.

``python -m voxfleet.models.container.guard FOLDER`` stays in a session of its own, so that a signal to the worker's
process group does not reach it. It reads one order from standard input, a line of JSON, performs it, and answers
with a line of JSON. When its input is closed, for the worker is done or was killed, it ends what still runs, removes
the container, and deletes the folder. It imports nothing of this package, to be up at once.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

OUTLIVES = "VOXFLEET_GUARD"
"""In its environment: not to be killed with what else a worker started, for it has something to clean up."""

REMOVAL_S = 120.0
"""Longest that an engine may take to remove a container."""


def main() -> None:
    """Perform orders until standard input is closed; then leave nothing behind."""
    folder = Path(sys.argv[1])
    # Of this process alone, not of what it runs.
    os.environ.pop(OUTLIVES, None)
    orders = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    try:
        for line in iter(orders.readline, b""):
            sys.stdout.write(json.dumps(perform(json.loads(line), orders)) + "\n")
            sys.stdout.flush()
    except BrokenPipeError:
        # The worker is gone, and nobody reads what is left to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def perform(order: dict[str, object], orders: IO[bytes]) -> dict[str, object]:
    """Run an order's commands one after another; how they ended: exit status, and whether time ran out.

    Parameters
    ----------
    order : dict
        ``run`` and ``remove``, lists of commands, and ``time_limit_s`` for all of `run`, whose last is the work.
    orders : file
        Its end, while the work runs, ends the work.
    """
    deadline = time.monotonic() + float(str(order["time_limit_s"]))
    *before, work = _commands(order["run"])
    try:
        for command in before:
            # Not to be interrupted: a daemon would make the container all the same, after its removal.
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode
            if status:
                return {"status": status, "timed_out": False}
        status, timed_out = _run(work, deadline, orders)
    finally:
        for command in _commands(order["remove"]):
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=REMOVAL_S, check=False)
    return {"status": status, "timed_out": timed_out}


def _commands(found: object) -> list[list[str]]:
    return [[str(word) for word in command] for command in found] if isinstance(found, list) else []


def _run(command: list[str], deadline: float, orders: IO[bytes]) -> tuple[int, bool]:
    """Exit status of one command, and whether it was ended because time ran out; what it prints goes to the log."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    ended = os.pidfd_open(process.pid)
    try:
        waiting_for = [ended, orders.fileno()]
        ready = select.select(waiting_for, [], [], max(0.0, deadline - time.monotonic()))[0]
        if ended not in ready:
            _kill(process)
        return process.wait(), not ready
    finally:
        os.close(ended)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
