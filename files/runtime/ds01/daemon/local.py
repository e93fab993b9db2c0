# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root's way to the book while the daemon is down: the same answers, straight from the store."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ds01.core.book import Book
from ds01.core.errors import Ds01Error
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_publish import Publisher
from ds01.core.owner_settings import read_settings
from ds01.core.owner_sync import OwnerSync
from ds01.core.store import STATE_PATH, open_store
from ds01.daemon.allowances import Directory, LimitsFile
from ds01.daemon.desk import GpuDesk
from ds01.daemon.main import make_book
from ds01.daemon.owner_desk import OwnerDesk
from ds01.daemon.protocol import Request
from ds01.daemon.server import Caller


def open_book() -> Book:
    """The book of this host.

    :raises Ds01Error: the store cannot be used.
    """
    return make_book(open_store(STATE_PATH), "ds01")


def answer(verb: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What the daemon would answer to root.

    :raises Ds01Error: the store cannot be used, or the verb is refused.
    """
    from ds01.daemon.world import HostWorld

    book, directory = open_book(), Directory()
    owners = OwnerBook(book.store, book.events_path, book.source)
    desk = GpuDesk(
        book,
        HostWorld(),
        LimitsFile(),
        directory,
        _no_round,
        owners=OwnerDesk(owners, lambda: sync_owners(owners), directory),
    )
    caller = Caller(os.geteuid(), admin=os.geteuid() == 0)
    request = Request(verb, fields)
    prepared = asyncio.run(desk.prepare(request, caller))
    found = desk.answer(request, caller, prepared)
    if verb in ("owner_set", "owner_unset"):
        sync = _sync_of(owners)
        sync.commits_seen()
        sync.publish()
    return found


def sync_owners(book: OwnerBook) -> dict[str, Any]:
    """Compare the book of owners with the engine, and publish it, as the daemon does.

    :returns: figures, and under ``faults`` what could not be looked at, in words.
    :raises Ds01Error: the engine does not answer, or something cannot be written.
    """
    sync = _sync_of(book)
    sync.sync(deep=True)
    sync.publish(full=True)
    found = list(sync.containers.values())
    unknown = sum(not one.owner.known for one in found)
    return {"containers": len(found), "unknown": unknown, "faults": dict(sync.faults)}


def _sync_of(book: OwnerBook) -> OwnerSync:
    from ds01.daemon.world import owner_world

    folder = os.path.dirname(book.store.path)
    return OwnerSync(book, owner_world(), Publisher(folder), read_settings())


def _no_round() -> dict[str, Any]:
    raise Ds01Error("only the daemon looks at the host", "ds01d", "systemctl start ds01d.socket")
