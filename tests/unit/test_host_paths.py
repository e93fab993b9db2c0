# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IO limits count for the disks under the engine's data and the homes, wherever they are."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest
from ds01.host import accounts, host


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"data-root": "/data/docker"}', "/data/docker"),
        ("{}", "/var/lib/docker"),
        ('{"data-root": 7}', "/var/lib/docker"),
        ('{"data-root": "docker"}', "/var/lib/docker"),
        ("[]", "/var/lib/docker"),
        ("{", "/var/lib/docker"),
    ],
)
def test_the_engines_data_is_where_its_file_says(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    assert host._engine_data(str(path)) == found


def test_without_a_file_the_engines_data_is_in_the_usual_place(tmp_path: Path) -> None:
    assert host._engine_data(str(tmp_path / "none")) == "/var/lib/docker"


def test_homes_elsewhere_are_found_and_service_accounts_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("students", "services"):
        (tmp_path / name).mkdir()
    entries = [
        pwd.struct_passwd(("alice", "x", 1001, 1001, "", f"{tmp_path}/students/alice", "/bin/sh")),
        pwd.struct_passwd(("bob", "x", 1002, 1002, "", f"{tmp_path}/gone/bob", "/bin/sh")),
        pwd.struct_passwd(("backup", "x", 34, 34, "", f"{tmp_path}/services/backup", "/bin/sh")),
        pwd.struct_passwd(("nobody", "x", 65534, 65534, "", "/nonexistent", "/bin/sh")),
    ]
    monkeypatch.setattr(accounts.pwd, "getpwall", lambda: entries)
    assert accounts.home_parents() == [f"{tmp_path}/students"]
