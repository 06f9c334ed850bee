"""A process that ends with the thread that started it, whatever ends that, and for no signal before."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal this process gets when the thread that started it ends."""


def die_with_parent(parent_pid: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to kill this process with its parent, or to signal its end; exit if that is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, by) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise SystemExit(1)


def leave_stopping_to_parent() -> None:
    """Go on after Ctrl-C, and after the SIGTERM that every process gets where a whole machine is stopped.

    The parent gets it too, and knows what is to be finished. Programs and processes that this one starts
    end for SIGTERM as ever: it is caught, which they do not inherit, and not ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.siginterrupt(signal.SIGTERM, False)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
