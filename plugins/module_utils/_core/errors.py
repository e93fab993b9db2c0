# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one base exception of the package.

A message says what was wrong, where, and what to do. A module turns it into one ``fail_json``,
the command line into one line and an exit code; no traceback reaches a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Ds01Error(Exception):
    """Something is wrong and somebody can do something about it.

    :param what: the fault in plain words, without a full stop.
    :param where: the place (file and line, key path, unit name); empty where there is none.
    :param remedy: what the reader can do, without a full stop.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.remedy}" if self.remedy else text

    def as_dict(self) -> dict[str, str]:
        """The three parts, for ``--json`` and for a module's result."""
        return {"what": self.what, "where": self.where, "remedy": self.remedy}


@dataclass(frozen=True)
class Problem:
    """One fault or notice in an input file, with its place.

    :param level: ``error`` (refused), ``warning`` (accepted, but look) or ``notice``.
    """

    level: str
    what: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return str(Ds01Error(self.what, self.where, self.remedy))

    def as_dict(self) -> dict[str, str]:
        return {"level": self.level, "what": self.what, "where": self.where, "remedy": self.remedy}


class InputError(Ds01Error):
    """A file was refused; every fault found is in ``problems``, not just the first.

    :param problems: at least one problem of level ``error``.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        faults = [p for p in self.problems if p.level == "error"]
        first = faults[0]
        super().__init__(first.what, first.where, first.remedy)
        self._text = "\n".join(str(p) for p in faults)

    def __str__(self) -> str:
        return self._text
