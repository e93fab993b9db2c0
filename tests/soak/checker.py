# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An eye of its own: reads store, lease files, world and event log without any code of the book."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ds01.core.gpus import Slot
from ds01.core.leases import Allowance
from soak.gpus import lab_gpus
from soak.place import Place, users
from soak.world import World, slots_of_file

HOLDING = ("reserved", "bound", "held")


def watch(place: Place, told: Path) -> None:
    """Look again and again until ``told`` exists; then write into it how often.

    :raises AssertionError: something is wrong.
    """
    looks = 0
    while not told.exists():
        with _still(place) as database:
            faults = book_faults(database) + safety_faults(database, place.cdi)
        looks += 1
        if faults:
            raise AssertionError("\n".join(faults))
        time.sleep(0.02)
    told.write_text(str(looks), encoding="utf-8")


def rest(place: Place, *, empty: bool) -> list[str]:
    """What is wrong when nobody works and the book was reconciled.

    :param empty: everything was given back.
    """
    world = World(place.world, place.cdi)
    with _still(place) as database:
        faults = book_faults(database) + safety_faults(database, place.cdi)
        faults += [f"double use: {text}" for text in world.violations()]
        holding = _holding(database)
        faults += _file_faults(_with_file(database), place.cdi)
        for container in world.containers():
            if container.state == "running":
                held = holding.get(container.lease, (0, []))[1]
                if sorted(held) != sorted(container.slots):
                    faults.append(f"{container.id} runs on {container.slots}, its lease has {held}")
        if empty and (holding or _files(place.cdi)):
            faults.append(f"not given back: {sorted(holding)}, files {sorted(_files(place.cdi))}")
        waiting = database.execute("SELECT count(*) FROM queue").fetchone()[0]
        if empty and waiting:
            faults.append(f"{waiting} still wait")
    world.close()
    return faults


