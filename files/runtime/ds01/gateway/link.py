# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client's connection: request after request, each judged by itself.

What the client sends after a request waits until the answer is there, and is then read as the next
request. All that is between a request's head and the end of its answer is its :class:`Exchange`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from ds01.core.callers import Refusal
from ds01.core.gateway_decision import DENY, Verdict, error_body
from ds01.gateway.access import Entry
from ds01.gateway.answers import answer
from ds01.gateway.exchange import Exchange
from ds01.gateway.head import HttpError, find_end, parse_request, refuse_odd_start
from ds01.gateway.side import READ_MAX, Side
from ds01.host.peer import Peer

if TYPE_CHECKING:
    from ds01.gateway.door import Door

HEAD_READ = 64 * 1024
LINGER_SECONDS = 2.0
LINGER_BYTES = 4 * 1024 * 1024

# What a connection does: waits for a request; has one under way; ends; is no more.
IDLE, BUSY, LINGER, GONE = range(4)


class Link:
    """A client's connection.

    :param peer: who the kernel says it is.
    :param share: uid of whose share of the gateway it counts to.
    :param refused: why this peer may ask nothing, where that is known already.
    """

    def __init__(
        self,
        door: Door,
        sock: socket.socket,
        peer: Peer | None,
        share: int,
        refused: Refusal | None,
    ) -> None:
        self.door = door
        self.peer = peer
        self.share = share
        self.refused = refused
        self.state = IDLE
        self.served = 0
        self.moved = door.loop.time()
        self.client = Side(
            door.loop, sock, self._readable, self._drained, lambda: door.loop.call_soon(self.broken)
        )
        self.engine: Side | None = None
        self.exchange: Exchange | None = None
        self.rest = b""
        """What came and belongs to no request yet."""
        self._searched = 0
        self._lingered = 0
        self._drain = False
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Hear the client: most have sent their first request by now."""
        self._readable()
        if self.state != GONE and (self.exchange is None or self.exchange.wants_body):
            self.client.resume()

    @property
    def at_rest(self) -> bool:
        """Whether nothing of this client is here that was not answered."""
        return self.state == IDLE and not self.rest and not self.client.pending

    @property
    def stalls(self) -> bool:
        """Whether it is the client's turn, to send or to take something."""
        return self.client.pending or (self.exchange is not None and self.exchange.wants_body)

    # --- the client sends ---------------------------------------------------------------------

    def _readable(self) -> None:
        exchange = self.exchange
        if self._due:
            # What is here comes before what is read now, which may be the end.
            return
        try:
            if exchange is not None and not exchange.wants_body:
                self.client.pause()
                if exchange.request_whole and not self.rest and self.client.at_end():
                    # It waits for the answer alone; the engine is told, as it would be directly.
                    exchange.client_ended()
                return
            data = self.client.read(HEAD_READ if exchange is None else READ_MAX)
        except OSError:
            self.drop("client")
            return
        if data is None:
            return
        if not data:
            self._ended()
        elif self.state == LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.drop()
        elif exchange is not None:
            self.moved = self.door.loop.time()
            exchange.take_body(data)
        else:
            self.rest = self.rest + bytes(data) if self.rest else bytes(data)
            self.next_request()

    def _ended(self) -> None:
        """No more will come, and what is not whole goes nowhere."""
        if self.state == LINGER and self.client.pending:
            self.client.pause()
        else:
            self.drop("client")

    def broken(self) -> None:
        """The client takes nothing more."""
        self.drop("client")

    def _drained(self) -> None:
        self.moved = self.door.loop.time()
        if self.state == LINGER:
            if not self._drain:
                self.drop()
        elif self.exchange is not None:
            self.exchange.client_drained()
        elif self.state == IDLE:
            self.client.resume()
            self.next_request()

    def next_request(self) -> None:
        """Read the next head, if it is there."""
        if self.state != IDLE or self.client.pending or not self.rest:
            return
        self.moved = began = self.door.loop.time()
        try:
            end = find_end(self.rest, self._searched)
            if end < 0:
                refuse_odd_start(self.rest)
                self._searched = len(self.rest)
                self.door.head_begins(self)
                return
            raw, self.rest, self._searched = self.rest[:end], self.rest[end:], 0
            self.door.head_ends(self)
            head = parse_request(raw)
        except HttpError as error:
            self.door.head_ends(self)
            self.refuse(Verdict(DENY, "http.malformed", error.what, error.remedy, error.status))
            return
        self.state = BUSY
        self.exchange = Exchange(self, head, began)
        self.exchange.begin()

    # --- ends of requests ---------------------------------------------------------------------

    def served_one(self, go_on: bool, whole: bool) -> None:
        """The answer has been passed on, or waits to be taken.

        :param go_on: whether another request may follow.
        :param whole: whether the client had sent all of this one.
        """
        self.exchange = None
        self.served += 1
        if not go_on or self.door.closing:
            self.finish(drain=not whole)
            return
        self.state = IDLE
        if self.client.pending:
            self.client.pause()
            return
        self.client.resume()
        if self.rest:
            self._due = True
            self.door.loop.call_soon(self._next_due)

    def _next_due(self) -> None:
        self._due = False
        self.next_request()

    def refuse(self, verdict: Verdict, go_on: bool = False, location: str = "") -> None:
        """Answer in the engine's place.

        :param go_on: whether the client's next request can be read.
        :param location: where to ask instead (301).
        """
        exchange = self.exchange
        bodyless = exchange is not None and exchange.head.method == "HEAD"
        if exchange is not None:
            exchange.record(verdict.status, verdict=verdict)
            exchange.leave()
        else:
            self._record(verdict)
        self.drop_engine()
        close = not go_on or self.door.closing
        self.client.write(
            [answer(verdict, error_body(verdict), self.door.api_shown, close, bodyless, location)]
        )
        self.served_one(go_on=not close, whole=not close)

    def _record(self, verdict: Verdict) -> None:
        """A refusal of what was not even a request."""
        self.door.record(
            Entry(
                None,
                self.peer,
                "",
                "",
                "",
                "",
                verdict.decision,
                verdict.rule,
                verdict.status,
                0.0,
                what=verdict.message,
                remedy=verdict.remedy,
            )
        )

    def too_slow(self) -> None:
        """The head did not come in time."""
        what = f"the head of the request did not come within {self.door.settings.head_seconds:g} s"
        self.refuse(Verdict(DENY, "http.slow", what, "Send it in one go", 408))

    def finish(self, drain: bool) -> None:
        """End after what is still to be written.

        :param drain: the client may still be sending: what it sends is thrown away for a while, so
            that it gets to read the answer.
        """
        self.drop_engine()
        self.rest = b""
        self.state = LINGER
        self._drain = drain
        self.client.end_writing()
        if drain:
            self._timer = self.door.loop.call_later(LINGER_SECONDS, self.drop)
        elif not self.client.pending:
            self.drop()
            return
        self.client.resume()

    def take_engine(self) -> socket.socket | None:
        """The connection to the engine, for somebody else; None where there is none that is fit."""
        engine, self.engine = self.engine, None
        if engine is None:
            return None
        if engine.pending or engine.broken or engine.writing_ended:
            engine.close()
            return None
        engine.let_go()
        return engine.sock

    def drop_engine(self) -> None:
        """End the connection to the engine."""
        if self.engine:
            self.engine.close()
            self.engine = None

    def give_away(self) -> None:
        """Both sockets are somebody else's now."""
        self.engine = self.exchange = None
        self.state = GONE
        self.door.forget(self)

    def drop(self, by: str = "") -> None:
        """The end of this connection.

        :param by: who broke it off in the middle of something.
        """
        if self.state == GONE:
            return
        self.state = GONE
        if self._timer:
            self._timer.cancel()
        if self.exchange is not None:
            if by:
                self.exchange.record(0, note=f"broken off by the {by}")
            self.exchange.leave()
            self.exchange = None
        self.drop_engine()
        self.client.close()
        self.door.forget(self)
