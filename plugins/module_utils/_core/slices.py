# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From limits to systemd: drop-ins, live properties, and what the kernel must then say.

Group limits live in a prefix drop-in (systemd.unit(5)): ``ds01-student-.slice.d/`` counts for
every ``ds01-student-<anyone>.slice``, so the files grow with groups and overrides, not with users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from .keys import KEYS, SLICE_KEYS, Key
from .limits import (
    BUILT_IN,
    Limits,
    Settings,
    group_of,
    of_group,
    of_login,
    of_total,
    of_user,
    override_of,
    same_account,
)
from .names import (
    RESERVED_GROUPS,
    ROOT,
    UNATTRIBUTED,
    UNATTRIBUTED_GROUP,
    SliceRole,
    classify,
    group_slice,
    login_slice,
    user_slice,
)
from .units import plain_number

UNIT_DIR = "/etc/systemd/system"
MARKER = "# Managed by ds01.infra - changes are overwritten; edit the inventory instead."
GROUP_FILE = "60-ds01-group.conf"
TOTAL_FILE = "60-ds01-total.conf"
LOGIN_FILE = "60-ds01-login.conf"
USER_FILE = "70-ds01-user.conf"
USER_LOGIN_FILE = "70-ds01-login.conf"
OUR_FILES = frozenset({GROUP_FILE, TOTAL_FILE, LOGIN_FILE, USER_FILE, USER_LOGIN_FILE})
# What an unset limit is called: an empty weight or list goes back to the kernel's default.
_RESET_EMPTY = frozenset({"CPUQuota", "CPUWeight", "IOWeight"})


@dataclass(frozen=True)
class Device:
    """A disk that IO limits count for.

    :param node: its device node, ``/dev/vda``.
    :param number: ``major:minor`` as the kernel writes it in io.max.
    """

    node: str
    number: str


@dataclass(frozen=True)
class Account:
    """What the host knows of a user named in the limits.

    :param name: the account's name as the host spells it.
    :param uid: the user id.
    :param groups: names of the account's Unix groups.
    """

    name: str
    uid: int
    groups: tuple[str, ...] = ()


def _per_device(key: Key) -> bool:
    return key.cgroup.startswith("io.max")


def _text(value: Any) -> str:
    # systemd reads no exponents: a CPUQuota of 1.2e+06% would be ignored, and with it the limit.
    return plain_number(value) if isinstance(value, float) else str(value)


def assignments(key: Key, value: Any, devices: Iterable[Device]) -> list[str]:
    """``Setting=value`` texts that make one limit so, whatever it was before.

    :param value: in the key's base unit; None takes the limit away.
    """
    if _per_device(key):
        # The empty assignment clears the list of disks first.
        lines = [f"{key.setting}="]
        if value is not None:
            lines += [f"{key.setting}={device.node} {value}" for device in devices]
        return lines
    if value is None:
        return [f"{key.setting}=" if key.setting in _RESET_EMPTY else f"{key.setting}=infinity"]
    suffix = "%" if key.setting == "CPUQuota" else ""
    return [f"{key.setting}={_text(value)}{suffix}"]


def properties(settings: Settings, devices: Iterable[Device]) -> list[str]:
    """All slice limits as ``Setting=value`` texts, resets included.

    :param settings: absent keys have their built-in default.
    """
    disks = list(devices)
    lines: list[str] = []
    for key in SLICE_KEYS:
        setting = settings.get(key.name)
        lines += assignments(key, setting.value if setting else None, disks)
    return lines


def _drop_in(about: str, lines: Iterable[str]) -> str:
    # A path with a line break in its name must not add a line of its own to the unit.
    return "\n".join([MARKER, f"# {' '.join(about.split())}", "[Slice]", *lines, ""])


def _base_drop_in(about: str, settings: Settings, devices: list[Device]) -> str:
    lines: list[str] = []
    for key in SLICE_KEYS:
        setting = settings.get(key.name)
        if setting is not None and setting.value is not None:
            lines += assignments(key, setting.value, devices)
    return _drop_in(about, lines)


def _override_drop_in(about: str, own: Settings, base: Settings, devices: list[Device]) -> str:
    """Only what differs from the base, so that the rest keeps following the base."""
    lines: list[str] = []
    for key in SLICE_KEYS:
        if key.name in own and own[key.name].value != base[key.name].value:
            lines += assignments(key, own[key.name].value, devices)
    return _drop_in(about, lines) if lines else ""


