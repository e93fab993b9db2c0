# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway knows of people: the host's own files, logins, and whom it met before.

The record of those met is kept under /run: a gateway that starts anew knows everybody whom the one
before it knew, also while the directory hangs. It ends with the boot, so its times are of the clock
that counts from there (CLOCK_BOOTTIME).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ds01.core.callers import Accounts, Ranges
from ds01.core.durable import replace_file
from ds01.core.limits import Limits, account_key
from ds01.host import local_accounts
from ds01.host.local_accounts import Account, Mark

RECORD_PATH = "/run/ds01/gateway-people.json"
SCHEMA = 1
FRESH_SECONDS = 60.0
STALE_SECONDS = 24 * 3600.0
GROUP_FRESH_SECONDS = 600.0
MET_MAX = 20000
SETTLED_SECONDS = 1.5
T = TypeVar("T")


def boot_clock() -> float:
    """Seconds since the boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Files:
    """Where the host's own files are."""

    passwd: str = local_accounts.PASSWD_PATH
    group: str = local_accounts.GROUP_PATH
    subuid: str = local_accounts.SUBUID_PATH
    logins: str = local_accounts.LOGINS_PATH


class Met(NamedTuple):
    """Somebody of whom the name service told.

    :param spelled: the names that he was asked for by.
    :param at: when.
    """

    name: str
    gids: frozenset[int]
    at: float
    spelled: tuple[str, ...] = ()


@dataclass
class Local:
    """What the host's own files say."""

    names: dict[int, str] = field(default_factory=dict)
    uids: dict[str, int] = field(default_factory=dict)
    member_of: dict[int, frozenset[int]] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    subordinates: list[tuple[str, int, int]] = field(default_factory=list)
    logins: dict[int, str] = field(default_factory=dict)


class Known:
    """The tables. Whoever changes them holds the lock of :class:`.people.People`."""

    def __init__(self, files: Files, clock: Callable[[], float] = boot_clock) -> None:
        self.clock = clock
        self.local = Local()
        self.met: dict[int, Met] = {}
        self.group_ids: dict[str, tuple[int | None, float]] = {}
        self.dirty = False
        self._files = files
        self._marks: dict[str, Mark | None] = {}

    def reread(self) -> bool:
        """Read again what has changed of the host's own files; whether anything had.

        A file that cannot be read is as it was.
        """
        files = self._files
        accounts = self._changed(files.passwd) | self._changed(files.group)
        if accounts:
            self._read_accounts()
        subordinates = self._changed(files.subuid)
        if subordinates:
            self.local.subordinates = _read(lambda: local_accounts.subordinates(files.subuid), [])
        logins = self._changed(files.logins)
        if logins:
            self.local.logins = _read(lambda: local_accounts.logins(files.logins), {})
        return accounts or subordinates or logins

    def _changed(self, path: str) -> bool:
        mark = local_accounts.mark(path)
        if path in self._marks and self._marks[path] == mark:
            return False
        # What was written a moment ago may still be written to, without another mark: look again.
        settled = mark is None or abs(time.time() - mark[1] / 1e9) > SETTLED_SECONDS
        if settled:
            self._marks[path] = mark
        else:
            self._marks.pop(path, None)
        return True

    def _read_accounts(self) -> None:
        try:
            groups = local_accounts.groups(self._files.group)
            accounts = local_accounts.accounts(groups, self._files.passwd)
        except OSError:
            return
        names: dict[int, str] = {}
        uids: dict[str, int] = {}
        member_of: dict[int, frozenset[int]] = {}
        for account in accounts:
            names.setdefault(account.uid, account.name)
            uids.setdefault(account_key(account.name), account.uid)
            member_of[account.uid] = member_of.get(account.uid, frozenset()) | account.gids
        self.local.names, self.local.uids, self.local.member_of = names, uids, member_of
        self.local.groups = {}
        for group in groups:
            self.local.groups.setdefault(group.name, group.gid)

    def meet(self, account: Account, spelled: str = "") -> bool:
        """Take down what the name service told; whether it was news."""
        old = self.met.get(account.uid)
        same = old is not None and (old.name, old.gids) == (account.name, account.gids)
        known = old.spelled if old and old.name == account.name else ()
        names = known if not spelled or spelled in known else (*known, spelled)[-4:]
        if old is None and len(self.met) >= MET_MAX:
            del self.met[min(self.met, key=lambda uid: self.met[uid].at)]
        self.met[account.uid] = Met(account.name, account.gids, self.clock(), names)
        self.dirty = True
        return not same or old is None or names != old.spelled

    def is_fresh(self, uid: int) -> bool:
        """Nobody needs to be asked about a uid."""
        if uid in self.local.names:
            return True
        met = self.met.get(uid)
        return met is not None and self.clock() - met.at < FRESH_SECONDS

    def group_is_fresh(self, name: str) -> bool:
        """Nobody needs to be asked about a group."""
        if name in self.local.groups:
            return True
        found = self.group_ids.get(name)
        return found is not None and self.clock() - found[1] < GROUP_FRESH_SECONDS

    def accounts(self, limits: Limits | None, admin_group: str) -> Accounts:
        """All of it as one table. The host's own files come first, then whom the name service told
        of, then names of logins."""
        local, now = self.local, self.clock()
        met = {uid: one for uid, one in self.met.items() if now - one.at < STALE_SECONDS}
        uids: dict[str, int] = {account_key(name): uid for uid, name in local.logins.items()}
        # The last word is the newest: a name that has moved to another uid is that uid's.
        for uid, one in sorted(met.items(), key=lambda item: item[1].at):
            uids.update({account_key(name): uid for name in (*one.spelled, one.name)})
        uids.update(local.uids)
        wanted = wanted_groups(limits, admin_group)
        numbers = {name: self._group_id(name) for name in wanted}
        groups: dict[int, tuple[str, ...]] = {}
        for name, gid in numbers.items():
            if gid is not None:
                groups[gid] = (*groups.get(gid, ()), name)
        return Accounts(
            names={**local.logins, **{uid: one.name for uid, one in met.items()}, **local.names},
            uids=uids,
            member_of={**{uid: one.gids for uid, one in met.items()}, **local.member_of},
            groups=groups,
            groups_unsure=any(
                name not in local.groups and name not in self.group_ids for name in wanted
            ),
            subordinates=self._ranges(uids),
            admin_group=admin_group,
            limits=limits,
        )

    def _group_id(self, name: str) -> int | None:
        if name in self.local.groups:
            return self.local.groups[name]
        return self.group_ids.get(name, (None, 0.0))[0]

    def _ranges(self, uids: Mapping[str, int]) -> Ranges:
        found = []
        for whose, first, count in self.local.subordinates:
            uid = uids.get(account_key(whose))
            if uid is None and whose.isdigit():
                uid = int(whose)
            if uid:
                found.append((first, count, uid))
        return tuple(found)


