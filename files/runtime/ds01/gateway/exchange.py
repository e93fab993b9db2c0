# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request and its answer, between a client and the engine.

The request's sender and endpoint are judged before anything of it reaches the engine, over a
connection that belongs to this client alone. Two kinds of exchanges leave the gateway for the pump,
which outlives it: hijacked connections, and answers that stay open for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01.core import routes
from ds01.core.callers import Caller, Refusal
from ds01.core.gateway_decision import DENY, Verdict, judge, version_to_send
from ds01.core.targets import TargetError, forward_target, parse_target
from ds01.gateway.body import LAST_CHUNK, Body, UntilClose, chunk, request_body, response_body
from ds01.gateway.course import Course
from ds01.gateway.head import (
    HttpError,
    RequestHead,
    ResponseHead,
    build_request,
    find_end,
    parse_response,
)
from ds01.gateway.making import making_of
from ds01.gateway.rewrite import Rewrite, rewrite_for, with_capped_api
from ds01.gateway.side import READ_MAX, Side
from ds01.host.peer import Peer

if TYPE_CHECKING:
    from ds01.gateway.errand import Reply
    from ds01.gateway.link import Link

REPLY_READ = 64 * 1024
STREAM_SECONDS = 0.2
"""An answer that may stay open for long and is open this long after its request goes to the pump."""
AGAIN_SECONDS = 0.02
HAND_OVER_MAX = 128 * 1024
_SILENT = "engine.silent"
_ENGINE_REMEDY = "Try again in a moment; administrators: systemctl status docker, ds01 doctor"


