# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the command line speaks: text for people, JSON for programs, colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import IO, Any


class Exit(IntEnum):
    """Exit codes; ``ds01 --help`` and the manual page list them."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    INPUT = 3
    HOST = 4
    REFUSED = 5
    NO_GPU = 6
    BUG = 70  # EX_SOFTWARE of sysexits.h(3head)
    INTERRUPTED = 130
    PIPE = 141


EXIT_MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "done; nothing to report",
    Exit.FINDINGS: "done, and there is something: doctor has findings, diff has differences",
    Exit.USAGE: "the command line is wrong",
    Exit.INPUT: "a file or a name that was given is refused; each fault is listed",
    Exit.HOST: "the host does not let us: nothing applied yet, no permission, a file damaged",
    Exit.REFUSED: "a limit or a rule refuses what was asked; the message names it",
    Exit.NO_GPU: "no GPU is free and nothing was waited for, or the wait ended without one",
    Exit.BUG: "a fault in ds01 itself; please report it",
}

_COLOURS = {"red": "31", "yellow": "33", "green": "32", "bold": "1", "dim": "2"}


class Output:
    """Where results go.

    :param as_json: one JSON document instead of text.
    :param stream: where to; standard output.
    """

    def __init__(self, as_json: bool = False, stream: IO[str] | None = None) -> None:
        self.as_json = as_json
        self.stream = stream or sys.stdout
        # https://no-color.org: set and not empty switches colours off.
        self.coloured = not as_json and self.stream.isatty() and not os.environ.get("NO_COLOR")

    def line(self, *parts: str | tuple[str, str]) -> None:
        """One line for people; control characters in it are shown, not obeyed.

        :param parts: texts, or pairs of a text and its colour.
        """
        for part in parts:
            text, colour = part if isinstance(part, tuple) else (part, "")
            text = printable(text)
            if self.coloured and colour:
                text = f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
            self.stream.write(text)
        self.stream.write("\n")

    def json(self, document: Any) -> None:
        """The document for programs."""
        json.dump(document, self.stream, indent=2, ensure_ascii=False, default=str)
        self.stream.write("\n")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]) -> None:
        """Columns as wide as their widest cell, the last one free.

        :param rows: cells are texts, or pairs of a text and its colour.
        """
        head = tuple((name, "bold") for name in header)
        body = [tuple(c if isinstance(c, tuple) else (c, "") for c in row) for row in rows]
        # As they are printed, or an escaped character would move the columns.
        shown = [tuple((printable(text), colour) for text, colour in row) for row in (head, *body)]
        widths = [max(len(row[n][0]) for row in shown) for n in range(len(header))]
        for row in shown:
            last = max((n for n, (text, _unused) in enumerate(row) if text), default=0)
            parts: list[tuple[str, str]] = []
            for number, (text, colour) in enumerate(row[: last + 1]):
                parts.append((text, colour))
                if number < last:
                    parts.append((" " * (widths[number] - len(text) + 2), ""))
            self.line(*parts)


def printable(text: str) -> str:
    """The text with control characters escaped: a name must not drive the terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )
