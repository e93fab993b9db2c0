# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host and its users, as a test moves them, around a real lease book.

The host's GPUs, containers, processes and clocks are plain values here; the book's store and lease
files are real. A process that dies at a fault point is one more thing that happens.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ds01.core import store
from ds01.core.book import Book, Snapshot
from ds01.core.book_clock import Moment
from ds01.core.gpu_settings import GpuSettings
from ds01.core.gpus import OK, Inventory, Slot, inventory
from ds01.core.lease_files import LeaseFiles
from ds01.core.leases import Allowance, Ask, Lease, Waiter
from ds01.core.reconcile import SeenContainer, SeenProcess
from hypothesis.stateful import RuleBasedStateMachine
from soak.checker import over_limits
from soak.gpus import SEVEN, THREE, gpu, reading, user, vendor_spec
from soak.world import NODES

SETTLE = 1.0
USERS = {
    one.uid: one
    for one in (
        user(0, max_gpus_per_container=1, max_mig_instances=1, allow_full_gpu=False, hold=0.0),
        user(1, max_gpus_per_container=2, hold=600.0, wait=900.0),
        user(2, max_gpus_per_container=3, max_mig_instances=None, priority=40, wait=None),
        user(3, max_gpu_equivalents=None, max_gpus_per_container=None, hold=None, priority=20),
    )
}


class Death(BaseException):
    """The process dies at a fault point."""


@dataclass
class Box:
    """A container of the model."""

    name: str
    uid: int
    lease: str
    state: str = "created"
    slots: tuple[str, ...] = ()
    finished: float = 0.0


