# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks from a container: its record tells, before the slice that its maker chose."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ds01.core.callers import Accounts, Caller, Missing, Refusal, who
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_intents import Intent
from ds01.core.owners import CONTAINER, VOLUME, Made, Record, SetBy
from ds01.core.recorded import read_body
from ds01.core.store import Store, StoreError, migrate
from ds01.gateway import owned as module
from ds01.gateway.owned import EVERYWHERE, Owned
from ds01.gateway.people import People, Places
from ds01.host.peer import Peer

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
ALICE, BOB, GONE = 1001, 1002, 1999
ID, OTHER = "0123456789abcdef" * 4, "f" * 64
BOBS = "ds01-student-bob.slice"


def inside(container: str = ID, slice_name: str = BOBS, uid: int = 0) -> Peer:
    """A process in a container."""
    group = "/ds01-student.slice/" if slice_name == BOBS else "/"
    return Peer(
        1, uid, uid, frozenset(), f"/ds01.slice{group}{slice_name}/docker-{container}.scope"
    )


@pytest.fixture
def book(tmp_path: Path) -> OwnerBook:
    """A book of owners."""
    path = str(tmp_path / "state.db")
    migrate(path)
    return OwnerBook(Store(path), str(tmp_path / "events.jsonl"), "test")


@pytest.fixture
def owned(book: OwnerBook) -> Owned:
    """What the gateway makes of it."""
    found = Owned(book.store.path, "this one")
    found.reread()
    return found


def made(uid: int) -> Made:
    """Made by somebody through the door."""
    return Made(uid, f"user{uid}", time.time())


def ask(owned: Owned, peer: Peer, final: bool = True) -> Caller | Refusal | Missing:
    """Who it is."""
    accounts = Accounts(
        names={0: "root", ALICE: "alice", BOB: "bob"},
        uids={"root": 0, "alice": ALICE, "bob": BOB},
        member_of={ALICE: frozenset(), BOB: frozenset()},
        records=owned,
    )
    return who(peer, accounts, NOW, final)


def uid_of(found: Caller | Refusal | Missing) -> int | str:
    """The uid, or the rule of the refusal."""
    if isinstance(found, Caller):
        assert not found.admin and found.container == ID
        return found.uid
    return found.rule if isinstance(found, Refusal) else f"missing {found.uid}"


def test_without_a_record_the_slice_tells(owned: Owned) -> None:
    assert uid_of(ask(owned, inside())) == BOB


def test_a_record_counts_whatever_the_slice(book: OwnerBook, owned: Owned) -> None:
    book.record(CONTAINER, ID, made(ALICE))
    owned.reread()
    assert uid_of(ask(owned, inside())) == ALICE
    assert uid_of(ask(owned, inside(uid=BOB))) == ALICE
    # In nobody's slice too.
    assert uid_of(ask(owned, inside(slice_name="ds01-unattributed.slice"))) == ALICE
    assert uid_of(ask(owned, inside(OTHER, "ds01-unattributed.slice"))) == "identity.unattributed"


def test_an_administrators_word_counts_more_and_ends_when_it_is_taken_back(
    book: OwnerBook, owned: Owned
) -> None:
    book.record(CONTAINER, ID, made(ALICE))
    book.set_owner(CONTAINER, ID, SetBy(BOB, "bob", "dana", time.time()))
    owned.reread()
    assert uid_of(ask(owned, inside())) == BOB
    book.unset_owner(CONTAINER, ID, "dana")
    owned.reread()
    assert uid_of(ask(owned, inside())) == ALICE


def test_what_root_made_is_of_whom_root_made_it_for(book: OwnerBook, owned: Owned) -> None:
    book.record(CONTAINER, ID, made(0))
    owned.reread()
    assert uid_of(ask(owned, inside())) == BOB
    assert uid_of(ask(owned, inside(slice_name="ds01-unattributed.slice"))) == (
        "identity.unattributed"
    )


def test_an_owner_who_has_no_account_any_more_is_nobody(book: OwnerBook, owned: Owned) -> None:
    book.record(CONTAINER, ID, made(GONE))
    owned.reread()
    assert uid_of(ask(owned, inside(), final=False)) == f"missing {GONE}"
    assert uid_of(ask(owned, inside())) == "identity.owner"


