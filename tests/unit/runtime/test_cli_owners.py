# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 owners`` and ``ds01 why CONTAINER`` against a running daemon: words, JSON, exit codes."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ds01 import cli
from ds01.cli import owners_text
from ds01.cli.output import Exit, Output
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_decide import decide
from ds01.core.owner_origin import origin
from ds01.core.owners import (
    CONTAINER,
    METHODS,
    UNKNOWN,
    VOLUME,
    WITH_CONTAINER,
    Account,
    ContainerFacts,
    Made,
    Mount,
    PathFacts,
    Record,
)
from ds01.daemon import local, protocol, world
from owner_engine import FakeWorld

from .helper_daemon import UIDS, Helper

NOW = time.time()
DOOR = "Docker-Client/26.1.5 (linux)"


class Accounts:
    """The host's accounts."""

    def by_uid(self, uid: int) -> Account | None:
        for name, number in UIDS.items():
            if number == uid:
                return Account(uid, name, f"/home/{name}")
        return None

    def by_name(self, name: str) -> Account | None:
        return self.by_uid(UIDS[name]) if name in UIDS else None

    def like(self, name: str) -> tuple[Account, ...]:
        return ()


class Things:
    """Puts things into the book of owners, as the tracker and the gateway do."""

    def __init__(self, helper: Helper) -> None:
        self.book = OwnerBook(helper.book().store, helper.events_path, "test")

    def container(
        self,
        first: str,
        name: str,
        made: str = "",
        mounts: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Record:
        """A container that was looked at."""
        facts = ContainerFacts(
            (first * 64)[:64],
            name,
            created=NOW - 600,
            state=more.pop("state", "running"),
            image="lab/base",
            labels=labels or {},
            mounts=tuple(Mount(source) for source in mounts),
            leases=more.pop("leases", ()),
        )
        maker = Made(UIDS[made], made, NOW - 600, DOOR) if made else None
        paths = {path: PathFacts(path, uid=UIDS[path.split("/")[2]]) for path in mounts}
        if maker:
            self.book.record(CONTAINER, facts.id, maker, name=name)
        record = Record(
            CONTAINER,
            facts.id,
            name,
            decide(facts, maker, None, Accounts(), paths),
            origin(facts, maker),
            facts.state,
            facts.created,
            NOW,
            made=maker,
            facts=facts,
        )
        record = replace(record, **more)
        self.book.apply([record])
        return record


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Helper]:
    found = Helper(tmp_path)
    monkeypatch.setattr(protocol, "SOCKET_PATH", found.path)
    with found.running():
        yield found
    found.close()


@pytest.fixture
def things(helper: Helper) -> Things:
    return Things(helper)


class Terminal:
    """Runs command lines as a user; exit code, output, errors."""

    def __init__(self, helper: Helper, capsys: pytest.CaptureFixture[str]) -> None:
        self._helper = helper
        self._capsys = capsys

    def __call__(self, user: str, *arguments: str) -> tuple[int, str, str]:
        self._helper.comes(user)
        status = cli.main(arguments)
        found = self._capsys.readouterr()
        return status, found.out, found.err

    def json(self, user: str, *arguments: str) -> Any:
        return json.loads(self(user, *arguments, "--json")[1])

    def names(self, user: str, *arguments: str) -> list[str]:
        found = self.json(user, "owners", "list", *arguments)
        return [thing["name"] for thing in found["things"]]


