# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of the engine's are read row by row, whatever their length."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ds01.host.engine_rows import rows
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(alphabet='a"\\[]{},:é\n', max_size=8)
VALUES = st.recursive(
    TEXTS | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3), max_size=4)


def cut(text: bytes, size: int) -> list[bytes]:
    """A text in pieces."""
    return [text[at : at + size] for at in range(0, len(text), size)]


@given(ROWS, st.integers(1, 9), st.booleans())
def test_wherever_it_is_cut_the_rows_are_those_that_were_sent(
    sent: list[dict[str, Any]], size: int, raw: bool
) -> None:
    text = json.dumps(sent, ensure_ascii=not raw).encode()
    assert list(rows(cut(text, size))) == sent
    text = json.dumps({"Volumes": sent, "Warnings": ["x"]}).encode()
    assert list(rows(cut(text, size), 3)) == sent


@pytest.mark.parametrize("text", [b"null", b"[]", b'{"Volumes": null}', b""])
def test_an_empty_list_has_none(text: bytes) -> None:
    assert list(rows([text])) == []


@pytest.mark.parametrize("text", [b"[", b'[{"a": 1}', b'[{"a": "x', b"[{a}]"])
def test_half_a_list_is_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"list does not end|double quotes"):
        list(rows([text]))


def test_a_row_of_any_length_is_known_by_its_ends_and_hides_no_other() -> None:
    """A user makes labels as long as he likes."""
    long = {"Id": "a" * 64, "Names": ["/fat"], "Labels": {"x": '"State":"dead","' * 30000}}
    long |= {"State": "running", "Status": "Up"}
    other = {"Id": "b" * 64, "Names": ["/other"], "State": "exited"}
    text = json.dumps([long, other], separators=(",", ":")).encode()
    found = list(rows(cut(text, 5000), most=300_000))
    assert found == [{"Id": "a" * 64, "Names": ["/fat"], "State": "running"}, other]
