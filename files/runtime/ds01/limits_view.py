# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one user may have, from where, and what the kernel says now. No I/O but the host's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ds01.core.gather import HostPort
from ds01.core.kernel import FILES, kernel_value, wanted_value
from ds01.core.keys import KEYS, TABLE, Key
from ds01.core.limits import Limits, Settings, group_of, of_login, of_user, override_of
from ds01.core.names import login_slice, slice_path, user_slice
from ds01.core.slices import Device

NOT_ACTIVE = "slice not active"


@dataclass(frozen=True)
class Row:
    """One limit of one user.

    :param limit: the value in the key's base unit.
    :param shown: the value for people.
    :param kernel: what the kernel has now, for people; empty where no kernel file belongs to it.
    :param agrees: whether the kernel has what it should; None where that cannot be said.
    :param pending: who will enforce it, when that part is still to come; else empty.
    """

    key: str
    limit: Any
    shown: str
    kernel: str
    agrees: bool | None
    pending: str
    path: str
    where: str

    @property
    def origin(self) -> str:
        """Key path, and file and line, in words."""
        return f"{self.path} ({self.where})" if self.where else self.path

    @property
    def of_interest(self) -> bool:
        """Whether somebody set it, or it limits something."""
        return bool(self.where) or self.limit is not None


@dataclass(frozen=True)
class SliceView:
    """The limits of one slice.

    :param use: what it uses now, for people, by the kernel's file.
    """

    unit: str
    active: bool
    rows: tuple[Row, ...]
    use: Mapping[str, str]


@dataclass(frozen=True)
class UserView:
    """The answer to ``limits show USER``."""

    user: str
    known: bool
    group: str
    group_reason: str
    containers: SliceView
    login: SliceView | None
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def view_user(
    limits: Limits, user: str, host: HostPort, disks: Sequence[Device], now: datetime
) -> UserView:
    """Everything there is to say about one user's limits.

    :param user: the account's name; one that the host does not know is shown as it would be.
    :param now: local time with its offset.
    """
    account = host.find_account(user)
    name = account.name if account else user
    group, reason = group_of(limits, name, account.groups if account else ())
    notices = [] if account else [f"this host has no account {user}; shown is what it would have"]
    override = override_of(limits, name, now)
    if override:
        until = f" until {override.expires}" if override.expires else ""
        why = f": {override.reason}" if override.reason else ""
        notices.append(f"an override is in force{until}{why} ({override.where})")
    notices += [
        f"the override of {name} ended on {other.expires} and is ignored ({other.where})"
        for other in limits.overrides.values()
        if other.user == name and other.expired(now)
    ]
    login = None
    if account:
        settings = of_login(limits, name, now)
        login = view_slice(login_slice(account.uid), settings, host, disks, slice_only=True)
    return UserView(
        user=name,
        known=account is not None,
        group=group,
        group_reason=reason,
        containers=view_slice(
            user_slice(group, name), of_user(limits, name, group, now), host, disks
        ),
        login=login,
        notices=tuple(notices),
    )


def view_slice(
    unit: str, settings: Settings, host: HostPort, disks: Sequence[Device], slice_only: bool = False
) -> SliceView:
    """The limits of one slice beside the kernel's."""
    path = slice_path(unit)
    active = host.cgroups.exists(path)
    raw = host.cgroups.read(path, FILES) if active else {}
    rows = [
        _row(key, settings, raw, active, disks)
        for key in TABLE
        if key.name in settings and (key.cgroup or not slice_only)
    ]
    return SliceView(unit, active, tuple(rows), _use(raw))


def _row(
    key: Key, settings: Settings, raw: Mapping[str, str], active: bool, disks: Sequence[Device]
) -> Row:
    setting = settings[key.name]
    kernel, agrees = "", None
    if key.cgroup:
        kernel, agrees = _kernel(key, setting.value, raw, disks) if active else (NOT_ACTIVE, None)
    return Row(
        key=key.name,
        limit=setting.value,
        shown=setting.shown,
        kernel=kernel,
        agrees=agrees,
        pending=key.enforced_by if key.pending else "",
        path=setting.path,
        where=setting.where,
    )


def _kernel(
    key: Key, value: Any, raw: Mapping[str, str], disks: Sequence[Device]
) -> tuple[str, bool | None]:
    """The kernel's value for people, and whether it is the wanted one."""
    file = key.cgroup.partition(":")[0]
    if file not in raw:
        # A controller that is not switched on for the slice limits nothing.
        return "no such controller here", None if value is None else False
    wanted = wanted_value(key, value)
    if file != "io.max":
        has = kernel_value(key, raw)
        if has is None and file.endswith(".weight"):
            return "100 (kernel's default)", has == wanted
        return key.show(has), has == wanted
    if not disks:
        return "no disk", None
    values = {disk.node: kernel_value(key, raw, disk) for disk in disks}
    agrees = all(has == wanted for has in values.values())
    if len(set(values.values())) == 1:
        return key.show(next(iter(values.values()))), agrees
    return ", ".join(f"{node} {key.show(has)}" for node, has in values.items()), agrees


def _use(raw: Mapping[str, str]) -> dict[str, str]:
    named = {"memory": ("memory.current", "memory_max"), "tasks": ("pids.current", "tasks_max")}
    return {
        name: KEYS[key].show(int(raw[file]))
        for name, (file, key) in named.items()
        if raw.get(file, "").strip().isdigit()
    }
