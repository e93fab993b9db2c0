# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event loop: connections, who they are, and those that wait.

Nothing here touches the store: every answer is a job of the worker thread. A peer that is slow, dead
or hostile costs one connection of its own user's share.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ds01.core.callers import Refusal, local_uid
from ds01.core.errors import Ds01Error
from ds01.daemon import protocol
from ds01.daemon.protocol import Request, RequestError, encode, error_line, parse_request
from ds01.daemon.worker import Worker
from ds01.host.peer import Peer, PeerError, peer_of

T = TypeVar("T")
PER_USER = 64
TOTAL = 768
"""Connections at a time; root has its own share beyond them."""
SEND_SECONDS = 10.0
STOP_TURNS = 50


@dataclass(frozen=True)
class Caller:
    """Who asks.

    :param admin: may act for everybody.
    """

    uid: int
    admin: bool = False


@dataclass(frozen=True)
class Board:
    """What those who wait look at: one look at the book.

    :param waiting: what to tell each ticket's holder.
    :param due_in: seconds until something expires; None: nothing does.
    """

    waiting: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    due_in: float | None = None


class Desk(Protocol):
    """The verbs. All but the first two are called in a thread."""

    def is_slow(self, verb: str) -> bool:
        """Whether it waits for others, such as the engine."""

    async def prepare(self, request: Request, caller: Caller) -> Any:
        """What a request needs of slow directories, before the worker takes it; in the loop."""

    def answer(self, request: Request, caller: Caller, prepared: Any) -> dict[str, Any]:
        """The answer of a verb that does not wait."""

    def request(self, request: Request, caller: Caller, prepared: Any) -> dict[str, Any]:
        """``{"granted": …}``, or ``{"waiting": …}`` with the ticket in it."""

    def poll(self, ticket: str, caller: Caller) -> dict[str, Any]:
        """As :meth:`request`, or ``{"error": …}`` when the ticket has come to nothing."""

    def cancel(self, ticket: str, caller: Caller, why: str) -> bool:
        """Give a ticket up."""

    def touch(self, tickets: list[str]) -> None:
        """The holders of these tickets are still there."""


class Connection:
    """One peer's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # So that drain() waits until the peer has taken all.
        writer.transport.set_write_buffer_limits(high=0)

    async def line(self) -> bytes:
        """The request.

        :raises RequestError: it is too long, or does not come in time.
        :raises ConnectionError: the peer has gone.
        """
        try:
            return await asyncio.wait_for(self._reader.readuntil(b"\n"), protocol.HEADER_SECONDS)
        except asyncio.LimitOverrunError:
            what = f"the request is longer than {protocol.REQUEST_MAX_BYTES} bytes"
        except asyncio.TimeoutError:
            what = f"no whole request came within {protocol.HEADER_SECONDS:g} s"
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise ConnectionResetError from error
            what = "the request has no end"
        raise RequestError(protocol.BAD_REQUEST, what, "request", "Send one line")

    async def send(self, message: Mapping[str, Any]) -> None:
        """One line.

        :raises ConnectionError: the peer has gone, or takes nothing.
        """
        self._writer.write(encode(message))
        try:
            await asyncio.wait_for(self._writer.drain(), SEND_SECONDS)
        except asyncio.TimeoutError as error:
            self._writer.transport.abort()
            raise ConnectionAbortedError from error

    async def gone(self) -> None:
        """Returns when the peer has closed its end; what it still sends is thrown away."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(4096):
                pass

    def close(self) -> None:
        """The end."""
        self._writer.close()


