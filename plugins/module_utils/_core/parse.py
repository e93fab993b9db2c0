# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a file's tree to checked limits. Every fault is collected with its place and remedy."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from .checks import check_limits
from .errors import InputError, Problem
from .limits import Group, Limits, Override, account_key, expiry
from .names import LONGEST_GROUP, group_name_fault, user_name_fault
from .tree import Node
from .values import SLICE_ONLY, ValueReader, nearest

TOP = ("default_group", "defaults", "total", "login", "unattributed", "groups", "user_overrides")
_GROUP_EXTRA = ("members", "unix_groups", "total")
_OVERRIDE_EXTRA = ("reason", "expires")
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


def _child(node: Node, name: str) -> Node | None:
    return node.get(name) if node.kind == "map" else None


class _Reader(ValueReader):
    """Reads groups and overrides, and what must hold between them."""

    def __init__(self, source: str, now: datetime) -> None:
        super().__init__(source)
        self.now = now
        # Who has been named, and where: accounts by account_key, Unix groups as they are.
        self.members: dict[str, tuple[str, str]] = {}
        self.unix_groups: dict[str, tuple[str, str]] = {}

    def group(self, name: str, line: int, node: Node) -> Group | None:
        path, where = f"groups.{name}", f"{node.file}:{line}"
        fault = group_name_fault(name)
        if fault:
            self.error(fault, where, "Rename the group, for example to 'phd_students'")
            return None
        return Group(
            name,
            self.settings(node, path, _GROUP_EXTRA),
            self.settings(_child(node, "total"), f"{path}.total", allowed=SLICE_ONLY),
            self._members(_child(node, "members"), name),
            self._unix_groups(_child(node, "unix_groups"), name),
            where,
        )

    def _members(self, node: Node | None, group: str) -> tuple[str, ...]:
        found = []
        for item in self.names(node, f"groups.{group}.members") if node else []:
            name = item.text or ""
            fault = user_name_fault(name, group)
            if fault:
                self.error(fault, item.where, f"Correct groups.{group}.members")
            else:
                self._once(self.members, account_key(name), name, group, item.where)
                found.append(name)
        return tuple(found)

    def _unix_groups(self, node: Node | None, group: str) -> tuple[str, ...]:
        found = []
        for item in self.names(node, f"groups.{group}.unix_groups") if node else []:
            name = item.text or ""
            if not name.strip() or not name.isprintable() or "{{" in name:
                self.error(
                    f"{name[:60]!a} is not the name of a Unix group",
                    item.where,
                    f"Correct groups.{group}.unix_groups",
                )
            else:
                self._once(self.unix_groups, name, name, group, item.where, "Unix group ")
                found.append(name)
        return tuple(found)

    def _once(
        self,
        seen: dict[str, tuple[str, str]],
        key: str,
        name: str,
        group: str,
        where: str,
        kind: str = "",
    ) -> None:
        if key in seen:
            first, place = seen[key]
            both = f"of group {first} ({place}) and of group {group}"
            self.error(
                f"{kind}{name} is a member twice: {both}", where, "Keep the name in one place"
            )
        seen.setdefault(key, (group, where))

    def override(self, name: str, line: int, node: Node) -> Override | None:
        path, where = f"user_overrides.{name}", f"{node.file}:{line}"
        fault = user_name_fault(name, LONGEST_GROUP)
        if fault:
            self.error(fault, where, "Correct the name in user_overrides")
            return None
        reason, _unused = self._word(node, "reason", path)
        expires, place = self._word(node, "expires", path)
        if expires:
            try:
                expiry(expires, self.now)
            except ValueError:
                self.error(
                    f"{path}.expires: {expires[:60]!a} is not a date",
                    place,
                    "Write a day such as 2027-01-31, or a time such as 2027-01-31T18:00",
                )
                expires = ""
        return Override(name, self.settings(node, path, _OVERRIDE_EXTRA), reason, expires, where)

    def _word(self, node: Node, name: str, path: str) -> tuple[str, str]:
        child = _child(node, name)
        if child is None or (child.kind == "null" and child.text is None):
            return "", ""
        if child.text is None:
            self.error(f"{path}.{name} must be a text", child.where, "Write a single value")
        elif not child.text.strip():
            # An end that somebody forgot to fill in would be no end at all.
            self.error(f"{path}.{name} has no value", child.where, f"Fill it in, or remove {name}")
        return (child.text or "").strip(), child.where

    def groups(self, node: Node | None) -> dict[str, Group]:
        found: dict[str, Group] = {}
        for name, line, child in self.mapping(node, "groups"):
            group = self.group(name, line, child)
            if group:
                found[name] = group
        return found

    def overrides(self, node: Node | None) -> dict[str, Override]:
        found: dict[str, Override] = {}
        twins: dict[str, str] = {}
        for name, line, child in self.mapping(node, "user_overrides"):
            twin = twins.setdefault(account_key(name), name)
            if twin != name:
                self.error(
                    f"user_overrides names {name[:60]!a} twice, also as {twin[:60]!a}",
                    f"{child.file}:{line}",
                    "Keep one",
                )
            override = self.override(name, line, child)
            if override:
                found[name] = override
        return found

    def default_group(self, root: Node, groups: dict[str, Group]) -> str:
        node = root.get("default_group")
        name = (node.text or "").strip() if node else ""
        if node is not None and node.kind in ("map", "list"):
            self.error(
                "default_group must be the name of one group",
                node.where,
                f"Write default_group: {next(iter(groups), 'student')}",
            )
        elif node is None or not name:
            self.error(
                "default_group is missing: users in no group would have no limits",
                node.where if node else root.where,
                f"Write default_group: {next(iter(groups), 'student')}",
            )
        elif name not in groups:
            self.error(
                f"default_group names {name[:60]!a}, which is no group",
                node.where,
                nearest(name, groups) if groups else "Add it below groups",
            )
        return name


