# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration file as a tree whose every node knows its place.

A loader (PyYAML on the controller) builds it; the domain reads it. Scalars stay text here: what a
text means is decided by the key that it belongs to, so ``memory: 010`` or ``idle_timeout: 1:30``
cannot turn into something else on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """One node of the file.

    :param file: the file as shown to people.
    :param line: line of the node, counted from 1.
    :param text: the scalar's text; None for null, for mappings and for lists.
    :param entries: ``(key, line of the key, value)`` of a mapping, in the file's order.
    :param items: the elements of a list.
    :param kind: ``scalar``, ``null``, ``map`` or ``list``.
    """

    file: str
    line: int
    kind: str
    text: str | None = None
    entries: tuple[tuple[str, int, Node], ...] = field(default=())
    items: tuple[Node, ...] = field(default=())

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"

    def __iter__(self) -> Iterator[tuple[str, int, Node]]:
        return iter(self.entries)

    def get(self, name: str) -> Node | None:
        """The value of a mapping's key, or None."""
        return next((value for key, _unused, value in self.entries if key == name), None)
