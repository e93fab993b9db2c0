# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits of a site: the model, and who has which limit from where.

``defaults`` < ``groups.<name>`` < ``user_overrides.<user>``, merged key by key. Every effective
value carries the key path, file and line that it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any

from .errors import Ds01Error, Problem
from .keys import KEYS, TABLE
from .names import (
    LONGEST_GROUP,
    UNATTRIBUTED_GROUP,
    group_name_fault,
    user_name_fault,
)

SCHEMA = 1


@dataclass(frozen=True)
class Setting:
    """One value of the file.

    :param key: a name of the table of keys.
    :param value: the value in the key's base unit (bytes, bytes/s, seconds, per cent); None is
        unlimited or never.
    :param path: the key's path in the file, ``groups.student.memory_max``.
    :param where: ``file:line``; empty for a built-in default.
    """

    key: str
    value: Any
    path: str
    where: str = ""

    @property
    def shown(self) -> str:
        """The value for people."""
        return KEYS[self.key].show(self.value)

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"{self.path} ({self.where})" if self.where else self.path


Settings = Mapping[str, Setting]


@dataclass(frozen=True)
class Group:
    """A group of users.

    :param settings: what each of its users may have.
    :param total: what all of its users together may have.
    :param members: account names.
    :param unix_groups: Unix groups whose members belong here.
    """

    name: str
    settings: Settings
    total: Settings
    members: tuple[str, ...] = ()
    unix_groups: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Override:
    """What one user has beside the group.

    :param expires: last day (``2027-01-31``, that day included) or moment; empty: no end.
    """

    user: str
    settings: Settings
    reason: str = ""
    expires: str = ""
    where: str = ""

    def expired(self, now: datetime) -> bool:
        """Whether the override has ended.

        :param now: local time with its offset.
        """
        return bool(self.expires) and now > expiry(self.expires, now)


_EXPIRY = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


def expiry(text: str, now: datetime) -> datetime:
    """The moment at which an ``expires`` value ends, in the time zone of ``now``.

    :raises ValueError: the text is no date and no time (RFC 3339; seconds and zone may be left
        out).
    """
    # datetime.fromisoformat() reads more with every version of Python; the file must not.
    if _EXPIRY.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no date")
    if len(text) == len("2027-01-31"):
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, 23, 59, 59, 999999, tzinfo=now.tzinfo)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


@dataclass(frozen=True)
class Limits:
    """A site's limits file, checked.

    :param total: what all users together may have (``ds01.slice``).
    :param login: what a login shell may have, beside the default group's values.
    :param unattributed: what containers without an owner share, beside the defaults.
    :param problems: warnings and notices of the check.
    """

    source: str
    default_group: str
    defaults: Settings
    groups: Mapping[str, Group]
    overrides: Mapping[str, Override]
    total: Settings = field(default_factory=dict)
    login: Settings = field(default_factory=dict)
    unattributed: Settings = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @cached_property
    def group_by_member(self) -> Mapping[str, str]:
        """Groups by :func:`account_key` of their members: thousands are looked up in one run."""
        found: dict[str, str] = {}
        for name, group in self.groups.items():
            for member in group.members:
                found.setdefault(account_key(member), name)
        return found

    @cached_property
    def override_by_user(self) -> Mapping[str, Override]:
        """Overrides by :func:`account_key` of their users."""
        return {account_key(name): override for name, override in self.overrides.items()}

    def sections(self) -> Iterator[tuple[str, Settings]]:
        """Every block of settings with a name for people."""
        yield "defaults", self.defaults
        yield "total", self.total
        yield "login", self.login
        yield UNATTRIBUTED_GROUP, self.unattributed
        for name, group in self.groups.items():
            yield f"group {name}", group.settings
            yield f"group {name} total", group.total
        for name, override in self.overrides.items():
            yield f"user {name}", override.settings


BUILT_IN: Settings = {
    key.name: Setting(
        key.name,
        [key.kind.parse(text) for text in key.default]
        if isinstance(key.default, tuple)
        else None
        if key.default is None
        else key.kind.parse(key.default),
        "built-in default",
    )
    for key in TABLE
}


def account_key(name: str) -> str:
    """What two spellings of one account share: directory names (with @) ignore case."""
    return name.lower() if "@" in name else name


def same_account(one: str, other: str) -> bool:
    """Whether two names mean one account."""
    return account_key(one) == account_key(other)


def override_of(limits: Limits, user: str, now: datetime) -> Override | None:
    """The user's override that is in force, if any."""
    override = limits.override_by_user.get(account_key(user))
    return None if override is None or override.expired(now) else override


def group_of(limits: Limits, user: str, unix_groups: Iterable[str] = ()) -> tuple[str, str]:
    """A user's group and why.

    ``members`` by name come first, then ``unix_groups`` in the order of the file, then the
    default group.

    :param unix_groups: names of the Unix groups that the account is in.
    :returns: the group's name, and the reason in words.
    """
    named = limits.group_by_member.get(account_key(user))
    if named is not None:
        return named, f"groups.{named}.members ({limits.groups[named].where})"
    mine = set(unix_groups)
    for name, group in limits.groups.items():
        hit = [unix for unix in group.unix_groups if unix in mine]
        if hit:
            return name, f"Unix group {hit[0]}, groups.{name}.unix_groups ({group.where})"
    return limits.default_group, "default_group"


def merge(*layers: Settings) -> dict[str, Setting]:
    """Layers of settings, the later ones over the earlier ones, key by key."""
    merged: dict[str, Setting] = {}
    for layer in layers:
        merged.update(layer)
    return merged


