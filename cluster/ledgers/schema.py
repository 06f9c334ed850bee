"""Tables of a SQL ledger, one list of statements per version of the schema.

A ledger of an older version is brought up to date, step by step, when it is opened; one of a
newer version is refused. A released step is never changed: add another. What databases name
differently stands in braces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_VERSION_1: Final = (
    """CREATE TABLE run (
        id {integer} PRIMARY KEY CHECK (id = 1),
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        models TEXT NOT NULL,
        parameters TEXT NOT NULL,
        platform_version TEXT NOT NULL,
        machine TEXT NOT NULL,
        region TEXT NOT NULL,
        market TEXT NOT NULL,
        budget_usd TEXT,
        created {real} NOT NULL
    ) {table}""",
    """CREATE TABLE item (
        seq {serial},
        key TEXT NOT NULL UNIQUE,
        model TEXT NOT NULL,
        workitem TEXT NOT NULL,
        bytes {integer} NOT NULL,
        state TEXT NOT NULL DEFAULT 'SCHEDULED'
            CHECK (state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')),
        refused {boolean} NOT NULL DEFAULT {false},
        owner TEXT,
        fence {integer} NOT NULL DEFAULT 0,
        fails {integer} NOT NULL DEFAULT 0,
        losses {integer} NOT NULL DEFAULT 0,
        failure TEXT,
        repairs TEXT NOT NULL DEFAULT '[]',
        failed_features TEXT NOT NULL DEFAULT '[]'
    ) {table}""",
    # What is looked for is a few rows of many. SQLite's planner does not know (it takes `item_state`
    # and sorts all that wait, 14 ms for each lease), so that the queries name their index there.
    "CREATE INDEX item_ready ON item ((fails + losses), bytes DESC, seq) WHERE state = 'SCHEDULED'",
    "CREATE INDEX item_held ON item (owner) WHERE state = 'IN PROGRESS'",
    "CREATE INDEX item_state ON item (state, refused)",
    """CREATE TABLE owner (
        owner TEXT PRIMARY KEY,
        lease_until {real} NOT NULL
    ) {keyed}""",
    """CREATE TABLE attempt (
        id {serial},
        key TEXT NOT NULL REFERENCES item (key),
        model TEXT NOT NULL,
        fence {integer} NOT NULL,
        owner TEXT NOT NULL,
        node TEXT NOT NULL DEFAULT '',
        started {real} NOT NULL,
        ended {real},
        outcome TEXT CHECK (outcome IN ('completed', 'refused', 'failed', 'lost')),
        failure TEXT,
        UNIQUE (key, fence)
    ) {table}""",
    # Sums that each end of an attempt adds to: a budget asks for them before each lease.
    """CREATE TABLE usage (
        model TEXT NOT NULL,
        outcome TEXT NOT NULL,
        attempts {integer} NOT NULL,
        wall_s {real} NOT NULL,
        cpu_s {real} NOT NULL,
        gpu_s {real} NOT NULL,
        bytes_in {integer} NOT NULL,
        bytes_out {integer} NOT NULL,
        PRIMARY KEY (model, outcome)
    ) {keyed}""",
    "CREATE INDEX attempt_ended ON attempt (ended, outcome)",
    """CREATE TABLE consumption (
        attempt {integer} NOT NULL REFERENCES attempt (id) ON DELETE CASCADE,
        position {integer} NOT NULL,
        stage TEXT NOT NULL,
        started {real} NOT NULL,
        wall_s {real} NOT NULL,
        cpu_s {real} NOT NULL,
        gpu_s {real} NOT NULL,
        peak_bytes {integer} NOT NULL,
        bytes_in {integer} NOT NULL,
        bytes_out {integer} NOT NULL,
        PRIMARY KEY (attempt, position)
    ) {keyed}""",
    """CREATE TABLE stored (
        key TEXT NOT NULL REFERENCES item (key),
        position {integer} NOT NULL,
        sop_class_uid TEXT NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        series_instance_uid TEXT NOT NULL,
        uri TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        bytes {integer} NOT NULL,
        already_there {boolean} NOT NULL,
        PRIMARY KEY (key, position)
    ) {keyed}""",
    """CREATE TABLE node (
        id {serial},
        node TEXT NOT NULL,
        machine TEXT NOT NULL,
        up {real} NOT NULL,
        down {real}
    ) {table}""",
    "CREATE UNIQUE INDEX node_alive ON node (node) WHERE down IS NULL",
    """CREATE TABLE refusal (
        identifier TEXT PRIMARY KEY,
        code TEXT NOT NULL,
        reason TEXT NOT NULL
    ) {table}""",
    """CREATE TABLE event (
        id {serial},
        at {real} NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
        kind TEXT NOT NULL,
        detail TEXT NOT NULL
    ) {table}""",
)

# Drivers on many machines: a node's life hangs on its own driver's, and one machine may have several.
_VERSION_2: Final = (
    "ALTER TABLE node ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
    "DROP INDEX node_alive",
    "CREATE UNIQUE INDEX node_alive ON node (node, owner) WHERE down IS NULL",
)

# What lies in a staging store goes on to the archive at the archive's own pace.
_VERSION_3: Final = (
    "ALTER TABLE stored ADD COLUMN published TEXT",
    "ALTER TABLE stored ADD COLUMN rejected TEXT",
    "CREATE INDEX stored_backlog ON stored (key, position) WHERE published IS NULL AND rejected IS NULL",
)

# The price by which a run is governed and accounted for stays with it, whatever tables say later.
_VERSION_4: Final = ("ALTER TABLE run ADD COLUMN price TEXT",)

# What ran out of memory waits for a node with more than it had, and what met an outage for its pause to end.
# Who asked for work with what memory, and found none, says which nodes the run has.
_VERSION_5: Final = (
    "ALTER TABLE item ADD COLUMN outgrown_host {integer}",
    "ALTER TABLE item ADD COLUMN outgrown_gpu {integer}",
    "ALTER TABLE item ADD COLUMN due {real} NOT NULL DEFAULT 0",
    "ALTER TABLE attempt ADD COLUMN host_bytes {integer} NOT NULL DEFAULT 0",
    "ALTER TABLE attempt ADD COLUMN gpu_bytes {integer} NOT NULL DEFAULT 0",
    """CREATE TABLE idle (
        owner TEXT NOT NULL,
        host_bytes {integer} NOT NULL,
        gpu_bytes {integer} NOT NULL,
        until {real} NOT NULL,
        PRIMARY KEY (owner, host_bytes, gpu_bytes)
    ) {keyed}""",
    """CREATE INDEX item_outgrown ON item (outgrown_host, outgrown_gpu)
    WHERE state = 'SCHEDULED' AND outgrown_host IS NOT NULL""",
)

# A provider's bill is divided by the label of the cell that a machine belongs to.
_VERSION_6: Final = ("ALTER TABLE node ADD COLUMN cell TEXT NOT NULL DEFAULT ''",)

# Groups of machines may have prices of their own: a run keeps them by group, a life of a node has its own.
# What lives that ended lasted is summed by price: a budget asks for it before each lease.
_VERSION_7: Final = (
    "ALTER TABLE node ADD COLUMN price TEXT",
    "ALTER TABLE run ADD COLUMN prices TEXT",
    """CREATE TABLE lived (
        price TEXT PRIMARY KEY,
        lives {integer} NOT NULL,
        seconds {real} NOT NULL
    ) {keyed}""",
    """INSERT INTO lived SELECT '', count(*), sum(CASE WHEN down > up THEN down - up ELSE 0 END)
    FROM node WHERE down IS NOT NULL GROUP BY price""",
)

# While the database was away no owner could send a heartbeat: how long its leases hold is the time that it then has.
# Which owners gave notice is looked for in few events of many.
_VERSION_8: Final = (
    "ALTER TABLE owner ADD COLUMN lease_s {real} NOT NULL DEFAULT 0",
    "CREATE INDEX event_notice ON event (detail, at) WHERE kind = 'notice'",
)

# Nodes that ask for some models alone are none that others may wait for. Who asked is told anew within seconds.
_VERSION_9: Final = (
    "DROP TABLE idle",
    """CREATE TABLE idle (
        owner TEXT NOT NULL,
        host_bytes {integer} NOT NULL,
        gpu_bytes {integer} NOT NULL,
        models TEXT NOT NULL,
        until {real} NOT NULL,
        PRIMARY KEY (owner, host_bytes, gpu_bytes, models)
    ) {keyed}""",
    "DROP INDEX item_outgrown",
    """CREATE INDEX item_outgrown ON item (outgrown_host, outgrown_gpu, model)
    WHERE state = 'SCHEDULED' AND outgrown_host IS NOT NULL""",
)

# The head of a cell costs money and takes no work.
_VERSION_10: Final = ("ALTER TABLE node ADD COLUMN head {boolean} NOT NULL DEFAULT {false}",)

_MIGRATIONS: Final = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
    _VERSION_10,
)
"""Statements that lead from version i to version i + 1."""

VERSION: Final = len(_MIGRATIONS)
"""Of the newest schema."""

READY_OF_MODEL: Final = """CREATE INDEX IF NOT EXISTS item_ready_of_model
    ON item (model, (losses + fails), bytes DESC, seq) WHERE state = 'SCHEDULED'"""
"""In ledgers of runs of several models, whose items may be leased by their models; the others pay nothing for it.

PostgreSQL takes no index by name: it takes this one for an order that no other index has.
"""

_MIGRATION_TABLE: Final = """CREATE TABLE IF NOT EXISTS migration (
    version {integer} PRIMARY KEY,
    applied {real} NOT NULL,
    platform_version TEXT NOT NULL
) {table}"""


def migration_table(types: Mapping[str, str]) -> str:
    """The statement that makes the table of steps done, in a database's own types."""
    return _MIGRATION_TABLE.format_map(types)


def steps_from(version: int, types: Mapping[str, str]) -> list[tuple[int, list[str]]]:
    """Each newer version with the statements that lead to it, in a database's own types."""
    newer = enumerate(_MIGRATIONS[version:], start=version + 1)
    return [(number, [each.format_map(types) for each in statements]) for number, statements in newer]
