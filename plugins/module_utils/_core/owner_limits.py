# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of ownership the store keeps: nobody fills it by making and removing things in a loop."""

from __future__ import annotations

import sqlite3

from . import owner_rows as rows
from .errors import Ds01Error
from .owners import CONTAINER, EXEC

INTENTS_PER_USER = 256
"""Requests that make something, under way at once."""
ENDED_SECONDS = 600.0
"""The engine tells of what a build or load made soon after its answer, if at all."""
ORPHANED_SECONDS = 3600.0
"""Full syncs come more often; what none of them found was never made."""
EXECS_PER_CONTAINER = 200
EXECS_PER_USER = 2000
GONE_CONTAINERS_PER_USER = 5000
GONE_OTHERS_PER_USER = 500
MARKS = 4096
"""The engine keeps its last 256 events."""

OF_CONTAINER = "kind = ? AND parent = ? AND parent <> ''"
"""In the words of the index."""
_DEAD = "(ended IS NOT NULL AND ended < ?) OR (orphaned IS NOT NULL AND orphaned < ?)"
_OLDEST = (
    "rowid IN (SELECT rowid FROM things WHERE {which} ORDER BY {order} DESC LIMIT -1 OFFSET {most})"
)


class TooMany(Ds01Error):
    """A user has more under way than the store takes."""


def sweep_intents(connection: sqlite3.Connection, now: float) -> int:
    """Forget intents that nothing can come of any more; how many."""
    values = (now - ENDED_SECONDS, now - ORPHANED_SECONDS)
    return connection.execute(f"DELETE FROM intents WHERE {_DEAD}", values).rowcount


def room_for_intent(connection: sqlite3.Connection, uid: int, user: str, now: float) -> None:
    """See that a user may have one more intent.

    :raises TooMany: he may not.
    """
    count = "SELECT count(*) FROM intents WHERE uid = ?"
    if connection.execute(count, (uid,)).fetchone()[0] < INTENTS_PER_USER:
        return
    sweep_intents(connection, now)
    # What has ended waits for the engine's events only.
    connection.execute(
        "DELETE FROM intents WHERE token IN (SELECT token FROM intents WHERE uid = ? "
        "AND ended IS NOT NULL ORDER BY at LIMIT ?)",
        (uid, INTENTS_PER_USER // 4),
    )
    if connection.execute(count, (uid,)).fetchone()[0] >= INTENTS_PER_USER:
        raise TooMany(
            f"{user} has {INTENTS_PER_USER} requests under way that make something; no more are taken",
            "owners",
            "Try again when some of them have ended",
        )


def trim_execs(connection: sqlite3.Connection, uid: int | None, container: str) -> None:
    """Keep the newest execs of a container, and of a user."""
    mine = "kind = ? AND uid IS ?"
    _trim(connection, OF_CONTAINER, (EXEC, container), "known", EXECS_PER_CONTAINER)
    _trim(connection, mine, (EXEC, uid), "known", EXECS_PER_USER)


def trim_gone(connection: sqlite3.Connection, kind: str, uid: int | None) -> None:
    """Keep the newest of a user's things that are gone."""
    most = GONE_CONTAINERS_PER_USER if kind == CONTAINER else GONE_OTHERS_PER_USER
    _trim(connection, "kind = ? AND uid IS ? AND gone IS NOT NULL", (kind, uid), "gone", most)


def _trim(
    connection: sqlite3.Connection, which: str, values: tuple[object, ...], order: str, most: int
) -> None:
    count = f"SELECT count(*) FROM things WHERE {which}"
    if connection.execute(count, values).fetchone()[0] > most:
        rows.drop_things(connection, _OLDEST.format(which=which, order=order, most=most), values)
