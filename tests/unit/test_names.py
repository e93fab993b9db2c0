# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's slice is her own, whatever she is called, and reads back into her name."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ds01.core import names

# As systemd-escape(1) of systemd 252 and 257 answers.
ESCAPED = {
    "alice": "alice",
    "h.baker@hertie-school.lan": r"h.baker\x40hertie\x2dschool.lan",
    "1001": "1001",
    "-x": r"\x2dx",
    ".x": r"\x2ex",
    "..": r"\x2e.",
    "a.b": "a.b",
    "a b": r"a\x20b",
    "x2d": "x2d",
    r"\x2d": r"\x5cx2d",
    r"a\b": r"a\x5cb",
    "müller": r"m\xc3\xbcller",
    "日本": r"\xe6\x97\xa5\xe6\x9c\xac",
    "a_b:c": "a_b:c",
    "%i": r"\x25i",
    "$(id)": r"\x24\x28id\x29",
    "a'b\"c": r"a\x27b\x22c",
    "~root": r"\x7eroot",
    "a\x7fb": r"a\x7fb",
    "a+b,c": r"a\x2bb\x2cc",
}


@pytest.mark.parametrize(("name", "escaped"), ESCAPED.items())
def test_a_name_is_escaped_as_systemd_does(name: str, escaped: str) -> None:
    assert names.escape(name) == escaped
    assert names.unescape(escaped) == name
    if shutil.which("systemd-escape"):
        answer = subprocess.run(
            ["systemd-escape", "--", name], capture_output=True, text=True, check=True
        )
        assert answer.stdout == f"{escaped}\n"


def test_a_directory_user_has_a_slice_of_her_own() -> None:
    unit = names.user_slice("researcher", "h.baker@hertie-school.lan")
    assert unit == r"ds01-researcher-h.baker\x40hertie\x2dschool.lan.slice"
    assert names.slice_path(unit) == f"ds01.slice/ds01-researcher.slice/{unit}"
    assert names.classify(unit) == names.SliceRole(
        "user", group="researcher", user="h.baker@hertie-school.lan"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x-y", "x2dy"),
        ("x-y", r"x\x2dy"),
        ("a@b", "a40b"),
        ("a@b", r"a\x40b"),
        (".a", "a"),
        ("A", "a"),
        ("a b", "a_b"),
        ("e\u0301", "\u00e9"),
        ("1", "01"),
    ],
)
def test_names_that_look_alike_have_different_slices(one: str, other: str) -> None:
    assert names.user_slice("student", one) != names.user_slice("student", other)


@pytest.mark.parametrize("name", [*ESCAPED, "student", "unattributed", "slice", "x.slice"])
def test_a_user_never_has_the_slice_of_a_group_or_of_another_level(name: str) -> None:
    unit = names.user_slice("student", name)
    assert len(names.slice_path(unit).split("/")) == 3
    assert names.classify(unit).kind == "user"
    assert names.classify(unit).group == "student"


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("ds01.slice", "root"),
        ("ds01-student.slice", "group"),
        ("ds01-unattributed.slice", "group"),
        ("ds01-student-alice.slice", "user"),
        ("user-1001.slice", "login"),
        ("user-.slice", "other"),
        ("user.slice", "other"),
        ("user-x.slice", "other"),
        ("user-\u0661.slice", "other"),
        ("ds01-.slice", "other"),
        ("ds01--x.slice", "other"),
        ("ds01-student-.slice", "other"),
        ("ds01-student-alice-deep.slice", "other"),
        ("ds010-student.slice", "other"),
        ("system.slice", "other"),
        ("-.slice", "other"),
    ],
)
def test_a_slice_is_read_back_into_its_level(unit: str, kind: str) -> None:
    assert names.classify(unit).kind == kind


def test_a_login_slice_carries_the_user_id() -> None:
    assert names.login_slice(1002) == "user-1002.slice"
    assert names.classify("user-1002.slice").uid == 1002


@pytest.mark.parametrize("length", [1, 100, 214, 215, 300])
def test_a_name_fits_a_unit_and_its_drop_in_directory_or_is_refused(length: int) -> None:
    name, group = "n" * length, "g" * names.GROUP_NAME_MAX
    fits = len(f"{names.user_slice(group, name)}.d") <= 255
    assert (names.user_name_fault(name, group) == "") == fits
    assert fits == (length <= 209)


def test_bytes_that_are_no_text_do_not_break_the_reading_of_slices() -> None:
    role = names.classify(r"ds01-student-\xff\xfe.slice")
    assert role.kind == "user"
    assert names.user_slice("student", role.user) == r"ds01-student-\xff\xfe.slice"
    assert names.user_name_fault(role.user, "student") != ""