def wanted_groups(limits: Limits | None, admin_group: str) -> tuple[str, ...]:
    """Names of the Unix groups that decide something."""
    named = (
        [unix for group in limits.groups.values() for unix in group.unix_groups] if limits else []
    )
    return tuple(dict.fromkeys([*named, *([admin_group] if admin_group else [])]))


def wanted_names(limits: Limits | None) -> list[str]:
    """Names that the limits speak of."""
    if limits is None:
        return []
    members = [name for group in limits.groups.values() for name in group.members]
    return list(dict.fromkeys([*members, *limits.overrides]))


def save(known: Known, path: str) -> None:
    """Write down whom the name service told of.

    :raises OSError: the record cannot be written.
    """
    people = {
        str(uid): [one.name, sorted(one.gids), round(one.at, 3), list(one.spelled)]
        for uid, one in list(known.met.items())
    }
    record = {"schema": SCHEMA, "people": people, "groups": dict(known.group_ids)}
    replace_file(path, json.dumps(record, separators=(",", ":")) + "\n", 0o600)


def load(known: Known, path: str) -> None:
    """Read the record; one that is missing, damaged or not root's own counts for nothing."""
    now = known.clock()
    try:
        with open(path, encoding="utf-8") as stream:
            if os.fstat(stream.fileno()).st_uid not in (0, os.geteuid()):
                return
            record: Any = json.load(stream)
        if record["schema"] != SCHEMA:
            return
        met = {
            int(uid): Met(
                str(name), frozenset(int(gid) for gid in gids), min(float(at), now), tuple(spelled)
            )
            for uid, (name, gids, at, spelled) in record["people"].items()
        }
        groups = {
            str(name): (None if gid is None else int(gid), min(float(at), now))
            for name, (gid, at) in record["groups"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    known.met.update(met)
    known.group_ids.update(groups)


def _read(read: Callable[[], T], default: T) -> T:
    try:
        return read()
    except OSError:
        return default
