# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor says of GPU leases."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.gpus import DRIVER_RESTARTING, Inventory
from ds01.core.leases import Ask, Block
from ds01.core.sightings import SeenContainer
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.gpu import GpuFacts, check_daemon, check_leases
from ds01.doctor.machine import Machine
from lease_book import ALICE, Desk

ID = "c" * 64


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "book").mkdir()
    return Desk(tmp_path / "book")


@pytest.fixture
def look(
    machine: Machine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[Finding]]:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    containers: list[SeenContainer] = []
    for found in (desk.engine.containers or {}).values():
        containers += found
    machine.gpu = GpuFacts(lambda: {"pong": True}, lambda: desk.book, lambda: containers)
    return lambda: list(check_leases(machine))


def test_a_book_that_agrees_with_the_host_is_no_finding(
    look: Callable[[], list[Finding]], desk: Desk
) -> None:
    desk.book.request(Ask(), ALICE)
    assert look() == []


def test_a_lease_without_its_file_and_a_file_without_its_lease_are_errors(
    look: Callable[[], list[Finding]], desk: Desk
) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    os.rename(desk.files.path(lease.id), desk.files.path("lstranger"))
    missing, strange = look()
    assert missing.severity is Severity.ERROR and "alice has no file" in missing.what
    assert strange.severity is Severity.ERROR and strange.where.endswith("ds01-lstranger.json")
    assert "restart ds01d" in strange.remedy


def test_a_driver_that_does_not_answer_is_an_error(
    look: Callable[[], list[Finding]], desk: Desk
) -> None:
    desk.book.look(Inventory(DRIVER_RESTARTING, "no answer within 20 s"))
    (finding,) = look()
    assert finding.severity is Severity.ERROR and "no answer within 20 s" in finding.what


def test_a_slot_that_the_vendors_spec_does_not_describe_is_an_error(
    look: Callable[[], list[Finding]], desk: Desk
) -> None:
    assert desk.spec is not None
    desk.spec = {**desk.spec, "devices": desk.spec["devices"][1:]}
    (finding,) = look()
    assert "GPU 0" in finding.where and "gpu_host" in finding.remedy


def test_a_lease_whose_device_is_gone_is_told_with_its_user(
    look: Callable[[], list[Finding]], desk: Desk
) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    left = tuple(slot for slot in desk.found.slots if slot.uuid not in lease.slots)
    desk.book.reconcile(replace(desk.found, slots=left), None, [])
    whats = [finding.what for finding in look()]
    assert any("alice is stale" in what for what in whats)


def test_use_without_a_lease_and_drained_slots_are_told(
    look: Callable[[], list[Finding]], desk: Desk
) -> None:
    desk.book.drain("0", "new fan", "dana")
    with desk.book.store.transaction() as connection:
        from ds01.core.book_rows import put_block

        slot = desk.found.slots[1]
        put_block(connection, Block(slot.uuid, "foreign", "python3 of bob", since=1.0))
    by_severity = {finding.severity: finding for finding in look()}
    assert "new fan" in by_severity[Severity.NOTICE].what
    assert "python3 of bob" in by_severity[Severity.WARNING].what


def test_two_containers_with_one_lease_are_told(
    machine: Machine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    twins = [SeenContainer(c * 64, c, "running", leases=(lease.id,)) for c in "ab"]
    machine.gpu = GpuFacts(lambda: None, lambda: desk.book, lambda: twins)
    found = [finding.what for finding in check_leases(machine)]
    assert "a, b" in found[-1]


def test_a_daemon_that_does_not_answer_is_an_error(machine: Machine, desk: Desk) -> None:
    def silent() -> None:
        raise Ds01Error("the helper daemon ds01d does not answer", "/run/ds01/ds01d.sock")

    machine.gpu = GpuFacts(silent, lambda: desk.book, list)
    (finding,) = check_daemon(machine)
    assert finding.severity is Severity.ERROR and "does not answer" in finding.what
    machine.unit_state = lambda unit: "failed" if unit == "ds01d.service" else "active"
    machine.gpu = GpuFacts(lambda: None, lambda: desk.book, list)
    (finding,) = check_daemon(machine)
    assert (finding.where, finding.what) == ("ds01d.service", "the unit is failed")


def test_without_root_the_leases_are_left_alone(
    machine: Machine, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    machine.gpu = GpuFacts(lambda: None, lambda: desk.book, list)
    (finding,) = check_leases(machine)
    assert finding.severity is Severity.NOTICE