def of_group(limits: Limits, group: str) -> dict[str, Setting]:
    """What each user of a group may have; an unknown group has the defaults."""
    own = limits.groups[group].settings if group in limits.groups else {}
    return merge(BUILT_IN, limits.defaults, own)


def of_user(limits: Limits, user: str, group: str, now: datetime) -> dict[str, Setting]:
    """What one user of a group may have: every key of the table, with its origin."""
    override = override_of(limits, user, now)
    return merge(of_group(limits, group), override.settings if override else {})


def of_total(limits: Limits, group: str = "") -> dict[str, Setting]:
    """What a whole group, or with no group everybody together, may have: only what is said."""
    if group == UNATTRIBUTED_GROUP:
        return merge(BUILT_IN, limits.defaults, limits.unattributed)
    if group:
        return dict(limits.groups[group].total) if group in limits.groups else {}
    return dict(limits.total)


def of_login(limits: Limits, user: str | None, now: datetime) -> dict[str, Setting]:
    """What a login shell may have; with a user, that user's override on top."""
    override = override_of(limits, user, now) if user else None
    base = merge(of_group(limits, limits.default_group), limits.login)
    return merge(base, override.settings) if override else base


def expired_overrides(limits: Limits, now: datetime) -> list[Problem]:
    """A warning for every override that has ended."""
    return [
        Problem(
            "warning",
            f"the override of {override.user} ended on {override.expires} and is ignored",
            override.where,
            "Remove it, or set a later date",
        )
        for override in limits.overrides.values()
        if override.expired(now)
    ]


def to_json(limits: Limits) -> dict[str, Any]:
    """The limits as plain data, for ``/etc/ds01/limits.json`` and module parameters."""
    data = asdict(limits)
    data["schema"] = SCHEMA
    # Whoever is in the Unix groups of two groups belongs to the first; JSON objects have no order.
    data["group_order"] = list(limits.groups)
    return data


def _settings(data: Mapping[str, Any]) -> dict[str, Setting]:
    return {name: _setting(name, row) for name, row in data.items()}


def _setting(name: str, row: Mapping[str, Any]) -> Setting:
    if name not in KEYS:
        raise _Damage(
            f"the limits hold a key {name!r} that this version does not know",
            "Run site.yml with the version of the collection that wrote it, or a newer one",
        )
    setting = Setting(name, row["value"], _text(row["path"]), _text(row["where"]))
    if row["key"] != name or not KEYS[name].accepts(setting.value):
        raise _Damage(f"the limits are damaged: {setting.path} is {row['value']!r}")
    return setting


class _Damage(Exception):
    """What is wrong with limits that were read back, and the remedy."""

    def __init__(self, what: str, remedy: str = "Run site.yml again") -> None:
        super().__init__(what)
        self.remedy = remedy


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{values!r} is no list")
    return tuple(_text(value) for value in values)


def _named(name: Any, row: Mapping[str, Any], fault: str, own: str) -> str:
    """A name that slices and paths are made from: never taken unchecked."""
    if fault or row[own] != name:
        raise _Damage(f"the limits are damaged: {fault or f'{name!r} is filed under another name'}")
    return _text(name)


def from_json(data: Mapping[str, Any], where: str = "/etc/ds01/limits.json") -> Limits:
    """The inverse of :func:`to_json`.

    Every name and value is checked again: slices, paths and kernel limits are made from them.

    :param where: where the data comes from, for messages.
    :raises Ds01Error: the data is of another schema or not of this form.
    """
    if not isinstance(data, Mapping):
        raise Ds01Error("the limits are damaged: no mapping", where, "Run site.yml again")
    if data.get("schema") != SCHEMA:
        raise Ds01Error(
            f"the limits are of schema {data.get('schema')!r}, this version reads {SCHEMA}",
            where,
            "Run site.yml with this version of the collection",
        )
    try:
        order = _texts(data["group_order"])
        if sorted(order) != sorted(data["groups"]):
            raise _Damage("the limits are damaged: group_order does not name the groups")
        groups = {name: _group(name, data["groups"][name]) for name in order}
        if data["default_group"] not in groups:
            raise _Damage(f"the limits are damaged: no group {data['default_group']!r}")
        return Limits(
            source=_text(data["source"]),
            default_group=data["default_group"],
            defaults=_settings(data["defaults"]),
            groups=groups,
            overrides={name: _override(name, row) for name, row in data["overrides"].items()},
            total=_settings(data["total"]),
            login=_settings(data["login"]),
            unattributed=_settings(data["unattributed"]),
            problems=tuple(Problem(**row) for row in data["problems"]),
        )
    except _Damage as error:
        raise Ds01Error(str(error), where, error.remedy) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Ds01Error(
            f"the limits are damaged ({error!r})", where, "Run site.yml again"
        ) from error


def _group(name: str, row: Mapping[str, Any]) -> Group:
    return Group(
        name=_named(name, row, group_name_fault(name), "name"),
        settings=_settings(row["settings"]),
        total=_settings(row["total"]),
        members=_texts(row["members"]),
        unix_groups=_texts(row["unix_groups"]),
        where=_text(row["where"]),
    )


def _override(name: str, row: Mapping[str, Any]) -> Override:
    expires = _text(row["expires"])
    if expires:
        expiry(expires, datetime.now().astimezone())
    return Override(
        user=_named(name, row, user_name_fault(name, LONGEST_GROUP), "user"),
        settings=_settings(row["settings"]),
        reason=_text(row["reason"]),
        expires=expires,
        where=_text(row["where"]),
    )
