# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which things somebody may mean by what he wrote: an id, the beginning of one, or a name."""

from __future__ import annotations

import re
import sqlite3

from . import owner_rows as rows
from .owners import KINDS, Record

LEAST_PREFIX = 4
SHORT_ID = 12
_DIGITS = re.compile(r"(sha256:)?([0-9a-f]{4,64})\Z")


def find(
    connection: sqlite3.Connection,
    ref: str,
    gone: bool = True,
    uid: int | None = None,
    kind: str | None = None,
) -> list[Record]:
    """All things that are meant, so that whoever asks sees when they are several.

    A full id is that thing alone. Then what is there, and after it what is gone, each by its name and
    by the first digits of its id; fewer than twelve of them only where nothing has that name.

    :param gone: whether what is there no more is looked for too.
    :param uid: only this owner's things: as if there were no others, so that nobody hides theirs.
    :param kind: likewise only things of this kind.
    """
    ref = ref.strip()
    whose = "1" if uid is None else f"uid = {int(uid)}"
    if kind is not None:
        if kind not in KINDS:
            return []
        whose = f"{whose} AND kind = '{kind}'"
    digits = _DIGITS.match(ref.lower())
    if digits is not None and len(digits[2]) == 64:
        whole = _things(connection, f"id IN (?, ?) AND {whose}", digits[2], f"sha256:{digits[2]}")
        if whole:
            return [one for one in whole if gone or one.gone is None]
    name = ref[1:] if ref.startswith("/") else ref
    if not name:
        return []
    for there in ("gone IS NULL", "gone IS NOT NULL")[: 2 if gone else 1]:
        state = f"{there} AND {whose}"
        found = _things(
            connection, f"(name IN (?, ?) OR id = ?) AND {state}", name, f"{name}:latest", name
        )
        if digits is not None and (not found or len(digits[2]) >= SHORT_ID):
            found += [one for one in _begun(connection, digits[2], state) if one not in found]
        if found:
            return found
    return []


def _begun(connection: sqlite3.Connection, digits: str, state: str) -> list[Record]:
    # No digit comes after f: "g" ends the range, and the index of ids gives it.
    either = "(id >= ? AND id < ? OR id >= ? AND id < ?)"
    image = f"sha256:{digits}"
    found = _things(connection, f"{either} AND {state}", digits, f"{digits}g", image, f"{image}g")
    return [one for one in found if one.kind != "volume" or one.id == digits]


def _things(connection: sqlite3.Connection, where: str, *values: str) -> list[Record]:
    return [row.record for row in rows.things(connection, where, *values)]
