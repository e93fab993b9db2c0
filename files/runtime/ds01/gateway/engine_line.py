# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine, as the door knows it: where it listens, which API it speaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from ds01.core.gateway_settings import GatewaySettings
from ds01.core.routes import API_MAX
from ds01.gateway.head import HttpError, find_end, parse_response

LEARN_SECONDS = 5.0
_PING = b"GET /_ping HTTP/1.1\r\nHost: ds01\r\nConnection: close\r\n\r\n"


class EngineLine:
    """The way to the engine.

    :ivar engine_api: the newest version of the API that it speaks; None while that is not known.
    :ivar api_shown: the version that clients are shown.
    :ivar closing: no connection is made in advance any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: GatewaySettings) -> None:
        self.loop = loop
        self.settings = settings
        self.engine_api: tuple[int, int] | None = None
        self.api_shown = b""
        self.closing = False
        self._api_raw = b""
        self._learners: list[Callable[[], None]] = []
        self._spare: socket.socket | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that waits."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connect_engine(self) -> socket.socket:
        """A connection to the engine on which nothing was asked yet.

        One is kept in advance, so that a new client does not wait for it.

        :raises BlockingIOError: its queue is full at the moment.
        :raises OSError: it is not there.
        """
        spare, self._spare = self._spare, None
        self.loop.call_soon(self._keep_spare)
        if spare is not None:
            try:
                spare.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return spare
            except OSError:
                pass
            # The engine has ended it, or speaks unasked.
            spare.close()
        return self._connect_engine()

    def _keep_spare(self) -> None:
        if self._spare is None and not self.closing:
            with contextlib.suppress(OSError):
                self._spare = self._connect_engine()

    def _connect_engine(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self.settings.engine_socket)
        except OSError:
            sock.close()
            raise
        return sock

    def note_api(self, raw: bytes) -> None:
        """The engine's answer tells its newest API version."""
        if raw == self._api_raw or not raw:
            return
        major, _dot, minor = raw.partition(b".")
        if major.isdigit() and minor.isdigit():
            self._api_raw = raw
            self.engine_api = (int(major), int(minor))
            shown = min(self.engine_api, API_MAX)
            self.api_shown = b"%d.%d" % shown

    def caps_api(self, raw: bytes) -> bool:
        """Whether an answer shows a newer API than the gateway knows."""
        return bool(raw) and raw == self._api_raw and self.api_shown != raw

    def engine_lost(self) -> None:
        """The engine that answers next may be another one."""
        self._api_raw = b""
        self.engine_api = None

    def learn(self, then: Callable[[], None]) -> None:
        """Ask the engine for its version first.

        :param then: called when it is known, or cannot be.
        """
        self._learners.append(then)
        if len(self._learners) == 1:
            self.spawn(self._learn())

    async def _learn(self) -> None:
        # The request itself meets the same engine, and says what is wrong.
        with contextlib.suppress(OSError, HttpError, asyncio.TimeoutError):
            await asyncio.wait_for(self._ping(), LEARN_SECONDS)
        learners, self._learners = self._learners, []
        for then in learners:
            then()

    async def _ping(self) -> None:
        with self.connect_engine() as sock:
            await self.loop.sock_sendall(sock, _PING)
            raw = b""
            while find_end(raw, reply=True) < 0:
                part = await self.loop.sock_recv(sock, 65536)
                if not part:
                    raise ConnectionResetError
                raw += part
            self.note_api(parse_response(raw[: find_end(raw, reply=True)], "GET").api)

    def drop_spare(self) -> None:
        """End the connection that was made in advance."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None
