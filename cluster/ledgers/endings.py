"""How attempts end in a SQL ledger: closed with what they used, their items put where they go.

However many end together, each table is written once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add

from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.workitem import Failure, Outcome, State
from .attempt import LOST, OUT_OF_MEMORY, PREEMPTED, AttemptClass, attempt_class, pause_s, state_after
from .database import Dialect, Transaction
from .records import consumption_rows, failure_to_json, stored_rows
from .run_record import NOTICE
from .steps import MOST_KEYS, Held, Steps

_USAGE = """INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (model, outcome) DO UPDATE SET
    attempts = usage.attempts + excluded.attempts, wall_s = usage.wall_s + excluded.wall_s,
    cpu_s = usage.cpu_s + excluded.cpu_s, gpu_s = usage.gpu_s + excluded.gpu_s,
    bytes_in = usage.bytes_in + excluded.bytes_in, bytes_out = usage.bytes_out + excluded.bytes_out"""


@dataclass(frozen=True, slots=True)
class Ending:
    """One attempt that ends.

    Attributes
    ----------
    node : str
        Where; empty: where it started.
    outcome : Outcome or None
        None: it was lost, and told nothing.
    """

    held: Held
    kind: AttemptClass
    failure: Failure | None
    node: str
    outcome: Outcome | None = None

    @classmethod
    def told(cls, held: Held, outcome: Outcome, node: str) -> Ending:
        """By an outcome."""
        return cls(held, attempt_class(outcome), outcome.failure, node or outcome.node, outcome)

    @classmethod
    def lost(cls, held: Held, reason: str, node: str, code: str) -> Ending:
        """By the machine's fault and not the item's."""
        return cls(held, AttemptClass.LOST, Failure("", code, reason, retryable=True, lost=True), node)

    @property
    def used(self) -> tuple[Consumption, ...]:
        """What it used, as far as that is known."""
        return self.outcome.consumption if self.outcome else ()


def end(steps: Steps, endings: Sequence[Ending]) -> None:
    """End attempts now; what they hold is locked."""
    if not endings:
        return
    _close(steps, endings)
    _add_usage(steps, endings)
    _settle(steps, endings)
    completed = [each for each in endings if each.kind is AttemptClass.COMPLETED and each.outcome]
    keep(steps.sql, [(each.held.key, each.outcome.stored) for each in completed if each.outcome])


def expire(steps: Steps) -> int:
    """Lose the items of owners whose time has passed; how many."""
    silent = steps.sql.execute(
        f"SELECT owner, lease_s FROM owner WHERE {silent_for(steps.words)} ORDER BY owner LIMIT ? {steps.words.take}",  # noqa: S608
        (steps.contact.lasts_s, MOST_KEYS),
    ).fetchall()
    # Measured again: if the database stood still meanwhile, nobody was heard either.
    contact_s = steps.contact.lasts_s
    held: dict[str, list[Held]] = {row["owner"]: [] for row in silent if row["lease_s"] <= contact_s}
    for each in steps.held_by(*held):
        held[each.owner].append(each)
    noticed = {owner: _noticed(steps, owner) for owner, items in held.items() if items}
    lost = [
        Ending.lost(each, f"no heartbeat from {owner}", "", PREEMPTED if noticed[owner] >= each.started else LOST)
        for owner, items in held.items()
        for each in items
    ]
    # Of all owners together, and their nodes' lives after that: drivers wait for the same sums in one order.
    end(steps, lost)
    steps.end_lives(list(held))
    for owner, items in held.items():
        steps.forget(owner)
        if items:
            steps.note("warning", "owner_silent", f"{owner}: {len(items)} workitems taken back")
    return len(lost)


def silent_for(words: Dialect) -> str:
    """SQL for owners who could have sent a heartbeat and did not; its parameter: seconds of our own contact.

    While the database was away nobody could, nor, maybe, while we had no contact with it: from then on each
    has the time of its lease.
    """
    return f"lease_until <= {words.now} AND lease_s <= ? AND {words.up} + lease_s <= {words.now}"


def keep(sql: Transaction, stored: Sequence[tuple[str, Sequence[StoredObject]]]) -> None:
    """Write down the objects that items left in the target."""
    sql.executemany(
        """INSERT INTO stored (key, position, sop_class_uid, sop_instance_uid, series_instance_uid, uri, sha256,
        bytes, already_there) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [row for key, objects in stored for row in stored_rows(key, objects)],
    )


