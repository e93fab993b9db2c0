# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What anybody may have written is shown cut and printable, and cannot pose as our own words."""

from __future__ import annotations

import json

import pytest
from ds01.core.owner_words import SHOWN_MAX, clean, day, listed, shown


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("alice", "alice"),
        ("a\nb\tc\x00d\x1be\x7f", "a?b?c?d?e?"),
        ("a\u202eb\u200bc\ufeff", "a?b?c?"),
        ("\ud800x\udcff", "?x?"),
        ("\u2028\u2029\x85", "???"),
        ("müller 日本", "müller 日本"),
        ("x" * 120, "x" * 120),
        ("x" * 121, "x" * 117 + "..."),
        ("x" * 100_000, "x" * 117 + "..."),
    ],
)
def test_a_text_is_cut_and_printable(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert len(clean(text)) <= SHOWN_MAX
    json.dumps(clean(text)).encode()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("alice", "alice"),
        ("h.baker@hertie-school.lan", "h.baker@hertie-school.lan"),
        ("SCHOOL\\alice", "SCHOOL\\alice"),
        ("/home/alice/proj-1_x+y", "/home/alice/proj-1_x+y"),
        ("C:\\Users\\alice", "C:\\Users\\alice"),
        ("", '""'),
        ("alice, because I say so", '"alice, because I say so"'),
        ('bob"; certain', '"bob\'; certain"'),
        ("a;b", '"a;b"'),
        ("(x)", '"(x)"'),
        ("alice\n", '"alice?"'),
    ],
)
def test_what_could_pose_as_words_is_quoted(text: str, seen: str) -> None:
    assert shown(text) == seen


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d"], "a, b and 2 more"),
        ([str(n) for n in range(9)], "0, 1 and 7 more"),
    ],
)
def test_lists(texts: list[str], words: str) -> None:
    assert listed(texts) == words


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01"),
        (1_760_000_000.9, "2025-10-09"),
        (float("nan"), ""),
        (float("inf"), ""),
        (1e300, ""),
        (-1e300, ""),
    ],
)
def test_days(at: float, text: str) -> None:
    assert day(at) == text
