# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease book: what a crash, a clock that jumps or a full disk leaves of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.leases import Ask
from lease_book import ALICE, CONTAINER, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("jump", [-(10**8), -3600, 3600, 10**8])
def test_a_wall_clock_that_jumps_neither_ends_nor_prolongs_a_hold(desk: Desk, jump: float) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER)
    desk.book.container_stopped(lease.id, CONTAINER)
    desk.hands.wall += jump
    desk.hands.pass_(899)
    desk.book.settle()
    assert desk.granted(desk.book.lease(lease.id)).revoked is None
    desk.hands.pass_(2)
    desk.book.settle()
    assert desk.granted(desk.book.lease(lease.id)).revoked is not None


def test_a_hold_goes_on_across_a_reboot_and_a_clock_put_back(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER)
    desk.book.container_stopped(lease.id, CONTAINER)
    desk.hands.reboot("second", off=-(10**7))
    assert desk.book.due() == 900
    desk.book.settle()
    desk.hands.reboot("third", off=600)
    assert desk.book.due() == 300


@pytest.mark.parametrize("point", ["locked", "decided"])
def test_a_death_before_the_commit_grants_nothing(desk: Desk, point: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        desk.opened(fault=interrupt_at(point)).request(Ask(), ALICE)
    assert not desk.book.snapshot().leases
    assert desk.files.present() == []


@pytest.mark.parametrize("point", ["committed", "file_written", "event_appended", "events_logged"])
def test_a_death_after_the_commit_loses_and_doubles_nothing(desk: Desk, point: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        desk.opened(fault=interrupt_at(point)).request(Ask(), ALICE)
    desk.book.repair()
    leases = desk.book.snapshot().leases
    assert [lease.user for lease in leases] == ["alice"]
    assert desk.files.present() == [leases[0].id]
    assert len(desk.events("gpu.reserved")) == 1


def interrupt_at(point: str) -> Callable[[str], None]:
    def fault(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    return fault


def test_a_lease_file_that_cannot_be_written_takes_the_grant_back(desk: Desk) -> None:
    (desk.directory / "cdi").write_text("a file where a directory should be")
    with pytest.raises(Ds01Error, match="nothing was granted"):
        desk.book.request(Ask(), ALICE)
    assert not desk.book.snapshot().leases
    assert len(desk.events("gpu.released")) == 1
    (desk.directory / "cdi").unlink()
    assert desk.book.request(Ask(), ALICE).granted


def test_a_log_that_cannot_be_written_keeps_nobody_from_a_gpu_and_loses_no_event(
    desk: Desk,
) -> None:
    desk.log.unlink()
    desk.log.mkdir()
    assert desk.book.request(Ask(), ALICE).granted
    desk.log.rmdir()
    desk.book.repair()
    assert len(desk.events("gpu.reserved")) == 1
