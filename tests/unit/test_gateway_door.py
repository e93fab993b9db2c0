# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose share a connection takes when its process cannot be looked at."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from ds01.core.gateway_settings import GatewaySettings
from ds01.gateway.door import Door
from ds01.gateway.recorder import Recorder
from ds01.host.peer import Peer, PeerError

CAP = 4


class Nothing:
    """Log, people and pump that are not asked."""

    def record(self, _entry: Any) -> None:
        return


def gone(_sock: socket.socket) -> Peer:
    raise PeerError("its process has ended")


def test_root_that_is_gone_has_no_share_without_an_end(tmp_path: Path) -> None:
    """As root of a container may be, who leaves his connections to a child and ends."""
    path = str(tmp_path / "door")

    async def knock() -> dict[str, int]:
        loop = asyncio.get_running_loop()
        nothing = cast("Any", Nothing())
        with ExitStack() as open_ones:
            listener = open_ones.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(CAP * 4)
            settings = GatewaySettings(connections_per_user=CAP)
            recorder = Recorder("")
            door = Door(loop, listener, settings, nothing, nothing, nothing, recorder, gone)
            door.open()
            for _turn in range(CAP * 2):
                caller = open_ones.enter_context(socket.socket(socket.AF_UNIX))
                caller.connect(path)
            await asyncio.sleep(0.1)
            found = door.gauges
            door.close()
            await door.abandon()
        return found

    found = asyncio.run(knock())
    assert found["connections"] == CAP
    assert found["connections_refused"] == CAP
