"""The family of a stage: its child and all that this starts ends together, however it ends.

The kernel kills a child with its parent (`enrich.lifetime`), but not what the child started: the workers of a model
that uses ``multiprocessing``, or a program in a session of its own, would go on and hold a GPU. So between the two
there is a keeper, which does nothing else: it adopts what loses its parent (``PR_SET_CHILD_SUBREAPER``, prctl(2)), and
kills all that is left once the child ends, once it is told to, and once its own parent is dead or silent; but for
what ends by itself then, and has something to clean up first (`models.container.guard`).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from ..enrich.lifetime import die_with_parent
from ..models.container.guard import OUTLIVES

END = signal.SIGUSR1
"""Tells a keeper to end the family; the kernel sends it, too, when the thread that started the keeper ends."""

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans among the descendants of this process become its children."""

_AGAIN_S = 0.02
"""Between two looks at what is yet to end."""


def keep(parent_pid: int) -> Keeper | None:
    """Split this process in two: its parent's child goes on as keeper, and a child of that returns None.

    To be called while there is one thread. The keeper does not hear SIGINT and SIGTERM; the child gets the signals of
    before, and is killed with the keeper.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (END, signal.SIGCHLD, signal.SIGINT, signal.SIGTERM))
    # Until now END ends a process that has no family yet.
    die_with_parent(parent_pid, END)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    keeper_pid = os.getpid()
    child_pid = os.fork()
    if child_pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        die_with_parent(keeper_pid)
        return None
    return Keeper(child_pid)


class Keeper:
    """What the keeper does, in its own process."""

    def __init__(self, child_pid: int) -> None:
        self._child_pid = child_pid
        self._status: int | None = None
        # Who waits for the family's answers is to hear of its end, and is not to write to nobody.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(null, descriptor)
        os.close(null)

    def watch(self) -> None:
        """Wait until the child ends, or END comes; end all that is left, and then end as the child did."""
        while self._status is None:
            if signal.sigwait((END, signal.SIGCHLD)) == END:
                break
            self._reap()
        while True:
            self._reap()
            if not _kill_family():
                break
            signal.sigtimedwait((signal.SIGCHLD,), _AGAIN_S)
        _end_as(self._status or 0)

    def end(self) -> None:
        """Let `watch` end the family; from any thread."""
        os.kill(os.getpid(), END)

    def _reap(self) -> None:
        """Let go of what has ended, and note how the child did."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._child_pid:
                    self._status = ended[1]


def _kill_family() -> bool:
    """Kill the children of this process, and all of its process group; whether there were any.

    What these started comes to this process, and is next.
    """
    own_pid, found = os.getpid(), False
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != own_pid and own_pid in _parent_and_group(process) and not _outlives(process):
            found = True
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(process.name), signal.SIGKILL)
    return found


def _outlives(process: Path) -> bool:
    """Whether a process is to end by itself: so it was told when it was begun."""
    try:
        return f"{OUTLIVES}=".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def _parent_and_group(process: Path) -> tuple[int, ...]:
    """Ids of a process's parent and of its group (proc_pid_stat(5)); none if it is gone."""
    try:
        # A program's name stands in brackets before them, and may have any in it.
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ()
    return (int(fields[1]), int(fields[2]))


def _end_as(status: int) -> None:
    """End with the exit code, or by the signal, with which the child ended."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
    os._exit(128 + number)
