# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a request on its way, and how it comes to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ds01.core import routes
from ds01.core.callers import Caller
from ds01.core.gateway_decision import ALLOW, Verdict
from ds01.core.targets import Target
from ds01.gateway.access import Entry
from ds01.gateway.head import RequestHead

if TYPE_CHECKING:
    from ds01.gateway.link import Link
    from ds01.gateway.making import Making


class Course:
    """A request's course.

    :param link: the client's connection.
    :param head: what is asked.
    :param began: when its head was whole, on the loop's clock.
    """

    def __init__(self, link: Link, head: RequestHead, began: float) -> None:
        self.link = link
        self.door = link.door
        self.head = head
        self.began = began
        self.caller: Caller | None = None
        self.target: Target | None = None
        self.route: routes.Route | None = None
        self.verdict: Verdict | None = None
        self.wants_body = False
        self.request_whole = False
        self.note = ""
        self.making: Making | None = None
        """What is recorded of it; None for a request that makes nothing."""
        self._entered = self._queued = self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._sent_before = link.client.sent
        self._received_before = link.client.received

    def leave(self) -> None:
        """Give the place among this user's unfinished requests back."""
        self._over = True
        self.wait_no_more()
        if self._queued:
            self.door.shares.give_up(self.link.share, self)
        if self.making is not None:
            self.making.left()
        self.settle()

    @property
    def over(self) -> bool:
        """Whether its client has its answer, or has gone."""
        return self._over

    @property
    def busy(self) -> bool:
        """Whether the engine makes something for it, whatever becomes of its client."""
        return self.making is not None and self.making.running

    @property
    def changes(self) -> bool:
        """Whether it is under way to change something and get an answer."""
        return self._entered and self.route is not None and self.route.kind == routes.CHANGE

    def settle(self) -> None:
        """Give its place back when all of it is over."""
        if self._over and self._entered and not self.busy:
            self._entered = False
            self.door.shares.leave(self.link.share)

    def expect(self, seconds: float, then: Callable[[], None]) -> None:
        """Be told when a time is over, unless it is cancelled by another one or by the end."""
        self.wait_no_more()
        self._timer = self.door.loop.call_later(seconds, then)

    def wait_no_more(self) -> None:
        """Cancel the time that runs."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def record(self, status: int, note: str = "", verdict: Verdict | None = None) -> None:
        """Have it written down.

        :param status: of the answer, 0 when there was none.
        :param verdict: another one than was spoken at first.
        """
        self.door.record(self._entry(status, note, verdict or self.verdict))

    def _entry(self, status: int, note: str, verdict: Verdict | None) -> Entry:
        client, target, route = self.link.client, self.target, self.route
        return Entry(
            self.caller,
            self.link.peer,
            self.head.method,
            route.name if route else "",
            route.kind if route else "",
            target.path if target else "",
            verdict.decision if verdict else ALLOW,
            verdict.rule if verdict else "",
            status,
            self.door.loop.time() - self.began,
            client.sent - self._sent_before,
            client.received - self._received_before,
            "; ".join(filter(None, (note, self.note))),
            verdict.message if verdict else "",
            verdict.remedy if verdict else "",
        )
