"""The tables of a file of flows, and the way to them from older ones."""

from __future__ import annotations

import sqlite3
from typing import Final

from graflow.exceptions import StoreError

APPLICATION_ID: Final = 0x67666C77  # "gflw": tells that a file is one of these

_FIRST: Final = """
CREATE TABLE flows (
    no INTEGER PRIMARY KEY,
    flow_id TEXT NOT NULL UNIQUE,
    flow_name TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    owner TEXT,
    beats INTEGER NOT NULL,
    seq INTEGER NOT NULL,         -- of the last line of the journal
    created_at REAL NOT NULL,     -- this and all times: seconds since the epoch
    ended_at REAL,
    wake_at REAL,
    input_digest TEXT NOT NULL,
    requests TEXT NOT NULL,       -- JSON: those that the owner has not answered
    counts TEXT NOT NULL,         -- JSON: steps by state
    fields TEXT NOT NULL          -- JSON: small fields, the inputs among them; "@" lists the names of large ones
);
CREATE INDEX flows_by_age ON flows (created_at, flow_id);
CREATE INDEX flows_by_status ON flows (status, created_at, flow_id);
CREATE INDEX flows_by_name ON flows (flow_name, created_at, flow_id);
CREATE INDEX flows_by_end ON flows (ended_at, flow_id) WHERE ended_at IS NOT NULL;

CREATE TABLE flow_values (        -- fields that no list shows
    flow_no INTEGER NOT NULL,
    name TEXT NOT NULL,
    value NOT NULL,
    PRIMARY KEY (flow_no, name)
) WITHOUT ROWID;

CREATE TABLE flow_texts (         -- what a search looks into
    flow_no INTEGER PRIMARY KEY,
    searched TEXT NOT NULL
);

CREATE TABLE steps (
    no INTEGER PRIMARY KEY,       -- in the order of their first start
    flow_no INTEGER NOT NULL,
    step TEXT NOT NULL,
    visit INTEGER NOT NULL,
    status TEXT NOT NULL,
    size INTEGER NOT NULL,        -- of a group, else 0
    counts TEXT,                  -- JSON: members by state
    strip TEXT,                   -- JSON: the same in buckets
    fields TEXT NOT NULL          -- a run of JSON objects, of which the later wins
);
CREATE UNIQUE INDEX steps_by_name ON steps (flow_no, step, visit);

CREATE TABLE members (
    step_no INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    status TEXT NOT NULL,
    fields TEXT NOT NULL,
    PRIMARY KEY (step_no, idx)
) WITHOUT ROWID;

CREATE TABLE journal (
    place INTEGER PRIMARY KEY,    -- number of the flow times 2^32, plus the line's
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    step TEXT,
    visit INTEGER,
    idx INTEGER,
    attempt INTEGER,
    epoch INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    data NOT NULL
);

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    content BLOB NOT NULL
);
CREATE TABLE blob_uses (
    flow_no INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (flow_no, digest)
) WITHOUT ROWID;
CREATE INDEX blob_uses_by_digest ON blob_uses (digest);
"""

_QUESTIONS: Final = """
CREATE TABLE questions (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    flow_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    at REAL NOT NULL,
    due REAL,                     -- when somebody has to look at it
    version INTEGER NOT NULL,
    data TEXT NOT NULL            -- JSON
);
CREATE INDEX questions_by_age ON questions (at, id);
CREATE INDEX questions_by_flow ON questions (flow_no, at, id);
CREATE INDEX open_questions ON questions (at, id) WHERE state = 'open';
CREATE INDEX questions_due ON questions (due) WHERE due IS NOT NULL;

CREATE TABLE question_lines (
    question_no INTEGER NOT NULL,
    place INTEGER NOT NULL,
    line TEXT NOT NULL,           -- JSON
    PRIMARY KEY (question_no, place)
) WITHOUT ROWID;
"""

_CACHE: Final = """
CREATE TABLE cache (
    digest TEXT PRIMARY KEY,      -- of the key
    name TEXT NOT NULL,           -- the flow or task
    parts TEXT,                   -- JSON: digests of the parts of the key by name
    source TEXT,                  -- JSON: where it was computed
    made_at REAL,                 -- NULL while the first value is computed
    expires_at REAL,              -- NULL for no end
    value,                        -- JSON, compressed where it is long
    owner TEXT,                   -- who computes it now
    token TEXT,
    beats INTEGER NOT NULL,
    begun_at REAL NOT NULL
);
CREATE INDEX cache_by_name ON cache (name, made_at);
CREATE INDEX cache_by_end ON cache (expires_at) WHERE expires_at IS NOT NULL;
"""

# `flows.changed` tells when a flow changed last, in the order of all changes of flows. SQLite keeps the text of an
# added column in the middle of its table's, where a comment would swallow the rest.
_CHANGES: Final = """
ALTER TABLE flows ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX flows_by_change ON flows (changed);
CREATE TABLE changes (
    last INTEGER NOT NULL         -- one row: the number of the last change, also of a flow that is gone
);
INSERT INTO changes VALUES (0);
"""

# Members in a row that have completed; a row of one of them goes over what is here. `idx` is that of the first one.
_BLOCKS: Final = """
CREATE TABLE member_blocks (
    step_no INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    behind INTEGER NOT NULL,      -- the index behind the last one
    content NOT NULL
);
CREATE UNIQUE INDEX member_blocks_by_place ON member_blocks (step_no, idx, behind);
"""

MIGRATIONS: Final = (_FIRST, _QUESTIONS, _CACHE, _CHANGES, _BLOCKS)
"""What leads from each version of the format to the next; a file's version is how many it has behind it."""

VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring a file to the present format.

    Raises:
        StoreError: It is of a newer one, or no file of flows at all.
    """
    # All that tells the version is read at one moment: another process may be making the file.
    connection.execute("BEGIN")
    try:
        if _version(connection, name) == VERSION:
            return
    finally:
        connection.rollback()
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for number in range(_version(connection, name), VERSION):  # another process may have come first
            for statement in MIGRATIONS[number].split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection, name: str) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    if not ours and (version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]):
        raise StoreError(f"{name} is a database of something else; name a file of its own for the flows")
    if version > VERSION:
        raise StoreError(
            f"{name} has format {version} of flows, and this version of graflow reads up to {VERSION}: upgrade graflow"
        )
    return version
