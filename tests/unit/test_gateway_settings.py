# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's settings: what is wrong in the file is said with its place and a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.gateway_settings import GatewaySettings, read_settings, settings_from


def test_a_host_without_the_file_has_the_defaults(tmp_path: Path) -> None:
    assert read_settings(str(tmp_path / "none.json")) == GatewaySettings()


def test_settings_are_read_back_as_written(tmp_path: Path) -> None:
    settings = GatewaySettings(admin_group="ds01-admins", connections_per_user=64, head_seconds=2.5)
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps({"_managed": "by ds01", **settings.as_json()}))
    assert read_settings(str(path)) == settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("admin_group", None),
        ("admin_group", " x"),
        ("admin_group", "a:b"),
        ("admin_group", "a\nb"),
        ("engine_socket", "engine.sock"),
        ("engine_socket", "/run/../x"),
        ("engine_socket", "/run/x\0"),
        ("engine_socket", "/" + "x" * 107),
        ("pump_socket", 7),
        ("connections_per_user", 0),
        ("connections_per_user", True),
        ("connections_per_user", 12.5),
        ("connections_per_user", "64"),
        ("connections_total", 10**9),
        ("requests_per_user", -1),
        ("streams_per_user", None),
        ("head_seconds", 0),
        ("head_seconds", float("nan")),
        ("head_seconds", False),
        ("stall_seconds", float("inf")),
        ("idle_seconds", "1m"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(key: str, value: Any) -> None:
    with pytest.raises(Ds01Error) as caught:
        settings_from({"schema": 1, key: value}, "gateway.json")
    assert caught.value.what.startswith(f"{key} is ")
    assert caught.value.where == "gateway.json" and caught.value.remedy


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "schema"),
        ({"schema": 2}, "schema"),
        ({"schema": 1, "conections_total": 5}, "unknown setting 'conections_total'"),
        ({"schema": 1, "connections_total": 100}, "one user could take all"),
        ({"schema": 1, "pump_socket": "/run/ds01/engine.sock"}, "one path"),
    ],
)
def test_a_file_of_another_form_is_refused(data: Any, words: str) -> None:
    with pytest.raises(Ds01Error, match=words):
        settings_from(data)


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, '{"schema": 1}\x00'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(text)
    with pytest.raises(Ds01Error) as caught:
        read_settings(str(path))
    assert caught.value.where == str(path)
