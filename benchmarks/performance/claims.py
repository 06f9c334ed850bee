"""How long drivers wait for their leases where many of them share one PostgreSQL."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ...cluster.ledger import Lease
from ...cluster.ledgers.postgres import PostgresLedger
from ...runners.workitem import Outcome

DRIVERS = 64
PROCESSES = 8
"""Among which the drivers are divided: in one they would wait for Python's lock and not for the ledger."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What each of 64 drivers does, on connections of their own.

    Attributes
    ----------
    url, run : str
        Where the ledger is; it has workitems enough.
    outcome_of : callable
        What a lease gives; picklable.
    leases, together : int
        Leases that each takes one after the other, and workitems that it asks for with each.
    every_s : float
        How often: what is left of that time once they are started and finished, it waits.
    """

    url: str
    run: str
    outcome_of: Callable[[Lease], Outcome]
    leases: int
    together: int
    every_s: float

    def seconds(self) -> list[float]:
        """What each lease took, the shortest first."""
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as processes:
            return sorted(taken for several in processes.map(self.drive_several, range(PROCESSES)) for taken in several)

    def drive_several(self, process: int) -> list[float]:
        """One process with its part of the drivers."""
        with ThreadPoolExecutor(DRIVERS // PROCESSES) as threads:
            drives = threads.map(self._drive, range(process, DRIVERS, PROCESSES))
            return [taken for one in drives for taken in one]

    def _drive(self, driver: int) -> list[float]:
        ledger, owner = PostgresLedger(self.url, self.run), f"driver-{driver}"
        ledger.heartbeat(owner)
        taken: list[float] = []
        # Drivers do not all ask at the same moment.
        due = time.perf_counter() + self.every_s * driver / DRIVERS
        for _ in range(self.leases):
            time.sleep(max(0.0, due - time.perf_counter()))
            begun = time.perf_counter()
            leases = ledger.lease(owner, self.together)
            taken.append(time.perf_counter() - begun)
            ledger.start_all([(lease, "n1") for lease in leases])
            ledger.finish_all([(lease, self.outcome_of(lease), "") for lease in leases])
            due = max(due + self.every_s, time.perf_counter())
        ledger.close()
        return taken
