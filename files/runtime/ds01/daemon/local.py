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
    owners = OwnerDesk(OwnerBook(book.store, book.events_path, book.source), _no_round, directory)
    desk = GpuDesk(book, HostWorld(), LimitsFile(), directory, _no_round, owners=owners)
    caller = Caller(os.geteuid(), admin=os.geteuid() == 0)
    request = Request(verb, fields)
    prepared = asyncio.run(desk.prepare(request, caller))
    return desk.answer(request, caller, prepared)


def _no_round() -> dict[str, Any]:
    raise Ds01Error("only the daemon looks at the host", "ds01d", "systemctl start ds01d.socket")
