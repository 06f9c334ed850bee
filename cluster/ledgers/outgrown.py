"""Workitems that ran out of memory: which nodes may try them, and when none is left that may."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...runners.node_memory import MORE, NodeMemory
from ...runners.workitem import Failure, State
from ..ledger import LEASE_S
from .database import Dialect, Transaction
from .records import failure_from_json, failure_to_json, strings_from_json

if TYPE_CHECKING:
    from .steps import Steps

COMES_BACK_S = 900.0
"""After the pause that an outage gave an item, for how long the nodes that left in it may take to be there again."""

FITS = """(outgrown_host IS NULL
    OR (outgrown_host <= ? AND outgrown_gpu <= ? AND (outgrown_host < ? OR outgrown_gpu < ?)))"""
"""SQL for whether a node may try an item, with `fitting` as its parameters."""

OUTGROWN = "state = 'SCHEDULED' AND outgrown_host IS NOT NULL"
MORE_TO_DO = ("state = 'IN PROGRESS'", "state = 'SCHEDULED' AND outgrown_host IS NULL")

LEASABLE = f"""state = 'SCHEDULED' AND (outgrown_host IS NULL OR NOT EXISTS (
    SELECT 1 FROM item WHERE ({MORE_TO_DO[0]}) OR ({MORE_TO_DO[1]})))"""  # noqa: S608
"""SQL for what a node may be wanted for: where nothing else is left, also to find that it has too little memory."""


def fitting(memory: NodeMemory) -> tuple[int, int, int, int]:
    """Parameters of `FITS` for a node: it is `NodeMemory.more_than` what the item had."""
    return memory.host_bytes, memory.gpu_bytes, int(memory.host_bytes / MORE), int(memory.gpu_bytes / MORE)


@dataclass(frozen=True, slots=True)
class _Node:
    """A class of the run's nodes, and of which models it takes workitems; empty: of all."""

    memory: NodeMemory
    models: tuple[str, ...] = ()

    def may_try(self, model: str, had: NodeMemory) -> bool:
        """Whether it takes an item of the model that ran out of what it had."""
        return (not self.models or model in self.models) and self.memory.more_than(had)


def note_idle(steps: Steps, owner: str, memory: NodeMemory, models: Sequence[str], ttl_s: float) -> None:
    """Note that a node asked for work of these models and got none: the run has it for `ttl_s` seconds from now."""
    steps.sql.execute(
        f"""INSERT INTO idle VALUES (?, ?, ?, ?, {steps.words.now} + ?)
        ON CONFLICT (owner, host_bytes, gpu_bytes, models) DO UPDATE SET until = excluded.until""",  # noqa: S608
        (owner, memory.host_bytes, memory.gpu_bytes, json.dumps(models), ttl_s),
    )


def give_up(steps: Steps) -> None:
    """Once nothing else is left to do, cancel the items that no node of the run has the memory for.

    Until then they wait: nodes with more may yet come. The run has the nodes that asked for work, or ended
    an attempt, not long ago. What met an outage waits for the end of its pause, and then for the node that had the
    memory for it: that may have left meanwhile.
    """
    waiting = steps.sql.execute(
        f"SELECT 1 FROM item {steps.words.outgrown} WHERE {OUTGROWN} LIMIT 1"  # noqa: S608
    ).fetchone()
    if waiting is None or any(_is_there(steps, where) for where in MORE_TO_DO):
        return
    waits = steps.sql.execute(
        f"""SELECT key, model, failure, outgrown_host, outgrown_gpu, {steps.words.now} - due AS waits_s FROM item
        WHERE {OUTGROWN} {steps.words.locked}"""  # noqa: S608
    ).fetchall()
    contact_s = steps.contact.lasts_s
    nodes = _nodes(steps.sql, steps.words, contact_s)
    if steps.contact.lasts_s < contact_s:
        # The database stood still meanwhile: nobody could ask.
        return
    for row in waits:
        failure = failure_from_json(row["failure"])
        if failure is not None and failure.outage and row["waits_s"] < COMES_BACK_S:
            continue
        had = NodeMemory(row["outgrown_host"], row["outgrown_gpu"])
        # As long as nobody was there who takes this model, nothing is known of who may yet come.
        known = any(not node.models or row["model"] in node.models for node in nodes)
        if known and not any(node.may_try(row["model"], had) for node in nodes):
            _cancel(steps, row["key"], failure, had)


def count(sql: Transaction, words: Dialect, contact_s: float) -> int:
    """How many items wait for a node with more memory than any that the run has; `contact_s` as of `_nodes`."""
    found = sql.execute(
        f"""SELECT outgrown_host, outgrown_gpu, model, count(*) AS n FROM item {words.outgrown} WHERE {OUTGROWN}
        GROUP BY outgrown_host, outgrown_gpu, model"""  # noqa: S608
    ).fetchall()
    nodes = _nodes(sql, words, contact_s) if found else set()
    return sum(
        int(row["n"])
        for row in found
        if not any(node.may_try(row["model"], NodeMemory(row["outgrown_host"], row["outgrown_gpu"])) for node in nodes)
    )


def _nodes(sql: Transaction, words: Dialect, contact_s: float) -> set[_Node]:
    """Classes of the run's nodes: of those at work, and of those that ended work, or asked for it, not long ago.

    What one that ended work will ask for next is not known: until it has, it may be anything. As for how long drivers
    are silent (`endings.silent_for`), the time is not counted in which the database was away, or we had no contact
    with it: nobody could ask.

    Parameters
    ----------
    contact_s : float
        For how long this process has been in contact with the database.
    """
    found = sql.execute(
        f"""SELECT host_bytes, gpu_bytes, models FROM idle WHERE until > {words.now}
        UNION SELECT host_bytes, gpu_bytes, '[]' FROM attempt WHERE ended > {words.now} - {LEASE_S}
        UNION SELECT host_bytes, gpu_bytes, '[]' FROM attempt WHERE ended IS NULL"""  # noqa: S608
    ).fetchall()
    unheard = f"SELECT owner FROM owner WHERE lease_s > ? OR {words.up} + lease_s > {words.now}"  # noqa: S608
    # Asked first: there is no index for what follows, and mostly nobody.
    if sql.execute(f"{unheard} LIMIT 1", (contact_s,)).fetchone() is not None:
        found += sql.execute(
            f"""SELECT host_bytes, gpu_bytes, models FROM idle WHERE owner IN ({unheard})
            UNION SELECT host_bytes, gpu_bytes, '[]' FROM attempt WHERE owner IN ({unheard})""",  # noqa: S608
            (contact_s, contact_s),
        ).fetchall()
    return {_Node(NodeMemory(row["host_bytes"], row["gpu_bytes"]), strings_from_json(row["models"])) for row in found}


def _is_there(steps: Steps, where: str) -> bool:
    return steps.sql.execute(f"SELECT 1 FROM item WHERE {where} LIMIT 1").fetchone() is not None  # noqa: S608


def _cancel(steps: Steps, key: str, failure: Failure | None, had: NodeMemory) -> None:
    """Cancel one item, with what it takes to do it."""
    if failure is not None:
        step = f"no node of this run has more than {had}; run again with --retry-failed on nodes with more memory"
        failure = replace(failure, message=f"{failure.message}; {step}")
    steps.sql.execute(
        "UPDATE item SET state = ?, failure = ? WHERE key = ?", (State.CANCELED.value, failure_to_json(failure), key)
    )
