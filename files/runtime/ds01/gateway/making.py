# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request that makes something: what is written down of it, and when.

Of one that makes a container: its body is read whole, that it is asked is written down, then it goes to the
engine; what the answer names is tied to what was written down, and only then the answer goes to the client.
So there is no moment at which a container exists and nobody can say whose it is. From the moment the engine
is asked all this happens whatever becomes of the client.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ds01.core import recorded
from ds01.core.callers import Caller
from ds01.core.errors import Ds01Error
from ds01.core.gateway_decision import DENY, Verdict, unrecorded, version_to_send
from ds01.core.owner_intents import Intent, fingerprint
from ds01.core.owners import EXEC, VOLUME, Made
from ds01.core.recorded import BOUND, SPANNED, Plan, Thing, is_new_volume
from ds01.core.targets import Target, forward_target
from ds01.gateway.errand import Reply, SilentError, ask
from ds01.gateway.gather import BODY_MAX, ECHOED_MAX, SECONDS, Gather
from ds01.gateway.head import HttpError
from ds01.gateway.owned import EVERYWHERE

if TYPE_CHECKING:
    from ds01.gateway.exchange import Exchange

READ_AT_ONCE = 64 * 1024
"""A longer body is read in the thread."""


def fault(name: str) -> None:
    """A step was taken: ``reserved``, ``answered``, ``bound``. Tests die here."""


def making_of(exchange: Exchange) -> Making | None:
    """What has to be recorded of a request; None for one that makes nothing."""
    route = exchange.route
    plan = recorded.plan_of(route.name) if route and exchange.door.recorder.enabled else None
    return Making(exchange, plan) if plan is not None else None


