# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that makes and migrates the store."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from modules import plugin, run
from old_store import make_store_of

store = plugin("module_utils._core.store")


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    return {
        "path": str(tmp_path / "lib/ds01/state.db"),
        "event_log": str(tmp_path / "log/events.jsonl"),
    }


def _set_version(path: str, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()


def _events(paths: dict[str, str]) -> list[Any]:
    return [json.loads(line) for line in Path(paths["event_log"]).read_text().splitlines()]


def test_the_store_is_made_once(paths: dict[str, str], tmp_path: Path) -> None:
    foretold = run("ds01_store", paths, check=True)
    assert foretold["changed"] and foretold["previous"] is None
    assert list(tmp_path.iterdir()) == []
    made = run("ds01_store", paths)
    assert made["changed"]
    assert made["diff"] == foretold["diff"]
    assert (made["diff"]["before"], made["diff"]["after"]) == (
        "no store\n",
        f"version {store.VERSION}\n",
    )
    assert store.version_of(paths["path"]) == made["version"] == store.VERSION
    for check in (True, False):
        again = run("ds01_store", paths, check=check)
        assert not again["changed"]
        assert (again["previous"], again["version"], again["backup"]) == (
            store.VERSION,
            store.VERSION,
            None,
        )
    assert [event["event_type"] for event in _events(paths)] == ["store.created"]


def test_only_root_reads_the_store(paths: dict[str, str]) -> None:
    run("ds01_store", paths)
    assert Path(paths["path"]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("check", [True, False])
def test_a_store_of_a_newer_version_is_left_alone(paths: dict[str, str], check: bool) -> None:
    run("ds01_store", paths)
    newer = store.VERSION + 1
    _set_version(paths["path"], newer)
    refused = run("ds01_store", paths, check=check)
    assert f"is of version {newer}, this collection makes {store.VERSION}" in refused["msg"]
    assert "Run site.yml with the collection that made it or a newer one" in refused["msg"]
    assert store.version_of(paths["path"]) == newer


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at"])
def test_a_file_that_is_no_store_is_left_alone(paths: dict[str, str], content: bytes) -> None:
    path = Path(paths["path"])
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for check in (True, False):
        refused = run("ds01_store", paths, check=check)
        assert refused["failed"]
        assert "damaged" in refused["msg"] and "Restart ds01d.service" in refused["msg"]
    assert path.read_bytes() == content


def test_a_damaged_page_is_found(paths: dict[str, str]) -> None:
    run("ds01_store", paths)
    content = bytearray(Path(paths["path"]).read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    Path(paths["path"]).write_bytes(content)
    assert "damaged" in run("ds01_store", paths)["msg"]


def test_a_migration_leaves_a_copy_and_an_event(paths: dict[str, str]) -> None:
    Path(paths["path"]).parent.mkdir(parents=True)
    make_store_of(1, paths["path"])
    foretold = run("ds01_store", paths, check=True)
    assert foretold["changed"] and foretold["backup"] is None
    assert store.version_of(paths["path"]) == 1
    result = run("ds01_store", paths)
    assert (result["previous"], result["version"]) == (1, store.VERSION)
    assert result["diff"] == foretold["diff"]
    assert store.version_of(paths["path"]) == store.VERSION
    assert store.version_of(result["backup"]) == 1
    assert Path(result["backup"]).stat().st_mode & 0o777 == 0o600
    assert _events(paths)[-1]["event_type"] == "store.migrated"
    assert not run("ds01_store", paths)["changed"]


def test_a_directory_that_cannot_be_made_is_told(paths: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("a file")
    refused = run("ds01_store", paths)
    assert refused["failed"]
    assert "cannot be made" in refused["msg"]
