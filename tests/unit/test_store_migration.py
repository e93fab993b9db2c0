# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one version of the store to the next: nothing is lost, whatever dies when."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ds01.core import store
from ds01.core.leases import BOUND, Allowance, Ask
from ds01.core.owner_book import OwnerBook
from lease_book import ALICE, CAROL, CONTAINER, Desk
from old_store import make_store_of, tables
from owner_desk import ONE, intent

REPO = Path(__file__).parents[2]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A store of version 1 with leases, a queue and an event that is not logged yet."""
    path = tmp_path / "state.db"
    make_store_of(1, str(path))
    with monkeypatch.context() as former:
        former.setattr(store, "VERSION", 1)
        desk = Desk(tmp_path)
        lease = desk.granted(desk.book.request(Ask(note="thesis"), ALICE).granted)
        desk.book.bind(lease.id, CONTAINER, "web")
        desk.granted(desk.book.request(Ask(2, "full"), CAROL).granted)
        desk.book.request(Ask(), Allowance(1005, "dora", max_gpu_equivalents=9.0))
        desk.log.unlink()
        desk.log.mkdir()
        desk.book.container_stopped(lease.id, CONTAINER)
        desk.log.rmdir()
        desk.book.store.close()
    return desk


def content(path: str) -> list[str]:
    """Everything that a store of version 1 holds."""
    connection = sqlite3.connect(path)
    try:
        names = ("meta", "slots", "leases", "taken", "queue", "blocks", "ended", "outbox")
        return [
            repr(row)
            for name in names
            for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2")
        ]
    finally:
        connection.close()


def test_a_store_of_version_1_keeps_all_that_is_in_it(old: Desk) -> None:
    before = content(old.path)
    assert len(before) > 10
    assert store.migrate(old.path)
    assert content(old.path) == before
    assert store.version_of(old.path) == store.VERSION == 2
    assert not store.migrate(old.path)
    store.check(old.path)


def test_the_books_go_on_in_a_migrated_store(old: Desk) -> None:
    store.migrate(old.path)
    book = old.opened()
    held = next(one for one in book.snapshot().leases if one.user == "alice")
    book.container_started(held.id, CONTAINER)
    assert old.granted(book.lease(held.id)).state == BOUND
    # What was committed before and not logged is logged now, once.
    assert len(old.events("gpu.held")) == 1
    owners = OwnerBook(store.open_store(old.path), str(old.log), clock=old.hands)
    owners.reserve(intent())
    assert owners.bind("t1", ONE, "web")
    assert [one.owner.user for one in owners.records()] == ["alice"]


def test_a_migrated_store_and_a_new_one_are_the_same(old: Desk, tmp_path: Path) -> None:
    store.migrate(old.path)
    new = str(tmp_path / "new.db")
    store.migrate(new)
    assert tables(old.path) == tables(new)


def test_a_program_of_version_1_refuses_the_store_of_version_2(
    old: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.migrate(old.path)
    monkeypatch.setattr(store, "VERSION", 1)
    with pytest.raises(store.StoreVersion, match="of version 2, this program reads 1"):
        store.open_store(old.path)
    with pytest.raises(store.StoreVersion, match="of version 2"):
        store.migrate(old.path)
    assert store.version_of(old.path) == 2


def test_a_program_of_version_2_refuses_the_store_of_version_1_until_it_is_migrated(
    old: Desk,
) -> None:
    with pytest.raises(store.StoreVersion, match="of version 1, this program reads 2"):
        store.open_store(old.path)
    assert store.version_of(old.path) == 1


@pytest.mark.parametrize("point", ["locked", "decided"])
def test_a_death_before_the_commit_leaves_the_old_store(old: Desk, point: str) -> None:
    before = content(old.path)
    with pytest.raises(KeyboardInterrupt):
        store.migrate(old.path, interrupt_at(point))
    assert (store.version_of(old.path), content(old.path)) == (1, before)
    assert store.migrate(old.path)
    assert (store.version_of(old.path), content(old.path)) == (2, before)


def test_a_death_after_the_commit_leaves_the_new_store(old: Desk) -> None:
    before = content(old.path)
    with pytest.raises(KeyboardInterrupt):
        store.migrate(old.path, interrupt_at("committed"))
    assert (store.version_of(old.path), content(old.path)) == (2, before)
    assert not store.migrate(old.path)


def interrupt_at(point: str) -> Callable[[str], None]:
    def fault(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    return fault


@pytest.mark.parametrize("point", ["locked", "decided", "committed"])
def test_a_killed_process_leaves_the_one_or_the_other(old: Desk, point: str) -> None:
    before = content(old.path)
    script = (
        "import os, signal, sys\n"
        "from ds01.core import store\n"
        "def fault(name):\n"
        "    if name == sys.argv[2]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.migrate(sys.argv[1], fault)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO / "files/runtime")}
    done = subprocess.run(
        [sys.executable, "-c", script, old.path, point], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert store.version_of(old.path) == (2 if point == "committed" else 1)
    assert content(old.path) == before
    store.migrate(old.path)
    assert (store.version_of(old.path), content(old.path)) == (2, before)
    store.check(old.path)


def test_two_migrations_at_once_do_it_once(old: Desk) -> None:
    before = content(old.path)
    script = "import sys\nfrom ds01.core import store\nsys.exit(int(store.migrate(sys.argv[1])))\n"
    environment = {**os.environ, "PYTHONPATH": str(REPO / "files/runtime")}
    command = [sys.executable, "-c", script, old.path]
    both = [subprocess.Popen(command, env=environment) for _number in range(2)]
    assert sorted(one.wait(60) for one in both) == [0, 1]
    assert content(old.path) == before


def test_a_writer_of_version_1_that_is_still_there_harms_nothing(
    old: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old daemon has the store open until the role starts the new one."""
    with monkeypatch.context() as former:
        former.setattr(store, "VERSION", 1)
        daemon = old.opened()
        daemon.snapshot()
    store.migrate(old.path)
    held = next(one for one in daemon.snapshot().leases if one.user == "alice")
    daemon.container_started(held.id, CONTAINER)
    assert old.granted(old.opened().lease(held.id)).state == BOUND


