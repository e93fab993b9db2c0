# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that the modules of owners run on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from owner_world import (
    SECOND_NAMES,
    UIDS,
    Engine,
    World,
    accounts,
    owner_accounts,
    paths,
    shell,
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    passwd = tmp_path / "passwd"
    passwd.write_text("".join(f"{n}:x:{u}:{u}::/home/{n}:/bin/sh\n" for n, u in UIDS.items()))

    def find(name: str) -> Any:
        name = SECOND_NAMES.get(name, name)
        return accounts.HostAccount(name, UIDS[name], ()) if name in UIDS else None

    def by_uid(uid: int) -> Any:
        names = {number: name for name, number in UIDS.items()}
        return find(names[uid]) if uid in names else None

    def host_accounts() -> Any:
        return owner_accounts.OwnerAccounts(str(passwd), str(tmp_path), lambda _key: None)

    monkeypatch.setattr(accounts, "find", find)
    monkeypatch.setattr(accounts, "by_uid", by_uid)
    monkeypatch.setattr(shell, "OwnerAccounts", host_accounts)
    monkeypatch.setattr(shell, "Paths", lambda: paths.Paths(follow=paths.PathLook))
    monkeypatch.setattr(shell, "DAEMON_SECONDS", 0.0)
    path = os.path.join(tmp_path, "docker.sock")
    with Engine(path) as engine:
        thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield World(tmp_path, engine)
        engine.shutdown()
        thread.join()
