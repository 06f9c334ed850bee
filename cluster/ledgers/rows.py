"""What a SQL ledger is asked, and its rows made into records."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from ...enrich.archives.archive import StoredObject
from ...runners.consumption import Consumption
from ...runners.node_memory import NodeMemory
from ...runners.workitem import State
from ..ledger import Attempt, AttemptClass, Counts, Event, Item, Lived, Node, Recent, Run, Stored, Trouble, Usage
from . import outgrown
from .database import Database, Row
from .records import (
    failure_from_json,
    moment,
    price_from_json,
    price_to_json,
    prices_from_json,
    prices_to_json,
    strings_from_json,
    workitem_from_json,
)

_CONSUMPTION = ("stage", "started", "wall_s", "cpu_s", "gpu_s", "peak_bytes", "bytes_in", "bytes_out")


def last_seen(now: str) -> str:
    """SQL for when a row of `node` last gave a sign of life, with the database's SQL for the time."""
    # An attempt that was taken back from a driver that fell silent ended when somebody looked: maybe the day after.
    return f"""coalesce(down,
        (SELECT CASE WHEN lease_until > {now} THEN {now} ELSE lease_until END FROM owner
            WHERE owner.owner = node.owner AND lease_until >= node.up),
        (SELECT max(coalesce(ended, started)) FROM attempt
            WHERE attempt.node = node.node AND node.owner IN ('', attempt.owner) AND started >= node.up), up)"""  # noqa: S608


def run_of(row: Row) -> Run:
    """A row of `run`."""
    return Run(
        name=row["name"],
        source=row["source"],
        target=row["target"],
        models=strings_from_json(row["models"]),
        parameters=json.loads(row["parameters"]),
        platform_version=row["platform_version"],
        machine=row["machine"],
        region=row["region"],
        market=row["market"],
        created=moment(row["created"]),
        budget_usd=None if row["budget_usd"] is None else Decimal(row["budget_usd"]),
        price=price_from_json(row["price"]),
        prices=prices_from_json(row["prices"]),
    )


def run_row(run: Run) -> tuple[object, ...]:
    """The row of `run`, id first."""
    return (
        1,
        run.name,
        run.source,
        run.target,
        json.dumps(run.models),
        json.dumps(dict(run.parameters), sort_keys=True),
        run.platform_version,
        run.machine,
        run.region,
        run.market,
        None if run.budget_usd is None else str(run.budget_usd),
        run.created.timestamp(),
        price_to_json(run.price),
        prices_to_json(run.prices),
    )


def counts(database: Database) -> Counts:
    """How many workitems stand where, from an index alone."""
    with database.read() as sql:
        rows = sql.execute("SELECT state, refused, count(*) AS n FROM item GROUP BY state, refused").fetchall()
        refusals = sql.execute("SELECT count(*) AS n FROM refusal").fetchone()["n"]
        too_large = outgrown.count(sql, database.dialect, database.contact.lasts_s)
    number = {(row["state"], bool(row["refused"])): row["n"] for row in rows}
    return Counts(
        scheduled=number.get((State.SCHEDULED.value, False), 0),
        in_progress=number.get((State.IN_PROGRESS.value, False), 0),
        completed=number.get((State.COMPLETED.value, False), 0),
        refused=number.get((State.CANCELED.value, True), 0),
        failed=number.get((State.CANCELED.value, False), 0),
        never_workitems=refusals,
        outgrown=too_large,
    )


def nodes(database: Database) -> tuple[Node, ...]:
    """All lives of all nodes."""
    return tuple(
        Node(
            row["node"],
            row["machine"],
            moment(row["up"]),
            None if row["down"] is None else moment(row["down"]),
            moment(row["last_seen"]),
            row["cell"],
            price_from_json(row["price"]),
            bool(row["head"]),
        )
        for row in database.rows(
            f"SELECT node.*, {last_seen(database.dialect.now)} AS last_seen FROM node ORDER BY id"  # noqa: S608
        )
    )


def lived(database: Database) -> tuple[Lived, ...]:
    """Lives of nodes by their prices: those that ended from a sum, the others from an index, up to when last seen."""
    found: dict[str, Lived] = {}
    for row in database.rows(
        f"""SELECT price, lives, 0 AS up, seconds, 0 AS heads FROM lived
        UNION ALL SELECT coalesce(price, ''), count(*), count(*), sum(CASE WHEN seen > up THEN seen - up ELSE 0 END),
            sum(CASE WHEN head THEN 1 ELSE 0 END)
        FROM (SELECT price, up, head, {last_seen(database.dialect.now)} AS seen FROM node WHERE down IS NULL) AS alive
        GROUP BY price"""  # noqa: S608
    ):
        before = found.get(row["price"], Lived(price_from_json(row["price"] or None), 0, 0, 0.0))
        lives, up, seconds = before.lives + row["lives"], before.up + row["up"], before.seconds + row["seconds"]
        heads = before.heads + row["heads"]
        found[row["price"]] = replace(before, lives=lives, up=up, seconds=seconds, heads=heads)
    return tuple(each for _, each in sorted(found.items()))


