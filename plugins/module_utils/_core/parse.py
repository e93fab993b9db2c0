# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a file's tree to checked limits. Every fault is collected with its place and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from .checks import check_limits
from .errors import InputError, Problem
from .keys import ALIASES, KEYS, Key
from .limits import Group, Limits, Override, Setting, expiry, same_account
from .names import group_name_fault, user_name_fault
from .tree import Node
from .units import UnitError

TOP = ("default_group", "defaults", "total", "login", "unattributed", "groups", "user_overrides")
_GROUP_EXTRA = ("members", "unix_groups", "total")
_OVERRIDE_EXTRA = ("reason", "expires")
# Slices know only these; a count or a time of a whole group has nobody who enforces it.
_SLICE_ONLY = tuple(key.name for key in KEYS.values() if key.level == "slice")
_LEGACY_SECTIONS = frozenset(
    {
        "enforcement",
        "gpu_allocation",
        "policies",
        "container_types",
        "monitoring",
        "bare_metal_access",
        "access_control",
        "advanced",
        "wizard",
    }
)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint to the nearest known name, or the list of them all when none is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known here: {', '.join(names)}"


class _Reader:
    """Reads one file; faults pile up in ``problems``."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def error(self, what: str, where: str, remedy: str) -> None:
        self.problems.append(Problem("error", what, where, remedy))

    def warn(self, level: str, what: str, where: str, remedy: str = "") -> None:
        self.problems.append(Problem(level, what, where, remedy))

    def mapping(self, node: Node | None, path: str) -> list[tuple[str, int, Node]]:
        """The entries of a mapping; an absent or empty one has none."""
        if node is None or node.kind == "null":
            return []
        if node.kind != "map":
            self.error(
                f"{path} must be a mapping of keys to values",
                node.where,
                "Write one 'key: value' a line below it",
            )
            return []
        return list(node)

    def texts(self, node: Node, path: str) -> list[str]:
        """The texts of a list; a fault for anything else."""
        if node.kind == "null":
            return []
        if node.kind != "list" or any(item.text is None for item in node.items):
            self.error(f"{path} must be a list of names", node.where, f"Write {path}: [alice, bob]")
            return []
        return [str(item.text) for item in node.items]

    def value(self, key: Key, node: Node, path: str, suffix: str) -> tuple[bool, Any]:
        """A key's value: whether it is one, and the value."""
        if key.kind.is_list:
            return self._list_value(key, node, path)
        if node.kind in ("null", "scalar") and node.text is not None and not node.text.strip():
            self.error(
                f"{path} has no value", node.where, f"Write {key.kind.wanted}{_or_null(key)}"
            )
            return False, None
        if node.kind == "null":
            if key.nullable:
                return True, None
            self.error(f"{path} cannot be null", node.where, f"Give {key.kind.wanted}")
            return False, None
        if node.kind != "scalar" or node.text is None:
            self.error(f"{path} must be {key.kind.wanted}", node.where, "Write a single value")
            return False, None
        return self._scalar(key, node, path, node.text + suffix)

    def _list_value(self, key: Key, node: Node, path: str) -> tuple[bool, Any]:
        before = len(self.problems)
        values = [
            self._scalar(key, item, path, item.text or "")[1]
            for item in node.items
            if item.text or not self.error(f"{path} holds an empty entry", item.where, "Remove it")
        ]
        if node.kind not in ("list", "null"):
            self.error(f"{path} must be {key.kind.wanted}", node.where, f"Write {path}: [...]")
        return len(self.problems) == before, values

    def _scalar(self, key: Key, node: Node, path: str, text: str) -> tuple[bool, Any]:
        try:
            value = key.kind.parse(text)
        except UnitError as error:
            jinja = "{{" in text
            self.error(
                f"{path}: {error}",
                node.where,
                "This file is plain YAML, variables are not filled in"
                if jinja
                else f"Write {key.kind.wanted}{_or_null(key)}",
            )
            return False, None
        fault = bounds_fault(key, value)
        if fault:
            self.error(f"{path}: {text} {fault}", node.where, f"Write {key.kind.wanted}")
            return False, None
        return True, value

    def settings(
        self,
        node: Node | None,
        path: str,
        extra: tuple[str, ...] = (),
        allowed: tuple[str, ...] = tuple(KEYS),
    ) -> dict[str, Setting]:
        """The limits in one block; the keys in ``extra`` are somebody else's to read."""
        found: dict[str, Setting] = {}
        ranks: dict[str, int] = {}
        for name, line, child in self.mapping(node, path):
            if name in extra:
                continue
            if name == "aggregate" and extra:
                for key, setting in self._aggregate(child, f"{path}.{name}").items():
                    self._keep(found, ranks, key, setting, rank=1)
                continue
            setting_key = self._one(name, line, child, path, allowed, extra)
            if setting_key is not None:
                self._keep(
                    found, ranks, setting_key.key, setting_key, rank=2 if name in KEYS else 0
                )
        return found

    def _aggregate(self, node: Node, path: str) -> dict[str, Setting]:
        self.warn(
            "notice",
            f"{path} is the spelling of the existing installation",
            node.where,
            "Move its keys one level up; cpu_quota, memory_max and the rest keep their names",
        )
        return self.settings(node, path, allowed=(*_SLICE_ONLY, "max_gpu_equivalents"))

    def _keep(
        self,
        found: dict[str, Setting],
        ranks: dict[str, int],
        key: str,
        setting: Setting,
        rank: int,
    ) -> None:
        if key in found:
            first, second = found[key], setting
            keep_first = ranks[key] >= rank
            winner, loser = (first, second) if keep_first else (second, first)
            self.warn(
                "warning",
                f"{loser.path} says {key} a second time; {winner.path} counts",
                loser.where,
                f"Remove {loser.path}",
            )
            setting, rank = winner, max(rank, ranks[key])
        found[key], ranks[key] = setting, rank

    def _one(
        self,
        name: str,
        line: int,
        node: Node,
        path: str,
        allowed: tuple[str, ...],
        extra: tuple[str, ...],
    ) -> Setting | None:
        where = f"{node.file}:{line}"
        alias = ALIASES.get(name)
        key = KEYS.get(alias.key if alias else name)
        if key is None:
            self.error(f"unknown key {name!r} in {path}", where, nearest(name, (*allowed, *extra)))
            return None
        if key.name not in allowed:
            self.error(
                f"{path} cannot hold {name!r}: only slice limits count for many users together",
                where,
                f"Known here: {', '.join(allowed)}",
            )
            return None
        if alias:
            self.warn(
                "notice", f"{path}.{name} is read as {key.name}", where, f"Rename it to {key.name}"
            )
        good, value = self.value(key, node, f"{path}.{name}", alias.suffix if alias else "")
        return Setting(key.name, value, f"{path}.{name}", where) if good else None

    def group(self, name: str, line: int, node: Node) -> Group | None:
        path, where = f"groups.{name}", f"{node.file}:{line}"
        fault = group_name_fault(name)
        if fault:
            self.error(fault, where, "Rename the group, for example to 'phd_students'")
            return None
        lists: dict[str, list[str]] = {"members": [], "unix_groups": []}
        for key in lists:
            child = node.get(key) if node.kind == "map" else None
            if child is not None:
                lists[key] = self.texts(child, f"{path}.{key}")
        for member in lists["members"]:
            fault = user_name_fault(member, name)
            if fault:
                self.error(fault, where, f"Correct {path}.members")
        total = node.get("total") if node.kind == "map" else None
        return Group(
            name,
            self.settings(node, path, _GROUP_EXTRA),
            self.settings(total, f"{path}.total", allowed=_SLICE_ONLY),
            tuple(lists["members"]),
            tuple(lists["unix_groups"]),
            where,
        )

    def override(self, name: str, line: int, node: Node) -> Override:
        path, where = f"user_overrides.{name}", f"{node.file}:{line}"
        fault = user_name_fault(name, "x" * 32)
        if fault:
            self.error(fault, where, "Correct the name in user_overrides")
        words = {"reason": "", "expires": ""}
        for key in words:
            child = node.get(key) if node.kind == "map" else None
            if child is None or child.kind == "null":
                continue
            if child.text is None:
                self.error(f"{path}.{key} must be a text", child.where, "Write a single value")
            else:
                words[key] = child.text.strip()
        if words["expires"]:
            try:
                expiry(words["expires"], datetime.now(timezone.utc))
            except ValueError:
                self.error(
                    f"{path}.expires: {words['expires']!r} is not a date",
                    where,
                    "Write a day such as 2027-01-31, or a time such as 2027-01-31T18:00",
                )
                words["expires"] = ""
        return Override(
            name,
            self.settings(node, path, _OVERRIDE_EXTRA),
            words["reason"],
            words["expires"],
            where,
        )

    def groups(self, node: Node | None) -> dict[str, Group]:
        found: dict[str, Group] = {}
        for name, line, child in self.mapping(node, "groups"):
            group = self.group(name, line, child)
            if group:
                found[name] = group
        self._members_once(found.values())
        return found

    def _members_once(self, groups: Iterable[Group]) -> None:
        seen: dict[str, tuple[str, Group]] = {}
        for group in groups:
            for member in group.members:
                plain = member.lower() if "@" in member else member
                name, first = seen.setdefault(plain, (member, group))
                if first is not group or (name is not member and same_account(name, member)):
                    self.error(
                        f"{member} is a member twice: of group {first.name} ({first.where}) and of "
                        f"group {group.name}",
                        group.where,
                        "Keep the name in one group",
                    )

    def overrides(self, node: Node | None) -> dict[str, Override]:
        found: dict[str, Override] = {}
        for name, line, child in self.mapping(node, "user_overrides"):
            twin = next((other for other in found if same_account(other, name)), None)
            if twin:
                self.error(
                    f"user_overrides names {name} twice, also as {twin}",
                    f"{child.file}:{line}",
                    "Keep one",
                )
            found[name] = self.override(name, line, child)
        return found

    def default_group(self, root: Node, groups: dict[str, Group]) -> str:
        node = root.get("default_group")
        name = (node.text or "").strip() if node else ""
        if not name:
            self.error(
                "default_group is missing: users in no group would have no limits",
                root.where,
                f"Write default_group: {next(iter(groups), 'student')}",
            )
        elif name not in groups and node is not None:
            self.error(
                f"default_group names {name!r}, which is no group",
                node.where,
                nearest(name, groups) if groups else "Add it below groups",
            )
        return name


