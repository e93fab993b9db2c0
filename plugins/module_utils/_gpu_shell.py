# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the lease book to the host's adapters, for the modules."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from typing import Any

from ._core import apply, limits
from ._core.book import Book, Queued, Snapshot
from ._core.book_clock import host_clock
from ._core.errors import Ds01Error
from ._core.events import EVENTS_PATH
from ._core.gpu_request import use_of
from ._core.gpu_settings import GPU_SETTINGS_PATH, read_settings
from ._core.gpus import OK, READY, Inventory, Slot, inventory, settled
from ._core.lease_files import DIRECTORY, LeaseFiles, device_name
from ._core.leases import Allowance, Lease, Waiter, allowance
from ._core.lookout import Lookout
from ._core.sightings import Action
from ._core.store import STATE_PATH, Store, open_store
from ._host import accounts, nvml
from ._host.cdi_spec import DIRECTORIES, VendorSpec
from ._host.engine import EngineError
from ._host.engine_gpu import GpuEngine
from ._host.procs import Processes
from ._respawn import RUNTIME_PYTHON

#: Options of the documentation fragment ``gpu_book``.
ARGUMENTS: dict[str, Any] = {
    "store_path": {"type": "path", "default": STATE_PATH},
    "limits_path": {"type": "path", "default": apply.LIMITS_PATH},
    "settings_path": {"type": "path", "default": GPU_SETTINGS_PATH},
    "vendor_dirs": {"type": "list", "elements": "path", "default": list(DIRECTORIES)},
}


@contextmanager
def opened(params: Mapping[str, Any], source: str, trial: bool = False) -> Iterator[Book]:
    """The lease book of this host.

    :param params: the module's; one that only reads has fewer.
    :param source: the module's name, for events.
    :param trial: open a copy in a directory of its own, to see what would come of a change.
    :raises Ds01Error: the store is missing, damaged or of another version; the settings are wrong.
    """
    settings = read_settings(params["settings_path"])
    vendor = VendorSpec(settings.vendor_kind, params["vendor_dirs"])
    store = open_store(params["store_path"])
    try:
        if not trial:
            files = LeaseFiles(vendor, params.get("lease_dir", DIRECTORY))
            log = params.get("event_log", EVENTS_PATH)
            yield Book(store, files, host_clock, settings, log, source)
            return
        with tempfile.TemporaryDirectory(prefix="ds01-trial-") as folder:
            copy = os.path.join(folder, "state.db")
            _duplicate(store, copy)
            with closing(open_store(copy)) as trial_store:
                files = LeaseFiles(vendor, os.path.join(folder, "cdi"))
                _copy_files(LeaseFiles(vendor, params["lease_dir"]), files)
                yield Book(
                    trial_store,
                    files,
                    host_clock,
                    settings,
                    os.path.join(folder, "events.jsonl"),
                    source,
                    settle_seconds=0.0,
                )
    finally:
        store.close()


def _duplicate(store: Store, target: str) -> None:
    """Copy a store as it is at one moment (VACUUM INTO reads in one transaction)."""
    try:
        store.connection().execute("VACUUM INTO ?", (target,))
    except sqlite3.Error as error:
        raise Ds01Error(
            f"the store cannot be copied for a trial: {error}",
            target,
            "Look at the free space there (df); nothing was changed",
        ) from error


def _copy_files(source: LeaseFiles, target: LeaseFiles) -> None:
    """The lease files tell whose what is, where the book was lost."""
    os.makedirs(target.directory)
    for lease_id in source.present():
        with contextlib.suppress(FileNotFoundError):  # one that ends meanwhile
            shutil.copyfile(source.path(lease_id), target.path(lease_id))


def account_of(user: str) -> accounts.HostAccount:
    """A user by account name or uid.

    Limits follow the account that the host names for the uid, so that a second name of the same uid
    is not a way to other limits.

    :raises Ds01Error: the host knows no such user.
    """
    found = accounts.find(user)
    if found is None and user.isascii() and user.isdecimal():
        found = accounts.by_uid(int(user))
    if found is None:
        raise Ds01Error(
            f"this host knows no user {user[:80]!r}",
            "user",
            "See 'getent passwd'; name the account as the host does, or its uid",
        )
    return accounts.by_uid(found.uid) or found


def allowance_of(account: accounts.HostAccount, limits_path: str) -> Allowance:
    """What a user may lease by the limits in force.

    :raises Ds01Error: no limits were applied yet, or their record is damaged.
    """
    applied = apply.read_applied(limits_path)
    if applied is None:
        raise Ds01Error(
            "no limits are in force on this host yet",
            limits_path,
            "Run site.yml: its role slices applies the limits",
        )
    group, _why = limits.group_of(applied[0], account.name, account.groups)
    settings = limits.of_user(applied[0], account.name, group, datetime.now().astimezone())
    return allowance(account.uid, account.name, group, settings)


def inventory_now() -> Inventory:
    """What NVML says now.

    :raises Ds01Error: its bindings are missing. This says nothing of the GPUs, so it is not taken for
        a driver that is absent.
    """
    try:
        return inventory(nvml.read())
    except ImportError as error:
        raise Ds01Error(
            "NVML's Python bindings are missing, so the GPUs cannot be seen",
            RUNTIME_PYTHON,
            "Run site.yml: its role runtime installs them",
        ) from error


def engine(socket: str | None = None) -> Lookout:
    """The engine as the book asks it, and the host's processes.

    :param socket: the engine's; the usual one if not given.
    """
    return Lookout(GpuEngine(socket), Processes(), EngineError)


