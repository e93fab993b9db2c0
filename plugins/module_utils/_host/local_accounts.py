# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts from the host's own files, which never hang, and from the name service, which may.

Lines that are none (NIS's ``+``, comments, damage) are passed over, as the C library does.
Source: passwd(5), group(5), subuid(5), systemd-logind.service(8), getgrouplist(3).
"""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

PASSWD_PATH = "/etc/passwd"
GROUP_PATH = "/etc/group"
SUBUID_PATH = "/etc/subuid"
LOGINS_PATH = "/run/systemd/users"
_ID_MAX = 2**32 - 2


class Account(NamedTuple):
    """An account.

    :param gids: numbers of its groups, the primary one among them.
    """

    name: str
    uid: int
    gids: frozenset[int]


class Group(NamedTuple):
    """A group, and who is named in it."""

    name: str
    gid: int
    members: tuple[str, ...]


Mark = tuple[int, int, int]


def mark(path: str) -> Mark | None:
    """What changes when a file is replaced or written; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def groups(path: str = GROUP_PATH) -> list[Group]:
    """The groups of the host's own file, in its order.

    :raises OSError: it cannot be read.
    """
    found = []
    for row in _rows(path, 4):
        gid = _number(row[2])
        if gid is not None:
            found.append(Group(row[0], gid, tuple(name for name in row[3].split(",") if name)))
    return found


def accounts(local_groups: list[Group], path: str = PASSWD_PATH) -> list[Account]:
    """The accounts of the host's own file, in its order: the first one of a uid names it.

    :raises OSError: it cannot be read.
    """
    member_of: dict[str, set[int]] = {}
    for group in local_groups:
        for name in group.members:
            member_of.setdefault(name, set()).add(group.gid)
    found = []
    for row in _rows(path, 7):
        uid, gid = _number(row[2]), _number(row[3])
        if uid is not None and gid is not None:
            found.append(Account(row[0], uid, frozenset({gid, *member_of.get(row[0], ())})))
    return found


def people(path: str = PASSWD_PATH) -> list[tuple[int, str, str]]:
    """Uid, name and home directory of the accounts of the host's own file, in its order.

    :raises OSError: it cannot be read.
    """
    found = []
    for row in _rows(path, 7):
        uid = _number(row[2])
        if uid is not None:
            found.append((uid, row[0], row[5]))
    return found


def subordinates(path: str = SUBUID_PATH) -> list[tuple[str, int, int]]:
    """Subordinate user ids: whose (a name or a uid in digits), the first, and how many.

    :raises OSError: the file cannot be read.
    """
    found = []
    for row in _rows(path, 3):
        first, count = _number(row[1]), _number(row[2])
        if first and count:
            found.append((row[0], first, count))
    return found


def logins(folder: str = LOGINS_PATH) -> dict[int, str]:
    """Names of those who have logged in, by uid, as logind wrote them down.

    :raises OSError: the directory cannot be read.
    """
    found = {}
    for entry in os.listdir(folder):
        uid = _number(entry)
        if uid is None:
            continue
        try:
            with open(os.path.join(folder, entry), encoding="utf-8", errors="replace") as stream:
                name = next((ln[5:].strip() for ln in stream if ln.startswith("NAME=")), "")
        except OSError:
            continue  # logged out meanwhile
        if name:
            found[uid] = name
    return found


def ask_uid(uid: int) -> Account | None:
    """The account of a uid by the name service; None when there is none. It may hang."""
    try:
        return _with_groups(pwd.getpwuid(uid))
    except (KeyError, OverflowError):
        return None


def ask_name(name: str) -> Account | None:
    """The account of a name, under the name that the host gives to its uid. It may hang."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return ask_uid(entry.pw_uid) or _with_groups(entry)


def ask_group(name: str) -> int | None:
    """Number of a group by the name service; None when there is none. It may hang."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _with_groups(entry: pwd.struct_passwd) -> Account:
    gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_name, entry.pw_uid, frozenset(gids))


def _rows(path: str, columns: int) -> list[list[str]]:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        split = [line.rstrip("\n").split(":") for line in stream if line[:1] not in "+-#\n"]
    return [row for row in split if len(row) == columns and row[0]]


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number <= _ID_MAX else None