@pytest.fixture
def ds01(helper: Helper, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(helper, capsys)


@pytest.fixture
def three(things: Things) -> Things:
    """alice's by the door, bob's by a mount with a label against it, and one of nobody known."""
    things.container("a", "train", made="alice")
    things.container("b", "web", mounts=("/home/bob/site",), labels={"aime.mlc": "bob"})
    things.container("c", "forged", made="bob", labels={"ds01.user": "alice"})
    things.container("d", "stray")
    return things


# --- list ----------------------------------------------------------------------------------------


def test_the_list_says_whose_each_container_is_and_how_that_is_known(
    ds01: Terminal, three: Things
) -> None:
    assert three.book.records()
    status, out, err = ds01("dana", "owners", "list")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (status, err) == (Exit.OK, "")
    assert lines[0] == "OWNER CONTAINER ID STATE INTERFACE TYPE MADE HOW THAT IS KNOWN"
    made = "running docker batch 10 min ago made through the door"
    assert f"alice train aaaaaaaaaaaa {made}" in lines
    assert "bob web bbbbbbbbbbbb running atomic batch 10 min ago label aime.mlc, weak" in lines
    assert f"bob forged cccccccccccc {made}, contradicted" in lines
    assert "unknown stray dddddddddddd running batch 10 min ago" in lines
    assert "! forged: its label ds01.user names alice" in lines


def test_people_see_their_own_and_administrators_all(ds01: Terminal, three: Things) -> None:
    assert three.book.records()
    assert ds01.names("alice") == ["train"]
    assert ds01.names("bob") == ["web", "forged"]
    assert ds01.names("carol") == []
    for admin in ("dana", "root"):
        assert ds01.names(admin) == ["train", "web", "forged", "stray"]
    assert ds01("carol", "owners", "list")[1] == "No containers of yours are known.\n"


def test_the_list_is_narrowed_by_user_and_to_what_nobody_is_known_for(
    ds01: Terminal, three: Things
) -> None:
    assert three.book.records()
    assert ds01.names("dana", "--user", "bob") == ["web", "forged"]
    assert ds01.names("dana", "--user", "1001") == ["train"]
    assert ds01.names("alice", "--user", "bob") == []
    assert ds01.names("dana", "--unknown") == ["stray"]
    assert ds01.names("alice", "--unknown") == []
    assert (
        "No containers of carol's are known" in ds01("dana", "owners", "list", "--user", "carol")[1]
    )
    out = ds01("alice", "owners", "list", "--unknown")[1]
    assert out == "Somebody is known for each of the containers that you may see.\n"


def test_other_things_are_listed_by_their_kind(ds01: Terminal, three: Things) -> None:
    made = Made(1001, "alice", NOW - 60, DOOR)
    three.book.record(VOLUME, "data", made, name="data")
    assert ds01.names("alice", "--kind", "volume") == ["data"]
    assert ds01.names("bob", "--kind", "volume") == []
    assert ds01.names("alice", "--kind", "all") == ["train", "data"]
    out = ds01("alice", "owners", "list", "--kind", "volume")[1]
    assert out.splitlines()[0].split()[:3] == ["OWNER", "VOLUME", "MADE"]
    assert "KIND" in ds01("alice", "owners", "list", "--kind", "all")[1].splitlines()[0]
    assert ds01("alice", "owners", "list", "--kind", "house")[0] == Exit.USAGE


def test_what_is_gone_is_listed_where_it_is_asked_for(ds01: Terminal, three: Things) -> None:
    three.container("e", "old", made="alice", state="exited", gone=NOW - 300)
    assert ds01.names("alice") == ["train"]
    assert ds01.names("alice", "--all") == ["train", "old"]
    assert "gone 5 min ago" in ds01("alice", "owners", "list", "--all")[1]


def test_the_lists_colours_tell_what_is_not_certain(three: Things) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    from ds01.daemon.owner_views import short

    screen = Screen()
    rows = [short(record) for record in three.book.records()]
    found = {"now": NOW, "admin": True, "fault": "no disk", "things": rows, "left_out": 3}
    owners_text.show_list(found, "container", "", Output(stream=screen))
    text = screen.getvalue()
    assert "\x1b[33mbob\x1b[0m" in text and "\x1b[31munknown\x1b[0m" in text
    assert "3 older ones are left out" in text and "be of before: no disk" in text


def test_no_name_drives_the_terminal(ds01: Terminal, things: Things) -> None:
    things.container("a", "train", made="alice", labels={"ds01.user": "\x1b]0;owned\x07\u202e"})
    for arguments in (("list",), ("show", "train")):
        out = ds01("alice", "owners", *arguments)[1]
        assert "\x1b" not in out and "\u202e" not in out


# --- show ----------------------------------------------------------------------------------------


def test_show_tells_the_evidence_in_words_and_what_decided(ds01: Terminal, three: Things) -> None:
    assert three.book.records()
    status, out, _err = ds01("bob", "owners", "show", "forged")
    text = " ".join(out.split())
    assert status == Exit.OK
    assert text.startswith("container forged (cccccccccccc) owner bob, because the gateway saw bob")
    assert "known by made through the door" in text
    assert "1. the gateway saw bob make it (this decided)" in text
    assert "2. its label ds01.user names alice; weak:" in text
    assert "against its label ds01.user names alice" in text
    assert f"through the door, for bob by a client that calls itself {DOOR}" in text
    assert "interface docker: the client called itself" in text
    assert "type batch:" in text and "image lab/base" in text and "state running" in text


def test_a_weak_owner_is_shown_with_what_could_be_wrong(ds01: Terminal, things: Things) -> None:
    things.container("b", "web", mounts=("/home/bob/site",))
    out = ds01("bob", "owners", "show", "bbbb")[1]
    assert "/home/bob/site, which it mounts" in out
    assert "weak: anybody who may mount it could have" in out
    assert "not through the door, as far as is known" in out


def test_one_of_nobody_known_says_so(ds01: Terminal, three: Things) -> None:
    assert three.book.records()
    found = ds01.json("dana", "owners", "show", "stray")["thing"]
    assert (found["owner"], found["method"], found["confidence"]) == (None, UNKNOWN, "none")
    assert "nobody is known" in ds01("dana", "owners", "show", "stray")[1]


@pytest.mark.parametrize("ref", ["web", "b" * 64, "bbbb", "nothing-there", "b" * 11, "/web"])
def test_what_is_somebody_elses_is_answered_for_as_what_does_not_exist(
    ds01: Terminal, three: Things, ref: str
) -> None:
    assert three.book.records()
    status, _out, err = ds01("alice", "owners", "show", ref)
    absent = ds01("alice", "owners", "show", "x" * len(ref))[2]
    assert status == Exit.INPUT
    assert err.replace(ref, "?") == absent.replace("x" * len(ref), "?")
    theirs = ds01("alice", "why", ref)[1]
    assert theirs.replace(ref, "?") == ds01("alice", "why", "x" * len(ref))[1].replace(
        "x" * len(ref), "?"
    )


def test_a_ref_that_could_mean_several_lists_them(ds01: Terminal, things: Things) -> None:
    things.container("ab1", "one", made="alice")
    things.container("ab2", "two", made="bob")
    things.book.record(VOLUME, "one", Made(1001, "alice", NOW), name="one")
    status, _out, err = ds01("alice", "owners", "show", "one")
    assert status == Exit.INPUT
    assert "could be the container one (ab1ab1ab1ab1), alice's" in err
    assert "could be the volume one, alice's" in err and "--kind" in err
    assert ds01.json("alice", "owners", "show", "one", "--kind", "volume")["thing"]["id"] == "one"
    problems = ds01.json("alice", "owners", "show", "one")["problems"]
    assert [row["where"] for row in problems] == ["one", "one"]


def test_what_is_of_another_kind_or_somebody_elses_hides_nothing(
    ds01: Terminal, things: Things
) -> None:
    things.container("a", "train", made="alice", state="exited", gone=NOW - 7200)
    things.container("fee1", "mine", made="alice")
    things.container("b", "fee1", made="bob")
    things.book.record(VOLUME, "train", Made(1002, "bob", NOW), name="train")
    assert ds01.json("alice", "owners", "show", "train")["thing"]["id"] == "a" * 64
    shown = ds01.json("dana", "owners", "show", "train", "--kind", "container")
    assert shown["thing"]["id"] == "a" * 64
    assert "it is gone" in ds01("dana", "why", "train")[1]
    assert ds01.json("alice", "owners", "show", "fee1")["thing"]["name"] == "mine"


def test_a_name_that_was_used_before_shows_its_history(ds01: Terminal, things: Things) -> None:
    things.container("a", "job", made="alice", state="exited", gone=NOW - 7200)
    things.container("b", "job", made="bob", state="exited", gone=NOW - 3600)
    out = ds01("dana", "owners", "show", "job")[1]
    assert out.startswith("container job (bbbbbbbbbbbb)") and "gone 1 h ago" in out
    assert "aaaaaaaaaaaa, alice's: " in out
    things.container("c", "job", made="alice")
    found = ds01.json("alice", "owners", "show", "job")
    assert found["thing"]["id"] == "c" * 64
    assert [one["id"] for one in found["earlier"]] == ["a" * 64]


# --- set and unset -------------------------------------------------------------------------------


def test_an_administrators_word_counts_most_and_is_an_event(
    ds01: Terminal, three: Things, helper: Helper
) -> None:
    assert three.book.records()
    status, out, _err = ds01("dana", "owners", "set", "stray", "bob", "--reason", "bob said so")
    assert status == Exit.OK
    assert out.startswith(
        "container stray (dddddddddddd): bob, because dana, an administrator, said"
    )
    assert ds01.names("bob") == ["web", "forged", "stray"]
    (event,) = helper.log("owner.set")
    assert event["user"] == "bob"
    told = {key: event["details"][key] for key in ("by", "uid", "reason", "name")}
    assert told == {"by": "dana", "uid": 1002, "reason": "bob said so", "name": "stray"}
    again = ds01("dana", "owners", "set", "stray", "bob", "--reason", "bob said so")[1]
    assert "was set so already" in again
    assert len(helper.log("owner.set")) == 1
    shown = ds01("bob", "owners", "show", "stray")[1]
    assert "dana set bob on" in shown and ": bob said so" in shown


def test_an_administrators_word_can_be_taken_back(
    ds01: Terminal, three: Things, helper: Helper
) -> None:
    assert three.book.records()
    ds01("dana", "owners", "set", "train", "bob")
    assert ds01.names("alice") == []
    out = ds01("dana", "owners", "unset", "train")[1]
    assert out.startswith("container train (aaaaaaaaaaaa): the word is taken back")
    assert "ds01 owners show aaaaaaaaaaaa" in out
    assert ds01.names("alice") == ["train"]
    assert "was not set by anybody" in ds01("dana", "owners", "unset", "train")[1]
    assert [event["details"]["by"] for event in helper.log("owner.unset")] == ["dana"]


def test_a_user_is_an_account_or_a_uid(ds01: Terminal, three: Things) -> None:
    assert three.book.records()
    status, _out, err = ds01("dana", "owners", "set", "stray", "nobody-here")
    assert status == Exit.INPUT and "knows no user 'nobody-here'" in err and "user id" in err
    for given, uid, user in (("1003", 1003, "carol"), ("4711", 4711, "4711"), ("bob", 1002, "bob")):
        assert ds01("dana", "owners", "set", "stray", given)[0] == Exit.OK
        said = ds01.json("dana", "owners", "show", "stray")["thing"]["set_by"]
        assert (said["uid"], said["user"]) == (uid, user)
    assert ds01("dana", "owners", "set", "stray", "4294967295")[0] == Exit.INPUT


@pytest.mark.parametrize(
    "arguments", [("set", "train", "alice"), ("unset", "train"), ("sync",)], ids=" ".join
)
def test_only_administrators_say_whose_a_container_is(
    ds01: Terminal, three: Things, arguments: tuple[str, ...]
) -> None:
    assert three.book.records()
    status, _out, err = ds01("alice", "owners", *arguments)
    assert status == Exit.REFUSED
    assert f"ds01 owners {arguments[0]} is for administrators" in err


def test_a_word_about_several_or_nothing_changes_nothing(
    ds01: Terminal, things: Things, helper: Helper
) -> None:
    things.container("ab1", "one")
    things.container("ab2", "two")
    things.container("e", "old", state="exited", gone=NOW - 300)
    for ref in ("ab", "old", "e" * 64, ""):
        assert ds01("dana", "owners", "set", ref, "bob")[0] == Exit.INPUT
    assert "ds01 owners sync" in ds01("dana", "owners", "set", "new", "bob")[2]
    assert not helper.log("owner.set")


def test_sync_tells_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"containers": 3, "unknown": 1, "faults": {"image": "no answer"}}
    owners_text.show_sync(found, Output())
    out = capsys.readouterr().out
    assert out == (
        "Compared with all that the engine has, containers: 3, unknown: 1\n"
        "! images could not be looked at: no answer\n"
    )


