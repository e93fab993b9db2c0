# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of ownership: what is wrong in them is said with its place and a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ds01.core.errors import Ds01Error
from ds01.core.owner_settings import OwnerSettings, read_settings, settings_from
from modules import run

REPO = Path(__file__).resolve().parents[3]


def test_a_host_without_the_file_has_the_defaults(tmp_path: Path) -> None:
    assert read_settings(str(tmp_path / "none.json")) == OwnerSettings()


def test_settings_are_read_back_as_written(tmp_path: Path) -> None:
    settings = OwnerSettings("ds01-admins", ("ds01-dashboard", "HERTIE\\svc x"), 86400.0, 12.5)
    path = tmp_path / "owners.json"
    path.write_text(json.dumps({"_managed": "by ds01", **settings.as_json()}))
    assert read_settings(str(path)) == settings


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("admin_group", None, "not the name of a Unix group"),
        ("admin_group", " x", "not the name of a Unix group"),
        ("admin_group", "a:b", "not the name of a Unix group"),
        ("admin_group", "a\nb", "not the name of a Unix group"),
        ("service_users", "ds01-dashboard", "not a list of account names"),
        ("service_users", {"a": 1}, "not a list of account names"),
        ("service_users", [""], "'' is not the name of an account"),
        ("service_users", ["a", 7], "7 is not the name of an account"),
        ("service_users", ["a", "x" * 500 + "\n"], "is not the name of an account"),
        ("service_users", ["a", "b", "a"], "names a twice"),
        ("history_seconds", 0, "seconds from 3600 to"),
        ("history_seconds", float("nan"), "seconds from 3600 to"),
        ("history_seconds", True, "seconds from 3600 to"),
        ("history_seconds", "90d", "seconds from 3600 to"),
        ("sync_seconds", 9, "seconds from 10 to 86400"),
        ("sync_seconds", float("inf"), "seconds from 10 to 86400"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(Ds01Error) as caught:
        settings_from({"schema": 1, key: value}, "owners.json")
    assert caught.value.what.startswith(f"{key} is ")
    assert words in caught.value.what
    assert len(caught.value.what) < 250
    assert caught.value.where == "owners.json" and caught.value.remedy


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "schema"),
        ({"schema": 2}, "schema"),
        ({"schema": 1, "admins": ["dana"]}, "unknown setting 'admins'"),
    ],
)
def test_a_file_of_another_form_is_refused(data: Any, words: str) -> None:
    with pytest.raises(Ds01Error, match=words):
        settings_from(data)


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, '{"schema": 1}\x00', "\xff"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "owners.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Ds01Error) as caught:
        read_settings(str(path))
    assert caught.value.where == str(path)


def test_the_roles_defaults_are_those_of_the_settings() -> None:
    told = yaml.safe_load((REPO / "roles/runtime/defaults/main.yml").read_text(encoding="utf-8"))
    found = {
        name.removeprefix("runtime_owner_"): value
        for name, value in told.items()
        if name.startswith("runtime_owner_")
    }
    assert {"schema": 1, **found} == OwnerSettings().as_json()


def test_the_module_lays_the_file_down_once(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "owners.json"
    params = {"path": str(path), "admin_group": "ds01-admins", "service_users": ["ds01-dashboard"]}
    foretold = run("ds01_owner_settings", params, check=True)
    assert foretold["changed"] and not path.exists()
    done = run("ds01_owner_settings", params)
    assert done["changed"] and done["diff"] == foretold["diff"]
    assert not run("ds01_owner_settings", params)["changed"]
    assert read_settings(str(path)) == OwnerSettings("ds01-admins", ("ds01-dashboard",))
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_module_refuses_what_the_daemon_would_refuse(tmp_path: Path) -> None:
    path = tmp_path / "owners.json"
    refused = run("ds01_owner_settings", {"path": str(path), "sync_seconds": 1})
    assert refused["failed"] and "sync_seconds is 1.0, not a number" in refused["msg"]
    assert not path.exists()
