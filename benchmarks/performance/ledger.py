"""Items per second through the ledger: ``python -m voxfleet.benchmarks.performance.ledger``.

Targets: 126,068 workitems (all of NLST's) taken in within 5 s; 1,000 items/s leased, started
and finished one at a time; `counts` within 0.2 s on the full ledger.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from ...cluster.ledger import Lease
from ...cluster.ledgers.sqlite import SqliteLedger
from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.workitem import Outcome, State, Workitem

NLST_SERIES = 126_068
STAGES = ("retrieve", "read", "segment", "measure", "encode", "store")


def workitems(number: int) -> Iterator[Workitem]:
    """Workitems with the fields and sizes of real ones."""
    for i in range(number):
        yield Workitem(
            study_instance_uid=f"1.2.840.113654.2.55.{i // 2}",
            series_instance_uid=f"1.2.840.113654.2.55.{i // 2}.{i}",
            modality="CT",
            instances=164,
            source="dir:/data/nlst",
            target="dir:/data/enriched",
            model="ct-threshold",
            model_version="1.0",
            weights_sha256="none",
            bytes=86_500_000 + (i * 7919) % 1_000_000,
        )


def outcome_of(lease: Lease) -> Outcome:
    """A COMPLETED outcome with six stages and two stored objects."""
    key = lease.workitem.key
    used = tuple(Consumption(stage, 1.8e9 + i, 1.0, 1.0, 0.0, 10**9, 10**6, 10**6) for i, stage in enumerate(STAGES))
    uid = f"2.25.{int(key[:24], 16)}"
    stored = tuple(StoredObject("1.2.840.10008.5.1.4.1.1.66.4", uid + end, uid, "dir:x", key, 10**6) for end in "12")
    return Outcome(key, State.COMPLETED, used, stored, node="n1")


def work(ledger: SqliteLedger, number: int, batch: int) -> int:
    """Lease `batch` at a time, start and finish one at a time, until `number` are done."""
    done = 0
    while done < number and (leases := ledger.lease("benchmark", min(batch, number - done))):
        for lease in leases:
            ledger.start(lease, "n1")
            ledger.finish(lease, outcome_of(lease))
            done += 1
    return done


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=NLST_SERIES)
    parser.add_argument("--finish", type=int, default=3000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        ledger = SqliteLedger(Path(folder) / "ledger.sqlite")
        items = list(workitems(options.items))
        load = seconds(lambda: ledger.add(items))
        print(f"add            {options.items:7d} items  {load:6.2f} s   (target 5 s)")
        print(f"add again      {options.items:7d} items  {seconds(lambda: ledger.add(items)):6.2f} s")
        commit = median(seconds(lambda: ledger.node_up("n1", "local", "benchmark")) for _ in range(20))
        print(f"durable commit          {commit * 1e3:8.2f} ms   (the disk's share of each finish)")
        for batch in (1, 16):
            before = time.process_time()
            took = seconds(lambda batch=batch: work(ledger, options.finish, batch))  # type: ignore[misc]
            cpu_ms = (time.process_time() - before) / options.finish * 1e3
            rate = f"{options.finish / took:8.0f} items/s"
            print(f"lease {batch:2d}, finish 1       {rate}   (target 1000), {cpu_ms:.2f} ms CPU each")
        counting = median(seconds(ledger.counts) for _ in range(5))
        print(f"counts                  {counting * 1e3:8.1f} ms   (target 200)")
        print(f"usage                   {median(seconds(ledger.usage) for _ in range(3)) * 1e3:8.1f} ms")
        print(f"recent                  {median(seconds(lambda: ledger.recent(300)) for _ in range(3)) * 1e3:8.1f} ms")
        ledger.close()


if __name__ == "__main__":
    main()