# --- why -----------------------------------------------------------------------------------------


def test_why_tells_whose_a_container_without_a_lease_is(ds01: Terminal, three: Things) -> None:
    assert three.book.records()
    out = ds01("alice", "why", "train")[1]
    assert "train: it has no GPU lease" in out
    assert "train: whose it is: alice, because the gateway saw alice make it" in out
    out = ds01("bob", "why", "cccc")[1]
    assert "forged: something speaks for somebody else: its label ds01.user names alice" in out


def test_why_tells_administrators_what_to_do_where_nobody_is_known(
    ds01: Terminal, three: Things
) -> None:
    assert three.book.records()
    out = ds01("dana", "why", "stray")[1]
    assert "whose it is: nobody is known" in out
    assert "ds01 owners set dddddddddddd USER" in out
    assert "Not so? ds01 owners set bbbbbbbbbbbb USER" in ds01("dana", "why", "web")[1]
    ds01("dana", "owners", "set", "web", "carol")
    assert "Take that back: ds01 owners unset bbbbbbbbbbbb" in ds01("dana", "why", "web")[1]


def test_why_tells_people_whom_to_ask_where_an_owner_is_not_certain(
    ds01: Terminal, three: Things
) -> None:
    assert three.book.records()
    assert "Not so? The administrators can set it" in ds01("bob", "why", "web")[1]
    assert "Not so?" not in ds01("alice", "why", "train")[1]


