# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners after the store was lost: what was certain comes back from what was published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ds01.core import store
from ds01.core.errors import Ds01Error
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_publish import CONTAINERS, Publisher
from ds01.core.owner_restore import restore
from ds01.core.owners import (
    ADMIN,
    CONTAINER,
    DS01_LABEL,
    GATEWAY,
    WEAK,
    Made,
    Owner,
    Record,
    SetBy,
)

TRAIN, SHARED, OLD = "a" * 64, "b" * 64, "c" * 64


def new_book(folder: Path) -> OwnerBook:
    path = str(folder / "state.db")
    store.migrate(path)
    return OwnerBook(store.open_store(path), str(folder / "events.jsonl"))


@pytest.fixture
def published(tmp_path: Path) -> str:
    """What a host had published whose store is lost."""
    folder = tmp_path / "before"
    folder.mkdir()
    book = new_book(folder)
    book.record(CONTAINER, TRAIN, Made(1001, "alice", 1_800_000_000.0), name="train")
    book.record(CONTAINER, SHARED, Made(1001, "alice", 1_800_000_001.0), name="shared")
    book.set_owner(CONTAINER, SHARED, SetBy(1002, "bob", "dana", 1_800_000_002.0))
    weak = Owner(1003, "carol", DS01_LABEL, WEAK)
    book.apply([Record(CONTAINER, OLD, "old", owner=weak, created=1_800_000_003.0)])
    assert Publisher(str(folder)).publish(book.records(), [], [])
    return str(folder / CONTAINERS)


def test_certain_owners_come_back_and_weak_ones_are_left_to_be_found(
    tmp_path: Path, published: str
) -> None:
    book = new_book(tmp_path)
    assert restore(book, published) == 2
    train, shared = book.records(CONTAINER)
    assert (train.id, train.name) == (TRAIN, "train")
    assert (train.owner.user, train.owner.uid, train.owner.method) == ("alice", 1001, GATEWAY)
    assert "when the store was lost" in train.owner.evidence[0].words
    assert (shared.owner.user, shared.owner.method) == ("bob", ADMIN)


def test_it_happens_once_for_a_store(tmp_path: Path, published: str) -> None:
    book = new_book(tmp_path)
    restore(book, published)
    book.unset_owner(CONTAINER, SHARED, "dana")
    assert restore(book, published) == 0
    assert not book.find(SHARED)[0].owner.known


def test_a_death_in_between_begins_it_anew(tmp_path: Path, published: str) -> None:
    class Died(Exception):
        pass

    def die_at(step: str) -> None:
        if step == "committed":
            raise Died

    dying = new_book(tmp_path)
    dying.fault = die_at
    with pytest.raises(Died):
        restore(dying, published)
    book = OwnerBook(dying.store, dying.events_path)
    restore(book, published)
    assert [one.owner.user for one in book.records(CONTAINER)] == ["alice", "bob"]


def test_what_the_gateway_sees_by_itself_stays(tmp_path: Path, published: str) -> None:
    book = new_book(tmp_path)
    book.record(CONTAINER, TRAIN, Made(1003, "carol", 1_800_000_009.0), name="train")
    assert restore(book, published) == 1
    assert book.find(TRAIN)[0].owner.user == "carol"


def test_without_a_published_view_there_is_nothing_to_take(tmp_path: Path) -> None:
    assert restore(new_book(tmp_path), str(tmp_path / CONTAINERS)) == 0


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("{", 0o644, "cannot be taken over"),
        ('{"schema": 9, "containers": []}', 0o644, "schema 1"),
        ("[]", 0o644, "schema 1"),
        ('{"schema": 1, "containers": []}', 0o666, "others than root"),
    ],
)
def test_a_view_that_is_damaged_or_anybodys_is_refused(
    tmp_path: Path, content: str, mode: int, message: str
) -> None:
    path = tmp_path / CONTAINERS
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(Ds01Error, match=message):
        restore(new_book(tmp_path), str(path))


def test_a_link_in_its_place_is_refused(tmp_path: Path, published: str) -> None:
    (tmp_path / CONTAINERS).symlink_to(published)
    with pytest.raises(Ds01Error, match="cannot be taken over"):
        restore(new_book(tmp_path), str(tmp_path / CONTAINERS))


@pytest.mark.parametrize(
    "entry",
    [
        {"id": TRAIN, "name": "x", "owner": None, "owner_uid": None, "method": GATEWAY},
        {"id": TRAIN, "name": "x", "owner": "alice", "owner_uid": True, "method": GATEWAY},
        {"id": "", "name": "x", "owner": "alice", "owner_uid": 1001, "method": GATEWAY},
        {"id": TRAIN, "name": 3, "owner": "alice", "owner_uid": 1001, "method": GATEWAY},
        {"id": TRAIN, "name": "x", "owner": "alice", "owner_uid": 1001, "method": DS01_LABEL},
        {},
    ],
)
def test_an_entry_that_names_nobody_for_certain_is_passed_over(
    tmp_path: Path, entry: dict[str, object]
) -> None:
    path = tmp_path / CONTAINERS
    path.write_text(json.dumps({"schema": 1, "containers": [entry, "x"]}))
    book = new_book(tmp_path)
    assert restore(book, str(path)) == 0
    assert book.records() == []
