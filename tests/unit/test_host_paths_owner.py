# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the steps of a path are, and who has an account, where neither may hold anybody up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ds01.host import owner_accounts, paths
from ds01.host.owner_accounts import HomeAccount, OwnerAccounts
from ds01.host.paths import PathLook, Paths, look


def test_the_end_of_a_path_and_every_link_on_the_way_has_an_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "alice"
    (home / "data").mkdir(parents=True)
    (home / "file").write_text("")
    (tmp_path / "link").symlink_to("alice")
    (home / "up").symlink_to("../link/data")
    (tmp_path / "far").symlink_to(str(home / "up"))
    owners = {
        home: 1001,
        home / "data": 1002,
        home / "file": 1003,
        tmp_path / "link": 1004,
        home / "up": 1001,
        tmp_path / "far": 0,
    }
    # Files of several owners are made by root alone.
    by_inode = {os.lstat(path).st_ino: uid for path, uid in owners.items()}
    fstat = os.fstat

    def owned(descriptor: int) -> os.stat_result:
        row = [int(one) for one in tuple(fstat(descriptor))[:10]]
        row[4] = by_inode.get(row[1], row[4])
        return os.stat_result(row)

    monkeypatch.setattr(os, "fstat", owned)
    assert look(str(home / "data")) == PathLook(str(home / "data"), 1002, (), 1002)
    assert look(str(home / "file")) == PathLook(str(home / "file"), 1003, (), 1003)
    assert look(str(tmp_path / "link/./data")).links == (1004,)
    far = look(str(tmp_path / "far"))
    assert (far.uid, far.links, far.above) == (1002, (0, 1001, 1004), 1002)
    missing = look(str(home / "data/none/there"))
    assert (missing.uid, missing.above, missing.reachable) == (None, 1002, True)
    through = look(str(home / "file/x"))
    assert (through.uid, through.above) == (None, 1001)


def test_what_leads_nowhere_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    found = look(str(tmp_path / "loop"))
    assert found.uid is None and len(found.links) == paths.LINKS_MAX + 1 and found.reachable
    (tmp_path / "dangling").symlink_to("none")
    assert look(str(tmp_path / "dangling")).uid is None
    for odd in ("", "relative", "/a\0b", "C:\\Users\\alice"):
        assert look(odd) == PathLook(odd)
    assert look("/").uid == 0 and look("/../..").uid == 0
    assert look("/" + "x" * 5000).uid is None
    count = len(os.listdir("/proc/self/fd"))
    look(str(tmp_path / "loop"))
    look(str(tmp_path / "dangling"))
    assert len(os.listdir("/proc/self/fd")) == count


def test_a_path_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    go = threading.Event()

    def follow(path: str) -> PathLook:
        if path.startswith("/net/dead"):
            go.wait(20)
        return PathLook(path, 1001)

    them = Paths(0.1, follow)
    began = time.monotonic()
    found = them.look([f"/net/dead/{number}" for number in range(50)] + ["/home/alice"])
    assert found["/home/alice"].uid == 1001
    assert not found["/net/dead/0"].reachable and not found["/net/dead/49"].reachable
    # Whoever comes next does not wait again for what is known to hang.
    first = time.monotonic() - began
    for number in range(20):
        assert not them.look([f"/net/dead/{number}"])[f"/net/dead/{number}"].reachable
        assert them.look(["/home/bob"])["/home/bob"].uid == 1001
    assert first < 2 and time.monotonic() - began < 4
    assert sum(thread.name == "owner-paths" for thread in threading.enumerate()) <= 8
    go.set()
    until = time.monotonic() + 10
    while not them.look(["/net/dead/49"], 1)["/net/dead/49"].reachable:
        assert time.monotonic() < until


def test_what_was_looked_at_is_looked_at_again_after_seconds() -> None:
    now, asked = [0.0], list[str]()

    def follow(path: str) -> PathLook:
        asked.append(path)
        return PathLook(path, 1001)

    them = Paths(5, follow, lambda: now[0])
    them.look(["/a"])
    them.look(["/a"])
    now[0] = paths.FRESH_SECONDS
    them.look(["/a"])
    assert asked == ["/a", "/a"]


def test_an_error_of_the_file_system_is_no_answer() -> None:
    def follow(path: str) -> PathLook:
        raise OSError(5, "input/output error")

    assert not Paths(1, follow).look(["/a"])["/a"].reachable