def test_why_tells_the_lease_of_a_container_and_whose_it_is(
    ds01: Terminal, things: Things, helper: Helper
) -> None:
    lease = ds01.json("alice", "gpu", "request")["granted"]["id"]
    things.container("a", "train", made="alice", leases=(lease,))
    helper.book().bind(lease, "a" * 64, "train")
    for ref in ("train", "aaaa", "a" * 12, "a" * 64):
        out = ds01("alice", "why", ref)[1]
        assert out.count("its lease is in force") == 1
        assert "whose it is: alice" in out and "no GPU lease" not in out
    assert "1" in ds01("alice", "owners", "list")[1].splitlines()[1].split()
    assert lease not in ds01("dana", "owners", "show", "train")[1]


def test_why_tells_of_a_container_that_is_gone(ds01: Terminal, things: Things) -> None:
    things.container("a", "train", made="alice", state="exited", gone=NOW - 120)
    assert "it is gone: it was removed 2 min ago" in ds01("alice", "why", "train")[1]


# --- the rest ------------------------------------------------------------------------------------


def test_every_method_has_its_words() -> None:
    assert set(owners_text.METHOD_WORDS) == {*METHODS, WITH_CONTAINER, UNKNOWN}


def test_root_reads_the_store_while_the_daemon_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helper = Helper(tmp_path)
    Things(helper).container("a", "train", made="alice")
    monkeypatch.setattr(protocol, "SOCKET_PATH", str(tmp_path / "nobody.sock"))
    monkeypatch.setattr(local, "open_book", helper.book)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cli.main(["owners", "list"]) == Exit.OK
    found = capsys.readouterr()
    assert "alice  train" in found.out and "read from the store" in found.err
    assert cli.main(["owners", "set", "train", "0"]) == Exit.OK
    assert "an administrator, said" in capsys.readouterr().out
    assert cli.main(["gpu", "reconcile"]) == Exit.HOST
    assert "systemctl start ds01d.socket" in capsys.readouterr().err


