# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts from the host's own files: what is damaged is passed over, never misread."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from ds01.gateway.people_known import Files, Known
from ds01.host import local_accounts
from ds01.host.local_accounts import Account, Group


def written(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_groups_and_accounts_are_read_in_their_order(tmp_path: Path) -> None:
    group = written(tmp_path, "group", "adm:x:4:alice,bob\nx:*:5:\n+:::\nodd:x:-1:\nshort:x:1\n")
    groups = local_accounts.groups(group)
    assert groups == [Group("adm", 4, ("alice", "bob")), Group("x", 5, ())]
    passwd = written(
        tmp_path,
        "passwd",
        b"alice:x:1001:1001:\xff:/home/alice:/bin/sh\n# no\n-nis::::::\n\n"
        b"4711:x:1002:4::/:/bin/sh\n:x:0:0::/:/bin/sh\nbig:x:4294967295:1::/:\nno:x: 7:1::/:\n"
        b"arabic:x:\xd9\xa1:1::/:\n",
    )
    assert local_accounts.accounts(groups, passwd) == [
        Account("alice", 1001, frozenset({1001, 4})),
        Account("4711", 1002, frozenset({4})),
    ]


def test_subordinate_ids_belong_to_a_name_or_a_number(tmp_path: Path) -> None:
    path = written(tmp_path, "subuid", "alice:100000:65536\n1002:200000:10\nx:0:5\nx:5:0\nx:y:z\n")
    assert local_accounts.subordinates(path) == [
        ("alice", 100000, 65536),
        ("1002", 200000, 10),
    ]
    passwd = written(tmp_path, "passwd", "alice:x:1001:1001::/:/bin/sh\n")
    group = written(tmp_path, "group", "")
    known = Known(Files(passwd, group, path, str(tmp_path / "none")))
    assert known.reread()
    table = known.accounts(None, "")
    assert table.subordinates == ((100000, 65536, 1001), (200000, 10, 1002))


def test_logins_are_named_by_logind(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    for name, text in (
        ("1001", "# This is private data.\nNAME=alice\nSTATE=active\n"),
        ("70000", "NAME=h.baker@hertie-school.lan\n"),
        ("1002", "STATE=closing\n"),
        (".#1003abc", "NAME=half\n"),
    ):
        written(tmp_path / "users", name, text)
    assert local_accounts.logins(str(tmp_path / "users")) == {
        1001: "alice",
        70000: "h.baker@hertie-school.lan",
    }


def test_files_that_cannot_be_read_leave_what_was_known(tmp_path: Path) -> None:
    passwd = written(tmp_path, "passwd", "alice:x:1001:1001::/:/bin/sh\n")
    group = written(tmp_path, "group", "alice:x:1001:\n")
    known = Known(Files(passwd, group, str(tmp_path / "none"), str(tmp_path / "none")))
    assert known.reread() and known.accounts(None, "").names == {1001: "alice"}
    os.unlink(passwd)
    assert known.reread() and known.accounts(None, "").names == {1001: "alice"}


def test_the_name_service_tells_of_root() -> None:
    root = local_accounts.ask_uid(0)
    assert root is not None and root.uid == 0 and 0 in root.gids
    assert local_accounts.ask_name(pwd.getpwuid(0).pw_name) == root
    assert local_accounts.ask_group("root") == 0


@pytest.mark.parametrize("name", ["no-such-account-here", "a\0b", ""])
def test_whom_the_name_service_does_not_know_is_nobody(name: str) -> None:
    assert local_accounts.ask_name(name) is None
    assert local_accounts.ask_group(name) is None
    assert local_accounts.ask_uid(2**40) is None
