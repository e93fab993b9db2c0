# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the values of a limits file: one block of ``key: value`` at a time, every fault kept."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from .errors import Problem
from .keys import ALIASES, KEYS, SLICE_KEYS, Key
from .limits import Setting
from .tree import Node
from .units import UnitError, parse_number, quoted

# Slices know only these; a count or a time of a whole group has nobody who enforces it.
SLICE_ONLY = tuple(key.name for key in SLICE_KEYS)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint to the nearest known name, or the list of them all when none is near."""
    names = list(known)
    # A long name is near none, and difflib takes its time with it.
    close = difflib.get_close_matches(name[:64], names, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known here: {', '.join(names)}"


class ValueReader:
    """Reads the blocks of one file; faults pile up in ``problems``."""

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

    def names(self, node: Node, path: str) -> list[Node]:
        """The entries of a list of names; a fault for anything else."""
        if node.kind == "null":
            return []
        if node.kind != "list" or any(item.text is None for item in node.items):
            name = path.rpartition(".")[2]
            self.error(f"{path} must be a list of names", node.where, f"Write {name}: [alice, bob]")
            return []
        return list(node.items)

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
        if suffix and not self._bare_number(key, node, path):
            return False, None
        return self._scalar(key, node, path, node.text + suffix)

    def _bare_number(self, key: Key, node: Node, path: str) -> bool:
        """Whether a value whose key carries the unit (``idle_timeout_h``) is a bare number."""
        try:
            good = parse_number(node.text or "") >= 0
        except UnitError:
            good = False
        if not good:
            self.error(
                f"{path}: {quoted(node.text or '')} is not a bare number, the unit is in the name",
                node.where,
                f"Write the number alone, or rename {path.rpartition('.')[2]} to {key.name}",
            )
        return good

    def _list_value(self, key: Key, node: Node, path: str) -> tuple[bool, Any]:
        if node.kind not in ("list", "null"):
            self.error(f"{path} must be {key.kind.wanted}", node.where, f"Write {key.name}: [...]")
            return False, None
        values, all_good = [], True
        for item in node.items:
            good, value = False, None
            if item.kind == "scalar" and item.text:
                good, value = self._scalar(key, item, path, item.text)
            else:
                self.error(f"{path} holds an empty or nested entry", item.where, "Remove it")
            all_good = all_good and good
            values.append(value)
        return all_good, values

    def _scalar(self, key: Key, node: Node, path: str, text: str) -> tuple[bool, Any]:
        try:
            value = key.kind.parse(text)
        except UnitError as error:
            self.error(
                f"{path}: {error}",
                node.where,
                "This file is plain YAML, variables are not filled in"
                if "{{" in text
                else f"Write {key.kind.wanted}{_or_null(key)}",
            )
            return False, None
        fault = key.out_of_bounds(value)
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
            if name == "aggregate" and len(allowed) == len(KEYS):
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
        return self.settings(node, path, allowed=(*SLICE_ONLY, "max_gpu_equivalents"))

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
            winner, loser = (first, second) if ranks[key] >= rank else (second, first)
            if ranks[key] == rank and first.value != second.value:
                # Neither spelling outranks the other; the order of lines must not decide.
                self.error(
                    f"{first.path} ({first.where}) and {second.path} both set {key}, "
                    "to different values",
                    second.where,
                    f"Keep one, as {key}",
                )
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


def _or_null(key: Key) -> str:
    return ", or null for no limit" if key.nullable else ""