def test_root_compares_with_the_engine_while_the_daemon_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    helper, engine = Helper(tmp_path), FakeWorld()
    engine.create("train", labels={"ds01.user": "alice"})
    monkeypatch.setattr(protocol, "SOCKET_PATH", str(tmp_path / "nobody.sock"))
    monkeypatch.setattr(local, "open_book", helper.book)
    monkeypatch.setattr(world, "owner_world", lambda: engine)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cli.main(["owners", "sync"]) == Exit.OK
    assert "containers: 1, unknown: 0" in capsys.readouterr().out
    published = json.loads((tmp_path / "state/opa/container-owners.json").read_text())
    assert [row["owner"] for row in published["containers"].values()] == ["alice"]
    engine.down = True
    assert cli.main(["owners", "sync"]) == Exit.HOST
    assert "engine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        '{"verb": "owners", "kind": ["x"]}',
        '{"verb": "owners", "kind": "exec ; drop"}',
        '{"verb": "owner"}',
        '{"verb": "owner", "ref": "a\\u0000b"}',
        '{"verb": "owner_set", "ref": "a"}',
        '{"verb": "owner_set", "ref": "a", "user": 1001}',
        '{"verb": "owner_set", "ref": "a", "user": "bob", "kind": "all"}',
        '{"verb": "owners_sync", "now": true}',
    ],
)
def test_a_request_of_another_form_is_refused(helper: Helper, line: str) -> None:
    answer = helper.say(line.encode() + b"\n", "dana")
    assert answer["error"]["code"] == protocol.BAD_REQUEST
