# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the store, as steps from each version to the next.

A new store takes all steps, an old one those that it lacks, so that both end the same. What a step says
is never changed once it was released; another step is added.
"""

from __future__ import annotations

VERSION = 2

_FIRST = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE slots (
    uuid TEXT PRIMARY KEY, idx TEXT NOT NULL, parent TEXT NOT NULL, profile TEXT NOT NULL,
    memory INTEGER NOT NULL, compute_slices INTEGER NOT NULL, health TEXT NOT NULL) STRICT;
CREATE TABLE leases (
    id TEXT PRIMARY KEY, uid INTEGER NOT NULL, user TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'bound', 'held', 'free')),
    slots TEXT NOT NULL, created REAL NOT NULL, ask TEXT NOT NULL,
    container TEXT NOT NULL, container_name TEXT NOT NULL,
    bound_at REAL, held_at REAL, expires REAL, hold_until REAL, hold REAL, max_runtime REAL,
    revoked REAL, stale INTEGER NOT NULL) STRICT;
CREATE INDEX leases_state ON leases (state);
-- One row a slot that is taken: the file itself refuses a second lease on it.
CREATE TABLE taken (
    slot TEXT PRIMARY KEY, lease TEXT NOT NULL REFERENCES leases (id)) STRICT;
CREATE INDEX taken_lease ON taken (lease);
CREATE TABLE queue (
    ticket TEXT PRIMARY KEY, asked REAL NOT NULL, seen REAL NOT NULL, deadline REAL,
    ask TEXT NOT NULL, allowance TEXT NOT NULL, lease TEXT NOT NULL) STRICT;
CREATE TABLE blocks (
    slot TEXT NOT NULL, why TEXT NOT NULL, text TEXT NOT NULL, by TEXT NOT NULL,
    since REAL NOT NULL, PRIMARY KEY (slot, why)) STRICT;
-- Requests that ended without a lease, for as long as somebody may ask why.
CREATE TABLE ended (
    ticket TEXT PRIMARY KEY, uid INTEGER NOT NULL, at REAL NOT NULL, why TEXT NOT NULL) STRICT;
-- Events are committed with what they tell of, and logged after it.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL) STRICT;
"""

# Things of the engine and whose they are. Owner, origin, made, set_by and facts are JSON: the columns
# beside them are what is looked up by.
_OWNERS = """
CREATE TABLE things (
    kind TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, uid INTEGER, parent TEXT NOT NULL,
    state TEXT NOT NULL, created REAL NOT NULL, known REAL NOT NULL, updated REAL NOT NULL, gone REAL,
    owner TEXT NOT NULL, origin TEXT NOT NULL, made TEXT, set_by TEXT, facts TEXT,
    undecided INTEGER NOT NULL, PRIMARY KEY (kind, id)) STRICT;
CREATE INDEX things_id ON things (id);
CREATE INDEX things_name ON things (name);
CREATE INDEX things_uid ON things (kind, uid, gone);
CREATE INDEX things_there ON things (kind) WHERE gone IS NULL;
CREATE INDEX things_gone ON things (gone) WHERE gone IS NOT NULL;
CREATE INDEX things_parent ON things (parent) WHERE parent <> '';
CREATE INDEX things_undecided ON things (undecided) WHERE undecided = 1;
-- What somebody is about to make through the door, until it is known what came of it.
CREATE TABLE intents (
    token TEXT PRIMARY KEY, kind TEXT NOT NULL, uid INTEGER NOT NULL, at REAL NOT NULL,
    gateway TEXT NOT NULL, ended REAL, orphaned REAL, data TEXT NOT NULL) STRICT;
CREATE INDEX intents_uid ON intents (uid, at);
-- Marks of the engine's events that were told last, so that none is told twice.
CREATE TABLE told (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, mark TEXT NOT NULL UNIQUE) STRICT;
"""

UPGRADES = {0: _FIRST, 1: _OWNERS}
"""What brings a store of a version to the next; 0 is an empty file."""


def statements(step: str) -> list[str]:
    """The single statements of a step, for a transaction of the caller's own."""
    return [statement for statement in step.split(";") if statement.strip()]