def _noticed(steps: Steps, owner: str) -> float:
    """When an owner last told that its machine is about to be taken away; 0 if it did not."""
    query = f"SELECT coalesce(max(at), 0) AS at FROM event WHERE kind = '{NOTICE}' AND detail = ?"  # noqa: S608
    row = steps.sql.execute(query, (owner,)).fetchone()
    return float(row["at"])


def _close(steps: Steps, endings: Sequence[Ending]) -> None:
    steps.sql.executemany(
        f"""UPDATE attempt SET ended = {steps.words.now}, outcome = ?, failure = ?,
        node = coalesce(nullif(?, ''), node) WHERE id = ?""",  # noqa: S608
        [(each.kind.value, failure_to_json(each.failure), each.node, each.held.attempt) for each in endings],
    )
    steps.sql.executemany(
        "INSERT INTO consumption VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [row for each in endings for row in consumption_rows(each.held.attempt, each.used)],
    )


def _add_usage(steps: Steps, endings: Sequence[Ending]) -> None:
    """Add to the sums of models and outcomes; in one order, so that drivers do not wait for each other in a ring."""
    sums: defaultdict[tuple[str, str], tuple[float, ...]] = defaultdict(lambda: (0, 0.0, 0.0, 0.0, 0, 0))
    for each in endings:
        kind = (each.held.model, each.kind.value)
        sums[kind] = tuple(map(add, sums[kind], (1, *_total(each.used))))
    steps.sql.executemany(_USAGE, [(*kind, *total) for kind, total in sorted(sums.items())])


def _total(used: Sequence[Consumption]) -> tuple[float, float, float, int, int]:
    return (
        sum(c.wall_s for c in used),
        sum(c.cpu_s for c in used),
        sum(c.gpu_s for c in used),
        sum(c.bytes_in for c in used),
        sum(c.bytes_out for c in used),
    )


def _settle(steps: Steps, endings: Sequence[Ending]) -> None:
    """Put items where they go after attempts of this class."""
    steps.sql.executemany(
        f"""UPDATE item SET state = ?, refused = ?, owner = NULL, fails = ?, losses = ?, failure = ?,
        due = {steps.words.now} + ?, repairs = coalesce(?, repairs), failed_features = coalesce(?, failed_features)
        WHERE key = ?""",  # noqa: S608
        [_settled(each) for each in endings],
    )
    outgrown = [(each.held.key,) for each in endings if each.failure and each.failure.code == OUT_OF_MEMORY]
    if outgrown:
        steps.sql.executemany(
            """UPDATE item SET (outgrown_host, outgrown_gpu) = (SELECT host_bytes, gpu_bytes FROM attempt
            WHERE attempt.key = item.key AND attempt.fence = item.fence) WHERE key = ?""",
            outgrown,
        )


def _settled(ending: Ending) -> tuple[object, ...]:
    kind, failure, outcome = ending.kind, ending.failure, ending.outcome
    fails = ending.held.fails + (kind is AttemptClass.FAILED)
    losses = ending.held.losses + (kind is AttemptClass.LOST)
    state = state_after(kind, fails=fails, losses=losses, failure=failure)
    if state is State.CANCELED and kind is AttemptClass.LOST and failure is not None:
        failure = replace(failure, code="LOST_TOO_OFTEN", message=f"{losses} times; last: {failure.message}")
    told = outcome if kind is AttemptClass.COMPLETED else None
    return (
        state.value,
        kind is AttemptClass.REFUSED,
        fails,
        losses,
        failure_to_json(failure),
        pause_s(failure, losses),
        json.dumps(told.repairs) if told else None,
        json.dumps(told.failed_features) if told else None,
        ending.held.key,
    )
