"""``python -m voxfleet`` and the console script."""

from __future__ import annotations

import sys

from . import Error


def main() -> None:
    """Run the command that is called."""
    match sys.argv[1:]:
        case ["status", run] if not run.startswith("-"):
            # Asked again and again, and nothing to parse: the parser alone takes longer than the answer.
            _status(run)
        case _:
            from .runners.cli import main as command_line

            command_line()


def _status(run: str) -> None:
    from .cluster.status.telling import tell_status

    try:
        tell_status(run)
    except Error as exc:
        from .runners.cli import told

        sys.exit(told(exc))


if __name__ == "__main__":
    main()