def _line(problem: Problem) -> int:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


def _sections(reader: _Reader, root: Node) -> None:
    for name, line, node in reader.mapping(root, "the limits file"):
        where = f"{node.file}:{line}"
        if name in _LEGACY_SECTIONS:
            reader.error(
                f"the section {name!r} of the existing installation is not a limit",
                where,
                "Remove it; its settings live in the roles' variables",
            )
        elif name not in TOP:
            reader.error(f"unknown key {name[:60]!a}", where, nearest(name, TOP))


def parse(root: Node, source: str, now: datetime | None = None) -> Limits:
    """Limits from a file's tree.

    :param source: the file as shown to people.
    :param now: local time with its offset; decides which overrides have ended.
    :raises InputError: with every fault found; nothing of a faulty file is used.
    """
    reader = _Reader(source, now or datetime.now().astimezone())
    _sections(reader, root)
    if root.kind == "null":
        reader.error(
            "the limits file is empty", root.where, "Start from inventories/lab/limits.yml"
        )
    if root.kind != "map":
        raise InputError(reader.problems)
    groups = reader.groups(root.get("groups"))
    limits = Limits(
        source=source,
        default_group=reader.default_group(root, groups),
        defaults=reader.settings(root.get("defaults"), "defaults"),
        groups=groups,
        overrides=reader.overrides(root.get("user_overrides")),
        total=reader.settings(root.get("total"), "total", allowed=SLICE_ONLY),
        login=reader.settings(root.get("login"), "login", allowed=SLICE_ONLY),
        unattributed=reader.settings(root.get("unattributed"), "unattributed", allowed=SLICE_ONLY),
    )
    if not any(problem.level == "error" for problem in reader.problems):
        reader.problems += check_limits(limits, reader.now)
    reader.problems.sort(key=_line)
    if any(problem.level == "error" for problem in reader.problems):
        raise InputError(reader.problems)
    return replace(limits, problems=tuple(reader.problems))
