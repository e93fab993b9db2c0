# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers' owners after the store was lost: what the gateway saw and administrators said is nowhere else
than in the views that were published, and those only root can write.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from . import book_rows
from .errors import Ds01Error
from .owner_book import OwnerBook
from .owner_publish import SCHEMA_VERSION
from .owners import ADMIN, CONTAINER, GATEWAY, Made, Record, SetBy

DONE = "owners_restored"
BY = "the published files"
_MAX_BYTES = 64 * 1024 * 1024


def restore(book: OwnerBook, path: str) -> int:
    """Take certain owners over from the published view of a store that is lost; once for each store.

    Dying in between loses nothing: the next call begins anew, and what is there already stays.

    :param path: ``containers.json``; that it is not there is no fault.
    :returns: for how many containers.
    :raises Ds01Error: the file is not root's own, or is damaged; the store cannot be written.
    """
    with book.store.reading() as connection:
        if book_rows.meta(connection, DONE) is not None:
            return 0
    found = 0
    for entry in _entries(path):
        found += _take(book, entry)
    with book.store.transaction() as connection:
        book_rows.put_meta(connection, DONE, "1")
    return found


def _take(book: OwnerBook, entry: Mapping[str, Any]) -> bool:
    uid, user, method = entry.get("owner_uid"), entry.get("owner"), entry.get("method")
    thing, name = entry.get("id"), entry.get("name")
    if not (isinstance(uid, int) and not isinstance(uid, bool) and isinstance(user, str)):
        return False
    if not (isinstance(thing, str) and thing and isinstance(name, str)):
        return False
    at = _seconds(entry.get("created_at"))
    if method == GATEWAY:
        return book.record(CONTAINER, thing, Made(uid, user, at, restored=True), name=name)
    if method == ADMIN:
        if book.get(CONTAINER, thing) is None:
            book.apply([Record(CONTAINER, thing, name, created=at)])
        return book.set_owner(CONTAINER, thing, SetBy(uid, user, BY, at, "the store was lost"))
    return False


def _entries(path: str) -> Iterator[Mapping[str, Any]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            raise _unusable(path, "others than root can write it")
        try:
            data = json.loads(stream.read(_MAX_BYTES))
        except (ValueError, RecursionError, OSError) as error:
            raise _unusable(path, str(error)) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA_VERSION:
        raise _unusable(path, f"it is not of schema {SCHEMA_VERSION}")
    rows = data.get("containers")
    for entry in rows if isinstance(rows, list) else ():
        if isinstance(entry, dict):
            yield entry


def _seconds(text: Any) -> float:
    try:
        moment = datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=timezone.utc).timestamp()


def _unusable(path: str, why: str) -> Ds01Error:
    return Ds01Error(
        f"owners cannot be taken over from what was published: {why}",
        path,
        "See whose the containers are: ds01 owners list; correct it: ds01 owners set",
    )
