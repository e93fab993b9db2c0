# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 daemon``: from systemd's socket to a running daemon."""

from __future__ import annotations

import argparse
import asyncio
import grp
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ds01.cli.output import Exit, Output
from ds01.core import store
from ds01.core.book import Book
from ds01.core.book_clock import host_clock
from ds01.core.errors import Ds01Error
from ds01.core.events import EVENTS_PATH, Event, EventError, append
from ds01.core.gpu_settings import GpuSettings, read_settings
from ds01.core.lease_files import LeaseFiles
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_lookout import OwnerWorld
from ds01.core.owner_publish import CONTAINERS
from ds01.core.owner_publish import Publisher as OwnerPublisher
from ds01.core.owner_restore import restore
from ds01.core.owner_settings import OwnerSettings
from ds01.core.owner_settings import read_settings as read_owner_settings
from ds01.core.owner_sync import OwnerSync
from ds01.core.store import STATE_PATH, StoreCorrupt, StoreError, StoreMissing, StoreVersion
from ds01.daemon.parts import Parts, Places
from ds01.daemon.protocol import Request
from ds01.daemon.server import Caller, Server
from ds01.daemon.service import Daemon
from ds01.daemon.systemd import Notifier, notifier, passed_sockets, watchdog_seconds
from ds01.daemon.tracker import Tracker
from ds01.daemon.worker import Worker
from ds01.host.cdi_spec import VendorSpec
from ds01.host.peer import Peer, peer_of

AGAIN_SECONDS = 5.0
PUBLISH_LOCK_SECONDS = 0.5
"""Another program that holds the views' lock for longer holds up no events; they are written later."""


def run(_options: argparse.Namespace, _output: Output) -> int:
    """Serve the socket that systemd passed.

    :raises Ds01Error: there is none.
    """
    told, watchdog = notifier(), watchdog_seconds()
    sockets = passed_sockets()
    if len(sockets) != 1:
        raise Ds01Error(
            "this is started by systemd, which passes it its socket",
            "ds01 daemon",
            "systemctl start ds01d.socket",
        )
    # The journal gets whole lines at once.
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        opened = open_or_rebuild(STATE_PATH, EVENTS_PATH)
    except StoreVersion as error:
        print(f"ds01d: {error}", file=sys.stderr)
        return asyncio.run(refuse(sockets[0], error, told, watchdog, STATE_PATH))
    return asyncio.run(_serve(sockets[0], opened, told, watchdog))


async def _serve(
    listener: socket.socket, opened: store.Store, told: Notifier, watchdog: float | None
) -> int:
    from ds01.daemon.published import publisher
    from ds01.daemon.world import HostWorld, owner_world

    folder = os.path.dirname(opened.path)
    tracker = make_tracker(opened, owner_world(), folder)
    parts = Parts(
        listener=listener,
        book=make_book(opened),
        world=HostWorld(),
        notifier=told,
        places=Places(publish=publisher(folder)),
        watchdog=watchdog,
        group_id=group_id,
        tracker=tracker,
        sync_owners=tracker.sync_now,
    )
    daemon = Daemon(parts)
    daemon.heed_signals()
    return await daemon.run()


def make_book(opened: store.Store, source: str = "ds01d") -> Book:
    """The book of this host."""
    try:
        settings = read_settings()
    except Ds01Error as error:
        print(f"ds01d: {error}: the defaults hold", file=sys.stderr)
        settings = GpuSettings()
    files = LeaseFiles(VendorSpec(settings.vendor_kind))
    return Book(opened, files, host_clock, settings, source=source)


def make_tracker(
    opened: store.Store,
    world: OwnerWorld,
    folder: str,
    events_path: str = EVENTS_PATH,
    settings: Callable[[], OwnerSettings] = read_owner_settings,
) -> Tracker:
    """What keeps the records of owners of this host.

    :param folder: where they are published.
    """
    book = OwnerBook(opened, events_path)
    restore_owners(book, folder)
    publisher = OwnerPublisher(folder, PUBLISH_LOCK_SECONDS)
    return Tracker(OwnerSync(book, world, publisher), settings)


