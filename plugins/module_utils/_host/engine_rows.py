# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a list of the engine's, one by one as they come.

Labels are in the list, as many and as long ones as anybody likes, his image's too: a list is of any length,
and whoever gave up over it would be blind to everybody's containers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

ROW_MAX = 32 * 1024 * 1024
"""Bytes of one row; of a longer one only what matters most is read."""
_ENDS = 64 * 1024
_QUOTE = ord('"')
_TOKEN = re.compile(rb'"[^"]*("?)|[\[{]|[\]}]')
# The order in which the engine writes a row (Moby: api/types, Container and ImageSummary).
_ID = re.compile(rb'"I[dD]":"([^"\\]{1,255})"')
_NAMES = re.compile(rb'"Names":(\["[^\]\\]{1,1024}"\])')
_STATE = re.compile(rb',"State":"([a-z]{1,20})","Status":"')


def rows(parts: Iterable[bytes], level: int = 2, most: int = ROW_MAX) -> Iterator[dict[str, Any]]:
    """Objects of a JSON array.

    :param parts: the text, cut anywhere.
    :param level: how deep they lie: 2 in an array, 3 in an array in an object.
    :param most: bytes of a row that is read whole. A longer one has an ``Id``, ``Names`` and ``State``.
    :raises ValueError: it is no JSON, or not all of it.
    """
    splitter = _Splitter(level, most)
    for part in parts:
        for text, whole in splitter.feed(part):
            row = json.loads(text) if whole else _main(text)
            if isinstance(row, dict) and row:
                yield row
    if splitter.depth or splitter.in_text:
        raise ValueError("the list does not end")


class _Splitter:
    """Finds the rows' beginnings and ends."""

    def __init__(self, level: int, most: int) -> None:
        self.depth = 0
        self.in_text = False
        self._level = level
        self._most = most
        self._left = b""
        self._row = bytearray()
        self._cut = False

    def feed(self, part: bytes) -> Iterator[tuple[bytes, bool]]:
        """Rows that are complete now, and whether each is whole."""
        data = self._left + part
        # An escape is not taken apart.
        odd = (len(data) - len(data.rstrip(b"\\"))) % 2
        self._left, data = data[len(data) - odd :], data[: len(data) - odd]
        plain = data.replace(b"\\\\", b"..").replace(b'\\"', b"..")
        begin = at = 0
        if self.in_text:
            at = plain.find(b'"') + 1
            self.in_text = not at
        for token in _TOKEN.finditer(plain, at) if not self.in_text else ():
            first = plain[token.start()]
            if first == _QUOTE:
                self.in_text = not token[1]
            elif first in b"[{":
                self.depth += 1
                if self.depth == self._level and first == ord("{"):
                    begin = token.start()
            else:
                self.depth -= 1
                if self.depth == self._level - 1 and first == ord("}"):
                    self._keep(data[begin : token.end()])
                    yield bytes(self._row), not self._cut
                    self._row, self._cut = bytearray(), False
        if self.depth >= self._level:
            self._keep(data[begin:])

    def _keep(self, piece: bytes) -> None:
        self._row += piece
        if len(self._row) > (_ENDS * 2 if self._cut else self._most):
            self._cut = True
            del self._row[_ENDS:-_ENDS]


def _main(text: bytes) -> dict[str, Any]:
    """What matters most of a row whose middle is lost."""
    head, tail = text[:_ENDS], text[-_ENDS:]
    found: dict[str, Any] = {}
    if match := _ID.search(head):
        found["Id"] = match[1].decode("utf-8", "replace")
    if match := _NAMES.search(head):
        found["Names"] = json.loads(match[1])
    if states := _STATE.findall(tail):
        found["State"] = states[-1].decode()
    return found if "Id" in found else {}
