# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module that makes and migrates the store."""

from __future__ import annotations

import json
import sqlite3
import subprocess
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


# --- the release before ---------------------------------------------------------------------------


def release_of(root: Path, name: str, version: int | None) -> Path:
    """A release that reads a version of the store, or knows of none."""
    core = root / name / "lib/ds01/core"
    core.mkdir(parents=True)
    if version == 1:
        # As it was before the tables had a file of their own.
        (core / "store.py").write_text('"""The store."""\n\nVERSION = 1\n')
    elif version is not None:
        (core / "store.py").write_text("from .store_schema import VERSION\n")
        (core / "store_schema.py").write_text(f"VERSION = {version}\n")
    return root / name


@pytest.mark.parametrize(("version", "read"), [(1, 1), (2, 2), (7, 7), (None, None)])
def test_a_release_tells_which_store_it_reads(
    tmp_path: Path, version: int | None, read: int | None
) -> None:
    release = plugin("modules.ds01_release")
    assert release.store_version(str(release_of(tmp_path, "0.1.0", version))) == read


def test_this_release_tells_which_store_it_reads(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/ds01").symlink_to(Path(__file__).parents[2] / "files/runtime/ds01")
    assert plugin("modules.ds01_release").store_version(str(tmp_path)) == store.VERSION


def test_no_release_is_gone_back_to_that_would_refuse_the_store(
    paths: dict[str, str], tmp_path: Path
) -> None:
    release = plugin("modules.ds01_release")
    Path(paths["path"]).parent.mkdir(parents=True)
    make_store_of(1, paths["path"])
    backup = run("ds01_store", paths)["backup"]
    release_of(tmp_path, "0.1.0", 1)
    with pytest.raises(Exception, match="reads version 1 of the state store") as refused:
        release.read_by(str(tmp_path), "0.1.0", paths["path"])
    said = str(refused.value)
    assert f"this host's is of version {store.VERSION}" in said
    # What it says to do does it.
    commands = said.split("To go back all the same")[1].split(";")
    assert commands[1].split() == ["rm", "-f", f"{paths['path']}-wal", f"{paths['path']}-shm"]
    assert commands[2].split() == ["cp", "-a", backup, paths["path"]]
    for command in commands[1:3]:
        subprocess.run(command.split(), check=True)
    release.read_by(str(tmp_path), "0.1.0", paths["path"])
    assert store.version_of(paths["path"]) == 1


def test_without_a_copy_there_is_no_way_back(paths: dict[str, str], tmp_path: Path) -> None:
    run("ds01_store", paths)
    release_of(tmp_path, "0.1.0", 1)
    with pytest.raises(Exception, match="no copy of the store"):
        plugin("modules.ds01_release").read_by(str(tmp_path), "0.1.0", paths["path"])


@pytest.mark.parametrize("version", [store.VERSION, None])
def test_a_release_that_reads_the_store_or_none_may_be_gone_back_to(
    paths: dict[str, str], tmp_path: Path, version: int | None
) -> None:
    run("ds01_store", paths)
    release_of(tmp_path, "0.1.0", version)
    plugin("modules.ds01_release").read_by(str(tmp_path), "0.1.0", paths["path"])
    plugin("modules.ds01_release").read_by(str(tmp_path), "0.1.0", str(tmp_path / "none.db"))
