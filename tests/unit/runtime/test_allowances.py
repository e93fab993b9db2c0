# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a uid to what may be leased: directories that hang, limits that change."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.daemon import allowances
from ds01.daemon.allowances import Directory, LimitsFile
from ds01.daemon.protocol import RequestError
from ds01.host.accounts import HostAccount

from .helper_daemon import LIMITS, Helper, account, account_by_uid

ALICE = HostAccount("alice", 1001, ("alice",))


def test_an_account_is_asked_for_once_in_a_while() -> None:
    asked: list[int] = []

    def by_uid(uid: int) -> HostAccount | None:
        asked.append(uid)
        return account_by_uid(uid)

    directory = Directory(by_uid, account)

    async def twice() -> None:
        assert await directory.account(1001) == ALICE
        assert await directory.account(1001) == ALICE

    asyncio.run(twice())
    assert asked == [1001]


def test_what_was_known_counts_while_the_directory_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    go.set()

    def by_uid(uid: int) -> HostAccount | None:
        go.wait()
        return account_by_uid(uid)

    directory = Directory(by_uid, account, seconds=0.05)

    async def known_then_hung() -> None:
        await directory.account(1001)
        monkeypatch.setattr(allowances, "FRESH_SECONDS", -1.0)
        go.clear()
        assert await directory.account(1001) == ALICE
        with pytest.raises(RequestError, match="does not answer"):
            await directory.account(1002)
        go.set()

    asyncio.run(known_then_hung())


def test_hanging_lookups_never_use_up_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def by_uid(_uid: int) -> HostAccount | None:
        go.wait()
        return None

    directory = Directory(by_uid, account, seconds=0.01)
    before = threading.active_count()

    async def many() -> None:
        for uid in range(40):
            with pytest.raises(RequestError, match="does not answer"):
                await directory.account(uid)

    asyncio.run(many())
    assert threading.active_count() - before <= 8
    go.set()


def test_a_second_name_of_one_uid_is_no_way_to_other_limits() -> None:
    directory = Directory(account_by_uid, lambda _name: HostAccount("alias", 1001, ()))
    assert asyncio.run(directory.account("alias")) == ALICE


def test_limits_are_read_anew_when_their_file_changes(tmp_path: Path) -> None:
    helper = Helper(tmp_path)
    limits = LimitsFile(str(tmp_path / "etc" / "limits.json"))
    first = limits.allowance(ALICE)
    assert (first.group, first.max_gpu_equivalents) == ("student", 1)
    helper.limits(LIMITS.replace("max_gpu_equivalents: 1\n", "max_gpu_equivalents: 3\n"))
    assert limits.allowance(ALICE).max_gpu_equivalents == 3
    os.unlink(tmp_path / "etc" / "limits.json")
    with pytest.raises(Ds01Error, match="no limits were applied"):
        limits.allowance(ALICE)
