# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a soak happens: its folder, its users, its GPUs, its clock."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ds01.core import store
from ds01.core.book import Book
from ds01.core.book_clock import Moment
from ds01.core.gpu_settings import GpuSettings
from ds01.core.lease_files import LeaseFiles
from ds01.core.leases import Allowance
from soak.gpus import lab_gpus, user, vendor_spec
from soak.world import NODES

SPEED = 100.0
"""Seconds of the soak in one second: holds and reservations run out while it lasts."""

SETTLE = 2.0
"""Seconds of the soak between the two steps of an end."""

USERS = 20

VENDOR = vendor_spec(lab_gpus(), NODES)

# What is committed is noted by the file itself, so that the event log can be compared with it.
_AUDIT = """
CREATE TABLE soak_audit (
  n INTEGER PRIMARY KEY, lease TEXT, was TEXT, state TEXT, was_revoked INTEGER, revoked INTEGER,
  moved INTEGER
);
CREATE TRIGGER soak_new AFTER INSERT ON leases BEGIN
  INSERT INTO soak_audit (lease, was, state, was_revoked, revoked, moved)
  VALUES (new.id, '', new.state, 0, new.revoked IS NOT NULL, 0);
END;
CREATE TRIGGER soak_changed AFTER UPDATE ON leases BEGIN
  INSERT INTO soak_audit (lease, was, state, was_revoked, revoked, moved)
  VALUES (new.id, old.state, new.state, old.revoked IS NOT NULL, new.revoked IS NOT NULL,
          old.container IS NOT new.container);
END;
CREATE TRIGGER soak_gone AFTER DELETE ON leases BEGIN
  INSERT INTO soak_audit (lease, was, state, was_revoked, revoked, moved)
  VALUES (old.id, old.state, '', old.revoked IS NOT NULL, 0, 0);
END;
"""


def users() -> dict[int, Allowance]:
    """Students, researchers and one whose limits are wide, by uid."""
    found = {}
    for number in range(USERS):
        kind = number % 4
        if kind == 0:
            one = user(
                number,
                max_gpus_per_container=1,
                max_mig_instances=1,
                allow_full_gpu=False,
                max_gpu_equivalents=0.5,
                hold=0.0,
            )
        elif kind == 1:
            one = user(number, hold=60.0, wait=120.0)
        elif kind == 2:
            one = user(
                number,
                group="researcher",
                max_gpus_per_container=3,
                max_mig_instances=None,
                max_gpu_equivalents=2.5,
                priority=50,
                hold=300.0,
                wait=None,
            )
        else:
            one = user(
                number,
                max_gpus_per_container=None,
                max_mig_instances=2,
                max_gpu_equivalents=None,
                priority=20,
                hold=None,
            )
        found[one.uid] = one
    return found


@dataclass(frozen=True)
class Place:
    """The folder of a run and what lies where in it."""

    top: Path

    @property
    def store(self) -> Path:
        """The book's store."""
        return self.top / "state.db"

    @property
    def cdi(self) -> Path:
        """The lease files."""
        return self.top / "cdi"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.top / "events.jsonl"

    @property
    def world(self) -> Path:
        """The truth about containers."""
        return self.top / "world.db"

    @property
    def logs(self) -> Path:
        """What workers say they did."""
        return self.top / "logs"

    @property
    def errors(self) -> Path:
        """Exceptions that no worker should have seen."""
        return self.top / "errors"

    @property
    def boot(self) -> Path:
        """Which boot it is, and where its clocks stand."""
        return self.top / "boot.json"

    def build(self) -> None:
        """Everything empty."""
        for folder in (self.cdi, self.logs):
            folder.mkdir(exist_ok=True)
        self.reboot()
        store.migrate(str(self.store))
        with sqlite3.connect(self.store) as database:
            database.executescript(_AUDIT)
        database.close()
        book = self.book()
        book.reconcile(lab_gpus(), [], [])
        book.store.close()  # a connection must not be carried over a fork(2)

    def book(self, fault: Callable[[str], None] = lambda _name: None) -> Book:
        """The book, as a process opens it."""
        return Book(
            store.open_store(str(self.store)),
            LeaseFiles(lambda: VENDOR, str(self.cdi)),
            self.clock,
            GpuSettings(),
            str(self.events),
            "soak",
            settle_seconds=SETTLE,
            fault=fault,
        )

    def reboot(self) -> None:
        """Another boot: the clock of the boot starts anew."""
        self._set_clock(f"boot-{time.monotonic_ns()}", time.time())

    def power_cut(self) -> None:
        """The machine goes off and on: /run is empty, nothing runs, and another boot begins."""
        for path in self.cdi.iterdir():
            path.unlink()
        self.reboot()

    def set_wall(self, seconds: float) -> None:
        """Somebody puts the wall clock.

        :param seconds: how far, against what it would show by itself.
        """
        now = json.loads(self.boot.read_text(encoding="utf-8"))
        self._set_clock(now["boot_id"], time.time() + seconds, now["start"])

    def _set_clock(self, boot_id: str, wall: float, start: float | None = None) -> None:
        work = self.top / f".boot.{os.getpid()}"
        start = time.monotonic() if start is None else start
        state = {"boot_id": boot_id, "start": start, "wall": wall - start}
        work.write_text(json.dumps(state), encoding="utf-8")
        os.replace(work, self.boot)

    def clock(self) -> Moment:
        """The clocks of this place."""
        now = json.loads(self.boot.read_text(encoding="utf-8"))
        passed = (time.monotonic() - now["start"]) * SPEED
        return Moment(now["boot_id"], passed, now["wall"] + now["start"] + passed)