def test_a_store_that_cannot_be_written_stays_as_it_was(old: Desk) -> None:
    before = content(old.path)
    holder = sqlite3.connect(old.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "LOCK_SECONDS", 0.2)
        with pytest.raises(store.StoreError, match="busy"):
            store.migrate(old.path)
    assert time.monotonic() - began < 10
    holder.execute("ROLLBACK")
    holder.close()
    assert (store.version_of(old.path), content(old.path)) == (1, before)


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_refused(old: Desk, version: int) -> None:
    connection = sqlite3.connect(old.path)
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()
    with pytest.raises(store.StoreVersion):
        store.migrate(old.path)
    assert store.version_of(old.path) == version


def test_a_store_that_was_away_for_a_while_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    opened = store.open_store(path)
    os.replace(path, path + ".aside")
    for _attempt in range(2):
        with pytest.raises(store.StoreMissing), opened.transaction():
            pass
    os.replace(path + ".aside", path)
    with opened.transaction() as connection:
        connection.execute("INSERT INTO meta (key, value) VALUES ('a', 'b')")


def test_a_commit_that_need_not_be_on_the_disk_leaves_the_next_ones_as_they_were(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    opened = store.open_store(path)

    def level() -> int:
        return int(opened.connection().execute("PRAGMA synchronous").fetchone()[0])

    full = level()
    with opened.transaction(durable=False) as connection:
        connection.execute("INSERT INTO meta (key, value) VALUES ('a', 'b')")
        assert level() < full
    assert level() == full
    with pytest.raises(KeyboardInterrupt), opened.transaction(durable=False):
        raise KeyboardInterrupt
    assert level() == full
