"""A stage in a child process, with a deadline and a memory cap, that dies with its parent.

``multiprocessing`` is not used: its fork server and spawn leave the child alive when the
parent is killed, and both import the user's ``__main__`` again. The child is started with
``subprocess``, ends with the thread that started it (``PR_SET_PDEATHSIG``, prctl(2)), by itself
when its standard input is closed, and when its parent falls silent (`heartbeat`). All that it
started itself ends with it: see `keeper`.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import psutil

from .. import Error
from .heartbeat import SILENCE_S, Beats
from .keeper import END
from .messages import is_whole, read_message, some_of, write_message
from .workitem import WORKER_STUCK

POLL_S = 0.2
"""How often a running child's memory is looked at."""

DIE_S = 10.0
"""How long a killed child may take to be gone: one for which the kernel waits for a disk or a GPU may never be."""

PERFORM = "voxfleet.runners.run:perform"
"""What a child does unless told otherwise."""


class StageError(Error):
    """Base of what ends a stage from outside: names the stage and the reason."""

    code = "STAGE_ERROR"

    def __init__(self, lane: str, reason: str) -> None:
        super().__init__(lane, reason)

    def __str__(self) -> str:
        return str(self.args[1])


class StageTimedOut(StageError):
    """The child did not answer before its deadline and was killed."""

    code = "DEADLINE_EXCEEDED"
    retryable = True


class StageOutOfMemory(StageError):
    """The child's resident memory passed its cap and it was killed."""

    code = "OUT_OF_MEMORY"


class StageCrashed(StageError):
    """The child ended by itself: a segmentation fault, an abort, an exit."""

    code = "CRASHED"
    retryable = True


class StageKilled(StageError):
    """The child was killed by a signal that we did not send: by the kernel, or by who stops a whole machine."""

    code = "WORKER_KILLED"
    retryable = True


class StageStuck(StageError):
    """The child was killed, does not end, and is left behind."""

    code = WORKER_STUCK
    retryable = True


_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a stage may use: seconds of wall time; bytes of resident memory, together with all that it starts."""

    deadline_s: float
    memory_bytes: int


class StageProcess:
    """One child process that answers requests one after another, started when first needed.

    Start it and call it from one long-lived thread only: the child is killed by the kernel
    when that thread ends.

    Parameters
    ----------
    lane : str
        Name for logs and errors, e.g. ``segment``.
    log : Path
        File that the child's standard output and error are appended to.
    perform : str
        ``module:function`` that turns a request into an answer, imported in the child.
    silence_s : float
        After so long without a sign of this process the child ends itself.
    """

    def __init__(self, lane: str, log: Path, perform: str = PERFORM, silence_s: float = SILENCE_S) -> None:
        self._lane = lane
        self._log = log
        self._perform = perform
        self._silence_s = silence_s
        self._process: subprocess.Popen[bytes] | None = None
        self._beats: Beats | None = None
        self._give_up = math.inf

    @property
    def pid(self) -> int | None:
        """Process id of the child's keeper, of which it and all that it starts descend; None while there is none."""
        return self._process.pid if self._process else None

    def call(self, request: object, limits: Limits) -> object:
        """The child's answer to one request.

        Raises
        ------
        StageTimedOut, StageOutOfMemory, StageCrashed, StageKilled
            The child is gone; the next call starts a new one.
        StageStuck
            The child is dead to us, and still there; the next call starts a new one.
        """
        process = self._running()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise StageCrashed(self._lane, "the worker has no pipe")
        try:
            write_message(stdin, request)
            return self._answer(process, stdout, limits)
        except (BrokenPipeError, EOFError) as exc:
            raise self._ended(process) from exc

    def kill(self) -> None:
        """Kill the child for good from another thread than the one that calls it; that one is told StageKilled."""
        self._give_up = time.monotonic() + DIE_S
        if (process := self._process) is not None:
            process.send_signal(END)

    def close(self) -> None:
        """End the child: by closing its standard input, then by force."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        with suppress(StageStuck):
            self._kill(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self._kill(self._process)
        if self._process is None:
            self._process = self._started()
        if self._give_up < math.inf:
            # Killed before there was a child, or while it was being started.
            self._kill(self._process)
            raise StageKilled(self._lane, "worker was told to end")
        return self._process

    def _started(self) -> subprocess.Popen[bytes]:
        hears, beats = os.pipe()
        told = (self._lane, str(os.getpid()), self._perform, str(hears), str(self._silence_s))
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", f"{__package__}.stage_process", *told],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(hears,),
                )
        except OSError:
            os.close(beats)
            raise
        finally:
            os.close(hears)
        self._beats = Beats(beats, self._silence_s)
        return process

    def _answer(self, process: subprocess.Popen[bytes], stdout: IO[bytes], limits: Limits) -> object:
        """The child's answer: never waited for beyond the deadline, not even in the midst of it."""
        deadline = time.monotonic() + limits.deadline_s
        received = bytearray()
        while not is_whole(received):
            if select.select([stdout], [], [], POLL_S)[0]:
                received += some_of(stdout)
                continue
            if process.poll() is not None:
                # The pipe is still open in what it forked, where its keeper could not end that.
                raise EOFError
            if time.monotonic() > min(deadline, self._give_up):
                self._kill(process)
                raise StageTimedOut(self._lane, f"no answer within {limits.deadline_s:.0f} s; worker killed")
            if (used := resident_bytes(process.pid, limits.memory_bytes)) > limits.memory_bytes:
                self._kill(process)
                raise StageOutOfMemory(
                    self._lane,
                    f"resident memory of {used / 2**30:.2f} GiB passed the cap of "
                    f"{limits.memory_bytes / 2**30:.2f} GiB; worker killed",
                )
        return read_message(BytesIO(received))

    def _ended(self, process: subprocess.Popen[bytes]) -> StageError:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=DIE_S)
        code = self._kill(process)
        if -code in _OUTSIDE:
            return StageKilled(self._lane, f"worker was killed from outside ({signal.Signals(-code).name})")
        if code < 0:
            return StageCrashed(self._lane, f"worker died of {signal.Signals(-code).name}")
        return StageCrashed(self._lane, f"worker ended by itself with exit code {code}")

    def _kill(self, process: subprocess.Popen[bytes]) -> int:
        """Kill the child, unless it has ended, and all that it started; how it ended. Raises StageStuck."""
        process.send_signal(END)
        try:
            code = process.wait(timeout=DIE_S)
            # Where the keeper itself was killed from outside, only what left its group is out of reach.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return code
        except subprocess.TimeoutExpired:
            reason = "was killed and does not end, as where the kernel waits for a disk or a GPU: restart this machine"
            raise StageStuck(self._lane, f"worker {process.pid} {reason}") from None
        finally:
            self._forget(process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        if self._beats is not None:
            self._beats.close()
            self._beats = None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self._process = None


def resident_bytes(pid: int, cap_bytes: int) -> int:
    """Resident memory of a process and its descendants; 0 if it is gone.

    Pages that they share, as workers do that were forked from a process with a model in it, count once where it
    matters: where the sum of all passes the cap. Only the kernel can tell (``Pss``, proc_pid_smaps(5)), by a walk
    through all their pages.
    """
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    used = sum(_own_bytes(member) for member in family)
    return used if used <= cap_bytes else sum(_bytes_with_its_share(member) for member in family)


def _own_bytes(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def _bytes_with_its_share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
    except psutil.AccessDenied:
        return _own_bytes(process)