class BookHost(RuleBasedStateMachine):
    """The book and its host; what happens to them, and what must hold, is for who inherits it."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="ds01-book-"))
        self.cdi = self.top / "cdi"
        self.cdi.mkdir()
        self.boxes: dict[str, Box] = {}
        self.layout: list[tuple[str, ...] | None] = [None, None, THREE, SEVEN]
        self.salt = [0] * len(self.layout)
        self.lost: set[int] = set()
        self.strangers: set[str] = set()
        self.driver = True
        self.boot, self.boottime, self.wall = 0, 1000.0, 1.8e9
        self.time = self.wall  # what the book's clock has to show
        self.number = 0
        self.armed = ""
        self.before: Snapshot | None = None
        self.died = False  # whether the last step was more than one change
        self.freely = False  # whether the last step may end a hold before its time
        store.migrate(str(self.top / "state.db"))
        self.known: dict[str, Slot] = {}
        self.vendor: dict[str, Any] = {}
        self.look()
        self.book = self.open()
        self.book.reconcile(self.inventory, [], [])

    def open(self) -> Book:
        return Book(
            store.open_store(str(self.top / "state.db")),
            LeaseFiles(lambda: self.vendor, str(self.cdi)),
            lambda: Moment(f"boot{self.boot}", self.boottime, self.wall),
            GpuSettings(),
            str(self.top / "events.jsonl"),
            "test",
            settle_seconds=SETTLE,
            fault=self.fault,
        )

    def fault(self, name: str) -> None:
        if name == self.armed:
            self.armed = ""
            raise Death(name)

    def teardown(self) -> None:
        self.armed = ""
        try:
            self.give_everything_back()
        finally:
            self.book.store.close()
            shutil.rmtree(self.top)

    # --- the host ---------------------------------------------------------------------------------

    def look(self) -> None:
        rows = []
        for index, profiles in enumerate(self.layout):
            row = gpu(index, profiles, salt=f"-{self.salt[index]}")
            row["lost"] = index in self.lost
            rows.append(row)
        found = reading(rows)
        if not self.driver:
            found = {"state": "driver_restarting", "reason": "Driver/library mismatch", "gpus": []}
        self.inventory: Inventory = inventory(found)
        self.known |= {slot.uuid: slot for slot in self.inventory.slots}
        if self.driver:
            self.vendor = vendor_spec(
                replace(self.inventory, slots=tuple(self.known.values())), NODES
            )

    def containers(self) -> list[SeenContainer]:
        return [
            SeenContainer(
                box.name,
                box.name,
                box.state,
                finished=box.finished,
                leases=(box.lease,),
                pid=1 if box.state == "running" else 0,
            )
            for box in self.boxes.values()
        ]

    def containers_of(self, lease_id: str) -> list[SeenContainer]:
        return [seen for seen in self.containers() if lease_id in seen.leases]

    def processes(self) -> list[SeenProcess]:
        mine = [(box, slot) for box in self.boxes.values() for slot in box.slots]
        seen = [
            SeenProcess(number, slot, box.uid, "", "python", box.name)
            for number, (box, slot) in enumerate(mine, 100)
        ]
        return [*seen, *(SeenProcess(7, slot, 0, "root", "stress") for slot in self.strangers)]

    def do(self, action: Callable[[], Any]) -> Any:
        """An operation of the book; where it dies, a new process mends what it left."""
        try:
            return action()
        except Death:
            self.book.store.close()
            self.book = self.open()
            self.mend()
            return None

    def mend(self) -> None:
        self.freely = self.died = True
        self.book.reconcile(self.inventory, self.containers(), self.processes())

    def pick(self, number: int, state: str = "") -> Box | None:
        found = [box for box in self.boxes.values() if state in ("", box.state)]
        return found[number % len(found)] if found else None

    def ticket(self) -> str:
        """Names that are the same when the steps are played again."""
        self.number += 1
        return f"t{self.number:05d}"

    def leases(self) -> list[Lease]:
        return list(self.book.snapshot(eta=False).leases)

    # --- the end -----------------------------------------------------------------------------------

    def give_everything_back(self) -> None:
        """At the end: no slot is lost."""
        self.boxes.clear()
        self.strangers.clear()
        self.lost.clear()
        self.driver = True
        self.look()
        self.mend()
        for queued in self.book.snapshot(eta=False).queue:
            self.book.cancel(queued.waiter.ticket, "the end")
        for lease in self.leases():
            if lease.holding:
                self.book.release(lease.id, "the test", self, wait=False)
        for slot in self.inventory.slots:
            self.book.undrain(slot.uuid, "dana")
        for _turn in range(3):
            self.book.finish(self)
            self.boottime += 2 * SETTLE
            self.time += 2 * SETTLE
        self.mend()
        assert self.leases() == []
        assert list(self.cdi.iterdir()) == []
        everybody = replace(
            USERS[10_003], max_gpu_equivalents=None, max_mig_instances=None, wait=None
        )
        for slot in self.inventory.slots:
            outcome = self.book.request(Ask(devices=(slot.uuid,)), everybody)
            assert outcome.granted is not None


def held(shown: Snapshot) -> Counter[str]:
    return Counter(slot for lease in shown.leases if lease.holding for slot in lease.slots)


def sevenths(slot: Slot) -> int:
    return slot.compute_slices if slot.profile else 7


def could_have(waiter: Waiter, shown: Snapshot, known: dict[str, Slot]) -> bool:
    """Whether free slots would do for a request: by trying each class of them."""
    blocked = {block.slot for block in shown.blocks} | set(held(shown))
    free = [slot for slot in shown.slots if slot.health == OK and slot.uuid not in blocked]
    one: Allowance = waiter.allowance
    ask = waiter.ask
    mine = [
        [known[uuid] for uuid in lease.slots]
        for lease in shown.leases
        if lease.holding and lease.uid == one.uid
    ]
    for profile in {slot.profile for slot in free}:
        some = [slot for slot in free if slot.profile == profile][: ask.count]
        enough = len(some) == ask.count and is_kind(profile, ask.kind)
        if enough and not over_limits(one, [*mine, some]):
            return True
    return False


def is_kind(profile: str, kind: str) -> bool:
    return {"any": True, "mig": bool(profile), "full": not profile}.get(kind, profile == kind)
