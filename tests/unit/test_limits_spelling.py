# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values and names are taken as they are written, or refused on one short line."""

from __future__ import annotations

import pytest
from ds01.core.errors import Ds01Error
from fakes import read_limits

GROUP = "default_group: student\ngroups:\n  student:\n"
OVERRIDE = GROUP + "user_overrides:\n"


def refusal(text: str) -> str:
    with pytest.raises(Ds01Error) as caught:
        read_limits(text)
    return str(caught.value)


# Spellings parted by spaces.
SIZES = (
    "-8g nan .nan inf .inf 1e3 0x10 010 1_000 +8g 8i 8ib 8192p 0.3 8g8g g 8,5g 0g8 eight true "
    "2026-01-01 8:30 1/2g 0b1 \u0668g \uff18g 8\u212a"
)


@pytest.mark.parametrize(
    "value", [*SIZES.split(" "), "8 g g", "9" * 30, "9" * 5000, f"1.{'0' * 40}1g"]
)
def test_a_size_is_plain_or_refused(value: str) -> None:
    message = refusal(GROUP + f'    memory_swap_max: "{value}"\n')
    assert message.startswith("limits.yml:4: groups.student.memory_swap_max")
    assert len(message) < 300


@pytest.mark.parametrize(
    "value",
    ["010", "1e2", "64.0", "0x40", "1_000", "٦٤", "sixty", "9" * 5000, "1:04", "nan", "~64"],
)
def test_a_count_is_plain_or_refused(value: str) -> None:
    message = refusal(GROUP + f"    tasks_max: {value}\n")
    assert message.startswith("limits.yml:4: groups.student.tasks_max:")
    assert message.endswith("Write a whole number, or null for no limit")


@pytest.mark.parametrize(
    "value",
    ["5M", "5\u017f", "1:30", "48H", "1y", "5 mins", "h", "1h-", "-1h", "9" * 18 + "w", "0.0001s"],
)
def test_a_duration_is_plain_or_refused(value: str) -> None:
    message = refusal(GROUP + f"    max_runtime: '{value}'\n")
    assert message.startswith("limits.yml:4: groups.student.max_runtime:")


@pytest.mark.parametrize("value", ["9" * 400 + "%", "1e9%", "nan%", "0.5", "0%", "-5%", "5 %%"])
def test_a_percentage_is_plain_or_refused(value: str) -> None:
    assert refusal(GROUP + f"    cpu_quota: '{value}'\n").startswith(
        "limits.yml:4: groups.student.cpu"
    )


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a\\nb",
            "a\\tb",
            "\\0",
            "\\x7f",
            "\\x85",
            "\\u2028",
            "\\ud800",
            "\\u00a0x",
            "",
            " a",
            "a ",
        ),
        *("a:b", "a/b", "../x", "{{ a }}", "{% x %}", "n" * 300, "\\u202ename", "ü" * 80),
    ],
)
@pytest.mark.parametrize(
    "place", ['    members: ["%s"]\n', 'user_overrides: {"%s": {tasks_max: 64}}\n']
)
def test_what_is_no_account_name_is_refused_on_one_short_line(name: str, place: str) -> None:
    message = refusal(GROUP + place % name)
    assert message.startswith("limits.yml:4:")
    assert "account name" in message
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 400


@pytest.mark.parametrize(
    "name",
    ["-x", ".x", "..", "x2d", "a\\x2db", "müller", "1001", "null", "no", "~", "a b", "%i", "$(id)"],
)
def test_a_strange_account_name_keeps_its_spelling(name: str) -> None:
    text = OVERRIDE + f"  '{name}': {{tasks_max: 64}}\n"
    assert list(read_limits(text).overrides) == [name]
    bare = GROUP + f"    members: ['{name}', 17]\n"
    assert read_limits(bare).groups["student"].members == (name, "17")


@pytest.mark.parametrize(
    "name",
    ["A", "1a", "_a", "a.b", "a b", "ä", "", "x" * 33, "a\\n", "user@x", "system", "build", "a-"],
)
def test_a_group_name_that_breaks_the_tree_is_refused(name: str) -> None:
    message = refusal(GROUP + f'  "{name}": {{}}\n')
    assert message.startswith("limits.yml:4: the group name")
    assert message.endswith("Rename the group, for example to 'phd_students'")
    assert message.isprintable()