@dataclass(frozen=True)
class Site:
    """Limits with what the host adds to them.

    :param accounts: the accounts of the users whom the limits name, by the file's spelling; a
        name that the host does not know is absent.
    :param devices: disks that IO limits count for.
    :param now: local time with its offset.
    """

    limits: Limits
    accounts: Mapping[str, Account]
    devices: tuple[Device, ...]
    now: datetime

    def group_of(self, name: str) -> str:
        """The group of a user named in the limits."""
        account = self.accounts.get(name)
        spelled = account.name if account else name
        return group_of(self.limits, spelled, account.groups if account else ())[0]

    def _user_files(self) -> dict[str, str]:
        files: dict[str, str] = {}
        base_login = of_login(self.limits, None, self.now)
        for name, override in self.limits.overrides.items():
            if override.expired(self.now):
                continue
            account = self.accounts.get(name)
            group = self.group_of(name)
            unit = user_slice(group, account.name if account else name)
            about = f"Override of {name}: {override.where}"
            files[f"{unit}.d/{USER_FILE}"] = _override_drop_in(
                about, override.settings, of_group(self.limits, group), list(self.devices)
            )
            if account and account.uid != 0:
                files[f"{login_slice(account.uid)}.d/{USER_LOGIN_FILE}"] = _override_drop_in(
                    f"Login shells; override of {name}",
                    override.settings,
                    base_login,
                    list(self.devices),
                )
        return {path: text for path, text in files.items() if text}

    def files(self) -> dict[str, str]:
        """Every drop-in by its path below the unit directory."""
        devices = list(self.devices)
        limits = self.limits
        files = {
            f"{ROOT}.d/{TOTAL_FILE}": _base_drop_in(
                "Everybody together", of_total(limits), devices
            ),
            f"{UNATTRIBUTED}.d/{TOTAL_FILE}": _base_drop_in(
                "Containers without an owner, together",
                of_total(limits, UNATTRIBUTED_GROUP),
                devices,
            ),
            # All settings, resets too: the distribution has a drop-in of its own for logins.
            f"user-.slice.d/{LOGIN_FILE}": _drop_in(
                "Login shells of every user", properties(of_login(limits, None, self.now), devices)
            ),
            # root's shell is how a host is mended: never limited.
            f"{login_slice(0)}.d/{USER_LOGIN_FILE}": _drop_in(
                "Login shells of root have no limits", properties({}, devices)
            ),
        }
        for name in limits.groups:
            files[f"ds01-{name}-.slice.d/{GROUP_FILE}"] = _base_drop_in(
                f"Each user of group {name}", of_group(limits, name), devices
            )
            files[f"{group_slice(name)}.d/{TOTAL_FILE}"] = _base_drop_in(
                f"Group {name} as a whole", of_total(limits, name), devices
            )
        files.update(self._user_files())
        return files

    def settings_of(self, unit: str) -> Settings | None:
        """What a slice shall have; None for a slice that is not ours to limit.

        :param unit: a slice that exists on the host now, of a group that may be gone.
        """
        role = classify(unit)
        if role.kind == "root":
            return of_total(self.limits)
        if role.kind == "group":
            return of_total(self.limits, role.group)
        if role.kind == "user" and role.group not in RESERVED_GROUPS:
            return self._user_settings(role)
        if role.kind == "login":
            return self._login_settings(role.uid)
        return None

    def _user_settings(self, role: SliceRole) -> Settings:
        if role.group not in self.limits.groups:
            # The group was removed: its slices go back to the kernel's defaults.
            return {}
        override = override_of(self.limits, role.user, self.now)
        if override and self.group_of(override.user) == role.group:
            return of_user(self.limits, role.user, role.group, self.now)
        return of_group(self.limits, role.group)

    @cached_property
    def named(self) -> Mapping[str, str]:
        """The group of every user whom the limits name, by the file's and the host's spelling."""
        found: dict[str, str] = {}
        members = (name for group in self.limits.groups.values() for name in group.members)
        for name in (*members, *self.limits.overrides):
            account = self.accounts.get(name)
            for spelled in (name, account.name if account else name):
                found.setdefault(spelled, self.group_of(name))
        return found

    @cached_property
    def overridden(self) -> Mapping[int, str]:
        """Names of the users with an override, by user id."""
        return {account.uid: name for name, account in self.accounts.items()}

    def moved(self, role: SliceRole) -> bool:
        """Whether a user named in the limits now belongs to another group than this slice's."""
        return self.named.get(role.user, role.group) != role.group

    def _login_settings(self, uid: int) -> Settings:
        if uid == 0:
            return {}
        name = self.overridden.get(uid)
        user = name if name in self.limits.overrides else None
        return of_login(self.limits, user, self.now)

    def notices(self) -> list[str]:
        """What the admin should know of users with an override and of their accounts."""
        found = []
        for name, override in self.limits.overrides.items():
            account = self.accounts.get(name)
            place = f"user_overrides.{name} ({override.where})"
            if override.expired(self.now):
                continue
            if account is None:
                found.append(
                    f"{place}: the host has no account {name}; "
                    f"the override waits in group {self.group_of(name)}"
                )
            elif not same_account(account.name, name):
                found.append(
                    f"{place}: the host spells this account {account.name}; write it so, "
                    "in members too, or its group may be another than you mean"
                )
        return found


def _slice_only(settings: Settings) -> Settings:
    return {key.name: settings[key.name] for key in SLICE_KEYS if key.name in settings}


def shown_limits(site: Site) -> list[str]:
    """Every limit of the site, one line each, for a diff that people read."""
    limits = site.limits
    subjects: list[tuple[str, Settings]] = [
        ("everybody together", of_total(limits)),
        ("without an owner", _slice_only(of_total(limits, UNATTRIBUTED_GROUP))),
        ("login shells", _slice_only(of_login(limits, None, site.now))),
    ]
    for name, group in limits.groups.items():
        subjects.append((f"group {name}, each user", of_group(limits, name)))
        subjects.append((f"group {name} as a whole", group.total))
    for name, override in sorted(limits.overrides.items()):
        state = " (expired, ignored)" if override.expired(site.now) else ""
        subjects.append((f"user {name}{state}", override.settings))
    lines = []
    for who, settings in subjects:
        for key_name in (name for name in KEYS if name in settings):
            setting = settings[key_name]
            if (
                setting.where
                or setting.value != BUILT_IN[key_name].value
                or key_name == "memory_swap_max"
            ):
                pending = "  [not enforced yet]" if KEYS[key_name].pending else ""
                lines.append(f"{who}: {key_name} = {setting.shown}{pending}")
    return lines
