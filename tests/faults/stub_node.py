"""A driver and its children with stub stages: real processes, a real ledger, no pixels.

``stub_node.py LEDGER FOLDER NODE [--run R] [--lease-s S] [--drain S] [--budget USD] [--settle-s S] [--silence-s S]
[--deadline-s S] [--memory BYTES]``, where LEDGER is a file of SQLite, or a PostgreSQL URL with the run R in it.
What is done with a workitem stands in `stub_lane`; each leaves one file in ``FOLDER/stored``.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import stub_lane
from rich.console import Console
from voxfleet.cluster.budgets.governor import BudgetSpent, Governor
from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.commands import until_stopped
from voxfleet.cluster.drivers.local_cell import LocalCell, run_locally
from voxfleet.cluster.ledger import LEASE_S, Ledger
from voxfleet.cluster.ledgers import patience as waiting
from voxfleet.cluster.ledgers.opening import open_shared_ledger
from voxfleet.cluster.ledgers.patience import Patience, patient
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.runners.pipeline import PipelineSettings
from voxfleet.runners.request import StageSettings

TOY = Price("toy", "", "", "on-demand", Decimal(360), 2, "", 0, "ten cents a second", date(2026, 11, 1))


def main() -> None:
    """Drive until nothing is left, the budget is spent or a signal comes; prints why it ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger")
    parser.add_argument("folder", type=Path)
    parser.add_argument("node")
    parser.add_argument("--run", default="stub")
    parser.add_argument("--lease-s", type=float, default=60.0)
    parser.add_argument("--drain", type=float, default=20.0)
    parser.add_argument("--silence-s", type=float, default=900.0)
    parser.add_argument("--deadline-s", type=float, default=60.0)
    parser.add_argument("--budget", type=Decimal)
    parser.add_argument("--settle-s", type=Decimal, default=Decimal(2))
    parser.add_argument("--memory", type=int, default=2**31)
    options = parser.parse_args()
    shared = options.ledger.startswith("postgresql:")
    opened: Ledger = open_shared_ledger(options.ledger, options.run) if shared else SqliteLedger(Path(options.ledger))
    # As often as with the leases of a real driver it asks again before they end.
    waiting.LONGEST_PAUSE_S = min(waiting.LONGEST_PAUSE_S, waiting.LONGEST_PAUSE_S * options.lease_s / LEASE_S)
    patience = Patience()
    ledger = patient(opened, patience)
    stages = StageSettings(options.folder / "nodes" / options.node / "scratch", options.folder, options.node)
    deadlines = tuple((lane, options.deadline_s) for lane in ("prepare", "segment", "deliver"))
    pipeline = PipelineSettings(
        stages,
        deadlines_s=deadlines,
        perform=f"{stub_lane.__name__}:lane",
        silence_s=options.silence_s,
        memory_bytes=options.memory,
    )
    cell = LocalCell(pipeline, "toy", options.node, options.drain, options.lease_s)
    with until_stopped(Console(stderr=True)) as stop:
        governor = Governor(ledger, TOY, options.budget, stop, Limits(settle_s=options.settle_s))
        patience.minds = governor.check_unseen
        try:
            run_locally(ledger, cell, may_lease=governor.may_lease, observe=governor.check, stop=stop)
        except BudgetSpent as exc:
            sys.stderr.write(f"{exc}\n")
    sys.stdout.write(governor.paused or ("stopped" if stop.is_set() else "ended"))


if __name__ == "__main__":
    # Children import what they do by its name.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    main()
