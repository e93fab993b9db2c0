# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ds01 owners list`` and ``show`` against a running daemon: words, JSON, exit codes."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ds01.cli import owners_text
from ds01.cli.output import Exit, Output
from ds01.core.owner_book import OwnerBook
from ds01.core.owners import UNKNOWN, VOLUME, Made, Record
from ds01.daemon import owner_desk, protocol

from .helper_daemon import Helper, read_lines
from .owner_things import DOOR, Terminal, Things


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


# --- list ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_the_list_says_whose_each_container_is_and_how_that_is_known(ds01: Terminal) -> None:
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


@pytest.mark.usefixtures("three")
def test_people_see_their_own_and_administrators_all(ds01: Terminal) -> None:
    assert ds01.names("alice") == ["train"]
    assert ds01.names("bob") == ["web", "forged"]
    assert ds01.names("carol") == []
    for admin in ("dana", "root"):
        assert ds01.names(admin) == ["train", "web", "forged", "stray"]
    assert ds01("carol", "owners", "list")[1] == "No containers of yours are known.\n"


@pytest.mark.usefixtures("three")
def test_the_list_is_narrowed_by_user_and_to_what_nobody_is_known_for(ds01: Terminal) -> None:
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
    made = Made(1001, "alice", time.time() - 60, DOOR)
    three.book.record(VOLUME, "data", made, name="data")
    assert ds01.names("alice", "--kind", "volume") == ["data"]
    assert ds01.names("bob", "--kind", "volume") == []
    assert ds01.names("alice", "--kind", "all") == ["train", "data"]
    out = ds01("alice", "owners", "list", "--kind", "volume")[1]
    assert out.splitlines()[0].split()[:3] == ["OWNER", "VOLUME", "MADE"]
    assert "KIND" in ds01("alice", "owners", "list", "--kind", "all")[1].splitlines()[0]
    assert ds01("alice", "owners", "list", "--kind", "house")[0] == Exit.USAGE


def test_what_is_gone_is_listed_where_it_is_asked_for(ds01: Terminal, three: Things) -> None:
    three.container("e", "old", made="alice", state="exited", gone=time.time() - 300)
    assert ds01.names("alice") == ["train"]
    assert ds01.names("alice", "--all") == ["train", "old"]
    assert "gone 5 min ago" in ds01("alice", "owners", "list", "--all")[1]


def test_of_a_long_past_the_last_is_listed_and_the_rest_counted(
    ds01: Terminal, things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_desk, "GONE_MAX", 2)
    for number in range(5):
        gone = things.now - 1000 + number
        things.container(f"a{number}", f"job{number}", made="alice", state="exited", gone=gone)
        things.container(f"b{number}", f"web{number}", made="bob", state="exited", gone=gone)
    things.container("c", "train", made="alice")
    assert ds01.names("alice", "--all") == ["train", "job4", "job3"]
    assert "3 that were gone earlier are left out" in ds01("alice", "owners", "list", "--all")[1]
    assert ds01.json("dana", "owners", "list", "--all")["left_out"] == 8


def test_a_long_list_holds_up_no_lease(
    helper: Helper, things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, reads = threading.Event(), threading.Event()

    def slow(*_arguments: object, **_more: object) -> list[Record]:
        reads.set()
        go_on.wait(20)
        return []

    monkeypatch.setattr(OwnerBook, "records", slow)
    with helper.dial("alice") as sock:
        sock.sendall(b'{"verb": "owners"}\n')
        assert reads.wait(20)
        assert "granted" in helper.ask("request", "bob")
        go_on.set()
        assert read_lines(sock)[-1]["things"] == []


def test_the_lists_colours_tell_what_is_not_certain(three: Things) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    from ds01.daemon.owner_views import short

    screen = Screen()
    rows = [short(record) for record in three.book.records()]
    found = {"now": time.time(), "admin": True, "fault": "no disk", "things": rows, "left_out": 3}
    owners_text.show_list(found, "container", "", Output(stream=screen))
    text = screen.getvalue()
    assert "\x1b[33mbob\x1b[0m" in text and "\x1b[31munknown\x1b[0m" in text
    assert "3 that were gone earlier are left out" in text and "be of before: no disk" in text


def test_no_name_drives_the_terminal(ds01: Terminal, things: Things) -> None:
    things.container("a", "train", made="alice", labels={"ds01.user": "\x1b]0;owned\x07\u202e"})
    for arguments in (("list",), ("show", "train")):
        out = ds01("alice", "owners", *arguments)[1]
        assert "\x1b" not in out and "\u202e" not in out


# --- show ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_show_tells_the_evidence_in_words_and_what_decided(ds01: Terminal) -> None:
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


@pytest.mark.usefixtures("three")
def test_one_of_nobody_known_says_so(ds01: Terminal) -> None:
    found = ds01.json("dana", "owners", "show", "stray")["thing"]
    assert (found["owner"], found["method"], found["confidence"]) == (None, UNKNOWN, "none")
    assert "nobody is known" in ds01("dana", "owners", "show", "stray")[1]


@pytest.mark.parametrize("ref", ["web", "b" * 64, "bbbb", "nothing-there", "b" * 11, "/web"])
@pytest.mark.usefixtures("three")
def test_what_is_somebody_elses_is_answered_for_as_what_does_not_exist(
    ds01: Terminal, ref: str
) -> None:
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
    things.book.record(VOLUME, "one", Made(1001, "alice", time.time()), name="one")
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
    things.container("a", "train", made="alice", state="exited", gone=time.time() - 7200)
    things.container("fee1", "mine", made="alice")
    things.container("b", "fee1", made="bob")
    things.book.record(VOLUME, "train", Made(1002, "bob", time.time()), name="train")
    assert ds01.json("alice", "owners", "show", "train")["thing"]["id"] == "a" * 64
    shown = ds01.json("dana", "owners", "show", "train", "--kind", "container")
    assert shown["thing"]["id"] == "a" * 64
    assert "it is gone" in ds01("dana", "why", "train")[1]
    assert ds01.json("alice", "owners", "show", "fee1")["thing"]["name"] == "mine"


def test_a_name_that_was_used_before_shows_its_history(ds01: Terminal, things: Things) -> None:
    things.container("a", "job", made="alice", state="exited", gone=time.time() - 7200)
    things.container("b", "job", made="bob", state="exited", gone=time.time() - 3600)
    out = ds01("dana", "owners", "show", "job")[1]
    assert out.startswith("container job (bbbbbbbbbbbb)") and "gone 1 h ago" in out
    assert "aaaaaaaaaaaa, alice's: " in out
    things.container("c", "job", made="alice")
    found = ds01.json("alice", "owners", "show", "job")
    assert found["thing"]["id"] == "c" * 64
    assert [one["id"] for one in found["earlier"]] == ["a" * 64]
