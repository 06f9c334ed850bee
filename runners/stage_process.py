"""What a supervised child runs: ``stage_process LANE PARENT_PID MODULE:FUNCTION BEATS_FD SILENCE_S``."""

from __future__ import annotations

import os
import sys
from pkgutil import resolve_name

from ..enrich.lifetime import leave_stopping_to_parent
from .discretion import be_discreet
from .heartbeat import end_when_silent
from .keeper import keep
from .messages import read_message, write_message


def main() -> None:
    """Answer requests from standard input until it is closed."""
    beats = int(sys.argv[4])
    keeper = keep(int(sys.argv[2]))
    if keeper is not None:
        end_when_silent(beats, float(sys.argv[5]), keeper.end)
        keeper.watch()
    os.close(beats)
    # When to stop is the driver's affair: it drains, and then closes our input.
    leave_stopping_to_parent()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a model or library prints goes to the log and not into the protocol.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    be_discreet()
    requests = sys.stdin.buffer
    perform = resolve_name(sys.argv[3])
    while True:
        try:
            request = read_message(requests)
        except EOFError:
            return
        write_message(answers, perform(request))


if __name__ == "__main__":
    main()
