# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published files: their format, and what they are while somebody writes, reads or meddles."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ds01.core import owner_publish
from ds01.core.errors import Ds01Error
from ds01.core.owner_publish import Publisher, containers_view, owners_view
from ds01.core.owners import Origin, Owner, Record
from owner_desk import ONE, TWO, made, seen, weak

CREATED = datetime(2025, 1, 7, 10, 30, 45, tzinfo=timezone.utc).timestamp()
BAKER = Owner(1722830498, "h.baker@hertie-school.lan", "mount_path", "weak")


def test_the_file_of_owners_is_in_the_format_that_policies_read() -> None:
    record = seen(
        "abc123def456" + "0" * 52,
        name="myproject",
        owner=BAKER,
        origin=Origin("compose"),
        created=CREATED,
    )
    view = owners_view([record], ["datasciencelab"], ["ds01-dashboard"], CREATED + 5)
    assert view == {
        "containers": {
            "abc123def456": {
                "owner": "h.baker@hertie-school.lan",
                "owner_uid": 1722830498,
                "name": "myproject",
                "ds01_managed": False,
                "interface": "compose",
                "created_at": "2025-01-07T10:30:45Z",
                "detection_method": "mount_path",
            }
        },
        "admins": ["datasciencelab"],
        "service_users": ["ds01-dashboard"],
        "updated_at": "2025-01-07T10:30:50Z",
    }


def test_nobody_is_null_and_unknown(tmp_path: Path) -> None:
    entry = owners_view([seen(ONE)], [], [], 0.0)["containers"][ONE[:12]]
    assert (entry["owner"], entry["owner_uid"]) == (None, None)
    assert entry["detection_method"] == "unknown"
    assert owners_view([seen(ONE, made=made())], [], [], 0.0)["containers"][ONE[:12]][
        "ds01_managed"
    ]


def test_containers_alone_and_only_those_that_are_there_are_published() -> None:
    records = [
        seen(ONE),
        seen(TWO, gone=CREATED),
        Record("volume", "data"),
        Record("image", "sha256:" + "3" * 64),
    ]
    assert list(owners_view(records, [], [], 0.0)["containers"]) == [ONE[:12]]
    assert [one["id"] for one in containers_view(records, 0.0)["containers"]] == [ONE]


def test_ids_that_begin_alike_lose_nobody_and_give_nobody_anothers() -> None:
    first, second = "a" * 12 + "0" * 52, "a" * 12 + "1" * 52
    records = [seen(first, owner=BAKER, name="one"), seen(second, owner=weak(), name="two")]
    entries = owners_view(records, [], [], 0.0)["containers"]
    assert entries[first]["owner"] == "h.baker@hertie-school.lan"
    assert entries[second]["owner"] == "bob"
    assert (entries["a" * 12]["owner"], entries["a" * 12]["owner_uid"]) == (None, None)
    same = owners_view([seen(first, owner=weak()), seen(second, owner=weak())], [], [], 0.0)[
        "containers"
    ]
    assert [same[key]["owner"] for key in ("a" * 12, first, second)] == ["bob"] * 3


def test_the_file_of_containers_tells_why_and_no_leases_id() -> None:
    facts = seen(ONE).facts
    assert facts is not None
    facts = dataclasses.replace(facts, leases=("l0123456789abcdef",), image="python:3.12")
    record = seen(ONE, owner=weak(), facts=facts, origin=Origin("docker", "", "batch", ""))
    view = containers_view([record], CREATED)
    assert view["schema"] == 1
    assert view["containers"][0] == {
        "id": ONE,
        "name": "web",
        "image": "python:3.12",
        "state": "running",
        "owner": "bob",
        "owner_uid": 1002,
        "method": "ds01_label",
        "confidence": "weak",
        "interface": "docker",
        "container_type": "batch",
        "created_at": "2027-01-15T08:00:00Z",
        "leases": 1,
        "managed": False,
        "evidence": ["its label ds01.user says bob"],
        "contradictions": [],
    }
    assert "l0123456789abcdef" not in json.dumps(view)


# --- writing --------------------------------------------------------------------------------------


def paths(folder: Path) -> tuple[Path, Path, Path]:
    return (
        folder / "opa/container-owners.json",
        folder / "opa/container-owners.lock",
        folder / "containers.json",
    )