@contextmanager
def _still(place: Place) -> Iterator[sqlite3.Connection]:
    """The store while no writer is at work: by the lock file, as anybody could take it."""
    descriptor = os.open(place.store.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    database = sqlite3.connect(f"file:{place.store}?mode=ro", uri=True, timeout=60)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        database.execute("BEGIN")
        yield database
    finally:
        database.close()
        os.close(descriptor)


def _holding(database: sqlite3.Connection) -> dict[str, tuple[int, list[str]]]:
    rows = database.execute(
        f"SELECT id, uid, slots FROM leases WHERE state IN {HOLDING}"
    ).fetchall()
    return {lease: (uid, json.loads(slots)) for lease, uid, slots in rows}


def book_faults(database: sqlite3.Connection) -> list[str]:
    """Doubles and overdrafts in the store."""
    holding = _holding(database)
    times = Counter(slot for _uid, slots in holding.values() for slot in slots)
    faults = [f"{slot} is leased {number} times" for slot, number in times.items() if number > 1]
    taken = set(database.execute("SELECT slot, lease FROM taken").fetchall())
    held = {(slot, lease) for lease, (_uid, slots) in holding.items() for slot in slots}
    if taken != held:
        faults.append(f"taken slots and leases differ: {sorted(taken ^ held)}")
    known = {slot.uuid: slot for slot in lab_gpus().slots}
    for uid, one in users().items():
        mine = [
            [known[uuid] for uuid in slots] for owner, slots in holding.values() if owner == uid
        ]
        faults += over_limits(one, mine)
    return faults


def over_limits(one: Allowance, leases: list[list[Slot]]) -> list[str]:
    """What a user's leases exceed, by sums of its own."""
    slots = [slot for lease in leases for slot in lease]
    sevenths = sum(slot.compute_slices if slot.profile else 7 for slot in slots)
    migs = sum(1 for slot in slots if slot.profile)
    faults = []
    if one.max_gpu_equivalents is not None and sevenths > 7 * one.max_gpu_equivalents + 1e-9:
        faults.append(f"{one.user} has {sevenths}/7 of {one.max_gpu_equivalents} GPUs")
    if one.max_mig_instances is not None and migs > one.max_mig_instances:
        faults.append(f"{one.user} has {migs} MIG instances of {one.max_mig_instances}")
    most = one.max_gpus_per_container
    if most is not None and any(len(lease) > most for lease in leases):
        faults.append(f"{one.user} has more than {most} slots in one lease")
    if not one.allow_full_gpu and len(slots) > migs:
        faults.append(f"{one.user} has a full GPU and may not")
    return faults


def safety_faults(database: sqlite3.Connection, cdi: Path) -> list[str]:
    """Files with which a container could open a slot that is somebody else's.

    Right after a kill a file may be too many or too few, but never one of these.
    """
    holder = {slot: lease for lease, (_uid, slots) in _holding(database).items() for slot in slots}
    faults = []
    seen: dict[str, str] = {}
    for lease, slots in _files(cdi).items():
        for slot in slots:
            if holder.get(slot, lease) != lease:
                faults.append(f"the file of {lease} opens {slot}, which {holder[slot]} has")
            if slot in seen:
                faults.append(f"the files of {lease} and {seen[slot]} open {slot}")
            seen[slot] = lease
    return faults


def _files(cdi: Path) -> dict[str, list[str]]:
    names = [path.name for path in cdi.iterdir() if not path.name.startswith(".")]
    leases = [name.removeprefix("ds01-").removesuffix(".json") for name in names]
    return {lease: slots_of_file(cdi, lease) or [] for lease in leases}


def _with_file(database: sqlite3.Connection) -> dict[str, list[str]]:
    """Leases that may be started with: not those that are on their way to free."""
    rows = database.execute(
        f"SELECT id, slots FROM leases WHERE state IN {HOLDING} AND revoked IS NULL AND NOT stale"
    ).fetchall()
    return {lease: json.loads(slots) for lease, slots in rows}


def _file_faults(leases: Mapping[str, list[str]], cdi: Path) -> list[str]:
    wanted = {lease: sorted(slots) for lease, slots in leases.items()}
    found = {lease: sorted(slots) for lease, slots in _files(cdi).items()}
    faults = [f"no file for {lease}" for lease in wanted.keys() - found.keys()]
    faults += [f"a file for {lease}, which holds nothing" for lease in found.keys() - wanted.keys()]
    both = wanted.keys() & found.keys()
    return faults + [f"the file of {x} has other slots" for x in both if wanted[x] != found[x]]


class Ledger:
    """Committed changes of leases against the event log: each stands there once.

    It reads on from where it stopped, and only when nobody works.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._row = 0
        self._byte = 0
        self._open: Counter[tuple[str, str]] = Counter()
        self.changes = 0

    def faults(self) -> list[str]:
        """What was committed and not logged, or logged more often than committed."""
        with _still(self._place) as database:
            rows = database.execute(
                "SELECT n, lease, was, state, was_revoked, revoked, moved FROM soak_audit"
                " WHERE n > ? ORDER BY n",
                (self._row,),
            ).fetchall()
            left = database.execute("SELECT count(*) FROM outbox").fetchone()[0]
        for number, lease, *change in rows:
            self._row = number
            for kind in _events_of(*change):
                self._open[lease, kind] += 1
                self.changes += 1
        self._read_log()
        faults = [f"{left} events are committed and not logged"] if left else []
        for (lease, kind), number in self._open.items():
            if number:
                word = "lacks" if number > 0 else "has too often:"
                faults.append(f"the event log {word} {abs(number)} x {kind} of {lease}")
        self._open = Counter({key: number for key, number in self._open.items() if number})
        return faults

    def _read_log(self) -> None:
        with open(self._place.events, "rb") as stream:
            stream.seek(self._byte)
            for line in stream:
                self._byte += len(line)
                record = json.loads(line)
                if record["event_type"] in _LEASE_EVENTS:
                    self._open[record["details"]["lease"], record["event_type"]] -= 1


_LEASE_EVENTS = {
    f"gpu.{word}"
    for word in (
        "reserved",
        "bound",
        "held",
        "revoked",
        "resumed",
        "released",
        "retaken",
        "adopted",
    )
}


def _events_of(was: str, state: str, was_revoked: int, revoked: int, moved: int) -> Iterator[str]:
    """The events that one change of a lease's row has to be told by."""
    if was not in HOLDING:
        if state == "bound":
            yield "gpu.retaken" if was else "gpu.adopted"
        elif state in HOLDING:
            yield "gpu.reserved"
        return
    if state not in HOLDING:
        yield "gpu.released"
        return
    if state == "bound" and (was != "bound" or moved):
        yield "gpu.bound"
    if state == "held" and was != "held":
        yield "gpu.held"
    if revoked and not was_revoked:
        yield "gpu.revoked"
    if was_revoked and not revoked:
        yield "gpu.resumed"
