# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of GPU leases: the helper daemon, the store, the lease files, and use without a lease."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ds01.core.book import Book
from ds01.core.book_view import Snapshot
from ds01.core.errors import Ds01Error
from ds01.core.gpus import DRIVER_ABSENT, OK, READY
from ds01.core.sightings import SeenContainer
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine

LEASES = "GPU leases"
AGAIN = "Run playbooks/site.yml --tags runtime"
# It mends the lease files at its start.
RESTART = "Run systemctl restart ds01d.service; if it stays so, read journalctl -u ds01d.service"


@dataclass(frozen=True)
class GpuFacts:
    """What the checks look at.

    :param ping: asks the helper daemon; raises :class:`Ds01Error` when it does not answer well.
    :param book: opens the lease book after the whole store was looked at; root only.
    :param containers: all containers of the engine.
    """

    ping: Callable[[], object]
    book: Callable[[], Book]
    containers: Callable[[], Sequence[SeenContainer]]


def this_host() -> GpuFacts:
    """Those of the host that this runs on."""
    from ds01 import client
    from ds01.core import store
    from ds01.daemon.main import make_book
    from ds01.daemon.world import HostWorld

    def book() -> Book:
        store.check()
        return make_book(store.open_store(), "doctor")

    return GpuFacts(lambda: client.ask("ping"), book, lambda: HostWorld().containers())


def check_daemon(machine: Machine) -> Iterator[Finding]:
    """Whether the helper daemon serves, and will after the next boot."""
    if machine.gpu is None:
        return
    try:
        machine.gpu.ping()
    except Ds01Error as error:
        where = error.where or "ds01d.service"
        yield Finding(Severity.ERROR, "helper daemon", error.what, where, error.remedy or RESTART)
    for unit in ("ds01d.socket", "ds01d.service"):
        state = machine.unit_state(unit)
        if state != "active":
            yield Finding(Severity.ERROR, "helper daemon", f"the unit is {state}", unit, AGAIN)


def check_leases(machine: Machine) -> Iterator[Finding]:
    """Whether book, lease files, driver and engine agree.

    :raises Ds01Error: the store is missing, of another version or damaged.
    """
    if machine.gpu is None:
        return
    if os.geteuid() != 0:
        what = "GPU leases were not looked at: only root may"
        yield Finding(Severity.NOTICE, LEASES, what, "/var/lib/ds01/state.db", "Run as root")
        return
    book = machine.gpu.book()
    snapshot = book.snapshot(eta=False)
    yield from _driver(snapshot)
    yield from _files(book, snapshot)
    yield from _slots(snapshot)
    yield from _described(book, snapshot)
    yield from _shared(machine.gpu)


def _driver(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.driver == READY:
        return
    reason = f" ({snapshot.driver_reason})" if snapshot.driver_reason else ""
    if snapshot.driver == DRIVER_ABSENT:
        what = f"this host has no GPU driver{reason}: no GPU is handed out"
        severity = Severity.WARNING if snapshot.slots else Severity.NOTICE
    else:
        what = f"the GPU driver does not answer{reason}: no GPU is handed out"
        severity = Severity.ERROR
    remedy = "See nvidia-smi and dmesg; leases go on when it answers again"
    yield Finding(severity, LEASES, what, "NVML", remedy)


def _files(book: Book, snapshot: Snapshot) -> Iterator[Finding]:
    """No lease without its file, no file without its lease."""
    files = set(book.files.present())
    alive = {one.id: one for one in snapshot.leases if one.holding and one.revoked is None}
    for name, lease in alive.items():
        if name not in files and not lease.stale:
            subject = lease.container_name or "its container"
            what = f"a lease of {lease.user} has no file: {subject} cannot start"
            yield Finding(Severity.ERROR, LEASES, what, book.files.path(name), RESTART)
    ending = {one.id for one in snapshot.leases if one.holding and one.revoked is not None}
    for name in sorted(files - set(alive) - ending):
        what = "a lease file without a lease: a container could get GPUs that are somebody else's"
        where = f"{book.files.directory}/ds01-{name}.json"
        yield Finding(Severity.ERROR, LEASES, what, where, RESTART)


def _slots(snapshot: Snapshot) -> Iterator[Finding]:
    names = {slot.uuid: slot for slot in snapshot.slots}
    for lease in snapshot.leases:
        if lease.holding and lease.stale:
            gone = [u for u in lease.slots if u not in names or names[u].health != OK]
            what = f"a lease of {lease.user} is stale: {', '.join(gone)} is not there any more"
            remedy = f"Have it given back: ds01 gpu release {lease.id}"
            yield Finding(Severity.WARNING, LEASES, what, lease.container_name or "-", remedy)
    for block in snapshot.blocks:
        index = names[block.slot].index if block.slot in names else block.slot
        if block.why == "foreign":
            what = f"in use without a lease: {block.text}"
            remedy = "End that use, or lease the GPU; until then it is not handed out"
            yield Finding(Severity.WARNING, LEASES, what, f"GPU {index}", remedy)
        elif block.why == "drained":
            what = f"drained by {block.by}: {block.text}"
            remedy = f"When it is done: ds01 gpu undrain {index}"
            yield Finding(Severity.NOTICE, LEASES, what, f"GPU {index}", remedy)
    for slot in snapshot.slots:
        if slot.health == "lost":
            remedy = "See dmesg for Xid messages; a reboot may bring it back"
            yield Finding(Severity.ERROR, LEASES, "the GPU is lost", f"GPU {slot.index}", remedy)


def _described(book: Book, snapshot: Snapshot) -> Iterator[Finding]:
    for slot in book.files.undescribed([s for s in snapshot.slots if s.health == OK]):
        what = "the vendor's CDI spec does not describe it, so it cannot be leased"
        remedy = "Run playbooks/site.yml --tags gpu_host: it makes the spec anew"
        yield Finding(Severity.ERROR, LEASES, what, f"GPU {slot.index} ({slot.uuid})", remedy)


def _shared(facts: GpuFacts) -> Iterator[Finding]:
    users: dict[str, list[str]] = {}
    try:
        containers = facts.containers()
    except Ds01Error:
        return  # the check of the engine says so
    for seen in containers:
        for lease in seen.leases:
            users.setdefault(lease, []).append(seen.name)
    for lease, names in sorted(users.items()):
        if len(names) > 1:
            what = f"one lease is named by {len(names)} containers: {', '.join(sorted(names))}"
            remedy = "Make all but one of them anew, each with a lease of its own"
            yield Finding(Severity.WARNING, LEASES, what, lease, remedy)