def who() -> str:
    """Who runs the module, for events: the one who became root, if anybody did (sudo(8))."""
    return os.environ.get("SUDO_USER") or "root"


# --- a book for people and playbooks --------------------------------------------------------------


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch in RFC 3339."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def slot_row(slot: Slot) -> dict[str, Any]:
    """A slot's names."""
    return {"uuid": slot.uuid, "index": slot.index, "profile": slot.profile}


def lease_row(lease: Lease | None, book: Snapshot) -> dict[str, Any] | None:
    """A lease as the modules return it."""
    if lease is None:
        return None
    slots = {slot.uuid: slot for slot in book.slots}
    until = {"reserved": lease.expires, "held": lease.hold_until}.get(lease.state)
    return {
        "id": lease.id,
        "device": device_name(lease.id),
        "state": lease.state,
        "user": lease.user,
        "uid": lease.uid,
        "slots": [
            slot_row(slots[uuid]) if uuid in slots else {"uuid": uuid, "index": "", "profile": ""}
            for uuid in lease.slots
        ],
        "container": lease.container,
        "container_name": lease.container_name,
        "request": lease.ask.name,
        "note": lease.ask.note,
        "since": moment(book.wall_of(lease.created)),
        "until": None if until is None else moment(book.wall_of(until)),
        "stale": lease.stale,
    }


def queue_row(queued: Queued, book: Snapshot) -> dict[str, Any]:
    """A waiting request as the modules return it."""
    waiter = queued.waiter
    return {
        "position": queued.position,
        "estimate": None if queued.eta is None else moment(book.wall + queued.eta),
        "user": waiter.allowance.user,
        "uid": waiter.allowance.uid,
        "since": moment(book.wall_of(waiter.asked)),
        "count": waiter.ask.count,
        "kind": waiter.ask.kind,
        "devices": list(waiter.ask.devices),
        "request": waiter.ask.name,
        "note": waiter.ask.note,
        "reason": queued.reason,
    }


def slot_rows(book: Snapshot) -> list[dict[str, Any]]:
    """Every slot with who has it and why it is not handed out."""
    holders = {uuid: lease for lease in book.leases if lease.holding for uuid in lease.slots}
    rows = []
    for slot in book.slots:
        lease = holders.get(slot.uuid)
        blocks = {block.why: block.text for block in book.blocks if block.slot == slot.uuid}
        drained = blocks.pop("drained", None)
        rows.append(
            {
                **slot_row(slot),
                "parent": slot.parent,
                "memory": slot.memory,
                "equivalents": round(slot.sevenths / 7, 4),
                "health": slot.health,
                "lease": lease.id if lease else None,
                "user": lease.user if lease else None,
                "drained": drained,
                "blocked": "; ".join(blocks.values()) or None,
                "free": slot.health == OK and not lease and drained is None and not blocks,
            }
        )
    return rows


def user_rows(book: Snapshot) -> list[dict[str, Any]]:
    """What each user has who has something."""
    slots = {slot.uuid: slot for slot in book.slots}
    users = {lease.uid: lease.user for lease in book.leases if lease.holding}
    rows = []
    for uid, user in sorted(users.items(), key=lambda row: row[1]):
        used = use_of(book.leases, slots, uid)
        rows.append(
            {
                "uid": uid,
                "user": user,
                "equivalents": round(used.sevenths / 7, 4),
                "mig_instances": used.mig,
                "leases": sum(lease.holding and lease.uid == uid for lease in book.leases),
            }
        )
    return rows


def table(book: Snapshot) -> str:
    """The slots and the queue as text, for diffs: a line each, and nothing that time changes."""
    leases = {lease.id: lease for lease in book.leases}
    lines = []
    for row in slot_rows(book):
        words = []
        if row["health"] != "ok":
            words.append(row["health"])
        if row["lease"]:
            lease = leases[row["lease"]]
            words.append(f"{lease.state} for {lease.user}{_named(lease)}, lease {lease.id}")
        if row["drained"] is not None:
            words.append(f"drained: {row['drained']}")
        if row["blocked"]:
            words.append(f"blocked: {row['blocked']}")
        lines.append(f"{row['index']} {row['profile'] or 'GPU'}: {'; '.join(words) or 'free'}")
    for queued in book.queue:
        waiter = queued.waiter
        lines.append(f"waiting: {waiter.allowance.user}, {_wanted(waiter)}")
    return "".join(f"{line}\n" for line in lines)


def seen_changes(book: Snapshot, found: Inventory) -> list[str]:
    """What NVML says now and the book does not say yet, in words."""
    words = []
    if book.driver != found.state:
        words.append("driver_ready" if found.state == READY else found.state)
    indices = {slot.uuid: slot.index for slot in (*book.slots, *found.slots)}
    _slots, changes = settled(book.slots, found)
    return words + [
        f"{change.kind} {indices.get(change.subject, change.subject)}" for change in changes
    ]


def told(action: Action, book: Snapshot) -> str:
    """An action of a reconciliation, in words: ``end l4f1c: its container is gone``."""
    indices = {slot.uuid: slot.index for slot in book.slots}
    uuids = (action.block.slot,) if action.block else action.slots
    subject = action.lease or " ".join(indices.get(uuid, uuid) for uuid in uuids)
    why = action.why or (action.block.text if action.block else "") or action.container_name
    return f"{action.kind} {subject}: {why}" if why else f"{action.kind} {subject}"


def _named(lease: Lease) -> str:
    return f" ({lease.ask.name})" if lease.ask.name else ""


def _wanted(waiter: Waiter) -> str:
    ask = waiter.ask
    return " ".join(ask.devices) if ask.devices else f"{ask.count} x {ask.kind}"
