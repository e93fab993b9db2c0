# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the lease book refuse, with a reason, what cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from gpu_world import World, nvml, store


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"user": "nobody-knows"}, "this host knows no user 'nobody-knows'"),
        ({"user": "4711"}, "this host knows no user '4711'"),
        ({"user": ""}, "this host knows no user ''"),
        ({"user": "alice\x00"}, "this host knows no user"),
        ({"user": "alice", "count": 0}, "0 is no number of GPUs"),
        ({"user": "alice", "count": -1}, "-1 is no number of GPUs"),
        ({"user": "alice", "count": 10**9}, "more than any host has"),
        ({"user": "alice", "count": 3}, "3 GPUs for one container are more than the 2"),
        ({"user": "alice", "kind": "9g.90gb"}, "this host has no 9g.90gb slot"),
        ({"user": "alice", "kind": "big"}, "'big' is no kind of GPU"),
        ({"user": "alice", "kind": "full"}, "alice may lease MIG devices only"),
        ({"user": "alice", "devices": ["GPU-7"]}, "no GPU or MIG device 'GPU-7'"),
        ({"user": "alice", "devices": ["2"]}, "GPU 2 is split by MIG"),
        ({"user": "alice", "devices": ["2:0", "MIG-2-0"]}, "a device is named twice"),
        ({"user": "alice", "devices": ["2:0"], "kind": "mig"}, "mutually exclusive"),
        ({"user": "alice", "devices": ["2:0"], "count": 1}, "mutually exclusive"),
        ({"user": "alice", "note": "a\nb"}, "a note has up to 200 printable characters"),
        ({"user": "alice", "request": "a\nb"}, "a request's name has 1 to 64 printable"),
        ({"user": "alice", "request": ""}, "a request's name has 1 to 64 printable"),
        ({"user": "alice", "wait": -1}, "wait is no number of seconds"),
        ({"user": "alice", "slot": "0"}, "slot says nothing with state=allocated"),
        ({"user": "alice", "lease": "l99"}, "there is no lease l99"),
        ({}, "user"),
        ({"state": "released"}, "lease, container, request"),
        ({"state": "released", "request": "course"}, "user"),
        ({"state": "drained", "slot": "0"}, "reason"),
        ({"state": "drained", "slot": "9", "reason": "fan"}, "no GPU or MIG device '9'"),
        ({"state": "drained", "slot": "2", "reason": "fan"}, "GPU 2 is split by MIG"),
        ({"state": "undrained", "slot": "9"}, "no GPU or MIG device '9'"),
        ({"state": "reconciled", "count": 2}, "count says nothing with state=reconciled"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_bad_input_is_refused_with_its_reason(
    world: World, params: dict[str, Any], words: str, check: bool
) -> None:
    before = world.state()
    refused = world.alloc(check=check, **params)
    assert refused["failed"]
    assert words in refused["msg"]
    after = world.state()
    assert (after["leases"], after["queue"]) == (before["leases"], before["queue"])


def test_a_driver_that_does_not_answer_hands_nothing_out(world: World) -> None:
    world.driver = "driver_absent"
    refused = world.alloc(user="alice")
    assert refused["rule"] == "driver"
    assert "Driver Not Loaded" in refused["msg"]


def test_missing_bindings_are_not_taken_for_a_missing_driver(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> dict[str, Any]:
        raise ImportError("No module named 'pynvml'")

    world.alloc(user="alice")
    monkeypatch.setattr(nvml, "read", missing)
    refused = world.alloc(user="alice")
    assert "NVML's Python bindings are missing" in refused["msg"]
    monkeypatch.setattr(nvml, "read", world.read)
    assert world.alloc(user="alice")["changed"]


def test_without_limits_nothing_is_leased(world: World) -> None:
    os.unlink(world.paths["limits_path"])
    assert "no limits are in force on this host yet" in world.alloc(user="alice")["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_a_missing_store_is_told_with_its_remedy(world: World, check: bool) -> None:
    os.unlink(world.paths["store_path"])
    for refused in (world.alloc(check=check, user="alice"), world.info(check=check)):
        assert "there is no state store" in refused["msg"]
        assert "Run site.yml" in refused["msg"]
    assert not Path(world.paths["store_path"]).exists()


@pytest.mark.parametrize("check", [True, False])
def test_a_store_of_another_version_is_refused(world: World, check: bool) -> None:
    with store.open_store(world.paths["store_path"]).transaction() as connection:
        connection.execute("PRAGMA user_version=7")
    for refused in (world.alloc(check=check, user="alice"), world.info(check=check)):
        assert f"of version 7, this program reads {store.VERSION}" in refused["msg"]


@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_store_is_refused(world: World, check: bool) -> None:
    Path(world.paths["store_path"]).write_bytes(b"\xff" * 8192)
    for refused in (world.alloc(check=check, user="alice"), world.info(check=check)):
        assert "damaged" in refused["msg"]
