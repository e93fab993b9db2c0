# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of owners: what a crash at any step leaves, and how little a user can make it keep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ds01.core import owner_limits, owner_rows
from ds01.core.events import Event
from ds01.core.leases import BOUND, RESERVED, Ask
from ds01.core.owner_book import OwnerBook, TooMany
from ds01.core.owners import CONTAINER, EXEC, VOLUME, ContainerFacts, Mount, Record, SetBy
from lease_book import ALICE
from owner_desk import ONE, TWO, WALL, OwnerDesk, intent, made, seen, weak

REPO = Path(__file__).parents[2]
MOMENT = datetime(2027, 1, 15, 8, 0, tzinfo=timezone.utc)
BEFORE = ["locked", "decided"]
AFTER = ["committed", "event_appended", "events_logged"]


@pytest.fixture
def desk(tmp_path: Path) -> OwnerDesk:
    return OwnerDesk(tmp_path)


def started(thing_id: str = ONE) -> Event:
    return Event("container.started", "ds01d", "bob", {"id": thing_id[:12]}, MOMENT)


def reserve(book: OwnerBook, _lease: str) -> None:
    book.reserve(intent("t2"))


def bind(book: OwnerBook, lease: str) -> None:
    book.bind("t1", TWO, "new", lease_ids=[lease])


def apply(book: OwnerBook, _lease: str) -> None:
    book.apply([seen(TWO, owner=weak()), seen(state="exited")], [started(TWO), started()], 77)


def set_owner(book: OwnerBook, _lease: str) -> None:
    book.set_owner(CONTAINER, ONE, SetBy(1003, "carol", "root", WALL))


def unset_owner(book: OwnerBook, _lease: str) -> None:
    book.unset_owner(CONTAINER, ONE, "root")


def record(book: OwnerBook, _lease: str) -> None:
    book.record(EXEC, "e1", made(), parent=ONE, durable=False)


def claim(book: OwnerBook, _lease: str) -> None:
    book.claim_mended("t1", TWO, "new")


def forget(book: OwnerBook, _lease: str) -> None:
    book.forget(WALL)


Step = Callable[[OwnerBook, str], None]
STEPS = (reserve, bind, apply, set_owner, unset_owner, record, claim, forget)


def prepared(desk: OwnerDesk) -> str:
    """Something of everything; the id of alice's lease."""
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.owners.reserve(intent())
    desk.owners.apply([seen(owner=weak()), seen("9" * 64, gone=WALL - 1)])
    desk.owners.set_owner(CONTAINER, ONE, SetBy(1004, "dana", "root", WALL))
    return lease.id


def state(desk: OwnerDesk) -> list[str]:
    """All that is known, but for times and what is still to be logged."""
    connection = desk.owners.store.connection()
    tables = {
        "things": "kind, id, name, uid, parent, state, gone, made, set_by, owner, undecided",
        "intents": "token, uid, data",
        "leases": "id, state, container",
        "taken": "slot, lease",
        "meta": "key, CASE WHEN key = 'engine_cursor' THEN value END",
        "told": "mark",
    }
    return [
        repr(row)
        for name, columns in tables.items()
        for row in connection.execute(f"SELECT {columns} FROM {name} ORDER BY 1").fetchall()
        if "clock" not in row
    ]


def told(desk: OwnerDesk) -> list[str]:
    return sorted(f"{row['event_type']} {row.get('user')}" for row in desk.events())


