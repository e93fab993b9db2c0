# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/benchmarks.md: every benchmark writes its own section, between its own markers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/benchmarks.md"
_HEAD = """\
# Benchmarks

Written by `make bench`; each figure stands beside a reference that was measured in the same run,
so read the ratios rather than the milliseconds. Tests do not look at them.
"""


def machine() -> str:
    """The machine in one line."""
    kind = f"{platform.system()} {platform.machine()}"
    return f"{kind}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are flush right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put a section in its place, and leave the other sections alone.

    :param name: the section's name in its markers.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}\n"
    whole = page.read_text(encoding="utf-8") if page.exists() else _HEAD
    before, found, rest = whole.partition(begin)
    if found:
        whole = before + section + rest.partition(f"{end}\n")[2]
    else:
        whole = f"{whole.rstrip()}\n\n{section}"
    page.write_text(whole, encoding="utf-8")
