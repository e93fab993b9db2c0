# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PyYAML's adapter: a limits file as a tree with places.

Only the composer of PyYAML is used: scalars stay text, anchors and aliases work, tags do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_NODES = 200_000
MAX_DEPTH = 50
_NULL = ("~", "null", "Null", "NULL")
# What YAML itself makes of plain text. Everything else was written as a tag, or is one that
# changes what a value means.
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map")
)


def read_tree(
    path: str, shown: str, node_type: Callable[..., Any], problem: Callable[..., Exception]
) -> Any:
    """The tree of a limits file.

    The domain's types come in as arguments, since this file is imported from two packages.

    :param path: the file to read.
    :param shown: the file's name as people shall see it.
    :param node_type: the domain's ``tree.Node``.
    :param problem: makes the exception to raise from (what, where, remedy).
    """
    text = _text(path, shown, problem)
    try:
        composed = yaml.compose(text, Loader=yaml.SafeLoader)
        if composed is not None:
            return _Builder(shown, node_type, problem).node(composed)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise problem(
            f"the character {chr(error.character)!a} cannot stand in YAML",
            f"{shown}:{line}",
            "Remove it; it may have come along with a copy and paste",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line_text = f":{mark.line + 1}" if mark else ""
        raise problem(
            f"not valid YAML: {getattr(error, 'problem', None) or error}",
            f"{shown}{line_text}",
            "Correct the indentation (spaces, no tabs) or the quoting there",
        ) from error
    except RecursionError as error:
        raise problem("the file nests too deep", shown, "Limits need three levels") from error
    except ValueError as error:
        # PyYAML lets a few of Python's own complaints through, such as for "\UFFFFFFFF".
        raise problem(f"not valid YAML: {error}", shown, "Correct the quoting") from error
    raise problem("the limits file is empty", shown, "Start from inventories/lab/limits.yml")


def _text(path: str, shown: str, problem: Callable[..., Exception]) -> str:
    try:
        # Read first and measure then: a device or a pipe has no size to ask for.
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise problem(
            f"cannot read the limits file: {getattr(error, 'strerror', None) or error}",
            shown,
            "Check the path and its permissions",
        ) from error
    if len(raw) > MAX_BYTES:
        raise problem(f"the file is larger than {MAX_BYTES} bytes", shown, "Split or shorten it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise problem(
            "the file is not UTF-8 text", f"{shown}:{line}", "Save it as UTF-8"
        ) from error


class _Builder:
    def __init__(
        self, shown: str, node_type: Callable[..., Any], problem: Callable[..., Exception]
    ) -> None:
        self.shown = shown
        self.node_type = node_type
        self.problem = problem
        self.open: set[int] = set()
        self.count = 0

    def node(self, source: Any) -> Any:
        line = source.start_mark.line + 1
        where = f"{self.shown}:{line}"
        self.count += 1
        # An alias inside its own anchor never ends; a tower of aliases ends too late.
        if id(source) in self.open or self.count > MAX_NODES:
            raise self.problem("aliases nest without end", where, "Write the values out")
        if len(self.open) > MAX_DEPTH:
            raise self.problem("the file nests too deep", where, "Limits need three levels")
        if source.tag not in _PLAIN_TAGS:
            raise self.problem(f"the tag {source.tag!a} is not read", where, "Remove the tag")
        self.open.add(id(source))
        try:
            return self._convert(source, line)
        finally:
            self.open.discard(id(source))

    def _convert(self, source: Any, line: int) -> Any:
        if isinstance(source, yaml.MappingNode):
            return self.node_type(self.shown, line, "map", entries=self._entries(source))
        if isinstance(source, yaml.SequenceNode):
            items = tuple(self.node(item) for item in source.value)
            return self.node_type(self.shown, line, "list", items=items)
        if source.style is None and source.value in _NULL:
            return self.node_type(self.shown, line, "null")
        if source.style is None and source.value == "":
            # "memory_max:" with nothing behind it: the domain refuses it where it wants a value.
            return self.node_type(self.shown, line, "null", text="")
        return self.node_type(self.shown, line, "scalar", text=source.value)

    def _entries(self, source: Any) -> tuple[tuple[str, int, Any], ...]:
        entries: list[tuple[str, int, Any]] = []
        lines: dict[str, int] = {}
        for key, value in source.value:
            line = key.start_mark.line + 1
            where = f"{self.shown}:{line}"
            if not isinstance(key, yaml.ScalarNode):
                raise self.problem(
                    "a key must be a plain word",
                    where,
                    "Write 'key: value'; variables in {{ }} are not filled in here",
                )
            self._key_fault(key, where)
            if key.value in lines:
                raise self.problem(
                    f"the key {key.value!r} stands twice, first in line {lines[key.value]}",
                    where,
                    "Keep one; YAML would silently take the last",
                )
            lines[key.value] = line
            entries.append((key.value, line, self.node(value)))
        return tuple(entries)

    def _key_fault(self, key: Any, where: str) -> None:
        if key.value == "<<":
            raise self.problem("merge keys (<<) are not read", where, "Write the keys out")
        if key.tag not in _PLAIN_TAGS:
            raise self.problem(f"the tag {key.tag!a} is not read", where, "Remove the tag")