class Making:
    """What is recorded of one request.

    :ivar gathers: its body is being read, whole.
    :ivar running: its steps are being taken; they end whatever becomes of the client.
    """

    def __init__(self, exchange: Exchange, plan: Plan) -> None:
        self.exchange = exchange
        self.plan = plan
        self.door = exchange.door
        self.recorder = exchange.door.recorder
        self.gathers = self.running = False
        self._gather: Gather | None = None
        self._token = ""
        # Before the engine hears of it; seconds of the wall clock.
        self._asked = 0.0

    # --- the body -----------------------------------------------------------------------------

    def begin(self) -> None:
        """It is the request's turn."""
        exchange = self.exchange
        if not self.plan.gathers:
            self._start()
            return
        try:
            most = ECHOED_MAX if self.plan.kind == VOLUME else BODY_MAX
            self._gather = Gather(exchange.head.length, self.door.held, exchange.link.share, most)
        except HttpError as error:
            self._refuse(error)
            return
        if self._gather.done:
            self._start()
            return
        self.gathers = True
        exchange.expect(SECONDS, self._too_slow)
        exchange.hear_body()
        if self.gathers:
            exchange.link.client.resume()

    def take_body(self, data: memoryview) -> None:
        """The client sends what belongs to the body, and perhaps more."""
        gather = self._gather
        assert gather is not None
        try:
            taken = gather.feed(data)
        except HttpError as error:
            self._refuse(error)
            return
        if taken < len(data):
            self.exchange.link.rest = bytes(data[taken:])
        if gather.done:
            self._start()

    def _refuse(self, error: HttpError) -> None:
        rule = {413: "limit.body", 503: "limit.bodies"}.get(error.status, "http.malformed")
        self._free()
        self.exchange.link.refuse(Verdict(DENY, rule, error.what, error.remedy, error.status))

    def _too_slow(self) -> None:
        what = f"the body of the request did not come within {SECONDS:g} s"
        self._free()
        self.exchange.link.refuse(Verdict(DENY, "http.slow", what, "Send it in one go", 408))

    def _free(self) -> None:
        self.gathers = False
        if self._gather is not None:
            self._gather.free()

    def left(self) -> None:
        """The exchange has ended, or its client has gone."""
        if not self.running:
            self._free()
            self._end_span()

    # --- the steps ----------------------------------------------------------------------------

    def _start(self) -> None:
        exchange = self.exchange
        self.gathers = exchange.wants_body = False
        exchange.wait_no_more()
        self.running = True
        self._asked = time.time()
        self.door.begin_making(self._run())

    async def _run(self) -> None:
        exchange = self.exchange
        exchange.request_whole = self.plan.gathers
        go_on = False
        try:
            if self.plan.how == SPANNED:
                go_on = await self._span()
            elif self.plan.how == BOUND:
                await self._bound()
            else:
                await self._noted()
        except SilentError as silent:
            exchange.no_engine(silent.what, silent.status)
        finally:
            self.running = False
            self._free()
            exchange.settle()
        if go_on:
            exchange.send()

    async def _span(self) -> bool:
        """Write down that it begins; whether it may."""
        intent = await self._reserve(lambda: self._intent({}))
        if intent is None:
            return not self.exchange.over
        self._token = intent.token
        if self.exchange.over:
            self._end_span()
        return not self.exchange.over

    def _end_span(self) -> None:
        if self._token:
            self.recorder.ended(self._caller.uid, self._token, time.time())
            self._token = ""

    def give_away(self) -> str:
        """Under what name it was written down; its end is told by others from now on."""
        token, self._token = self._token, ""
        return token

    async def _bound(self) -> None:
        assert self._gather is not None
        content = self._gather.content()
        # Found out with the intent, in the thread.
        leases: tuple[str, ...] = ()
        volumes: frozenset[str] = frozenset()
        slices = {EVERYWHERE}

        def read() -> Intent:
            nonlocal leases, volumes, slices
            named: set[str] = set()
            body = recorded.read_body(content, named)
            if body is not None:
                slices = named
            leases, volumes = recorded.leases_named(body), recorded.volumes_named(body)
            return self._intent(body or {}, body is not None)

        intent = await self._reserve(read)
        fault("reserved")
        token = intent.token if intent else ""
        if self.exchange.over:
            # Nothing was asked of the engine yet.
            if token:
                self.recorder.abandon(self._caller.uid, token)
            return
        uid, owned = self._caller.uid, self.door.people.owned
        try:
            with self.door.volumes.used(volumes, uid), owned.making(slices, uid):
                reply = await self._ask()
                thing = recorded.thing_in(self.plan.kind, *_told(reply))
                if thing is not None:
                    owned.made(thing.id, uid, self._caller.container)
        except BaseException as error:
            await self._half(intent, error, leases)
            raise
        fault("answered")
        await self._bind(intent, thing, reply.head.status, leases)
        fault("bound")
        self.exchange.deliver(reply)

    async def _half(
        self, intent: Intent | None, error: BaseException, leases: tuple[str, ...]
    ) -> None:
        """There is no answer, or one that is too long to be read."""
        status, thing = 0, None
        if isinstance(error, SilentError):
            status, begun = error.begun if error.asked else (error.status, b"")
            thing = recorded.thing_begun(self.plan.kind, status, begun)
        if thing is not None:
            self.door.people.owned.made(thing.id, self._caller.uid, self._caller.container)
        await self._bind(intent, thing, status, leases)

    async def _bind(
        self, intent: Intent | None, thing: Thing | None, status: int, leases: tuple[str, ...]
    ) -> None:
        if intent is None:
            await self._record(thing, self._name(None))
        elif thing is not None:
            try:
                await self.recorder.bind(intent, thing.id, leases)
                self.door.people.owned.written(thing.id)
            except Ds01Error as error:
                self.exchange.note = f"recorded later: {error}"
        elif status >= 400:
            self.recorder.abandon(intent.uid, intent.token)
        else:
            # What came of it is not known here.
            self.recorder.ended(intent.uid, intent.token, time.time())

    async def _noted(self) -> None:
        assert self._gather is not None
        content = self._gather.content()
        body: dict[str, Any] | None
        if len(content) <= READ_AT_ONCE:
            body = recorded.read_body(content or b"{}")
        else:
            body = await self._read_later(content)
        if self.plan.kind == VOLUME:
            await self._volume(body)
            return
        reply = await self._ask()
        fault("answered")
        thing = recorded.thing_in(self.plan.kind, *_told(reply))
        parent = await self._parent(thing) if thing and self.plan.kind == EXEC else ""
        await self._record(thing, self._name(body), parent)
        fault("bound")
        self.exchange.deliver(reply)

    async def _read_later(self, content: bytes) -> dict[str, Any] | None:
        try:
            return await self.recorder.prepare(
                self._caller.uid, lambda: recorded.read_body(content)
            )
        except Ds01Error:
            return None

    async def _volume(self, body: dict[str, Any] | None) -> None:
        """Claim a volume for whoever made it, not for who asks for one that is there."""
        names = recorded.volumes_asked(body)
        async with self.door.volumes.claim(names, self._caller.uid) as claim:
            absent = await self._absent(names) if claim.alone else frozenset()
            reply = await self._ask()
            fault("answered")
            thing = recorded.thing_in(VOLUME, *_told(reply))
            sure = body is not None and claim.alone
            if sure and thing and is_new_volume(thing, self._asked, absent, bool(names)):
                await self._record(thing)
        fault("bound")
        self.exchange.deliver(reply)

    async def _absent(self, names: frozenset[str]) -> frozenset[str]:
        """Those of some volumes that the engine does not know."""
        found = [
            name for name in sorted(names)[:4] if await self._status(f"/volumes/{name}") == 404
        ]
        return frozenset(found)

    async def _status(self, path: str) -> int:
        return (await ask(self.door, self._question(path), "GET", keep=False)).head.status

    async def _parent(self, thing: Thing) -> str:
        """The container that an exec is in, by its full id; empty where the engine does not tell."""
        assert self.exchange.target is not None
        named = recorded.container_asked(self.exchange.target.path)
        if recorded.is_id(named):
            return named
        try:
            reply = await ask(
                self.door, self._question(f"/exec/{thing.id}/json"), "GET", keep=False
            )
            found = json.loads(reply.body).get("ContainerID")
        except (SilentError, ValueError, AttributeError):
            return ""
        return found if isinstance(found, str) and recorded.is_id(found) else ""

    # --- parts of the steps -------------------------------------------------------------------

    @property
    def _caller(self) -> Caller:
        assert self.exchange.caller is not None
        return self.exchange.caller

    async def _ask(self) -> Reply:
        exchange = self.exchange
        assert self._gather is not None
        raw = exchange.head_to_send() + self._gather.framed()
        sock = exchange.link.take_engine()
        return await ask(self.door, raw, exchange.head.method, sock, exchange.head.keep_alive)

    def _question(self, path: str) -> bytes:
        """A question of ours, in the version in which the client asks."""
        target = self.exchange.target
        assert target is not None
        version = version_to_send(target, self.door.engine_api)
        to = forward_target(Target(target.version, path, ""), version)
        return b"GET %s HTTP/1.1\r\nHost: ds01\r\n\r\n" % to

    async def _reserve(self, make: Callable[[], Intent]) -> Intent | None:
        """Write down what is asked; None where it passes all the same, or is refused."""
        exchange = self.exchange
        try:
            return await self.recorder.reserve(self._caller.uid, make)
        except Ds01Error as error:
            assert exchange.target is not None
            verdict = unrecorded(self._caller, exchange.head.method, exchange.target, error.what)
        exchange.note = "not recorded before it was asked"
        if verdict.decision == DENY:
            exchange.refuse(verdict)
        else:
            exchange.verdict = verdict
        return None

    def _intent(self, body: dict[str, Any], read: bool = False) -> Intent:
        caller, route = self._caller, self.exchange.route
        assert route is not None
        name = self._name(body)
        return Intent(
            token=f"i{secrets.token_hex(12)}",
            kind=self.plan.kind,
            uid=caller.uid,
            user=caller.name,
            at=self._asked,
            agent=recorded.agent_of(self.exchange.head.headers),
            container=caller.container,
            admin=caller.admin,
            name=name,
            fingerprint=_fingerprint(name, recorded.spelled(body)) if read else {},
            gateway=self.recorder.identity,
            route=route.name,
        )

    def _name(self, body: dict[str, Any] | None) -> str:
        exchange = self.exchange
        assert exchange.route is not None and exchange.target is not None
        return recorded.name_asked(exchange.route.name, exchange.target.query, body)

    async def _record(self, thing: Thing | None, name: str = "", parent: str = "") -> None:
        if thing is None:
            return
        caller = self._caller
        agent = recorded.agent_of(self.exchange.head.headers)
        made = Made(caller.uid, caller.name, self._asked, agent, caller.container, caller.admin)
        kind = self.plan.kind
        try:
            await self.recorder.record(
                kind, thing.id, made, thing.name or name, parent, durable=kind != EXEC
            )
        except Ds01Error as error:
            self.exchange.note = f"recorded later: {error}"


def _told(reply: Reply) -> tuple[int, bytes]:
    return reply.head.status, reply.body


def _fingerprint(name: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        return fingerprint(name, body)
    except (ValueError, TypeError, RecursionError):
        return {}