def interrupt_at(point: str) -> Callable[[str], None]:
    def fault(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    return fault


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("point", BEFORE)
def test_a_death_before_the_commit_changes_and_tells_nothing(
    desk: OwnerDesk, point: str, step: Step
) -> None:
    lease = prepared(desk)
    before, events = state(desk), told(desk)
    with pytest.raises(KeyboardInterrupt):
        step(desk.opened_owners(fault=interrupt_at(point)), lease)
    assert (state(desk), told(desk)) == (before, events)
    step(desk.owners, lease)
    assert state(desk) != before


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("point", AFTER)
def test_a_death_after_the_commit_loses_and_doubles_nothing(
    desk: OwnerDesk, tmp_path: Path, point: str, step: Step
) -> None:
    whole = OwnerDesk(other(tmp_path))
    step(whole.owners, prepared(whole))
    lease = prepared(desk)
    book = desk.opened_owners(fault=interrupt_at(point))
    if point == "committed" or told(whole) != told(desk):
        with pytest.raises(KeyboardInterrupt):
            step(book, lease)
    else:
        step(book, lease)  # this one tells nothing
    desk.owners.apply([])
    assert masked(state(desk)) == masked(state(whole))
    assert told(desk) == told(whole)


def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    return tmp_path / "other"


def masked(rows: list[str]) -> list[str]:
    """The ids of leases are by chance."""
    return ["lease" if "('l" in row or ", 'l" in row else row for row in rows]


@pytest.mark.parametrize("point", [*BEFORE, *AFTER])
def test_a_container_is_its_makers_and_has_its_lease_or_neither(
    desk: OwnerDesk, point: str
) -> None:
    lease = prepared(desk)
    with pytest.raises(KeyboardInterrupt):
        bind(desk.opened_owners(fault=interrupt_at(point)), lease)
    done = point in AFTER
    found = desk.owners.get(CONTAINER, TWO)
    assert (found is not None) is done
    assert bool(desk.owners.intents()) is not done
    assert desk.granted(desk.book.lease(lease)).state == (BOUND if done else RESERVED)
    bind(desk.owners, lease)
    assert desk.granted(desk.book.lease(lease)).container == TWO
    assert len(desk.events("gpu.bound")) == 1


SCRIPT = """
import os, signal, sys
from ds01.core.events import Event
from ds01.core.owner_book import OwnerBook
from ds01.core.store import open_store
import test_owner_book_faults as tests

path, log, step, point, lease = sys.argv[1:]
def fault(name):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)
getattr(tests, step)(OwnerBook(open_store(path), log, fault=fault), lease)
"""


@pytest.mark.parametrize("point", [*BEFORE, *AFTER])
@pytest.mark.parametrize("step", ["bind", "apply"])
def test_a_killed_process_leaves_all_of_it_or_nothing(
    desk: OwnerDesk, tmp_path: Path, step: str, point: str
) -> None:
    whole = OwnerDesk(other(tmp_path))
    whole_lease = prepared(whole)
    before = masked(state(whole)), told(whole)
    globals()[step](whole.owners, whole_lease)
    lease = prepared(desk)
    tests = [REPO / "files/runtime", REPO / "tests", REPO / "tests/unit"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, tests))}
    command = [sys.executable, "-c", SCRIPT, desk.path, str(desk.log), step, point, lease]
    done = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    desk.owners.apply([])
    after = masked(state(whole)), told(whole)
    assert (masked(state(desk)), told(desk)) == (after if point in AFTER else before)


def test_a_log_that_cannot_be_written_keeps_nobody_from_a_container_and_loses_no_event(
    desk: OwnerDesk,
) -> None:
    prepared(desk)
    kept = desk.log.read_text()
    desk.log.unlink()
    desk.log.mkdir()
    events = [replace(started(), details={"id": f"{number:012d}"}) for number in range(300)]
    desk.owners.apply([], events)
    assert desk.owners.bind("t1", TWO)
    desk.log.rmdir()
    desk.log.write_text(kept)
    desk.owners.reserve(intent("t2"))
    logged = [row["details"]["id"] for row in desk.events("container.started")]
    assert logged == [event.details["id"] for event in events]


