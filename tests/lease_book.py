# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease book in a directory, with clocks and an engine that a test moves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ds01.core.book import Book
from ds01.core.book_clock import Moment
from ds01.core.errors import Ds01Error
from ds01.core.gpu_settings import GpuSettings
from ds01.core.gpus import Inventory
from ds01.core.lease_files import LeaseFiles
from ds01.core.leases import Allowance, Lease
from ds01.core.reconcile import SeenContainer
from ds01.core.store import migrate, open_store
from soak.gpus import lab_gpus, vendor_spec

ALICE = Allowance(1001, "alice", "student", 1, 1, 1.0, max_runtime=3600.0)
BOB = Allowance(1002, "bob", "student", 1, 1, 1.0, max_runtime=3600.0)
CAROL = Allowance(1003, "carol", "researcher", 2, 4, 2.0, True, priority=50, max_runtime=7200.0)
DANA = Allowance(1004, "dana", "admin", None, None, None, True, priority=100)
CONTAINER = "c" * 64


@dataclass
class Hands:
    """The clocks of a host, as a test sets them."""

    boot_id: str = "first"
    boottime: float = 100.0
    wall: float = 1_800_000_000.0

    def __call__(self) -> Moment:
        return Moment(self.boot_id, self.boottime, self.wall)

    def pass_(self, seconds: float) -> None:
        """Time goes by."""
        self.boottime += seconds
        self.wall += seconds

    def reboot(self, boot_id: str, off: float = 60.0) -> None:
        """The host was off for some seconds."""
        self.boot_id, self.boottime = boot_id, 1.0
        self.wall += off


@dataclass
class FakeEngine:
    """Containers by the lease that they name; None: the engine is down."""

    containers: dict[str, list[SeenContainer]] | None = field(default_factory=dict)

    def containers_of(self, lease_id: str) -> list[SeenContainer]:
        if self.containers is None:
            raise Ds01Error("the engine does not answer", "/run/docker.sock")
        return self.containers.get(lease_id, [])


class Desk:
    """A book on the lab's four GPUs, and what is around it."""

    def __init__(self, directory: Path, found: Inventory | None = None, **settings: Any) -> None:
        self.directory = directory
        self.found = found or lab_gpus()
        self.spec: dict[str, Any] | None = vendor_spec(self.found, "/dev/slot-")
        self.hands = Hands()
        self.engine = FakeEngine()
        self.files = LeaseFiles(lambda: self.spec, str(directory / "cdi"))
        self.log = directory / "events.jsonl"
        self.settings = GpuSettings(**settings)
        migrate(self.path)
        self.book = self.opened()
        self.book.reconcile(self.found, [], [])

    @property
    def path(self) -> str:
        return str(self.directory / "state.db")

    def opened(self, **more: Any) -> Book:
        """The book as another process would open it."""
        return Book(
            open_store(self.path),
            self.files,
            self.hands,
            self.settings,
            str(self.log),
            **more,
        )

    def granted(self, lease: Lease | None) -> Lease:
        """A lease that has to be there."""
        assert lease is not None
        return lease

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """What was logged."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [row for line in lines if kind in (row := json.loads(line))["event_type"]]

    def finish(self) -> list[str]:
        """The second step of every end, after its time."""
        self.book.finish(self.engine)
        self.hands.pass_(2)
        return self.book.finish(self.engine)
