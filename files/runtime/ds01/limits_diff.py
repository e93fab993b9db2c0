# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes from one set of limits to another: for which groups and users, and who is over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ds01.core.gather import HostPort
from ds01.core.kernel import FILES, over_use
from ds01.core.keys import KEYS, TABLE
from ds01.core.limits import Limits, Settings, group_of, of_group, of_login, of_total, of_user
from ds01.core.names import UNATTRIBUTED_GROUP, classify, slice_path
from ds01.core.slices import Account, Device, Site

ABSENT = "absent"


@dataclass(frozen=True)
class Change:
    """One limit of somebody that changes.

    :param who: ``group student, each user``, ``user alice``, …
    :param before: for people; the word ``absent`` where there was nothing to have it.
    :param origin: where the new value comes from.
    :param pending: its enforcement is still to come.
    """

    who: str
    key: str
    before: str
    after: str
    origin: str
    pending: bool


@dataclass(frozen=True)
class Difference:
    """The answer to ``limits diff``.

    :param over: who uses more now than the new limits allow, in words.
    :param use_known: whether there were slices here to ask.
    """

    changes: tuple[Change, ...]
    over: tuple[str, ...]
    use_known: bool

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def compare(
    old: Limits, new: Limits, now: datetime, host: HostPort, disks: Sequence[Device] = ()
) -> Difference:
    """All that changes, widest first.

    Users appear where what changes for them is not what changes for their group: with overrides,
    or when they move to another group. Unix groups count as far as this machine knows them.

    :param now: local time with its offset.
    """
    changes: list[Change] = []
    changes += _settings("everybody together", of_total(old), of_total(new))
    whole = (of_total(old, UNATTRIBUTED_GROUP), of_total(new, UNATTRIBUTED_GROUP))
    changes += _settings("containers without an owner", *whole)
    changes += _settings("login shells", of_login(old, None, now), of_login(new, None, now), True)
    for group in dict.fromkeys((*old.groups, *new.groups)):
        changes += _group(old, new, group)
    if old.default_group != new.default_group:
        changes.append(
            Change("users in no group", "group", old.default_group, new.default_group, "", False)
        )
    for user in sorted(_named(old) | _named(new)):
        changes += _user(old, new, user, now, host)
    over, use_known = _over(new, now, host, disks)
    return Difference(tuple(changes), tuple(over), use_known)


def _settings(who: str, old: Settings, new: Settings, slice_only: bool = False) -> Iterator[Change]:
    for key in TABLE:
        before, after = old.get(key.name), new.get(key.name)
        if slice_only and not key.cgroup:
            continue
        had = before.value if before else None
        has = after.value if after else None
        if had != has:
            origin = after.origin if after else "no longer set"
            yield Change(who, key.name, key.show(had), key.show(has), origin, key.pending)


def _group(old: Limits, new: Limits, group: str) -> Iterator[Change]:
    for limits, before, after in ((new, ABSENT, "present"), (old, "present", ABSENT)):
        other = old if limits is new else new
        if group in limits.groups and group not in other.groups:
            where = limits.groups[group].where
            yield Change(f"group {group}", "group", before, after, where, False)
    members = len(new.groups[group].members) if group in new.groups else 0
    who = f"group {group}, each user ({members} by name)"
    if group in new.groups:
        yield from _settings(who, of_group(old, group), of_group(new, group))
    yield from _settings(f"group {group} as a whole", of_total(old, group), of_total(new, group))


def _named(limits: Limits) -> set[str]:
    members = {member for group in limits.groups.values() for member in group.members}
    return members | set(limits.overrides)


def _user(old: Limits, new: Limits, user: str, now: datetime, host: HostPort) -> Iterator[Change]:
    account = host.find_account(user)
    groups = account.groups if account else ()
    before, _why = group_of(old, user, groups)
    after, reason = group_of(new, user, groups)
    if before != after:
        yield Change(f"user {user}", "group", before, after, reason, False)
    changes = list(
        _settings(f"user {user}", of_user(old, user, before, now), of_user(new, user, after, now))
    )
    own = {*_override_keys(old, user), *_override_keys(new, user)}
    yield from (change for change in changes if before != after or change.key in own)


def _override_keys(limits: Limits, user: str) -> Iterator[str]:
    if user in limits.overrides:
        yield from limits.overrides[user].settings


def _over(
    new: Limits, now: datetime, host: HostPort, disks: Sequence[Device]
) -> tuple[list[str], bool]:
    """Who uses more right now than the new limits allow."""
    units = host.cgroups.slices()
    accounts = {}
    for name in new.overrides:
        account = host.find_account(name)
        if account is not None:
            accounts[name] = Account(account.name, account.uid, tuple(account.groups))
    site = Site(new, accounts, tuple(disks), now)
    found = []
    for unit in units:
        settings = site.settings_of(unit)
        if settings is not None:
            raw = host.cgroups.read(slice_path(unit), FILES)
            found += [f"{unit} {words}" for words in over_use(settings, raw)]
    return found, any(classify(unit).kind != "login" for unit in units)


def pending_keys(limits: Limits) -> list[str]:
    """Keys that the limits set and whose enforcement is still to come, with who will do it."""
    used = {s.key for _name, block in limits.sections() for s in block.values() if s.where}
    return [f"{key} ({KEYS[key].enforced_by})" for key in KEYS if key in used and KEYS[key].pending]
