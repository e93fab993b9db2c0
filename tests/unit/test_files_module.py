# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several files by one task: what one task a file would have done, to the last of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from modules import run

MODULE = "ds01_files"


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Three files, of which one is there as it shall be and one with another text."""
    names = ("same", "other", "new")
    (tmp_path / "same").write_text("text of same\n")
    (tmp_path / "other").write_text("an older text\n")
    for name in names[:2]:
        (tmp_path / name).chmod(0o644)
    rows = [{"dest": str(tmp_path / name), "content": f"text of {name}\n"} for name in names]
    return {"files": rows, "mode": "0644"}


def test_what_differs_is_laid_and_shown_and_a_second_run_changes_nothing(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    kept = (tmp_path / "same").stat().st_ino
    first = run(MODULE, given)
    assert first["changed_files"] == [str(tmp_path / "other"), str(tmp_path / "new")]
    assert [(part["before"], part["after"]) for part in first["diff"]] == [
        ("an older text\n", "text of other\n"),
        ("", "text of new\n"),
    ]
    assert first["diff"][0]["after_header"] == str(tmp_path / "other")
    for name in ("same", "other", "new"):
        assert (tmp_path / name).read_text() == f"text of {name}\n"
        assert (tmp_path / name).stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "same").stat().st_ino == kept
    again = run(MODULE, given)
    assert (again["changed"], again["changed_files"], again["diff"]) == (False, [], [])


def test_check_mode_tells_the_same_and_touches_nothing(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    given["files"][2]["validate"] = "/no/such/program %s"
    told = run(MODULE, given, check=True)
    assert told["changed_files"] == [str(tmp_path / "other"), str(tmp_path / "new")]
    assert (tmp_path / "other").read_text() == "an older text\n"
    assert sorted(os.listdir(tmp_path)) == ["other", "same"]


def test_a_mode_that_differs_is_a_change_too(tmp_path: Path, given: dict[str, Any]) -> None:
    (tmp_path / "same").chmod(0o600)
    given["files"] = given["files"][:1]
    told = run(MODULE, given, check=True)
    assert told["changed_files"] == [str(tmp_path / "same")]
    assert (told["diff"][0]["before"], told["diff"][0]["after"]) == (
        {"mode": "0600"},
        {"mode": "0644"},
    )
    assert (tmp_path / "same").stat().st_mode & 0o7777 == 0o600
    assert run(MODULE, given)["changed"]
    assert (tmp_path / "same").stat().st_mode & 0o7777 == 0o644


def test_a_text_that_its_command_refuses_is_not_laid_and_ends_the_task(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    given["files"][0]["validate"] = "/no/such/program %s"  # equal files are not checked
    given["files"][1]["validate"] = "grep -c other %s"
    given["files"][2]["validate"] = "grep -H something-else %s /etc/none"
    refused = run(MODULE, given)
    assert refused["failed"]
    assert refused["where"] == str(tmp_path / "new")
    assert refused["what"].startswith("refused by grep: ")
    assert "/etc/none" in refused["msg"]
    assert (tmp_path / "other").read_text() == "text of other\n"
    assert not (tmp_path / "new").exists()


def test_files_are_removed_and_one_that_is_not_there_is_no_change(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    params = {"absent": [str(tmp_path / "same"), str(tmp_path / "none")]}
    told = run(MODULE, params, check=True)
    assert told["changed_files"] == [str(tmp_path / "same")]
    assert (tmp_path / "same").exists()
    done = run(MODULE, params)
    assert done["changed_files"] == [str(tmp_path / "same")]
    assert (done["diff"][0]["before"], done["diff"][0]["after"]) == ("text of same\n", "")
    assert sorted(os.listdir(tmp_path)) == ["other"]
    assert not run(MODULE, params)["changed"]


@pytest.mark.parametrize(
    ("params", "where", "words"),
    [
        ({"files": [{"dest": "{}/none/x", "content": ""}]}, "{}/none/x", "directory is not there"),
        ({"files": [{"dest": "{}", "content": ""}]}, "{}", "cannot be read: Is a directory"),
        ({"absent": ["{}"]}, "{}", "cannot be read: Is a directory"),
    ],
)
def test_a_place_that_cannot_be_a_file_is_named(
    tmp_path: Path, params: dict[str, Any], where: str, words: str
) -> None:
    top = str(tmp_path)
    for row in params.get("files", []):
        row["dest"] = row["dest"].format(top)
    if "absent" in params:
        params["absent"] = [path.format(top) for path in params["absent"]]
    refused = run(MODULE, params)
    assert refused["failed"]
    assert refused["where"] == where.format(top)
    assert words in refused["what"]
