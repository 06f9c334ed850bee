"""Tables of the SQLite ledger, one list of statements per version of the schema.

A ledger of an older version is brought up to date, step by step, when it is opened; one of a
newer version is refused. A released step is never changed: add another.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x566F7866
"""``Voxf``: what SQLite's header (bytes 68 to 71) says the file is."""

_VERSION_1: Final = (
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY CHECK (id = 1),
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
        created REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE item (
        seq INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        model TEXT NOT NULL,
        workitem TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'SCHEDULED'
            CHECK (state IN ('SCHEDULED', 'IN PROGRESS', 'COMPLETED', 'CANCELED')),
        refused INTEGER NOT NULL DEFAULT 0,
        owner TEXT,
        fence INTEGER NOT NULL DEFAULT 0,
        fails INTEGER NOT NULL DEFAULT 0,
        losses INTEGER NOT NULL DEFAULT 0,
        failure TEXT,
        repairs TEXT NOT NULL DEFAULT '[]',
        failed_features TEXT NOT NULL DEFAULT '[]'
    ) STRICT""",
    # What is looked for is a few rows of many. The planner does not know (it takes `item_state`
    # and sorts all that wait, 14 ms for each lease), so that the queries name their index.
    "CREATE INDEX item_ready ON item (fails + losses, bytes DESC, seq) WHERE state = 'SCHEDULED'",
    "CREATE INDEX item_held ON item (owner) WHERE state = 'IN PROGRESS'",
    "CREATE INDEX item_state ON item (state, refused)",
    """CREATE TABLE owner (
        owner TEXT PRIMARY KEY,
        lease_until REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL REFERENCES item (key),
        model TEXT NOT NULL,
        fence INTEGER NOT NULL,
        owner TEXT NOT NULL,
        node TEXT NOT NULL DEFAULT '',
        started REAL NOT NULL,
        ended REAL,
        outcome TEXT CHECK (outcome IN ('completed', 'refused', 'failed', 'lost')),
        failure TEXT,
        UNIQUE (key, fence)
    ) STRICT""",
    # Sums that each end of an attempt adds to: a budget asks for them before each lease.
    """CREATE TABLE usage (
        model TEXT NOT NULL,
        outcome TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        wall_s REAL NOT NULL,
        cpu_s REAL NOT NULL,
        gpu_s REAL NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        PRIMARY KEY (model, outcome)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX attempt_ended ON attempt (ended, outcome)",
    """CREATE TABLE consumption (
        attempt INTEGER NOT NULL REFERENCES attempt (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        stage TEXT NOT NULL,
        started REAL NOT NULL,
        wall_s REAL NOT NULL,
        cpu_s REAL NOT NULL,
        gpu_s REAL NOT NULL,
        peak_bytes INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL,
        PRIMARY KEY (attempt, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE stored (
        key TEXT NOT NULL REFERENCES item (key),
        position INTEGER NOT NULL,
        sop_class_uid TEXT NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        series_instance_uid TEXT NOT NULL,
        uri TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        already_there INTEGER NOT NULL,
        PRIMARY KEY (key, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE node (
        id INTEGER PRIMARY KEY,
        node TEXT NOT NULL,
        machine TEXT NOT NULL,
        up REAL NOT NULL,
        down REAL
    ) STRICT""",
    "CREATE UNIQUE INDEX node_alive ON node (node) WHERE down IS NULL",
    """CREATE TABLE refusal (
        identifier TEXT PRIMARY KEY,
        code TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
        kind TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT""",
)

MIGRATIONS: Final = (_VERSION_1,)
"""Statements that lead from version i to version i + 1."""

MIGRATION_TABLE: Final = """CREATE TABLE IF NOT EXISTS migration (
    version INTEGER PRIMARY KEY,
    applied REAL NOT NULL,
    platform_version TEXT NOT NULL
) STRICT"""