# --- accounts ---------------------------------------------------------------------------------------

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\n"
    "alice-too:x:1001:1001::/home/second:/bin/sh\n4711:x:1002:1002::/srv/4711:/bin/sh\n"
)
BAKER = HomeAccount(70001, "h.baker@hertie-school.lan", "/home/h.baker")


class Directory:
    """A directory service."""

    def __init__(self) -> None:
        self.asked: list[owner_accounts.Key] = []
        self.answer: HomeAccount | None = BAKER
        self.go = threading.Event()
        self.go.set()

    def __call__(self, key: owner_accounts.Key) -> HomeAccount | None:
        self.asked.append(key)
        self.go.wait(20)
        return self.answer if key in (("uid", 70001), ("name", BAKER.name)) else None


def accounts(
    folder: Path, directory: Directory, clock: Callable[[], float] = time.monotonic
) -> OwnerAccounts:
    (folder / "passwd").write_text(PASSWD)
    (folder / "users").mkdir(exist_ok=True)
    (folder / "users/70002").write_text("NAME=carol@hertie-school.lan\n")
    return OwnerAccounts(str(folder / "passwd"), str(folder / "users"), directory, 0.1, clock)


def test_the_hosts_own_file_is_asked_first(tmp_path: Path) -> None:
    directory = Directory()
    known = accounts(tmp_path, directory)
    assert known.by_uid(1001) == HomeAccount(1001, "alice", "/home/alice")
    assert known.by_name("alice-too") == known.by_uid(1001)
    assert known.by_name("4711") == HomeAccount(1002, "4711", "/srv/4711")
    assert directory.asked == []
    (tmp_path / "passwd").write_text(PASSWD.replace("alice:x:1001", "anna:x:1001"))
    assert known.by_uid(1001) == HomeAccount(1001, "anna", "/home/alice")
    assert known.by_name("alice") is None and not known.unsure()


def test_the_directory_is_asked_once_and_remembered(tmp_path: Path) -> None:
    directory, now = Directory(), [0.0]
    known = accounts(tmp_path, directory, lambda: now[0])
    for _time in range(3):
        assert known.by_uid(70001) == BAKER and known.by_uid(70009) is None
    assert directory.asked == [("uid", 70001), ("uid", 70009)]
    now[0] = owner_accounts.ABSENT_SECONDS
    known.by_uid(70009)
    assert len(directory.asked) == 3
    # A directory that is out of reach says no as well: it takes nobody's name away at once.
    directory.answer = None
    now[0] = owner_accounts.FRESH_SECONDS
    assert known.by_uid(70001) == BAKER
    now[0] = owner_accounts.STALE_SECONDS + 1
    assert known.by_uid(70001) is None


def test_names_in_another_spelling_are_looked_for_among_known_ones(tmp_path: Path) -> None:
    known = accounts(tmp_path, Directory())
    assert known.like("h.baker") == ()
    known.by_uid(70001)
    for name in ("h.baker", "HERTIE-SCHOOL\\h.baker", "H.Baker@HERTIE-SCHOOL.lan"):
        assert known.like(name) == (BAKER,)
    assert [one.uid for one in known.like("carol")] == [70002]


def test_a_directory_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    directory = Directory()
    known = accounts(tmp_path, directory)
    directory.go.clear()
    began = time.monotonic()
    assert known.by_uid(70001) is None and known.unsure() and not known.unsure()
    for uid in range(70010, 70060):
        assert known.by_uid(uid) is None
    assert known.unsure() and time.monotonic() - began < 2
    assert sum(thread.name == "owner-accounts" for thread in threading.enumerate()) <= 8
    assert known.by_uid(1001) is not None and not known.unsure()
    directory.go.set()
    until = time.monotonic() + 10
    while known.by_uid(70001) != BAKER:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_name_service_is_asked_for_names_and_numbers() -> None:
    root = owner_accounts.ask(("uid", 0))
    assert root is not None and root.name == "root" and root == owner_accounts.ask(("name", "root"))
    assert owner_accounts.ask(("name", "nobodyknows")) is None
    assert (
        owner_accounts.ask(("uid", 2**70)) is None and owner_accounts.ask(("name", "a\0b")) is None
    )
