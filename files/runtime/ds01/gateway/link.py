# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client's connection: request after request, each judged by itself.

A request is read, its sender and its endpoint are judged, and only then does anything reach the
engine, over a connection to the engine that belongs to this client alone. What the client sends
after the request waits until the answer is there, and is then read as the next request. Two kinds of
connections leave the gateway for the pump, which outlives it: hijacked ones, and answers that stay
open for long.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from ds01.core import routes
from ds01.core.callers import Caller, Refusal
from ds01.core.gateway_decision import ALLOW, DENY, Verdict, error_body, judge, version_to_send
from ds01.core.targets import Target, TargetError, forward_target, parse_target
from ds01.gateway.access import Entry
from ds01.gateway.answers import answer, refusal_body
from ds01.gateway.body import (
    LAST_CHUNK,
    Body,
    UntilClose,
    chunk,
    request_body,
    response_body,
)
from ds01.gateway.head import (
    HttpError,
    RequestHead,
    ResponseHead,
    build_request,
    find_end,
    parse_request,
    parse_response,
)
from ds01.gateway.rewrite import Rewrite, rewrite_for
from ds01.gateway.side import Side
from ds01.host.peer import Peer

if TYPE_CHECKING:
    from ds01.gateway.door import Door

HEAD_READ = 64 * 1024
STREAM_SECONDS = 0.2
"""An answer that may stay open for long and is open this long after its request goes to the pump."""
LINGER_SECONDS = 2.0
LINGER_BYTES = 4 * 1024 * 1024
HAND_OVER_MAX = 128 * 1024