def test_folders_and_files_are_made_for_everybody_to_read_and_the_lock_for_root(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "lib/ds01"
    before = os.umask(0o077)
    try:
        assert Publisher(str(folder)).publish([seen()], ["admins"], [])
    finally:
        os.umask(before)
    owners, lock, containers = paths(folder)
    assert [path.stat().st_mode & 0o777 for path in (owners, containers)] == [0o644, 0o644]
    assert lock.stat().st_mode & 0o777 == 0o600
    for made_one in (tmp_path / "lib", folder, folder / "opa"):
        assert made_one.stat().st_mode & 0o777 == 0o755
    assert json.loads(owners.read_text())["containers"][ONE[:12]]["name"] == "web"
    assert [path.name for path in folder.rglob("*.new")] == []


def test_the_files_say_what_the_views_do_in_a_line_for_each_container(tmp_path: Path) -> None:
    records = [seen(ONE, name='a "name"\n'), seen(TWO, owner=BAKER)]
    Publisher(str(tmp_path)).publish(records, ["admins", "é"], [])
    for path, view in zip(
        paths(tmp_path)[::2],
        (owners_view(records, ["admins", "é"], [], 0.0), containers_view(records, 0.0)),
        strict=True,
    ):
        text = path.read_text()
        written = json.loads(text)
        assert {**written, "updated_at": None} == {**view, "updated_at": None}
        assert list(written) == list(view)
        assert len([line for line in text.splitlines() if '"name"' in line]) == 2
    Publisher(str(tmp_path)).publish([], [], [])
    assert json.loads(paths(tmp_path)[0].read_text())["containers"] == {}


def test_the_time_moves_only_when_something_did_or_after_a_full_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [CREATED]
    monkeypatch.setattr(owner_publish.time, "time", lambda: clock[0])
    publisher = Publisher(str(tmp_path))
    owners, _lock, containers = paths(tmp_path)

    def times() -> list[str]:
        return [json.loads(path.read_text())["updated_at"][11:19] for path in (owners, containers)]

    publisher.publish([seen()], [], [])
    clock[0] += 1
    assert publisher.publish([seen(updated=clock[0])], [], [])
    assert times() == ["10:30:45", "10:30:45"]
    # What one file does not tell of does not move it.
    publisher.publish([seen(state="exited")], [], [])
    assert times() == ["10:30:45", "10:30:46"]
    clock[0] += 1
    publisher.publish([seen(state="exited")], [], [], full=True)
    assert times() == ["10:30:47", "10:30:47"]


def test_a_file_that_was_removed_or_changed_is_written_again(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path))
    owners, _lock, containers = paths(tmp_path)
    publisher.publish([seen()], [], [])
    owners.unlink()
    containers.write_text("{}")
    publisher.publish([seen()], [], [])
    assert json.loads(owners.read_text())["containers"]
    assert json.loads(containers.read_text())["containers"]


def test_the_lock_is_held_while_the_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    replace = owner_publish._replace

    def looked(*arguments: Any) -> Any:
        with open(tmp_path / "opa/container-owners.lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(arguments[1])
        return replace(*arguments)

    monkeypatch.setattr(owner_publish, "_replace", looked)
    assert Publisher(str(tmp_path)).publish([seen()], [], [])
    assert held == ["container-owners.json", "containers.json"]
    with open(tmp_path / "opa/container-owners.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_another_holds_for_too_long_is_told_and_tried_again(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path), lock_seconds=0.1)
    publisher.publish([], [], [])
    with open(tmp_path / "opa/container-owners.lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not publisher.publish([seen()], [], [])
        assert "another program has held it" in publisher.trouble
        assert "fuser -v" in publisher.trouble
        assert json.loads(paths(tmp_path)[0].read_text())["containers"] == {}
    assert publisher.publish([seen()], [], [])
    assert publisher.trouble == ""
    assert json.loads(paths(tmp_path)[0].read_text())["containers"]


def test_a_lock_file_that_is_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path), lock_seconds=5)
    publisher.publish([], [], [])
    lock_path = paths(tmp_path)[1]
    with open(lock_path, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writing = threading.Thread(target=publisher.publish, args=([seen()], [], []))
        writing.start()
        lock_path.unlink()
    writing.join(10)
    assert json.loads(paths(tmp_path)[0].read_text())["containers"]
    assert lock_path.exists()


@pytest.mark.parametrize(
    "name", ["opa/container-owners.json", "opa/container-owners.lock", "containers.json", "opa"]
)
def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder, elsewhere = tmp_path / "ds01", tmp_path / "elsewhere"
    (folder / "opa").mkdir(parents=True)
    if name == "opa":
        (folder / "opa").rmdir()
        elsewhere.mkdir()
    else:
        elsewhere.write_text("somebody's")
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(Ds01Error, match=r"cannot be published.*look at it") as caught:
        Publisher(str(folder)).publish([seen()], [], [])
    assert caught.value.where == str(folder / name)
    kept = list(elsewhere.iterdir()) if name == "opa" else elsewhere.read_text()
    assert kept in ([], "somebody's")


def test_a_work_file_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "opa").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "opa/.container-owners.json.new").symlink_to(tmp_path / "precious")
    assert Publisher(str(tmp_path)).publish([seen()], [], [])
    assert (tmp_path / "precious").read_text() == "kept"
    assert not paths(tmp_path)[0].is_symlink()


def test_readers_see_a_whole_file_at_any_time(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path))
    records = [seen(f"{number:064x}", owner=weak()) for number in range(200)]
    publisher.publish(records, [], [])
    done = threading.Event()
    counts: list[int] = []

    def read() -> None:
        while not done.is_set():
            counts.append(len(json.loads(paths(tmp_path)[0].read_text())["containers"]))

    reader = threading.Thread(target=read)
    reader.start()
    # Each id begins alike, so that all are there under their full ids and one under the twelve.
    for number in range(30):
        publisher.publish(records[: 100 + number], [], [])
    done.set()
    reader.join(10)
    assert counts
    assert set(counts) <= {201, *range(101, 131)}


def test_what_a_killed_writer_left_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Publisher(str(tmp_path)).publish([seen()], [], [])
    monkeypatch.setattr(owner_publish.os, "replace", _die)
    with pytest.raises(KeyboardInterrupt):
        Publisher(str(tmp_path)).publish([], [], [])
    monkeypatch.undo()
    assert json.loads(paths(tmp_path)[0].read_text())["containers"]
    assert Publisher(str(tmp_path)).publish([], [], [])
    assert json.loads(paths(tmp_path)[0].read_text())["containers"] == {}
    assert [path.name for path in tmp_path.rglob("*.new")] == []


def _die(*_arguments: Any, **_named: Any) -> None:
    raise KeyboardInterrupt