class Exchange(Course):
    """A request on its way.

    :param link: the client's connection.
    :param head: what is asked.
    :param began: when its head was whole, on the loop's clock.
    """

    def __init__(self, link: Link, head: RequestHead, began: float) -> None:
        super().__init__(link, head, began)
        self._body: Body | None = None
        self._reply_in = b""
        self._reply: ResponseHead | None = None
        self._reply_body: Body | None = None
        self._rewrite: Rewrite | None = None
        self._used_before = False

    # --- judged -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Whose request is it, and for what?"""
        link = self.link
        if link.refused or link.peer is None:
            self._refuse_peer(link.refused or Refusal("it is not known who asks", ""))
            return
        caller = self.door.people.caller(link.peer)
        if caller is None:
            self.door.spawn(self._begin_later(link.peer))
        else:
            self._judge(caller)

    async def _begin_later(self, peer: Peer) -> None:
        caller = await self.door.people.wait_for(peer)
        if not self._over:
            self._judge(caller)

    def _judge(self, caller: Caller | Refusal) -> None:
        if isinstance(caller, Refusal):
            self._refuse_peer(caller)
            return
        self.caller = caller
        head = self.head
        try:
            target = self.target = parse_target(head.target, head.method)
        except TargetError as error:
            verdict = Verdict(DENY, "http.target", error.what, error.remedy, error.status)
            self._refuse(verdict, error.location)
            return
        self.route = routes.find(head.method, target.path)
        self.verdict = verdict = judge(
            caller, head.method, target, self.route, head.upgrade, self.door.engine_api
        )
        self.making = making_of(self)
        full = self.door.no_stream_for(caller, self.route)
        if verdict.decision == DENY:
            self._refuse(verdict)
        elif full:
            self._refuse(full)
        elif self.door.shares.enter(self.link.share, self):
            self.go()
        else:
            self._queued = True

    def _refuse_peer(self, refusal: Refusal) -> None:
        self._refuse(Verdict(DENY, refusal.rule, refusal.what, refusal.remedy, 403))

    def _refuse(self, verdict: Verdict, location: str = "") -> None:
        head = self.head
        whole = self.request_whole or head.length == 0
        go_on = head.keep_alive and whole and not head.upgrade and verdict.rule != _SILENT
        self.link.refuse(verdict, go_on, location)

    def refuse(self, verdict: Verdict) -> None:
        """It does not go to the engine after all; nothing where the client has gone."""
        if not self._over:
            self._refuse(verdict)

    def go(self) -> None:
        """It is this request's turn."""
        self._queued, self._entered = False, True
        assert self.target is not None
        if self.target.version is None and self.door.engine_api is None:
            # What the engine would take an unversioned path for is not known yet.
            self.door.learn(self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._over:
            return
        if self.making is not None:
            self.making.begin()
        else:
            self.send()

    # --- to the engine ------------------------------------------------------------------------

    def head_to_send(self) -> bytes:
        """The head that the engine gets."""
        assert self.target is not None
        forward = forward_target(self.target, version_to_send(self.target, self.door.engine_api))
        close = not self.head.keep_alive or self._may_stay_open
        return build_request(self.head, forward, close)

    def send(self) -> None:
        """Begin to pass it on."""
        engine = self._connect()
        if engine is None:
            return
        head, link = self.head, self.link
        self._rewrite = rewrite_for(self.route, self.door.engine_api)
        self._body = request_body(head.length)
        engine.write([self.head_to_send()])
        # Only now: the engine is at work already while the loop is told.
        engine.resume()
        link.client.resume()
        if self._body.done:
            self._whole()
            return
        self.hear_body()

    def hear_body(self) -> None:
        """Have the client send the request's body."""
        link = self.link
        self.wants_body = True
        if link.rest:
            data, link.rest = link.rest, b""
            self.take_body(memoryview(data))
        elif self.head.expects:
            link.client.write([b"HTTP/1.1 100 Continue\r\n\r\n"])

    @property
    def _may_stay_open(self) -> bool:
        return self.route is not None and self.route.kind == routes.STREAM

    def _connect(self) -> Side | None:
        """A connection to the engine that is fit for a request."""
        link = self.link
        engine = link.engine
        if engine is not None and not engine.broken and not engine.writing_ended:
            self._used_before = True
        else:
            link.drop_engine()
            self._used_before = False
            try:
                sock = self.door.connect_engine()
            except BlockingIOError:
                # Its queue is full; there is nothing to wait on but time.
                self._timer = self.door.loop.call_later(AGAIN_SECONDS, self._connect_again)
                return None
            except OSError as error:
                self.no_engine(f"the engine does not answer ({error.strerror or error})", 503)
                return None
            engine = link.engine = Side(self.door.loop, sock)
        engine.on(self._engine_readable, self._engine_drained, self._engine_broken)
        return engine

    def _connect_again(self) -> None:
        self._timer = None
        if self.door.loop.time() - self.began > self.door.settings.head_seconds:
            self.no_engine("the engine has no room for another connection", 503)
        else:
            self.send()

    def no_engine(self, what: str, status: int) -> None:
        """There is no answer to be had of the engine."""
        self.door.engine_lost()
        if self._over:
            return
        if self._reply is not None:
            self.link.drop("engine")
            return
        self._refuse(Verdict(DENY, _SILENT, what, _ENGINE_REMEDY, status))

    def take_body(self, data: memoryview) -> None:
        """The client sends what belongs to this request, and perhaps more."""
        if self.making is not None and self.making.gathers:
            self.making.take_body(data)
            return
        body, engine, head, link = self._body, self.link.engine, self.head, self.link
        assert body is not None and engine is not None
        try:
            taken, parts = body.feed(data)
        except HttpError as error:
            if self._reply is not None:
                link.drop("client")
                return
            # Half of it is with the engine, which must not take it for whole.
            link.drop_engine()
            link.refuse(Verdict(DENY, "http.malformed", error.what, error.remedy, error.status))
            return
        if head.length is None:
            parts = chunk(parts)
            if body.done:
                parts.append(LAST_CHUNK)
        if taken < len(data):
            link.rest = bytes(data[taken:])
        if parts and not engine.write(parts):
            link.client.pause()
        if body.done:
            self.wants_body = False
            self._whole()

    def _whole(self) -> None:
        """The whole request is on its way."""
        self.request_whole = True
        if self._may_stay_open:
            self._timer = self.door.loop.call_later(STREAM_SECONDS, self._stays_open)

    def client_ended(self) -> None:
        """The client has ended its sending, and reads on."""
        # The engine may take that for the end of all interest in what it is making.
        if self.link.engine and not self.busy:
            self.link.engine.end_writing()

    def _engine_drained(self) -> None:
        self.link.moved = self.door.loop.time()
        if self.wants_body:
            self.link.client.resume()

    def _engine_broken(self) -> None:
        """The engine takes nothing more. It may have answered already: that is still read."""
        self.wants_body = False
        self.link.client.pause()

    # --- from the engine ----------------------------------------------------------------------

    def _engine_readable(self) -> None:
        engine = self.link.engine
        if engine is None:
            return
        try:
            data = engine.read(REPLY_READ if self._reply is None else READ_MAX)
        except OSError:
            data = memoryview(b"")
        if data is None:
            return
        if not data:
            self._engine_ended()
        elif self._over:
            # Nobody asked: it has lost count.
            self.link.drop_engine()
        elif self._reply is None:
            self._reply_in += bytes(data)
            self._read_reply()
        else:
            self._take_reply(data)

    def _read_reply(self) -> None:
        try:
            end = find_end(self._reply_in, reply=True)
            if end < 0:
                return
            raw, rest = self._reply_in[:end], self._reply_in[end:]
            reply = parse_response(raw, self.head.method)
        except HttpError as error:
            self.no_engine(error.what, 502)
            return
        self.door.note_api(reply.api)
        if self._hijacked(reply):
            # The head at once and by itself: some clients (docker-py) read it through a buffer, and
            # lose what of the stream came with it.
            self.link.client.write([raw])
            self._hand_over("both", rest, reply.status)
        elif reply.status == 101:
            self.no_engine("the engine changed to a protocol that nobody asked for", 502)
        elif reply.status < 200:
            self._reply_in = rest
            self._read_reply()
        else:
            self._reply = reply
            self._begin_reply(reply, raw, rest)

    def _hijacked(self, reply: ResponseHead) -> bool:
        if self.route is None or not self.request_whole:
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

    def _begin_reply(self, reply: ResponseHead, raw: bytes, rest: bytes) -> None:
        if reply.keep_alive or reply.length is not None:
            self._reply_body = response_body(reply.length, reply.chunked)
        else:
            self._reply_body = UntilClose()
        if self._rewrite:
            self._rewrite.begin(reply)
            raw = b""
        elif self.door.caps_api(reply.api):
            raw = with_capped_api(reply)
        if rest:
            self._take_reply(memoryview(rest), raw)
        elif self._rewrite and self._reply_body.done:
            self._pass_on(self._rewrite.take([], True))
        else:
            self._pass_on(raw)

    def _take_reply(self, data: memoryview, before: bytes = b"") -> None:
        """The engine sends what belongs to its answer.

        :param before: the answer's head, where it is not passed on yet.
        """
        body = self._reply_body
        assert body is not None
        try:
            taken, parts = body.feed(data)
            out: bytes | memoryview
            if self._rewrite:
                out = self._rewrite.take(parts, body.done)
            else:
                out = before + data[:taken] if before else data[:taken]
        except HttpError:
            self.link.drop("engine")
            return
        if taken < len(data):
            self.link.drop_engine()
        self._pass_on(out)

    def _pass_on(self, data: bytes | memoryview) -> None:
        link = self.link
        if len(data) and not link.client.write([data]) and link.engine:
            link.engine.pause()
        if self._reply_body is not None and self._reply_body.done:
            self._answered()

    def client_drained(self) -> None:
        """The client has taken what waited for it."""
        if self.link.engine:
            self.link.engine.resume()
        if self.wants_body:
            self.link.client.resume()

    def _engine_ended(self) -> None:
        self.link.drop_engine()
        if self._over:
            return
        if isinstance(self._reply_body, UntilClose):
            self._reply_body.done = True
            self._pass_on(self._rewrite.take([], True) if self._rewrite else b"")
        elif self._reply is not None:
            self.link.drop("engine")
        elif self._may_try_again():
            self.send()
        else:
            self.no_engine("the engine ended the connection without an answer", 502)

    def _may_try_again(self) -> bool:
        """Whether the engine may have ended an idle connection before it saw this request."""
        head = self.head
        repeatable = head.method in ("GET", "HEAD") and head.length == 0
        return self._used_before and repeatable and not self._reply_in

    def _answered(self) -> None:
        """The whole answer has been passed on, or waits to be taken."""
        head, reply = self.head, self._reply
        assert reply is not None
        go_on = head.keep_alive and reply.keep_alive and self.request_whole
        self.record(reply.status)
        self.leave()
        engine = self.link.engine
        if engine is not None:
            if engine.pending:
                self.link.drop_engine()
            else:
                # What it sends now, or its end, is heard here.
                engine.resume()
        self.link.served_one(go_on and not self._may_stay_open, self.request_whole)

    def deliver(self, reply: Reply) -> None:
        """The whole answer to a request whose answer was gathered."""
        link, door = self.link, self.door
        if self._over:
            # The client has gone.
            if reply.sock:
                reply.sock.close()
            return
        if reply.sock is not None:
            side = link.engine = Side(door.loop, reply.sock)
            side.on(self._engine_readable, self._engine_drained, self._engine_broken)
        head, self._reply = reply.head, reply.head
        raw_head = with_capped_api(head) if door.caps_api(head.api) else reply.raw_head
        link.client.write([raw_head + reply.raw_body])
        self._answered()

    # --- to the pump --------------------------------------------------------------------------

    def _stays_open(self) -> None:
        """The request is whole, and its answer still open."""
        self._timer = None
        link = self.link
        engine = link.engine
        if self._over or engine is None or engine.broken or engine.writing_ended or self._rewrite:
            return
        if self._reply is not None and not isinstance(self._reply_body, UntilClose):
            return
        if self._reply is None and self._reply_in:
            self._timer = self.door.loop.call_later(STREAM_SECONDS, self._stays_open)
            return
        owed = max(link.client.owed, engine.owed)
        if owed > HAND_OVER_MAX or not self.door.pump.ready:
            # Somebody reads slowly, or there is no pump at the moment: later.
            self._timer = self.door.loop.call_later(STREAM_SECONDS, self._stays_open)
            return
        self._hand_over("down", b"", self._reply.status if self._reply else 0)

    def hand_over_now(self) -> None:
        """The gateway is about to end: an answer that may stay open does."""
        if self.request_whole and self._may_stay_open:
            if self._timer:
                self._timer.cancel()
            self._stays_open()

    def _hand_over(self, mode: str, down: bytes, status: int) -> None:
        link, caller = self.link, self.caller
        engine = link.engine
        assert engine is not None and caller is not None
        up = engine.let_go()
        down = link.client.let_go() + down
        if mode == "both":
            up, link.rest = up + link.rest, b""
        if max(len(up), len(down)) > HAND_OVER_MAX:
            link.drop("gateway")
            return
        self.record(status, note="handed over")
        token = self.making.give_away() if self.making else ""
        tag = self.door.remember_stream(self._entry(status, "", self.verdict), token)
        client_sock, engine_sock = link.client.sock, engine.sock
        self.leave()
        link.give_away()
        self.door.pump.hand_over(
            client_sock, engine_sock, mode=mode, uid=caller.uid, tag=tag, up=up, down=down
        )