def usage(database: Database) -> tuple[Usage, ...]:
    """Sums over model and outcome."""
    return tuple(
        Usage(
            row["model"],
            AttemptClass(row["outcome"]),
            row["attempts"],
            row["wall_s"],
            row["cpu_s"],
            row["gpu_s"],
            row["bytes_in"],
            row["bytes_out"],
        )
        for row in database.rows("SELECT * FROM usage ORDER BY model, outcome")
    )


def recent(database: Database, window_s: float) -> Recent:
    """Workitems settled in the last `window_s` seconds, or since the first attempt."""
    now = database.dialect.now
    (row,) = database.rows(
        f"""SELECT count(*) AS settled, {now} - (SELECT min(started) FROM attempt) AS age
        FROM attempt WHERE ended > {now} - ? AND outcome IN ('completed', 'refused', 'failed')""",  # noqa: S608
        (window_s,),
    )
    return Recent(row["settled"], min(window_s, row["age"] or 0.0))


def troubles(database: Database) -> tuple[Trouble, ...]:
    """Reasons of what is CANCELED, which is little of a run that goes well, and of refused objects."""
    found: dict[tuple[bool, str, str], list[str]] = {}
    with database.read() as sql:
        canceled = sql.execute("SELECT refused, failure FROM item WHERE state = 'CANCELED' ORDER BY seq").fetchall()
        refusals = sql.execute("SELECT code, reason FROM refusal ORDER BY identifier").fetchall()
    for row in canceled:
        failure = json.loads(row["failure"])
        found.setdefault((bool(row["refused"]), failure["stage"], failure["code"]), []).append(failure["message"])
    for row in refusals:
        found.setdefault((True, "search", row["code"]), []).append(row["reason"])
    rows = [Trouble(*kind, len(messages), messages[0]) for kind, messages in found.items()]
    return tuple(sorted(rows, key=lambda each: (-each.count, each.code)))


def attempts(database: Database) -> tuple[Attempt, ...]:
    """All attempts, with their consumption."""
    used: defaultdict[int, list[Consumption]] = defaultdict(list)
    with database.read() as sql:
        for row in sql.execute("SELECT * FROM consumption ORDER BY attempt, position").fetchall():
            used[row["attempt"]].append(Consumption(*(row[column] for column in _CONSUMPTION)))
        rows = sql.execute("SELECT * FROM attempt ORDER BY id").fetchall()
    return tuple(
        Attempt(
            key=row["key"],
            fence=row["fence"],
            owner=row["owner"],
            node=row["node"],
            started=moment(row["started"]),
            ended=None if row["ended"] is None else moment(row["ended"]),
            outcome=None if row["outcome"] is None else AttemptClass(row["outcome"]),
            failure=failure_from_json(row["failure"]),
            consumption=tuple(used[row["id"]]),
            memory=NodeMemory(row["host_bytes"], row["gpu_bytes"]),
        )
        for row in rows
    )


def items(rows: Iterable[Row]) -> tuple[Item, ...]:
    """Rows of `item`."""
    return tuple(
        Item(
            workitem=workitem_from_json(row["workitem"]),
            state=State(row["state"]),
            fails=row["fails"],
            losses=row["losses"],
            failure=failure_from_json(row["failure"]),
            repairs=strings_from_json(row["repairs"]),
            failed_features=strings_from_json(row["failed_features"]),
        )
        for row in rows
    )


def stored(rows: Iterable[Row]) -> tuple[Stored, ...]:
    """Rows of `stored`."""
    return tuple(Stored(row["key"], stored_object(row)) for row in rows)


def stored_object(row: Row) -> StoredObject:
    """A row of `stored`."""
    return StoredObject(
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        uri=row["uri"],
        sha256=row["sha256"],
        bytes=row["bytes"],
        already_there=bool(row["already_there"]),
    )


def events(rows: Iterable[Row]) -> tuple[Event, ...]:
    """Rows of `event`."""
    return tuple(Event(moment(row["at"]), row["level"], row["kind"], row["detail"]) for row in rows)
