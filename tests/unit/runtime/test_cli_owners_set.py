# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 owners set``, ``unset``, ``sync`` and ``ds01 why CONTAINER`` against a running daemon."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ds01 import cli
from ds01.cli import owners_text
from ds01.cli.output import Exit, Output
from ds01.core.owners import METHODS, UNKNOWN, WITH_CONTAINER
from ds01.daemon import local, protocol, world
from owner_engine import FakeWorld

from .helper_daemon import Helper
from .owner_things import Terminal, Things


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


# --- set and unset -------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_an_administrators_word_counts_most_and_is_an_event(ds01: Terminal, helper: Helper) -> None:
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


@pytest.mark.usefixtures("three")
def test_an_administrators_word_can_be_taken_back(ds01: Terminal, helper: Helper) -> None:
    ds01("dana", "owners", "set", "train", "bob")
    assert ds01.names("alice") == []
    out = ds01("dana", "owners", "unset", "train")[1]
    assert out.startswith("container train (aaaaaaaaaaaa): the word is taken back")
    assert "ds01 owners show aaaaaaaaaaaa" in out
    assert ds01.names("alice") == ["train"]
    assert "was not set by anybody" in ds01("dana", "owners", "unset", "train")[1]
    assert [event["details"]["by"] for event in helper.log("owner.unset")] == ["dana"]


@pytest.mark.usefixtures("three")
def test_a_user_is_an_account_or_a_uid(ds01: Terminal) -> None:
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
@pytest.mark.usefixtures("three")
def test_only_administrators_say_whose_a_container_is(
    ds01: Terminal, arguments: tuple[str, ...]
) -> None:
    status, _out, err = ds01("alice", "owners", *arguments)
    assert status == Exit.REFUSED
    assert f"ds01 owners {arguments[0]} is for administrators" in err


def test_a_word_about_several_or_nothing_changes_nothing(
    ds01: Terminal, things: Things, helper: Helper
) -> None:
    things.container("ab1", "one")
    things.container("ab2", "two")
    things.container("e", "old", state="exited", gone=time.time() - 300)
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


@pytest.mark.usefixtures("three")
def test_why_tells_whose_a_container_without_a_lease_is(ds01: Terminal) -> None:
    out = ds01("alice", "why", "train")[1]
    assert "train: it has no GPU lease" in out
    assert "train: whose it is: alice, because the gateway saw alice make it" in out
    out = ds01("bob", "why", "cccc")[1]
    assert "forged: something speaks for somebody else: its label ds01.user names alice" in out


@pytest.mark.usefixtures("three")
def test_why_tells_administrators_what_to_do_where_nobody_is_known(ds01: Terminal) -> None:
    out = ds01("dana", "why", "stray")[1]
    assert "whose it is: nobody is known" in out
    assert "ds01 owners set dddddddddddd USER" in out
    assert "Not so? ds01 owners set bbbbbbbbbbbb USER" in ds01("dana", "why", "web")[1]
    ds01("dana", "owners", "set", "web", "carol")
    assert "Take that back: ds01 owners unset bbbbbbbbbbbb" in ds01("dana", "why", "web")[1]


@pytest.mark.usefixtures("three")
def test_why_tells_people_whom_to_ask_where_an_owner_is_not_certain(ds01: Terminal) -> None:
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
    things.container("a", "train", made="alice", state="exited", gone=time.time() - 120)
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
    monkeypatch.setattr(world, "owner_world", FakeWorld)
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
    for arguments, owner in ((("set", "train", "0"), "root"), (("unset", "train"), "alice")):
        assert cli.main(["owners", *arguments]) == Exit.OK
        published = json.loads((tmp_path / "state/opa/container-owners.json").read_text())
        assert [row["owner"] for row in published["containers"].values()] == [owner]
    assert cli.main(["owners", "show", "train"]) == Exit.OK
    assert "its label ds01.user names alice" in capsys.readouterr().out
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
