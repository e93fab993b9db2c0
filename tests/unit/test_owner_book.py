# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of owners: who made what, what was found, and an administrator's word."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.events import Event
from ds01.core.leases import BOUND, Ask
from ds01.core.owners import CONTAINER, EXEC, IMAGE, VOLUME, Origin, Record, SetBy
from ds01.core.store import StoreCorrupt
from lease_book import ALICE, BOB, CAROL
from owner_desk import ONE, TWO, WALL, OwnerDesk, intent, made, seen, weak


@pytest.fixture
def desk(tmp_path: Path) -> OwnerDesk:
    return OwnerDesk(tmp_path)


def test_what_came_of_an_intent_is_its_users(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent(agent="Docker-Client/24.0", admin=True))
    assert desk.owners.intents() == [intent(agent="Docker-Client/24.0", admin=True)]
    assert desk.owners.bind("t1", ONE, "web")
    assert desk.owners.intents() == []
    found = desk.one()
    assert found.made == made(agent="Docker-Client/24.0", admin=True)
    assert (found.owner.user, found.owner.uid, found.owner.method) == ("alice", 1001, "gateway")
    assert (found.name, found.created, found.gone, found.facts) == ("web", WALL, None, None)
    assert desk.owners.undecided() == [found]


def test_a_look_neither_overwrites_the_maker_nor_concludes_without_him(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    desk.owners.bind("t1", ONE, "web")
    assert desk.owners.apply([seen(owner=weak())]) == [ONE]
    found = desk.one()
    assert (found.owner.user, found.made, found.state) == ("alice", made(), "running")
    assert desk.owners.undecided() == [found]
    assert desk.owners.apply([seen(owner=found.owner, made=made())]) == []
    assert desk.owners.undecided() == []


def test_an_intent_is_bound_once(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    assert desk.owners.bind("t1", ONE, "web")
    assert desk.owners.bind("t1", ONE, "web")
    assert len(desk.owners.records()) == 1
    with pytest.raises(Ds01Error, match="nothing is known of what 222222222222 came of"):
        desk.owners.bind("t1", TWO)


def test_an_intent_of_which_nothing_came_leaves_nothing(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    desk.owners.abandon("t1")
    desk.owners.abandon("t1")
    assert (desk.owners.intents(), desk.owners.records()) == ([], [])


def test_the_same_intent_twice_is_one(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent(name="web"))
    desk.owners.reserve(intent(name="other", uid=1002, user="bob"))
    assert desk.owners.intents() == [intent(name="web")]


def test_intents_keep_all_that_was_said(desk: OwnerDesk) -> None:
    whole = intent(
        kind="volume",
        agent="docker-compose/2",
        container="f" * 64,
        admin=True,
        name="data",
        fingerprint={"salt": "s", "env": ["1", "2"]},
        route="POST /volumes/create",
    )
    desk.owners.reserve(whole)
    desk.owners.reserve(intent("t2", at=WALL - 1))
    assert [one.token for one in desk.owners.intents()] == ["t2", "t1"]
    assert desk.owners.intents("volume") == [whole]
    desk.owners.ended("t1", WALL + 3)
    assert desk.owners.intents("volume")[0].ended == WALL + 3


def test_the_intents_of_other_gateways_are_left_to_who_looks(desk: OwnerDesk) -> None:
    for number, gateway in enumerate(("g1", "g2", "g3", "g1")):
        desk.owners.reserve(intent(f"t{number}", gateway=gateway, at=WALL + number))
    found = desk.owners.orphan("g3", ["t3"])
    assert [one.token for one in found] == ["t0", "t1"]
    assert {one.orphaned for one in found} == {desk.hands.wall}
    desk.hands.pass_(5)
    # When each was found alone stays.
    assert desk.owners.orphan({"g2", "g3"}, ["t3"]) == found[:1]
    assert [one.orphaned is None for one in desk.owners.intents()] == [False, False, True, True]


# --- what was made --------------------------------------------------------------------------------


def test_a_look_before_the_gateways_record_takes_nothing_from_the_maker(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    assert desk.owners.apply([seen(owner=weak(), origin=Origin("docker"))]) == []
    desk.hands.pass_(1)
    assert desk.owners.bind("t1", ONE, "asked-for")
    found = desk.one()
    assert (found.owner.user, found.owner.method) == ("alice", "gateway")
    # What was seen of it stays, its present name too.
    assert (found.name, found.state, found.facts) == ("web", "running", seen().facts)
    assert desk.owners.undecided() == [found]


def test_the_first_maker_of_a_container_stays(desk: OwnerDesk) -> None:
    assert desk.owners.record(CONTAINER, ONE, made())
    assert desk.owners.record(CONTAINER, ONE, made())
    assert not desk.owners.record(CONTAINER, ONE, made(1002, "bob"))
    assert desk.one().owner.user == "alice"


def test_a_container_that_ended_before_its_record_came_stays_gone(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    desk.owners.apply([seen(gone=WALL + 1)])
    desk.owners.bind("t1", ONE)
    assert (desk.one().gone, desk.one().owner.user) == (WALL + 1, "alice")


@pytest.mark.parametrize("kind", [VOLUME, IMAGE])
def test_a_thing_that_comes_again_after_its_end_is_another_one(desk: OwnerDesk, kind: str) -> None:
    desk.owners.record(kind, "data", made())
    desk.owners.set_owner(kind, "data", SetBy(1003, "carol", "root", WALL))
    desk.owners.apply([replace(desk.one("data", kind), gone=WALL + 10, updated=WALL + 10)])
    assert desk.owners.records(kind) == []
    later = made(1002, "bob", WALL + 20)
    assert desk.owners.record(kind, "data", later)
    found = desk.one("data", kind)
    assert (found.made, found.set_by, found.gone) == (later, None, None)
    assert found.owner.user == "bob"


@pytest.mark.parametrize("kind", [VOLUME, IMAGE])
def test_a_thing_that_root_makes_again_is_not_its_former_owners(desk: OwnerDesk, kind: str) -> None:
    desk.owners.record(kind, "data", made())
    before = desk.one("data", kind)
    desk.owners.apply([replace(before, gone=WALL + 10, updated=WALL + 10)])
    again = replace(before, gone=None, created=WALL + 20, updated=WALL + 20)
    assert desk.owners.apply([again]) == ["data"]
    found = desk.one("data", kind)
    assert (found.made, found.owner.known, found.gone) == (None, False, None)
    assert desk.owners.undecided() == [found]


def test_a_volume_made_again_before_its_end_was_heard_of_is_its_new_makers(
    desk: OwnerDesk,
) -> None:
    desk.owners.record(VOLUME, "data", made())
    old = desk.one("data", VOLUME)
    desk.hands.pass_(100)
    later = made(1002, "bob", WALL + 100)
    assert desk.owners.record(VOLUME, "data", later)
    # Now the end of the former one is heard of.
    assert desk.owners.apply([replace(old, gone=WALL + 99, updated=WALL + 101)]) == ["data"]
    assert (desk.one("data", VOLUME).made, desk.one("data", VOLUME).gone) == (later, None)


def test_an_image_that_was_there_is_nobodys_for_pulling_it_again(desk: OwnerDesk) -> None:
    desk.owners.apply([Record(IMAGE, "sha256:1", "python:3.12")])
    assert not desk.owners.record(IMAGE, "sha256:1", made(at=WALL + 5))
    assert desk.one("sha256:1", IMAGE).made is None
    # Heard of before its pull had ended: it is whose request was under way.
    desk.hands.pass_(10)
    desk.owners.apply([Record(IMAGE, "sha256:2", "python:3.13")])
    assert desk.owners.record(IMAGE, "sha256:2", made(at=WALL + 5))
    assert not desk.owners.record(IMAGE, "sha256:2", made(1002, "bob", at=WALL + 6))
    assert desk.one("sha256:2", IMAGE).owner.user == "alice"


def test_what_a_dead_gateway_had_asked_for_is_found_to_be_its_users(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    desk.owners.orphan("g2")
    desk.owners.apply([seen()])
    assert desk.owners.claim_mended("t1", ONE, "web")
    assert desk.one().made == made(mended=True)
    assert desk.owners.intents() == []
    assert not desk.owners.claim_mended("t1", TWO)
    # The gateway was there after all, and says the same.
    assert desk.owners.bind("t1", ONE)


def test_one_build_makes_several_images(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent(kind=IMAGE))
    assert desk.owners.claim_mended("t1", "sha256:1")
    assert desk.owners.claim_mended("t1", "sha256:2")
    assert {one.made for one in desk.owners.records(IMAGE)} == {made()}
    assert len(desk.owners.intents()) == 1


# --- what was found -------------------------------------------------------------------------------


def test_nothing_is_written_or_told_of_what_is_as_it_was(desk: OwnerDesk) -> None:
    desk.owners.apply([seen(owner=weak(), updated=WALL)])
    desk.owners.apply([seen(owner=weak(), updated=WALL + 9)])
    assert desk.one().updated == WALL


def test_owners_concluded_from_what_is_no_longer_so_are_not_taken(desk: OwnerDesk) -> None:
    desk.owners.apply([seen(owner=weak())])
    looked = replace(desk.one(), state="exited", owner=weak("dana", 1004))
    desk.owners.set_owner(CONTAINER, ONE, SetBy(1003, "carol", "root", WALL, "hers"))
    changed = Event("owner.changed", "ds01d", details={"id": ONE[:12]})
    assert desk.owners.apply([looked], [changed]) == [ONE]
    found = desk.one()
    assert (found.owner.user, found.state) == ("carol", "exited")
    assert desk.events("owner.changed") == []
    fresh = replace(found, owner=replace(found.owner, contradictions=("bob's label",)))
    assert desk.owners.apply([fresh], [changed]) == []
    assert desk.one().owner.contradictions == ("bob's label",)
    assert len(desk.events("owner.changed")) == 1


def test_a_look_older_than_the_end_brings_nothing_back(desk: OwnerDesk) -> None:
    desk.owners.apply([seen(gone=WALL + 10)])
    assert desk.owners.apply([seen(updated=WALL + 9)]) == [ONE]
    assert desk.one().gone == WALL + 10
    assert desk.owners.apply([seen(updated=WALL + 11)]) == []
    assert desk.one().gone is None


def test_events_of_the_engine_are_told_once_and_the_cursor_goes_along(desk: OwnerDesk) -> None:
    moment = datetime(2027, 1, 15, 8, 0, 0, 123456, tzinfo=timezone.utc)
    started = Event("container.started", "ds01d", "alice", {"id": ONE[:12]}, moment)
    stopped = Event("container.stopped", "ds01d", "alice", {"id": ONE[:12]}, moment)
    other = Event("container.started", "ds01d", "bob", {"id": TWO[:12]}, moment)
    nano = 1_800_000_000_123_456_789
    assert desk.owners.cursor() is None
    desk.owners.apply([seen()], [started, stopped], nano)
    assert desk.owners.cursor() == nano
    desk.owners.apply([seen()], [started, stopped, other], nano + 1)
    assert [row["event_type"] for row in desk.events("container.")] == [
        "container.started",
        "container.stopped",
        "container.started",
    ]
    assert {row["timestamp"] for row in desk.events("container.")} == {"2027-01-15T08:00:00.123Z"}


def test_an_end_takes_the_execs_along(desk: OwnerDesk) -> None:
    desk.owners.record(CONTAINER, ONE, made())
    desk.owners.record(EXEC, "e1", made(), parent=ONE, durable=False)
    desk.owners.record(EXEC, "e2", made(), parent=TWO, durable=False)
    assert desk.one("e1", EXEC).parent == ONE
    desk.owners.apply([replace(desk.one(), gone=WALL + 1)])
    assert [one.id for one in desk.owners.records(EXEC, gone=True)] == ["e2"]
    assert [one.id for one in desk.owners.records(CONTAINER, gone=True)] == [ONE]


# --- an administrator's word ----------------------------------------------------------------------


def test_an_administrators_word_is_above_the_gateways_until_it_is_taken_back(
    desk: OwnerDesk,
) -> None:
    desk.owners.record(CONTAINER, ONE, made(), name="web")
    word = SetBy(1003, "carol", "dana", WALL, "she took it over")
    assert desk.owners.set_owner(CONTAINER, ONE, word)
    assert (desk.one().owner.user, desk.one().owner.method) == ("carol", "admin")
    assert desk.one().made == made()
    assert not desk.owners.set_owner(CONTAINER, ONE, replace(word, by="root", at=WALL + 1))
    assert desk.owners.unset_owner(CONTAINER, ONE, "dana")
    assert not desk.owners.unset_owner(CONTAINER, ONE, "dana")
    assert (desk.one().owner.user, desk.one().set_by) == ("alice", None)
    events = desk.events("owner.")
    assert [(row["event_type"], row["user"]) for row in events] == [
        ("owner.set", "carol"),
        ("owner.unset", "alice"),
    ]
    told = events[0]["details"]
    assert (told["by"], told["was"], told["was_uid"]) == ("dana", "alice", 1001)
    assert (told["id"], told["name"], told["reason"]) == (ONE[:12], "web", "she took it over")


def test_what_nothing_is_known_of_cannot_be_given_to_anybody(desk: OwnerDesk) -> None:
    with pytest.raises(Ds01Error, match=r"nothing is known of a container.*ds01 owners list"):
        desk.owners.set_owner(CONTAINER, ONE, SetBy(1003, "carol", "root", WALL))
    with pytest.raises(Ds01Error, match="nothing is known of a volume"):
        desk.owners.unset_owner(VOLUME, "data", "root")


# --- GPU leases -----------------------------------------------------------------------------------


def test_the_leases_that_a_container_names_are_bound_with_it(desk: OwnerDesk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    file = Path(desk.files.path(lease.id))
    before = file.read_text()
    desk.owners.reserve(intent())
    desk.owners.bind("t1", ONE, "web", lease_ids=[lease.id, lease.id, "unknown", "../x"])
    found = desk.granted(desk.book.lease(lease.id))
    assert (found.state, found.container, found.container_name) == (BOUND, ONE, "web")
    assert found.bound_at == desk.hands.wall
    assert found.expires is None
    # The file is what it was, and what the lease book would write.
    assert file.read_text() == before
    desk.book.repair()
    assert file.read_text() == before
    assert [row["details"]["container"] for row in desk.events("gpu.bound")] == ["web"]
    desk.book.bind(lease.id, ONE, "web")
    assert len(desk.events("gpu.bound")) == 1


def test_leases_of_others_ended_ones_and_other_containers_are_left_alone(desk: OwnerDesk) -> None:
    bobs = desk.granted(desk.book.request(Ask(), BOB).granted)
    taken = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(taken.id, TWO, "other")
    carols = desk.granted(desk.book.request(Ask(), CAROL).granted)
    desk.book.cancel(carols.id, "enough")
    before = desk.book.snapshot().leases
    desk.owners.reserve(intent())
    desk.owners.reserve(intent("t2", uid=CAROL.uid, user="carol"))
    assert desk.owners.bind("t1", ONE, "web", lease_ids=[bobs.id, taken.id])
    assert desk.owners.bind("t2", "3" * 64, "more", lease_ids=[carols.id])
    assert desk.book.snapshot().leases == before
    assert len(desk.events("gpu.bound")) == 1


def test_a_lease_bound_here_is_held_and_freed_as_any_other(desk: OwnerDesk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.hands.reboot("second", off=60)
    desk.owners.reserve(intent())
    desk.owners.bind("t1", ONE, "web", lease_ids=[lease.id])
    assert desk.granted(desk.book.lease(lease.id)).bound_at == pytest.approx(WALL + 60)
    desk.book.container_stopped(lease.id, ONE)
    desk.hands.pass_(901)
    desk.book.settle()
    desk.finish()
    assert desk.book.lease(lease.id) is None
    assert desk.files.present() == []


# --- who asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        (ONE, [ONE]),
        (ONE[:12], [ONE]),
        (ONE[:4], [ONE]),
        (ONE[:3], []),
        ("web", [ONE]),
        ("/web", [ONE]),
        (" web ", [ONE]),
        ("we", []),
        ("", []),
        ("/", []),
        ("data", ["data"]),
        ("dat", []),
        ("python", ["sha256:" + "3" * 64]),
        ("python:latest", ["sha256:" + "3" * 64]),
        ("3" * 64, ["sha256:" + "3" * 64]),
        ("sha256:" + "3" * 12, ["sha256:" + "3" * 64]),
        ("3333", ["sha256:" + "3" * 64]),
        ("%", []),
        ("_eb", []),
        ("aaaa", ["a" * 64, "a" * 63 + "b"]),
        ("a" * 64, ["a" * 64]),
        ("old", [TWO]),
        (TWO[:12], [TWO]),
        ("nobody", []),
    ],
)
def test_things_are_found_by_id_by_its_first_digits_and_by_name(
    desk: OwnerDesk, ref: str, found: list[str]
) -> None:
    desk.owners.apply(
        [
            seen(ONE, name="web"),
            seen(TWO, name="old", gone=WALL + 1),
            seen("a" * 64, name="first"),
            seen("a" * 63 + "b", name="second", created=WALL + 1),
            Record(VOLUME, "data", "data"),
            Record(IMAGE, "sha256:" + "3" * 64, "python:latest"),
        ]
    )
    assert [one.id for one in desk.owners.find(ref)] == found
    if found == [TWO]:
        assert desk.owners.find(ref, gone=False) == []


def test_a_name_is_its_present_bearers_and_never_hides_an_id(desk: OwnerDesk) -> None:
    desk.owners.apply([seen(ONE, name="web", gone=WALL), seen(TWO, name="web")])
    assert [one.id for one in desk.owners.find("web")] == [TWO]
    # Who calls his container as another's id begins is seen to.
    desk.owners.apply([seen("4" * 64, name=TWO[:12]), seen("5" * 64, name=TWO[:4])])
    assert sorted(one.id for one in desk.owners.find(TWO[:12])) == [TWO, "4" * 64]
    assert [one.id for one in desk.owners.find(TWO[:4])] == ["5" * 64]
    desk.owners.apply([seen("6" * 64, name=TWO)])
    assert [one.id for one in desk.owners.find(TWO)] == [TWO]


def test_records_come_in_the_order_in_which_things_were_made(desk: OwnerDesk) -> None:
    for number, token in enumerate(("c", "a", "b")):
        desk.owners.record(CONTAINER, token * 64, made(at=WALL + number))
    desk.owners.record(VOLUME, "data", made(at=WALL + 9))
    assert [one.id[0] for one in desk.owners.records()] == ["c", "a", "b", "d"]
    assert [one.id[0] for one in desk.owners.records(CONTAINER)] == ["c", "a", "b"]
    assert desk.owners.get(CONTAINER, "d" * 64) is None


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE things SET owner = '{}'",
        "UPDATE things SET owner = 'x'",
        "UPDATE things SET made = '[]'",
        "UPDATE things SET facts = '{\"id\": 1}'",
        "UPDATE things SET origin = 'null'",
        "UPDATE things SET set_by = '{\"nobody\": 1}'",
        "UPDATE intents SET data = '{'",
    ],
)
def test_a_row_that_cannot_be_understood_is_damage(desk: OwnerDesk, statement: str) -> None:
    desk.owners.record(CONTAINER, ONE, made())
    desk.owners.set_owner(CONTAINER, ONE, SetBy(1003, "carol", "root", WALL))
    desk.owners.reserve(intent("t9"))
    desk.owners.store.connection().execute(statement)
    with pytest.raises(StoreCorrupt, match=r"damaged.*Restart ds01d"):
        if "intents" in statement:
            desk.owners.intents()
        else:
            desk.owners.records()