class Server:
    """Serves one listening socket.

    :param worker: the thread of the book.
    :param slow: the thread of what asks the engine.
    :param who: who a peer is (for tests).
    :param is_admin: whether a peer acts for everybody.
    """

    def __init__(
        self,
        listener: socket.socket,
        desk: Desk,
        worker: Worker,
        slow: Worker,
        is_admin: Callable[[Peer], bool],
        who: Callable[[socket.socket], Peer] = peer_of,
    ) -> None:
        self._listener = listener
        self._desk = desk
        self._worker = worker
        self._slow = slow
        self._is_admin = is_admin
        self._who = who
        self._per_user: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tickets: Counter[str] = Counter()
        self._board = Board()
        self._news = asyncio.Event()
        self._stopping = False

    @property
    def connections(self) -> int:
        """How many there are."""
        return sum(self._per_user.values())

    @property
    def tickets(self) -> list[str]:
        """Tickets whose holders wait on a connection."""
        return list(self._tickets)

    def show(self, board: Board, news: bool = True) -> None:
        """A new board.

        :param news: whether those who wait look at it now, or when it is time to.
        """
        self._board = board
        if news:
            self._news.set()
            self._news = asyncio.Event()

    async def run(self) -> None:
        """Accept until cancelled."""
        self._listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _address = await loop.sock_accept(self._listener)
            except OSError:
                # Out of descriptors, or the peer has gone again.
                await asyncio.sleep(0.2)
                continue
            task = loop.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End all connections; those who wait keep their tickets and come again."""
        self._stopping = True
        await end_all(self._tasks)

    async def job(self, call: Callable[[], T], slow: bool = False) -> T:
        """A call in the thread of the book, or in the one that may take its time."""
        return await asyncio.wrap_future((self._slow if slow else self._worker).submit(call))

    async def _serve(self, sock: socket.socket) -> None:
        try:
            peer, refusal = self._admit(sock)
        except PeerError as error:
            what = f"this connection is refused: {error.what}"
            peer, refusal = None, RequestError(protocol.NOT_ALLOWED, what, "ds01d")
        if peer:
            self._per_user[peer.uid] += 1
        connection = None
        try:
            reader, writer = await asyncio.open_unix_connection(
                sock=sock, limit=protocol.REQUEST_MAX_BYTES
            )
            connection = Connection(reader, writer)
            if refusal or peer is None:
                await connection.send(error_line(refusal or RequestError(protocol.FAULT, "")))
            else:
                await self._converse(connection, Caller(peer.uid, self._is_admin(peer)))
        except (ConnectionError, OSError):
            pass  # the peer has gone; what it held expires
        finally:
            if peer:
                self._per_user[peer.uid] -= 1
                self._per_user += Counter()
            if connection:
                connection.close()
            else:
                sock.close()

    def _admit(self, sock: socket.socket) -> tuple[Peer, RequestError | None]:
        peer = self._who(sock)
        uid = local_uid(peer)
        if isinstance(uid, Refusal):
            what = f"this connection is refused: {uid.what}"
            remedy = "Call ds01 on the host, not in a container"
            return peer, RequestError(protocol.NOT_ALLOWED, what, "ds01d", remedy)
        others = self.connections - self._per_user[0]
        if self._per_user[peer.uid] >= PER_USER or (peer.uid and others >= TOTAL):
            what = "there are too many connections" + (" of yours" if others < TOTAL else "")
            remedy = "End some of the commands that wait, or try again later"
            return peer, RequestError(protocol.BUSY, what, "ds01d", remedy)
        return peer, None

    async def _converse(self, connection: Connection, caller: Caller) -> None:
        try:
            request = parse_request(await connection.line())
            answer = await self._handle(connection, request, caller)
        except Ds01Error as error:
            answer = error_line(error)
        except ConnectionError:
            raise
        except Exception as error:  # one request must not end the daemon
            what = f"ds01d itself has a fault: {type(error).__name__}: {error}"
            fault = RequestError(protocol.FAULT, what, "ds01d", "Read journalctl -u ds01d.service")
            answer = error_line(fault)
            log_fault(error)
        if answer:
            await connection.send(answer)

    async def _handle(
        self, connection: Connection, request: Request, caller: Caller
    ) -> dict[str, Any]:
        if request.verb == "poll":
            answer = await self.job(lambda: self._desk.poll(request.fields["ticket"], caller))
            return await self._wait(connection, answer, caller)
        prepared = await self._desk.prepare(request, caller)
        if request.verb == "request":
            answer = await self.job(lambda: self._desk.request(request, caller, prepared))
            return await self._wait(connection, answer, caller)
        slow = self._desk.is_slow(request.verb)
        return await self.job(lambda: self._desk.answer(request, caller, prepared), slow)

    async def _wait(
        self, connection: Connection, answer: dict[str, Any], caller: Caller
    ) -> dict[str, Any]:
        """Tell how it stands until it is granted, comes to nothing, or the peer goes."""
        if "waiting" not in answer:
            return answer
        ticket = str(answer["waiting"]["ticket"])
        self._tickets[ticket] += 1
        gone = asyncio.ensure_future(connection.gone())
        try:
            return await self._until_settled(connection, answer, caller, gone)
        except ConnectionError:
            await self._give_up(ticket, caller)
            return {}
        finally:
            gone.cancel()
            self._tickets[ticket] -= 1
            self._tickets += Counter()

    async def _until_settled(
        self,
        connection: Connection,
        answer: dict[str, Any],
        caller: Caller,
        gone: asyncio.Future[None],
    ) -> dict[str, Any]:
        ticket = str(answer["waiting"]["ticket"])
        loop = asyncio.get_running_loop()
        told: Mapping[str, Any] = {}
        told_at = 0.0
        while "waiting" in answer:
            if answer["waiting"] != told or loop.time() - told_at >= protocol.WAITING_SECONDS:
                await connection.send(answer)
                told, told_at = answer["waiting"], loop.time()
            news: asyncio.Future[Any] = asyncio.ensure_future(self._news.wait())
            either: set[asyncio.Future[Any]] = {gone, news}
            await asyncio.wait(
                either,
                timeout=protocol.WAITING_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            news.cancel()
            if gone.done():
                raise ConnectionResetError
            shown = self._board.waiting.get(ticket)
            if shown is not None:
                answer = {"waiting": dict(shown)}
            else:
                answer = await self.job(lambda: self._desk.poll(ticket, caller))
        return answer

    async def _give_up(self, ticket: str, caller: Caller) -> None:
        """The peer has gone. Where another connection waits on the ticket, it goes on."""
        if self._tickets[ticket] <= 1 and not self._stopping:
            await self.job(lambda: self._desk.cancel(ticket, caller, "the waiter went away"))


async def end_all(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends, for a few seconds at most.

    More than once: before Python 3.12 ``asyncio.wait_for`` may swallow a cancellation.

    :param tasks: those that still run; each leaves the set at its end.
    """
    for _turn in range(STOP_TURNS):
        running = [task for task in tasks if not task.done()]
        if not running:
            return
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.1)


def log_fault(error: BaseException) -> None:
    """The traceback to the journal: users get one line, the admin all of it."""
    import sys
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
