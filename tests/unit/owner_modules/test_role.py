# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role lays down lets the daemon see what owners are concluded from, and loses no event."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from ds01.core.owner_publish import FOLDER, OWNERS_FOLDER
from ds01.core.owner_settings import OWNER_SETTINGS_PATH
from modules import plugin

ROLE = Path(__file__).resolve().parents[3] / "roles/runtime"


def text(name: str) -> str:
    return (ROLE / "templates" / name).read_text(encoding="utf-8")


def test_the_daemon_sees_the_paths_that_containers_mount_and_writes_to_none_of_them() -> None:
    unit = dict(line.split("=", 1) for line in text("ds01d.service.j2").splitlines() if "=" in line)
    assert unit["ProtectSystem"] == "strict"
    assert unit["ProtectHome"] == "read-only"
    assert unit["PrivateTmp"] == "false"
    writable = unit["ReadWritePaths"].split()
    assert writable == [FOLDER, "/var/log/ds01"]
    # SQLite's files for sorting would otherwise go to /tmp, which is read-only here.
    assert unit["Environment"] == f"SQLITE_TMPDIR={FOLDER}"


def test_the_folder_of_the_published_owners_is_everybodys_to_read() -> None:
    assert f"d {FOLDER}/{OWNERS_FOLDER} 0755 root root -" in text("tmpfiles.conf.j2").splitlines()


def test_rotation_leaves_it_to_the_writers_to_make_the_next_log() -> None:
    rotation = text("logrotate.j2")
    blocks = re.findall(r"^/var/log/ds01/(\w+)\.jsonl \{(.*?)^\}", rotation, re.M | re.S)
    assert [name for name, _words in blocks] == ["events", "access"]
    for _name, words in blocks:
        lines = [line.strip() for line in words.splitlines()]
        assert {"nocreate", "nodateext", "nocopytruncate", "delaycompress"} <= set(lines)
        assert not [line for line in lines if line.startswith("create")]


def test_the_settings_are_laid_before_the_daemon_starts_where_it_reads_them() -> None:
    tasks: list[dict[str, Any]] = yaml.safe_load((ROLE / "tasks/configure.yml").read_text())
    name_of_module = "ds01.infra.ds01_owner_settings"
    laid = [task[name_of_module] for task in tasks if name_of_module in task]
    module = plugin("modules.ds01_owner_settings")
    assert set(laid[0]) == set(module.ARGUMENTS) - {"path"}
    assert module.ARGUMENTS["path"]["default"] == OWNER_SETTINGS_PATH
    assert os.path.dirname(OWNER_SETTINGS_PATH) == "/etc/ds01"
    specification = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"]["options"]
    for name in laid[0]:
        assert options[f"runtime_owner_{name}"]["default"] == module.ARGUMENTS[name]["default"]
