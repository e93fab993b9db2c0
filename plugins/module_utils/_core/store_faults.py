# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong with the store, and SQLite's errors in these words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Ds01Error

# SQLITE_CORRUPT and SQLITE_NOTADB (https://sqlite.org/rescode.html) by their words: Python 3.10 does
# not give the codes.
_DAMAGE = ("malformed", "not a database", "Could not decode")


class StoreError(Ds01Error):
    """The store cannot be used."""


class StoreMissing(StoreError):
    """There is no store."""


class StoreVersion(StoreError):
    """The store is of another version."""


class StoreCorrupt(StoreError):
    """The store is damaged."""


class StoreFull(StoreError):
    """The store could not be written; nothing was changed."""


def other_version(found: int, wanted: int, path: str) -> StoreVersion:
    """It is of another version."""
    remedy = (
        "Run site.yml: its role runtime brings the store to the version of the release in force"
    )
    if found > wanted:
        remedy = (
            "A newer release brought it there: run site.yml with the newest version of the collection, "
            f"or put the copy from before ({path}.v{wanted}-*) in its place as docs/admin/daily-tasks.md says"
        )
    return StoreVersion(
        f"the state store is of version {found}, this program reads {wanted}", path, remedy
    )


def corrupt(path: str, reason: str) -> StoreCorrupt:
    """It is damaged, and what shows that."""
    return StoreCorrupt(
        f"the state store is damaged ({reason})",
        path,
        "Restart ds01d.service: it puts the file aside and builds the store anew",
    )


@contextmanager
def told(path: str) -> Iterator[None]:
    """SQLite's errors in our words."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError):
        raise  # a fault of the program, not of the file
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            what = "the state store is busy"
            raise StoreError(what, path, "Try again; see who holds it: fuser -v") from error
        if "unable to open" in text:
            raise StoreError("the state store cannot be opened", path, "Run as root") from error
        if any(words in text for words in (*_DAMAGE, "no such table", "no such column")):
            raise corrupt(path, text) from error
        raise unwritable(path, text) from error
    except UnicodeDecodeError as error:
        # SQLite's words for a damaged schema, which quote it.
        raise corrupt(path, "malformed schema") from error
    except sqlite3.DatabaseError as error:
        if not any(words in str(error) for words in _DAMAGE):
            raise
        raise corrupt(path, str(error)) from error


def unwritable(path: str, reason: str) -> StoreFull:
    """It cannot be written, and why."""
    return StoreFull(
        f"the state store cannot be written, so nothing was changed ({reason})",
        path,
        "Look at the file system's free space (df) and state (dmesg)",
    )
