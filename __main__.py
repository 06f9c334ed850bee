"""``python -m voxfleet`` and the console script."""

from __future__ import annotations

import io
import sys

from . import Error


def main() -> None:
    """Run the command that is called."""
    _keep_whole()
    match sys.argv[1:]:
        case ["status", run] if not run.startswith("-"):
            # Asked again and again, and nothing to parse: the parser alone takes longer than the answer.
            _status(run)
        case _:
            from .runners.cli import main as command_line

            command_line()


def _keep_whole() -> None:
    """Give standard output a buffer where PYTHONUNBUFFERED took it.

    Without one, Python drops the rest of what a full pipe took in part, as where this process is stopped and resumed.
    """
    out = sys.__stdout__ if sys.stdout is sys.__stdout__ else None
    raw = getattr(out, "buffer", None)
    if out is not None and isinstance(raw, io.RawIOBase):
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), out.encoding, out.errors, line_buffering=True)


def _status(run: str) -> None:
    from .cluster.status.telling import tell_status

    try:
        tell_status(run)
    except Error as exc:
        from .runners.cli import told

        sys.exit(told(exc))


if __name__ == "__main__":
    main()
