# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores of former versions, as the releases of then made them.

The texts are copies: what makes stores today must not change what was made then.
"""

from __future__ import annotations

import os
import sqlite3

_ONE = """
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
CREATE TABLE taken (
    slot TEXT PRIMARY KEY, lease TEXT NOT NULL REFERENCES leases (id)) STRICT;
CREATE INDEX taken_lease ON taken (lease);
CREATE TABLE queue (
    ticket TEXT PRIMARY KEY, asked REAL NOT NULL, seen REAL NOT NULL, deadline REAL,
    ask TEXT NOT NULL, allowance TEXT NOT NULL, lease TEXT NOT NULL) STRICT;
CREATE TABLE blocks (
    slot TEXT NOT NULL, why TEXT NOT NULL, text TEXT NOT NULL, by TEXT NOT NULL,
    since REAL NOT NULL, PRIMARY KEY (slot, why)) STRICT;
CREATE TABLE ended (
    ticket TEXT PRIMARY KEY, uid INTEGER NOT NULL, at REAL NOT NULL, why TEXT NOT NULL) STRICT;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL) STRICT;
"""
_SCHEMAS = {1: _ONE}
APPLICATION_ID = 0x44533031


def make_store_of(version: int, path: str) -> None:
    """An empty store of a former version."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(_SCHEMAS[version])
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={version}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def tables(path: str) -> dict[str, str]:
    """What makes each table and index of a store."""
    connection = sqlite3.connect(path)
    try:
        found = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'"
        )
        return {name: " ".join(sql.split()) for name, sql in found}
    finally:
        connection.close()