def test_many_at_once_lose_nothing_and_share_nothing(desk: OwnerDesk) -> None:
    def life(number: int) -> None:
        book = desk.opened_owners()
        for turn in range(20):
            token = f"{number}-{turn}"
            book.reserve(intent(token, uid=2000 + number, user=f"user{number}"))
            book.bind(token, f"{number:032x}{turn:032x}", f"name-{token}")

    threads = [threading.Thread(target=life, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = desk.owners.records()
    assert len(found) == 80
    assert all(one.owner.user == f"user{one.name[5]}" for one in found)
    assert desk.owners.intents() == []


# --- how much is kept -----------------------------------------------------------------------------


def test_a_user_has_so_many_requests_under_way_and_others_have_theirs(
    desk: OwnerDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_limits, "INTENTS_PER_USER", 8)
    for number in range(8):
        desk.owners.reserve(intent(f"t{number}"))
    with pytest.raises(TooMany, match=r"alice has 8 requests under way.*no more are taken"):
        desk.owners.reserve(intent("t8"))
    desk.owners.reserve(intent("t8", uid=1002, user="bob"))
    desk.owners.abandon("t0")
    desk.owners.reserve(intent("t9"))
    # What the engine has answered gives way.
    desk.owners.ended("t1", WALL)
    desk.owners.reserve(intent("t10"))
    assert "t1" not in {one.token for one in desk.owners.intents()}


def test_intents_that_nothing_comes_of_are_forgotten(desk: OwnerDesk) -> None:
    for token in ("ended", "orphan", "open"):
        desk.owners.reserve(intent(token, gateway="gone" if token == "orphan" else "here"))
    desk.owners.ended("ended", desk.hands.wall)
    desk.owners.orphan("here")
    desk.hands.pass_(owner_limits.ENDED_SECONDS - 1)
    desk.owners.forget(0)
    assert len(desk.owners.intents()) == 3
    desk.hands.pass_(2)
    desk.owners.forget(0)
    assert [one.token for one in desk.owners.intents()] == ["open", "orphan"]
    desk.hands.pass_(owner_limits.ORPHANED_SECONDS)
    desk.owners.forget(0)
    assert [one.token for one in desk.owners.intents()] == ["open"]


def test_execs_in_a_loop_are_kept_in_part(desk: OwnerDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_limits, "EXECS_PER_CONTAINER", 5)
    monkeypatch.setattr(owner_limits, "EXECS_PER_USER", 12)
    desk.owners.record(EXEC, "bobs", made(1002, "bob"), parent="0")
    for number in range(40):
        desk.hands.pass_(1)
        parent = str(number % 4)
        desk.owners.record(EXEC, f"e{number}", made(), parent=parent, durable=False)
    kept = [one for one in desk.owners.records(EXEC) if one.owner.user == "alice"]
    assert sorted(int(one.id[1:]) for one in kept) == list(range(28, 40))
    assert {parent: [one.parent for one in kept].count(parent) for parent in "0123"} == {
        "0": 3,
        "1": 3,
        "2": 3,
        "3": 3,
    }
    assert desk.owners.get(EXEC, "bobs") is not None
    for number in range(10):
        desk.hands.pass_(1)
        desk.owners.record(EXEC, f"more{number}", made(), parent="0", durable=False)
    assert [one.parent for one in desk.owners.records(EXEC)].count("0") == 5


def test_things_made_and_removed_in_a_loop_are_kept_in_part(
    desk: OwnerDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_limits, "GONE_CONTAINERS_PER_USER", 10)
    monkeypatch.setattr(owner_limits, "GONE_OTHERS_PER_USER", 3)
    desk.owners.record(CONTAINER, "b" * 64, made(1002, "bob"))
    desk.owners.apply([replace(desk.one("b" * 64), gone=WALL)])
    for number in range(30):
        for kind in (CONTAINER, VOLUME):
            name = f"{number:064x}"
            desk.owners.record(kind, name, made(at=WALL + number))
            desk.owners.apply([replace(desk.one(name, kind), gone=WALL + number)])
    gone = desk.owners.records(CONTAINER, gone=True)
    assert [int(one.id, 16) for one in gone if one.owner.user == "alice"] == list(range(20, 30))
    assert "bob" in {one.owner.user for one in gone}
    assert len(desk.owners.records(VOLUME, gone=True)) == 3


def test_what_is_gone_is_forgotten_after_its_time(desk: OwnerDesk) -> None:
    desk.owners.apply([seen(ONE, gone=WALL), seen(TWO, gone=WALL + 10), seen("3" * 64)])
    assert desk.owners.forget(WALL + 5) == 1
    assert sorted(one.id for one in desk.owners.records(gone=True)) == [TWO, "3" * 64]
    assert desk.owners.forget(WALL + 50) == 1
    assert [one.id for one in desk.owners.records(gone=True)] == ["3" * 64]


def test_marks_of_told_events_do_not_grow(desk: OwnerDesk) -> None:
    events = [replace(started(), details={"id": f"{number:012d}"}) for number in range(50)]
    desk.owners.apply([], events)
    connection = desk.owners.store.connection()
    owner_rows.forget_told(connection, 20)
    assert connection.execute("SELECT count(*) FROM told").fetchone()[0] == 20
    desk.owners.apply([], events[30:])
    assert len(desk.events("container.started")) == 50


def test_labels_and_mounts_without_end_are_cut_and_those_that_tell_an_owner_are_kept(
    desk: OwnerDesk,
) -> None:
    labels = {f"x{number}": "y" * 5000 for number in range(200)}
    labels.update({"ds01.user": "alice", "devcontainer.local_folder": "/home/alice/proj"})
    mounts = tuple(Mount(f"/srv/{number}/" + "z" * 4000) for number in range(500))
    facts = ContainerFacts(ONE, "web", labels=labels, mounts=mounts)
    desk.owners.apply([Record(CONTAINER, ONE, "web", facts=facts, created=WALL)])
    kept = desk.one().facts
    assert kept is not None
    assert kept.labels["ds01.user"] == "alice"
    assert kept.labels["devcontainer.local_folder"] == "/home/alice/proj"
    assert kept.mounts[:10] == mounts[:10]
    query = "SELECT length(facts) FROM things"
    connection = desk.owners.store.connection()
    assert connection.execute(query).fetchone()[0] <= owner_rows.FACTS_CHARACTERS
    desk.owners.apply([replace(desk.one(), gone=WALL + 1)])
    assert connection.execute(query).fetchone()[0] <= owner_rows.GONE_FACTS_CHARACTERS
    kept = desk.one().facts
    assert kept is not None
    assert kept.labels["ds01.user"] == "alice"
