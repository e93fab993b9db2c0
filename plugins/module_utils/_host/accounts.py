# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts by the name service (getpwnam(3), getgrouplist(3)); directories need not enumerate."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True)
class HostAccount:
    """An account.

    :param name: as the host spells it.
    :param groups: names of its Unix groups; groups without a name are left out.
    """

    name: str
    uid: int
    groups: tuple[str, ...]


def find(name: str) -> HostAccount | None:
    """An account by its name, or None when the host does not know it."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return _with_groups(entry)


def by_uid(uid: int) -> HostAccount | None:
    """An account by its uid (getpwuid(3)), or None when the host does not know it.

    Of two accounts with one uid it is always the same one.
    """
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        return None
    return _with_groups(entry)


def home_parents() -> list[str]:
    """Directories that hold the homes of people's accounts, as far as accounts enumerate.

    People's user ids start at 1000 (login.defs(5), UID_MIN); the ids from 65534 on are nobody's.
    """
    parents = {os.path.dirname(e.pw_dir) for e in pwd.getpwall() if 1000 <= e.pw_uid < 65534}
    return sorted(parent for parent in parents if parent != "/" and os.path.isdir(parent))


def _with_groups(entry: pwd.struct_passwd) -> HostAccount:
    names = []
    for gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return HostAccount(entry.pw_name, entry.pw_uid, tuple(names))