def restore_owners(book: OwnerBook, folder: str) -> None:
    """After a store was lost: certain owners come back from what was published of them."""
    try:
        count = restore(book, os.path.join(folder, CONTAINERS))
    except Ds01Error as error:
        print(f"ds01d: {error}", file=sys.stderr)
    else:
        if count:
            print(f"ds01d: owners of {count} containers taken over from before", file=sys.stderr)


def group_id(name: str) -> int | None:
    """Number of a group; None where there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def open_or_rebuild(path: str, events: str) -> store.Store:
    """Open the store. One that is missing or damaged is made anew, empty: leases whose files and
    containers are still there come back with the first round.

    :raises StoreVersion: it is of another version; only the role ``runtime`` migrates.
    :raises StoreError: it can be neither read nor made.
    """
    try:
        store.check(path)
    except StoreMissing as error:
        _rebuild(path, events, error)
    except StoreCorrupt as error:
        _rebuild(path, events, error)
    return store.open_store(path)


def _rebuild(path: str, events: str, cause: StoreError) -> None:
    stamp = datetime.now(timezone.utc).strftime("corrupt-%Y%m%dT%H%M%SZ")
    with store.Store(path).locked():
        aside = store.move_aside(path, stamp)
    store.migrate(path)
    print(f"ds01d: {cause}; made anew, set aside: {', '.join(aside) or 'nothing'}", file=sys.stderr)
    details: dict[str, Any] = {"cause": cause.what, "path": path, "set_aside": aside}
    try:
        append(events, Event("store.rebuilt", "ds01d", details=details))
    except EventError as error:
        print(f"ds01d: {error}", file=sys.stderr)


# --- a store of another version -------------------------------------------------------------------


@dataclass
class _Refusal:
    """Answers everything with one error: people shall read the reason, not a broken connection."""

    error: Ds01Error

    def is_slow(self, _verb: str) -> bool:
        return False

    async def prepare(self, _request: Request, _caller: Caller) -> None:
        raise self.error

    def answer(self, _request: Request, _caller: Caller, _prepared: Any) -> dict[str, Any]:
        raise self.error

    def request(self, _request: Request, _caller: Caller, _prepared: Any) -> dict[str, Any]:
        raise self.error

    def poll(self, _ticket: str, _caller: Caller) -> dict[str, Any]:
        raise self.error

    def cancel(self, _ticket: str, _caller: Caller, _why: str) -> bool:
        return False

    def touch(self, _tickets: list[str]) -> None:
        return


async def refuse(
    listener: socket.socket,
    error: StoreVersion,
    told: Notifier,
    watchdog: float | None,
    path: str,
    who: Callable[[socket.socket], Peer] = peer_of,
    signals: bool = True,
) -> int:
    """Answer with the reason until the store is of this version, or systemd stops us."""
    worker = Worker()
    worker.start()
    server = Server(listener, _Refusal(error), worker, worker, lambda peer: peer.uid == 0, who)
    serving = asyncio.create_task(server.run())
    stop = asyncio.Event()
    if signals:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    told.tell(READY=1, STATUS=f"refuses: {error.what}")
    pause = min(AGAIN_SECONDS, (watchdog or AGAIN_SECONDS * 2) / 2)
    while not stop.is_set() and _still_of_another(path):
        told.tell(WATCHDOG=1)
        try:
            await asyncio.wait_for(stop.wait(), pause)
        except asyncio.TimeoutError:
            continue
    told.tell(STOPPING=1)
    serving.cancel()
    await server.stop()
    return Exit.OK


def _still_of_another(path: str) -> bool:
    try:
        return store.version_of(path) != store.VERSION
    except StoreError:
        return False
