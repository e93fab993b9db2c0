# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many processes against one book, killed at every fault point: the short run, and what judges it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ds01.core.leases import Ask, Lease
from soak import checker
from soak.gpus import lab_gpus, user
from soak.place import Place, users
from soak.world import NODES, World

TESTS = Path(__file__).resolve().parents[1]
SLOTS = [slot.uuid for slot in lab_gpus().slots]


def test_no_gpu_is_lost_or_given_twice_by_many_processes_that_are_killed_at_every_step() -> None:
    """Its exit status says so: no violation, and a kill at each fault point."""
    run = subprocess.run(
        [sys.executable, "-m", "soak.soak", "--requests", "2000", "--processes", "8"],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent / 'files/runtime'}:{TESTS}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2,000 requests by 8 processes" in run.stdout


# --- a judge that cannot say guilty is none -------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A book with one bound lease, its container running."""
    found = Place(tmp_path)
    found.build()
    book = found.book()
    granted = book.request(Ask(), users()[10_001]).granted
    assert granted is not None
    world = World(found.world, found.cdi)
    world.create("c1", granted.uid, granted.id)
    book.bind(granted.id, "c1", "c1")
    assert world.start("c1")
    book.store.close()
    world.close()
    return found


def lease_of(place: Place) -> Lease:
    """The one lease there is."""
    book = place.book()
    (lease,) = book.snapshot().leases
    book.store.close()
    return lease


def plant(place: Place, statement: str, *values: object) -> None:
    """A fault in the store, past the book."""
    with sqlite3.connect(place.store) as database:
        database.execute(statement, values)
    database.close()


def write_file(place: Place, lease: str, *slots: str) -> None:
    """A lease file, past the book."""
    nodes = [{"path": NODES + slot} for slot in slots]
    device = {"name": lease, "containerEdits": {"deviceNodes": nodes}}
    (place.cdi / f"ds01-{lease}.json").write_text(json.dumps({"devices": [device]}))


def test_a_sound_book_passes(place: Place) -> None:
    assert checker.rest(place, empty=False) == []
    assert checker.Ledger(place).faults() == []


def test_what_was_not_given_back_is_found(place: Place) -> None:
    (fault,) = checker.rest(place, empty=True)
    assert fault.startswith("not given back")


def test_a_second_lease_on_a_slot_is_found(place: Place) -> None:
    plant(
        place,
        "INSERT INTO leases SELECT 'other', uid, user, state, slots, created, ask, container, "
        "container_name, bound_at, held_at, expires, hold_until, hold, max_runtime, revoked, stale "
        "FROM leases",
    )
    assert f"{lease_of_slot(place)} is leased 2 times" in checker.rest(place, empty=False)


def lease_of_slot(place: Place) -> str:
    """The slot that the fixture leased."""
    with sqlite3.connect(place.store) as database:
        (text,) = database.execute("SELECT slots FROM leases LIMIT 1").fetchone()
    database.close()
    return str(json.loads(text)[0])


def test_a_lease_without_a_file_and_a_file_without_a_lease_are_found(place: Place) -> None:
    lease = lease_of(place)
    (place.cdi / f"ds01-{lease.id}.json").unlink()
    free = next(slot for slot in SLOTS if slot not in lease.slots)
    write_file(place, "ghost", free)
    faults = checker.rest(place, empty=False)
    assert f"no file for {lease.id}" in faults
    assert "a file for ghost, which holds nothing" in faults


def test_a_file_that_opens_somebody_elses_slot_is_found(place: Place) -> None:
    lease = lease_of(place)
    write_file(place, "ghost", *lease.slots)
    text = f"the file of ghost opens {lease.slots[0]}, which {lease.id} has"
    assert text in checker.rest(place, empty=False)


def test_two_containers_on_one_slot_are_found(place: Place) -> None:
    write_file(place, "ghost", *lease_of(place).slots)
    world = World(place.world, place.cdi)
    world.create("c2", 0, "ghost")
    assert world.start("c2")
    world.close()
    faults = checker.rest(place, empty=False)
    assert any(fault.startswith("double use: c2 started on") for fault in faults)


def test_an_event_that_is_lost_and_one_that_is_told_twice_are_found(place: Place) -> None:
    lines = place.events.read_text().splitlines(keepends=True)
    reserved, bound = (
        next(line for line in lines if f'"gpu.{word}"' in line) for word in ("reserved", "bound")
    )
    place.events.write_text("".join([*(x for x in lines if x != reserved), bound]))
    lease = lease_of(place).id
    assert sorted(checker.Ledger(place).faults()) == [
        f"the event log has too often: 1 x gpu.bound of {lease}",
        f"the event log lacks 1 x gpu.reserved of {lease}",
    ]


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"max_gpu_equivalents": 0.9}, "user1 has 7/7 of 0.9 GPUs"),
        ({"max_mig_instances": 0}, "user1 has 1 MIG instances of 0"),
        ({"max_gpus_per_container": 1}, "user1 has more than 1 slots in one lease"),
        ({"allow_full_gpu": False}, "user1 has a full GPU and may not"),
    ],
)
def test_leases_over_a_limit_are_found(limits: dict[str, float], fault: str) -> None:
    slots = lab_gpus().slots
    full, mig = slots[0], slots[-1]
    wide = {"max_gpu_equivalents": None, "max_mig_instances": None, "max_gpus_per_container": None}
    leases = {
        "max_gpu_equivalents": [[full]],
        "allow_full_gpu": [[full]],
        "max_mig_instances": [[mig]],
    }
    chosen = leases.get(next(iter(limits)), [[full, mig]])
    assert checker.over_limits(user(1, **{**wide, **limits}), chosen) == [fault]
    assert checker.over_limits(user(1, **wide), chosen) == []