def _line(problem: Problem) -> int:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdigit() else 0


def _or_null(key: Key) -> str:
    return ", or null for no limit" if key.nullable else ""


def _minimum(key: Key) -> str:
    whole = int(key.minimum)
    return key.show(whole if whole == key.minimum else key.minimum)


def bounds_fault(key: Key, value: Any) -> str:
    """Why a number is out of a key's bounds; empty when it is not."""
    if isinstance(value, (bool, str, list)) or value is None:
        return ""
    if value < key.minimum:
        return f"is less than the smallest sensible value, {_minimum(key)}"
    if key.maximum is not None and value > key.maximum:
        return f"is more than the largest allowed value, {key.maximum:g}"
    return ""


def parse(root: Node, source: str) -> Limits:
    """Limits from a file's tree.

    :param source: the file as shown to people.
    :raises InputError: with every fault found; nothing of a faulty file is used.
    """
    reader = _Reader(source)
    for name, line, node in reader.mapping(root, "the limits file"):
        if name in _LEGACY_SECTIONS:
            reader.error(
                f"the section {name!r} of the existing installation is not a limit",
                f"{node.file}:{line}",
                "Remove it; its settings live in the roles' variables",
            )
        elif name not in TOP:
            reader.error(f"unknown key {name!r}", f"{node.file}:{line}", nearest(name, TOP))
    groups = reader.groups(root.get("groups"))
    limits = Limits(
        source=source,
        default_group=reader.default_group(root, groups),
        defaults=reader.settings(root.get("defaults"), "defaults"),
        groups=groups,
        overrides=reader.overrides(root.get("user_overrides")),
        total=reader.settings(root.get("total"), "total", allowed=_SLICE_ONLY),
        login=reader.settings(root.get("login"), "login", allowed=_SLICE_ONLY),
        unattributed=reader.settings(root.get("unattributed"), "unattributed", allowed=_SLICE_ONLY),
    )
    if not any(problem.level == "error" for problem in reader.problems):
        reader.problems += check_limits(limits)
    reader.problems.sort(key=_line)
    if any(problem.level == "error" for problem in reader.problems):
        raise InputError(reader.problems)
    return Limits(**{**vars(limits), "problems": tuple(reader.problems)})
