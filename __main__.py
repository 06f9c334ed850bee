"""``python -m voxfleet``: the console script."""

from __future__ import annotations

from .runners.cli import main

main()
