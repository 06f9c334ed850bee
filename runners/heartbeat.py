"""Dead man's switch: a process that hears nothing from the one that controls it ends itself.

Death of the controller is told by the kernel. This is for one that is there and does nothing: stopped,
hung, or on a machine that is cut off. What it pays for must not go on for ever.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread

SILENCE_S = 900.0
"""After so long without a beat the controller is given up."""

BEATS = 10
"""Sent in that time."""


class Beats:
    """Writes a byte to a pipe now and then, from a thread of its own, until closed.

    Parameters
    ----------
    pipe : int
        File descriptor of the writing end; closed with this.
    """

    def __init__(self, pipe: int, silence_s: float) -> None:
        os.set_blocking(pipe, False)
        self._pipe, self._period_s, self._closed = pipe, silence_s / BEATS, Event()
        self._thread = Thread(target=self._beat, name="beats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Beat no more."""
        self._closed.set()
        self._thread.join()
        os.close(self._pipe)

    def _beat(self) -> None:
        while not self._closed.wait(self._period_s):
            # A full pipe has beats enough in it.
            with suppress(BlockingIOError):
                try:
                    os.write(self._pipe, b".")
                except BrokenPipeError:
                    return


def end_when_silent(pipe: int, silence_s: float, end: Callable[[], None]) -> None:
    """From now on, say so in the log and call `end` once nothing came through a pipe of `Beats` for so long."""

    def listen() -> None:
        while select.select([pipe], [], [], silence_s)[0]:
            if not os.read(pipe, 4096):
                return
        _tell_end(silence_s)
        end()

    Thread(target=listen, name="switch", daemon=True).start()


class Switch:
    """Calls `end` once `hear` has not been called for `silence_s` seconds."""

    def __init__(self, silence_s: float, end: Callable[[float], None]) -> None:
        self._heard = Event()
        Thread(target=self._listen, args=(silence_s, end), name="switch", daemon=True).start()

    def hear(self) -> None:
        """The controller is there."""
        self._heard.set()

    def _listen(self, silence_s: float, end: Callable[[float], None]) -> None:
        while self._heard.wait(silence_s):
            self._heard.clear()
            # Once a beat is enough, however often somebody calls.
            Event().wait(silence_s / BEATS)
        end(silence_s)


def end_process(silence_s: float) -> None:
    """Kill this process, and its process group if that is its own, after a line in the log."""
    _tell_end(silence_s)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _tell_end(silence_s: float) -> None:
    sys.stderr.write(f"nothing heard from the driver for {silence_s:.0f} s: process {os.getpid()} ends itself\n")
    sys.stderr.flush()