# What a connection does.
IDLE, ASKING, QUEUED, BUSY, LINGER, GONE = range(6)


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
        self.client = Side(
            door.loop, sock, self._client_readable, self._client_drained, self._client_broken
        )
        self.engine: Side | None = None
        self._in = b""
        self._searched = 0
        self._lingered = 0
        self._drain = False
        self._clean()

    def _clean(self) -> None:
        """Nothing is asked."""
        self.caller: Caller | None = None
        self.head: RequestHead | None = None
        self.target: Target | None = None
        self.route: routes.Route | None = None
        self.verdict: Verdict | None = None
        self.began = 0.0
        self._body: Body | None = None
        self._request_whole = False
        self._reply_in = b""
        self._reply: ResponseHead | None = None
        self._reply_body: Body | None = None
        self._rewrite: Rewrite | None = None
        self._again = False
        self._entered = False
        self._timer: asyncio.TimerHandle | None = None
        self._sent_before = self.client.sent
        self._received_before = self.client.received

    def start(self) -> None:
        """Hear the client."""
        self.client.resume()

    @property
    def at_rest(self) -> bool:
        """Whether nothing of this client is here that was not answered."""
        return self.state == IDLE and not self._in and not self.client.pending

    # --- the client sends ---------------------------------------------------------------------

    def _client_readable(self) -> None:
        try:
            if self.state == BUSY and self._request_whole:
                self._look_past_request()
                return
            if self.state in (ASKING, QUEUED):
                self.client.pause()
                return
            data = self.client.read(HEAD_READ if self.state == IDLE else 256 * 1024)
        except OSError:
            self.drop("client")
            return
        if data is None:
            return
        if not data:
            self._client_ended()
        elif self.state == IDLE:
            self._in = self._in + bytes(data) if self._in else bytes(data)
            self._next_request()
        elif self.state == BUSY:
            self._take_body(data)
        elif self.state == LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.drop()

    def _look_past_request(self) -> None:
        """The client speaks while it waits: the next request can wait too, its end cannot."""
        self.client.pause()
        if not self._in and self.client.at_end() and self.engine:
            self.engine.end_writing()

    def _client_ended(self) -> None:
        # In the middle of a request, or after the last one: no more will come, and what is not
        # whole goes nowhere.
        if self.state == LINGER and self.client.pending:
            self.client.pause()
        else:
            self.drop("client")

    def _client_broken(self) -> None:
        self.door.loop.call_soon(self.drop, "client")

    def _client_drained(self) -> None:
        if self.state == LINGER:
            if not self._drain:
                self.drop()
        elif self.engine and self._reply_body is not None and not self._reply_body.done:
            self.engine.resume()
        elif self.state == IDLE:
            self.client.resume()
            self._next_request()

    # --- a request ----------------------------------------------------------------------------

    def _next_request(self) -> None:
        """Read the next head, if it is there."""
        if self.state != IDLE or self.client.pending or not self._in:
            return
        try:
            end = find_end(self._in, self._searched)
            if end < 0:
                self._searched = len(self._in)
                self.door.head_begins(self)
                return
            raw, self._in, self._searched = self._in[:end], self._in[end:], 0
            self.door.head_ends(self)
            self.began = self.door.loop.time()
            self.state = ASKING
            self.head = parse_request(raw)
            self._ask(self.head)
        except HttpError as error:
            self.door.head_ends(self)
            self._refuse(
                error.status, Verdict(DENY, "http.malformed", error.what, "", error.status)
            )

    def _ask(self, head: RequestHead) -> None:
        """Whose request is it, and for what?"""
        if self.refused or self.peer is None:
            self._refuse_peer(self.refused or Refusal("it is not known who asks", ""))
            return
        caller = self.door.people.caller(self.peer)
        if caller is None:
            self.door.spawn(self._ask_later(self.peer))
        else:
            self._judge(head, caller)

    async def _ask_later(self, peer: Peer) -> None:
        caller = await self.door.people.wait_for(peer)
        if self.state == ASKING and self.head:
            self._judge(self.head, caller)

    def _judge(self, head: RequestHead, caller: Caller | Refusal) -> None:
        if isinstance(caller, Refusal):
            self._refuse_peer(caller)
            return
        self.caller = caller
        try:
            target = self.target = parse_target(head.target, head.method)
        except TargetError as error:
            verdict = Verdict(DENY, "http.target", error.what, error.remedy, error.status)
            self._refuse(error.status, verdict, location=error.location)
            return
        self.route = routes.find(head.method, target.path)
        self.verdict = judge(
            caller, head.method, target, self.route, head.upgrade, self.door.engine_api
        )
        if self.verdict.decision == DENY:
            self._refuse(self.verdict.status, self.verdict)
        elif full := self.door.no_stream_for(caller, self.route):
            self._refuse(full.status, full)
        elif self.door.shares.enter(self):
            self.go()
        else:
            self.state = QUEUED

    def go(self) -> None:
        """It is this request's turn."""
        self._entered = True
        self.state = BUSY
        assert self.target is not None
        if self.target.version is None and self.door.engine_api is None:
            # What the engine would take an unversioned path for is not known yet.
            self.state = ASKING
            self.door.learn(self._go_on)
            return
        self._send_head()

    def _go_on(self) -> None:
        if self.state == ASKING:
            self.state = BUSY
            self._send_head()

    def _send_head(self) -> None:
        head, target = self.head, self.target
        assert head is not None and target is not None
        if not self._connect():
            return
        assert self.engine is not None
        raw = build_request(
            head,
            forward_target(target, version_to_send(target, self.door.engine_api)),
            close=not head.keep_alive or self._may_stay_open(),
        )
        self._rewrite = rewrite_for(self.route, self.door.engine_api)
        self._body = request_body(head.length)
        if head.expects and not self._body.done and not self._in:
            self.client.write([b"HTTP/1.1 100 Continue\r\n\r\n"])
        self.engine.write([raw])
        if self._body.done:
            self._whole()
            return
        self.client.resume()
        if self._in:
            data, self._in = self._in, b""
            self._take_body(memoryview(data))

    def _may_stay_open(self) -> bool:
        return self.route is not None and self.route.kind == routes.STREAM

    def _connect(self) -> bool:
        """Have a connection to the engine that is fit for a request."""
        if self.engine and not self.engine.broken and not self.engine.writing_ended:
            return True
        self._drop_engine()
        try:
            sock = self.door.connect_engine()
        except BlockingIOError:
            # Its queue is full; there is nothing to wait on but time.
            self._timer = self.door.loop.call_later(0.02, self._connect_again)
            return False
        except OSError as error:
            self._no_engine(f"the engine does not answer ({error.strerror or error})", 503)
            return False
        self.engine = Side(
            self.door.loop, sock, self._engine_readable, self._engine_drained, self._engine_broken
        )
        self.engine.resume()
        self._again = False
        return True

    def _connect_again(self) -> None:
        self._timer = None
        if self.door.loop.time() - self.began > self.door.settings.head_seconds:
            self._no_engine("the engine has no room for another connection", 503)
        else:
            self._send_head()

    def _no_engine(self, what: str, status: int) -> None:
        self.door.engine_lost()
        remedy = "Try again in a moment; administrators: systemctl status docker, ds01 doctor"
        self._refuse(status, Verdict(DENY, "engine.silent", what, remedy, status))

    def _take_body(self, data: memoryview) -> None:
        body, engine, head = self._body, self.engine, self.head
        assert body is not None and engine is not None and head is not None
        try:
            taken, parts = body.feed(data)
        except HttpError as error:
            if self._reply is not None:
                self.drop("client")
                return
            # Half of it is with the engine, which must not take it for whole.
            self._drop_engine()
            self._refuse(error.status, Verdict(DENY, "http.malformed", error.what, "", 400))
            return
        if head.length is None:
            parts = chunk(parts)
            if body.done:
                parts.append(LAST_CHUNK)
        if taken < len(data):
            self._in = bytes(data[taken:])
        if parts and not engine.write(parts):
            self.client.pause()
        if body.done:
            self._whole()

    def _whole(self) -> None:
        """The whole request is on its way."""
        self._request_whole = True
        if self._may_stay_open():
            self._timer = self.door.loop.call_later(STREAM_SECONDS, self._stays_open)

    def _engine_drained(self) -> None:
        if self.state == BUSY and not self._request_whole:
            self.client.resume()

    def _engine_broken(self) -> None:
        """The engine takes nothing more. It may have answered already: that is still read."""
        self.client.pause()
        if self.engine:
            self.engine.resume()

    # --- the engine answers -------------------------------------------------------------------

    def _engine_readable(self) -> None:
        engine = self.engine
        assert engine is not None
        try:
            data = engine.read(HEAD_READ if self._reply is None else 256 * 1024)
        except OSError:
            data = memoryview(b"")
        if data is None:
            return
        if not data:
            self._engine_ended()
        elif self.state != BUSY:
            # Nobody asked: it has lost count.
            self._drop_engine()
        elif self._reply is None:
            self._reply_in += bytes(data)
            self._read_reply()
        else:
            self._take_reply(data)

    def _read_reply(self) -> None:
        assert self.head is not None
        try:
            end = find_end(self._reply_in)
            if end < 0:
                return
            raw, rest = self._reply_in[:end], self._reply_in[end:]
            reply = parse_response(raw, self.head.method)
        except (HttpError, ValueError) as error:
            self._drop_engine()
            self._no_engine(getattr(error, "what", str(error)), 502)
            return
        self.door.note_api(reply.api)
        if self._hijacked(reply):
            self._hand_over("both", raw + rest, reply.status)
        elif reply.status < 200:
            self._reply_in = rest
            if reply.status == 101:
                self._drop_engine()
                self._no_engine("the engine changed to a protocol that nobody asked for", 502)
            elif rest:
                self._read_reply()
        else:
            self._reply_in = b""
            self._reply = reply
            self._begin_reply(reply, raw, memoryview(rest))

    def _hijacked(self, reply: ResponseHead) -> bool:
        if self.route is None or self.head is None or not self._request_whole:
            return False
        if self.route.kind == routes.OPAQUE:
            return reply.status == 101 and bool(self.head.upgrade)
        if self.route.kind != routes.HIJACK:
            return False
        if reply.status == 101:
            return bool(self.head.upgrade)
        return (
            reply.status == 200 and reply.length is None and not reply.chunked and reply.raw_stream
        )

    def _begin_reply(self, reply: ResponseHead, raw: bytes, rest: memoryview) -> None:
        if reply.keep_alive or reply.length is not None:
            self._reply_body = response_body(reply.length, reply.chunked)
        else:
            self._reply_body = UntilClose()
        if self._rewrite:
            self._rewrite.begin(reply)
            if rest or self._reply_body.done:
                self._take_reply(rest)
            return
        if self.door.caps_api(reply.api):
            from ds01.gateway.rewrite import with_capped_api

            raw = with_capped_api(reply)
        if not rest:
            self._pass_on([raw])
            return
        self._take_reply(rest, raw)

    def _take_reply(self, data: memoryview, raw: bytes = b"") -> None:
        body = self._reply_body
        assert body is not None
        try:
            taken, parts = body.feed(data)
        except HttpError:
            self.drop("engine")
            return
        if taken < len(data):
            self._drop_engine()
        if self._rewrite:
            out: list[bytes | memoryview] = list(self._rewrite.take(parts, body.done))
        else:
            out = [raw, data[:taken]] if raw else [data[:taken]]
        self._pass_on(out)

    def _pass_on(self, parts: list[bytes | memoryview]) -> None:
        if parts and not self.client.write(parts) and self.engine:
            self.engine.pause()
        if self._reply_body is not None and self._reply_body.done and self.state == BUSY:
            self._answered()

    def _engine_ended(self) -> None:
        lost, self.engine = self.engine, None
        if lost:
            lost.close()
        if self.state != BUSY:
            return
        if isinstance(self._reply_body, UntilClose):
            self._reply_body.done = True
            if self._rewrite:
                self._pass_on(list(self._rewrite.take([], True)))
            else:
                self._answered()
        elif self._reply is not None:
            self.drop("engine")
        elif self._may_try_again():
            self._again = False
            self._send_head()
        else:
            self.door.engine_lost()
            self._no_engine("the engine ended the connection without an answer", 502)

    def _may_try_again(self) -> bool:
        """Whether the engine may have ended an idle connection before it saw this request."""
        head = self.head
        return (
            bool(self._again and head and head.method in ("GET", "HEAD") and head.length == 0)
            and not self._reply_in
        )

    def _answered(self) -> None:
        """The whole answer has been passed on, or waits to be taken."""
        head, reply = self.head, self._reply
        assert head is not None and reply is not None
        go_on = (
            head.keep_alive
            and reply.keep_alive
            and self._request_whole
            and not self._may_stay_open()
        )
        self._record(reply.status)
        if not go_on:
            whole = self._request_whole
            self._finish(drain=not whole)
            return
        engine_fit = self.engine is not None and not self.engine.pending
        self._leave()
        self._clean()
        self._again = engine_fit
        self.served += 1
        self.state = IDLE
        if self.engine:
            self.engine.resume()
        if self.door.closing:
            self.drop()
        elif not self.client.pending:
            self.client.resume()
            if self._in:
                self.door.loop.call_soon(self._next_request)
        else:
            self.client.pause()

    # --- to the pump --------------------------------------------------------------------------

    def _stays_open(self) -> None:
        """The request is whole, and its answer still open."""
        self._timer = None
        if self.state != BUSY or self.engine is None or self.engine.broken or self._rewrite:
            return
        if self._reply is not None and not isinstance(self._reply_body, UntilClose):
            return
        if self.client.broken or self.engine.writing_ended:
            return
        if self.client.owed + self.engine.owed + len(self._reply_in) > HAND_OVER_MAX:
            # The client reads slowly: later.
            self._timer = self.door.loop.call_later(STREAM_SECONDS, self._stays_open)
            return
        status = self._reply.status if self._reply else 0
        self._hand_over("down", self._reply_in, status)

    def hand_over_now(self) -> None:
        """The gateway is about to end: an answer that may stay open does."""
        if self.state == BUSY and self._request_whole and self._may_stay_open():
            if self._timer:
                self._timer.cancel()
            self._stays_open()

    def _hand_over(self, mode: str, down: bytes, status: int) -> None:
        engine, caller = self.engine, self.caller
        assert engine is not None and caller is not None
        up = engine.let_go()
        down = self.client.let_go() + down
        if mode == "both":
            up, self._in = up + self._in, b""
        if max(len(up), len(down)) > HAND_OVER_MAX:
            self.drop("gateway")
            return
        self._record(status, note="handed over")
        client_sock, engine_sock = self.client.sock, engine.sock
        self.engine = None
        self._leave()
        self.state = GONE
        self.door.forget(self)
        tag = self.door.remember_stream(self._entry(status, "stream ended"))
        self.door.pump.hand_over(
            client_sock, engine_sock, mode=mode, uid=caller.uid, tag=tag, up=up, down=down
        )

    # --- refusals and ends --------------------------------------------------------------------

    def _refuse_peer(self, refusal: Refusal) -> None:
        verdict = Verdict(DENY, refusal.rule, refusal.what, refusal.remedy, 403)
        self._refuse(403, verdict)

    def _refuse(self, status: int, verdict: Verdict, location: str = "") -> None:
        """Answer in the engine's place."""
        self.verdict = verdict
        head = self.head
        body = (
            error_body(verdict)
            if verdict.rule != "http.malformed"
            else refusal_body(verdict.message)
        )
        go_on = (
            head is not None
            and head.keep_alive
            and head.length == 0
            and not head.upgrade
            and verdict.rule not in ("http.malformed", "engine.silent")
            and not self.door.closing
        )
        bodyless = head is not None and head.method == "HEAD"
        self._record(status)
        self._leave()
        self._drop_engine()
        self.client.write(
            [answer(status, body, self.door.api_shown, not go_on, bodyless, location)]
        )
        if not go_on:
            self._finish(drain=True)
            return
        self._clean()
        self.served += 1
        self.state = IDLE
        self.client.resume()
        if self._in and not self.client.pending:
            self.door.loop.call_soon(self._next_request)

    def too_slow(self) -> None:
        """The head did not come in time."""
        what = f"the head of the request did not come within {self.door.settings.head_seconds:g} s"
        self._refuse(408, Verdict(DENY, "http.malformed", what, "", 408))

    def _finish(self, drain: bool) -> None:
        """End after what is still to be written.

        :param drain: the client may still be sending: what it sends is thrown away for a while, so
            that it gets to read the answer.
        """
        self._leave()
        self._drop_engine()
        self._in = b""
        self.state = LINGER
        self._drain = drain
        self.client.end_writing()
        if drain:
            self._timer = self.door.loop.call_later(LINGER_SECONDS, self.drop)
        elif not self.client.pending:
            self.drop()
            return
        self.client.resume()

    def _record(self, status: int, note: str = "") -> None:
        self.door.record(self._entry(status, note))

    def _entry(self, status: int, note: str) -> Entry:
        verdict = self.verdict
        return Entry(
            self.caller,
            self.peer,
            self.head.method if self.head else "",
            self.route.name if self.route else "",
            self.route.kind if self.route else "",
            self.target.path if self.target else "",
            verdict.decision if verdict else ALLOW,
            verdict.rule if verdict else "",
            status,
            self.door.loop.time() - self.began if self.began else 0.0,
            self.client.sent - self._sent_before,
            self.client.received - self._received_before,
            note,
            verdict.message if verdict else "",
            verdict.remedy if verdict else "",
        )

    def _leave(self) -> None:
        """Give the place among this user's unfinished requests back."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._entered:
            self._entered = False
            self.door.shares.leave(self.share)

    def _drop_engine(self) -> None:
        if self.engine:
            self.engine.close()
            self.engine = None

    def drop(self, by: str = "") -> None:
        """The end of this connection.

        :param by: who broke it off in the middle of something.
        """
        if self.state == GONE:
            return
        if by and self.state in (ASKING, QUEUED, BUSY):
            self._record(0, note=f"broken off by the {by}")
        if self.state == QUEUED:
            self.door.shares.give_up(self)
        self._leave()
        self.state = GONE
        self._drop_engine()
        self.client.close()
        self.door.forget(self)
