# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store that was lost and made anew, and requests that come again after somebody died."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from ds01.core import durable, store
from ds01.core.errors import Ds01Error
from ds01.core.leases import Ask, Lease, Refused
from ds01.core.reconcile import SeenContainer
from lease_book import ALICE, BOB, CONTAINER, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def lose(desk: Desk) -> None:
    """The store is put aside and made anew, with the book open."""
    with desk.book.store.locked():
        store.move_aside(desk.path, "lost")
    store.migrate(desk.path)


def bound(desk: Desk) -> tuple[Lease, SeenContainer]:
    lease = desk.granted(desk.book.request(Ask(1, "2g.10gb"), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER, "train")
    return lease, SeenContainer(CONTAINER, "train", "running", leases=(lease.id,))


# --- a book that was made anew ------------------------------------------------------------------------


def test_a_new_book_hands_nothing_out_before_it_has_seen_what_runs(desk: Desk) -> None:
    lease, seen = bound(desk)
    lose(desk)
    desk.book.look(desk.found)
    with pytest.raises(Refused, match="not compared with the engine's containers yet"):
        desk.book.request(Ask(devices=lease.slots), BOB)
    desk.book.reconcile(desk.found, [seen], [])
    with pytest.raises(Refused, match="leased to alice"):
        desk.book.request(Ask(devices=lease.slots), BOB)


def test_a_new_book_keeps_the_files_until_they_have_told_whose_what_is(desk: Desk) -> None:
    lease, seen = bound(desk)
    lose(desk)
    desk.book.repair()
    desk.book.reconcile(desk.found, None, [])  # the engine does not answer yet
    assert desk.files.present() == [lease.id]
    desk.book.reconcile(desk.found, [seen], [])
    assert [one.slots for one in desk.book.snapshot().leases] == [lease.slots]


def test_files_that_are_nobodys_go_once_the_engine_was_asked(desk: Desk) -> None:
    bound(desk)
    lose(desk)
    desk.book.reconcile(desk.found, [], [])
    assert desk.files.present() == []


# --- the same request again ---------------------------------------------------------------------------


def test_a_retry_after_a_death_gets_a_lease_with_its_file(desk: Desk) -> None:
    def die(name: str) -> None:
        if name == "committed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.opened(fault=die).request(Ask(), ALICE, ticket="t1")
    assert desk.files.present() == []
    assert desk.book.request(Ask(), ALICE, ticket="t1").granted
    assert desk.files.present() == ["t1"]


def test_a_lease_that_is_being_ended_is_not_granted_again(desk: Desk) -> None:
    desk.book.request(Ask(), ALICE, ticket="t1")
    desk.hands.pass_(121)
    desk.book.settle()
    assert desk.book.poll("t1") is None
    with pytest.raises(Refused, match="is being ended"):
        desk.book.request(Ask(), ALICE, ticket="t1")


@pytest.mark.parametrize("ticket", ["a.", "a-", "a_"])
def test_a_ticket_is_a_name_that_cdi_takes(desk: Desk, ticket: str) -> None:
    with pytest.raises(Refused, match="no ticket"):
        desk.book.request(Ask(), ALICE, ticket=ticket)


def test_a_grant_that_is_taken_back_leaves_no_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(durable, "flush", fail)
    with pytest.raises(Ds01Error, match="nothing was granted"):
        desk.book.request(Ask(), ALICE)
    assert desk.files.present() == []


# --- the store ----------------------------------------------------------------------------------------


def keys(path: str) -> list[str]:
    opened = store.open_store(path)
    with opened.reading() as connection:
        found = [row[0] for row in connection.execute("SELECT key FROM meta")]
    opened.close()
    return found


def put(opened: store.Store, key: str) -> None:
    with opened.transaction() as connection:
        connection.execute("INSERT INTO meta VALUES (?, 'x')", (key,))


def test_a_mistake_of_the_program_is_not_told_as_damage(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    opened = store.open_store(path)
    with pytest.raises(sqlite3.ProgrammingError), opened.transaction() as connection:
        connection.execute("INSERT INTO meta VALUES (?, ?)", ("one",))
    opened.close()


def test_a_writer_follows_a_store_that_was_put_aside(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    opened = store.open_store(path)
    put(opened, "before")
    with store.Store(path).locked():
        store.move_aside(path, "1")
    store.migrate(path)
    put(opened, "after")
    opened.close()
    assert keys(path) == ["after"]


def test_the_log_of_a_former_store_is_not_played_into_a_new_one(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    child = os.fork()
    if child == 0:
        put(store.open_store(path), "old")
        os._exit(0)  # killed: its log stays
    os.waitpid(child, 0)
    assert os.path.exists(f"{path}-wal")
    os.unlink(path)
    store.migrate(path)
    assert keys(path) == []


def test_a_store_whose_log_is_being_recovered_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "state.db")
    store.migrate(path)
    really, turned_away = store._open, iter([True, True, False])

    def first_turned_away(where: str) -> sqlite3.Connection:
        if next(turned_away):
            raise sqlite3.OperationalError("database is locked")
        return really(where)

    monkeypatch.setattr(store, "_open", first_turned_away)
    store.open_store(path).close()
    assert next(turned_away, None) is None
