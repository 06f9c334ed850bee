"""A driver and its children with stub stages: real processes, a real ledger, no pixels.

``stub_node.py LEDGER FOLDER NODE [--run R] [--lease-s S] [--drain S] [--budget USD] [--silence-s S] [--deadline-s S]
[--memory BYTES]``, where LEDGER is a file of SQLite, or a PostgreSQL URL with the run R in it. Each workitem's
parameters say how long its stages take and what goes wrong in them; each leaves one file in ``FOLDER/stored``.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from voxfleet.cluster.budgets.governor import BudgetSpent, Governor
from voxfleet.cluster.budgets.limits import Limits
from voxfleet.cluster.commands import until_stopped
from voxfleet.cluster.drivers.local_cell import LocalCell, run_locally
from voxfleet.cluster.ledger import Ledger
from voxfleet.cluster.ledgers.opening import open_shared_ledger
from voxfleet.cluster.ledgers.patience import Patience, patient
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price
from voxfleet.enrich.archives.archive import StoredObject
from voxfleet.runners.consumption import Consumption
from voxfleet.runners.pipeline import PipelineSettings
from voxfleet.runners.request import Answer, Delivery, Request, StageSettings
from voxfleet.runners.workitem import Failure

if skew_s := float(os.environ.get("STUB_SKEW_S", "0")):
    # A machine whose clock is wrong, in this process and in its children.
    _right_time = time.time
    time.time = lambda: _right_time() + skew_s

_hoard: list[bytes] = []

TOY = Price("toy", "", "", "on-demand", Decimal(360), 2, "", 0, "ten cents a second", date(2026, 11, 1))
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def lane(request: object) -> Answer:
    """One lane of a workitem; its parameters are ``seconds`` to segment, ``deliver`` seconds, and a ``fault``."""
    assert isinstance(request, Request)
    wanted, series = dict(request.workitem.parameters), request.workitem.series_instance_uid
    folder, started = request.settings.results, time.time()
    if request.lane == "prepare":
        return Answer((Consumption("read", started, 0.0, 0.0),))
    if request.lane == "segment":
        with (folder / "segmented" / series).open("a") as told:
            told.write(f"{request.settings.node}\n")
        seconds = float(wanted.get("seconds", 0))
        time.sleep(seconds)
        used = (Consumption("segment", started, seconds, 0.0, seconds),)
        return Answer(used, _fault(wanted.get("fault", ""), request.settings.memory_bytes))
    time.sleep(float(wanted.get("deliver", 0)))
    path = folder / "stored" / series
    try:
        path.touch(exist_ok=False)
        already_there = False
    except FileExistsError:
        already_there = True
    stored = StoredObject(SEG, f"{series}.1", series, str(path), "0" * 64, 1, already_there)
    return Answer((Consumption("store", started, 0.0, 0.0),), delivery=Delivery((stored,)))


def _fault(name: str, memory_bytes: int) -> Failure | None:
    if name == "segfault":
        ctypes.string_at(0)
    for _ in range(100 if name == "leak" else 0):
        _hoard.append(os.urandom(2**20) * 16)
        time.sleep(0.01)
    if name.startswith("needs-") and memory_bytes < int(name.removeprefix("needs-")):
        return Failure("segment", "OUT_OF_MEMORY", f"more than {memory_bytes} bytes")
    if name.startswith("needs-"):
        return None
    if name == "hang":
        time.sleep(600)
    return Failure("segment", "MODEL_ERROR", "as asked") if name == "raise" else None


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
    parser.add_argument("--memory", type=int, default=2**31)
    options = parser.parse_args()
    shared = options.ledger.startswith("postgresql:")
    opened: Ledger = open_shared_ledger(options.ledger, options.run) if shared else SqliteLedger(Path(options.ledger))
    patience = Patience()
    ledger = patient(opened, patience)
    stages = StageSettings(options.folder / "nodes" / options.node / "scratch", options.folder, options.node)
    deadlines = tuple((lane, options.deadline_s) for lane in ("prepare", "segment", "deliver"))
    pipeline = PipelineSettings(
        stages,
        deadlines_s=deadlines,
        perform="stub_node:lane",
        silence_s=options.silence_s,
        memory_bytes=options.memory,
    )
    cell = LocalCell(pipeline, "toy", options.node, options.drain, options.lease_s)
    with until_stopped(Console(stderr=True)) as stop:
        governor = Governor(ledger, TOY, options.budget, stop, Limits(settle_s=Decimal(2)))
        patience.minds = governor.check_unseen
        try:
            run_locally(ledger, cell, may_lease=governor.may_lease, observe=governor.check, stop=stop)
        except BudgetSpent as exc:
            sys.stderr.write(f"{exc}\n")
    sys.stdout.write(governor.paused or ("stopped" if stop.is_set() else "ended"))


if __name__ == "__main__":
    # Children import this module by its name.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    main()
