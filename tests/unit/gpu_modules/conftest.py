# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that the modules of the lease book run on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gpu_world import (
    SECOND_NAMES,
    UIDS,
    EngineServer,
    World,
    accounts,
    alloc,
    clock,
    nvml,
    shell,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with EngineServer(made) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def world(engine: World, monkeypatch: pytest.MonkeyPatch) -> World:
    made = engine

    def find(name: str) -> Any:
        name = SECOND_NAMES.get(name, name)
        return accounts.HostAccount(name, UIDS[name], ()) if name in UIDS else None

    def by_uid(uid: int) -> Any:
        names = {number: name for name, number in UIDS.items()}
        return find(names[uid]) if uid in names else None

    monkeypatch.setattr(accounts, "find", find)
    monkeypatch.setattr(accounts, "by_uid", by_uid)
    monkeypatch.setattr(nvml, "read", made.read)
    monkeypatch.setattr(shell, "host_clock", lambda: clock.Moment("boot", made.now, made.now))
    monkeypatch.setattr(alloc.time, "sleep", made.sleep)
    monkeypatch.setattr(alloc.time, "monotonic", lambda: made.now)
    return made