def test_weak_evidence_is_no_record(book: OwnerBook, owned: Owned) -> None:
    book.apply([Record(CONTAINER, ID, "box", created=time.time(), state="running")])
    book.record(VOLUME, OTHER, made(ALICE))
    owned.reread()
    assert owned.owner(ID) is None and owned.owner(OTHER) is None
    assert uid_of(ask(owned, inside())) == BOB


def test_what_is_made_here_counts_before_it_is_written(book: OwnerBook, owned: Owned) -> None:
    owned.made(ID, ALICE)
    assert uid_of(ask(owned, inside())) == ALICE
    # Others write, and this is not among it: it stays.
    book.record(CONTAINER, OTHER, made(BOB))
    owned.reread()
    assert (owned.owner(ID), owned.owner(OTHER)) == (ALICE, BOB)
    book.record(CONTAINER, ID, made(ALICE))
    owned.written(ID)
    owned.reread()
    assert owned.owner(ID) == ALICE
    # Then the store alone counts: it has gone.
    (record,) = [one for one in book.records(CONTAINER) if one.id == ID]
    book.apply([replace(record, gone=time.time(), updated=time.time())])
    owned.reread()
    assert owned.owner(ID) is None


def test_the_store_is_read_when_it_was_written_to_and_else_not(
    book: OwnerBook, owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    real = module.certain_owners

    def look(store: Store, gateway: str) -> Any:
        looks.append(None)
        return real(store, gateway)

    monkeypatch.setattr(module, "certain_owners", look)
    for _time in range(5):
        owned.reread()
    assert len(looks) <= 1
    looks.clear()
    book.record(CONTAINER, ID, made(ALICE))
    owned.reread()
    owned.reread()
    assert len(looks) == 1 and owned.owner(ID) == ALICE


def test_a_store_that_cannot_be_read_changes_nothing(book: OwnerBook, owned: Owned) -> None:
    book.record(CONTAINER, ID, made(ALICE))
    owned.reread()
    with closing(sqlite3.connect(book.store.path)) as connection:
        connection.execute("UPDATE things SET made = 'no json'")
        connection.commit()
    with pytest.raises(StoreError):
        owned.reread()
    assert owned.owner(ID) == ALICE
    assert Owned("").owner(ID) is None


# --- asked for from within a container --------------------------------------------------------------

OUTER, MIDDLE = "a" * 64, "b" * 64


@pytest.mark.parametrize("here", [True, False], ids=["made here", "from the store"])
def test_what_a_container_of_hers_makes_is_hers(book: OwnerBook, owned: Owned, here: bool) -> None:
    chain = ((OUTER, ""), (MIDDLE, OUTER), (ID, MIDDLE))
    for container, outer in chain if here else reversed(chain):
        if here:
            owned.made(container, ALICE, outer)
        else:
            book.record(CONTAINER, container, replace(made(ALICE), container=outer))
    owned.reread()
    assert uid_of(ask(owned, inside())) == ALICE


@pytest.mark.parametrize("here", [True, False], ids=["made here", "from the store"])
def test_what_a_container_makes_whose_slice_alone_tells_is_nobodys_in_another_slice(
    book: OwnerBook, owned: Owned, here: bool
) -> None:
    """It says that it is alice's, since it lies in her slice."""
    for container, uid in ((ID, ALICE), (OTHER, BOB)):
        if here:
            owned.made(container, uid, OUTER)
        else:
            book.record(CONTAINER, container, replace(made(uid), container=OUTER))
    owned.reread()
    assert uid_of(ask(owned, inside())) == "identity.unsure"
    assert uid_of(ask(owned, inside(slice_name="ds01-unattributed.slice"))) == (
        "identity.unattributed"
    )
    found = ask(owned, inside(OTHER))
    assert isinstance(found, Caller) and found.uid == BOB
    if not here:
        book.set_owner(CONTAINER, ID, SetBy(ALICE, "alice", "dana", time.time()))
        owned.reread()
        assert uid_of(ask(owned, inside())) == ALICE


# --- while a container is made ----------------------------------------------------------------------


def test_in_a_slice_that_somebody_else_names_nobody_is_sure_for_a_moment(owned: Owned) -> None:
    """Its maker could start it by its name before anybody knows its id."""
    with owned.making({BOBS}, ALICE):
        assert uid_of(ask(owned, inside())) == "identity.making"
        with owned.making({BOBS}, ALICE):
            pass
        assert uid_of(ask(owned, inside())) == "identity.making"
        owned.made(ID, ALICE)
        assert uid_of(ask(owned, inside())) == ALICE
        assert uid_of(ask(owned, inside(OTHER))) == "identity.making"
    assert isinstance(ask(owned, inside(OTHER)), Caller)
    assert owned._making == {}


def test_one_makes_containers_in_ones_own_slice_and_root_anywhere(owned: Owned) -> None:
    for slices, uid in (({BOBS}, BOB), ({BOBS, EVERYWHERE}, 0)):
        with owned.making(slices, uid):
            assert uid_of(ask(owned, inside())) == BOB
    with owned.making({"ds01-student-carol.slice"}, ALICE):
        assert uid_of(ask(owned, inside())) == BOB
    with owned.making({EVERYWHERE}, ALICE):
        assert uid_of(ask(owned, inside())) == "identity.making"


def test_what_a_gateway_that_died_had_under_way_is_doubted_for_a_while(
    book: OwnerBook, owned: Owned
) -> None:
    def asked(token: str, uid: int, at: float, gateway: str) -> None:
        book.reserve(Intent(token, CONTAINER, uid, "somebody", at, gateway=gateway))
        owned.reread()

    asked("i1", ALICE, time.time(), "this one")
    asked("i2", BOB, time.time(), "the one before")
    asked("i3", 0, time.time(), "the one before")
    asked("i4", ALICE, time.time() - 1000, "the one before")
    assert uid_of(ask(owned, inside())) == BOB
    asked("i5", ALICE, time.time(), "the one before")
    assert uid_of(ask(owned, inside())) == "identity.making"
    book.abandon("i5")
    owned.reread()
    assert uid_of(ask(owned, inside())) == BOB
    # The engine broke off here as well.
    book.ended("i1", time.time())
    owned.reread()
    assert uid_of(ask(owned, inside())) == "identity.making"


@pytest.mark.parametrize(
    ("body", "slices"),
    [
        (b'{"HostConfig": {"CgroupParent": "a.slice"}}', {"a.slice"}),
        (b'{"hostconfig": {"cGROUPpARENT": "/x/a.slice"}}', {"a.slice"}),
        (b'{"HostConfig": {"CgroupParent": "a"}, "HostConfig": {}}', {"a"}),
        (b'{"HostConfig": {"CgroupParent": "a", "CgroupParent": "b"}}', {"a", "b"}),
        (b'{"HostConfig": {"C\\u0067roupParent": "a"}}', {"a"}),
        (b'{"HostConfig": {"CgroupParent": null}}', set()),
        (b"{}", set()),
    ],
)
def test_every_slice_that_the_engine_may_take_is_seen(body: bytes, slices: set[str]) -> None:
    found: set[str] = set()
    assert read_body(body, found) is not None
    assert found == slices


# --- in the gateway's tables ------------------------------------------------------------------------


@pytest.fixture
def people(owned: Owned, tmp_path: Path) -> Iterator[People]:
    """The tables, with an account for each."""
    found = People(Places(str(tmp_path / "limits.json"), "", ""), owned=owned)
    found.start()
    yield found
    found.stop()


def test_others_words_are_heard_within_seconds_and_no_answer_is_kept(
    people: People, book: OwnerBook
) -> None:
    """The accounts are those of every host: daemon is 1, bin is 2."""
    peer = Peer(1, 0, 0, frozenset(), inside().cgroup.replace("bob", "daemon"))

    def asks() -> int | None:
        caller = people.caller(peer)
        return caller.uid if isinstance(caller, Caller) else None

    assert asks() == 1
    people.owned.made(ID, 2)
    assert asks() == 2 and people.share_of(peer) == (2, None)
    book.record(CONTAINER, ID, made(2))
    people.owned.written(ID)
    book.set_owner(CONTAINER, ID, SetBy(3, "sys", "dana", time.time()))
    end = time.monotonic() + 5
    while asks() != 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "owners" not in people.faults
