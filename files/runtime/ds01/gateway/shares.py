# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fair shares of the gateway: nobody's flood is another's wait.

Each user has a number of connections, and of requests that are under way at a time; more of them wait
in a queue of his own. Who is alone goes as fast as he can. As soon as others ask as well, a user's
requests beyond a steady rate are begun later, so that the engine and this process are there for the
others' at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01.gateway.course import Course
    from ds01.gateway.exchange import Exchange

RATE = 400.0
"""Requests a second that one user may begin while others ask too."""
BURST = 200.0
TOGETHER_SECONDS = 2.0
"""A user counts as asking for this long after a request of his."""


@dataclass
class _Share:
    running: int = 0
    waiting: deque[Exchange] = field(default_factory=deque)
    tokens: float = BURST
    filled: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Shares:
    """Whose turn it is.

    :param most: requests under way of one user.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self.most = most
        self._shares: dict[int, _Share] = {}
        # The last request of anybody, and the last one of anybody else.
        self._last: tuple[int, float] = (-1, -1e9)
        self._last_other: tuple[int, float] = (-1, -1e9)

    @property
    def running(self) -> int:
        """Requests under way."""
        return sum(share.running for share in self._shares.values())

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(len(share.waiting) for share in self._shares.values())

    def enter(self, uid: int, exchange: Exchange) -> bool:
        """Begin a request, or queue it: then ``exchange.go()`` is called at its turn.

        :param uid: whose it is.
        """
        share = self._shares.get(uid)
        if share is None:
            share = self._shares[uid] = _Share()
        now = self._loop.time()
        self._note(uid, now)
        if share.waiting or share.running >= self.most or self._wait(uid, share, now) > 0:
            share.waiting.append(exchange)
            self._wake_later(uid, share, now)
            return False
        share.running += 1
        return True

    def leave(self, uid: int) -> None:
        """A request has ended."""
        share = self._shares[uid]
        share.running -= 1
        if share.waiting:
            self._loop.call_soon(self._next, uid)
        elif not share.running and share.timer is None and len(self._shares) > 256:
            del self._shares[uid]

    def give_up(self, uid: int, exchange: Course) -> None:
        """A queued request's client has gone."""
        share = self._shares[uid]
        share.waiting = deque(one for one in share.waiting if one is not exchange)

    def _note(self, uid: int, now: float) -> None:
        if uid != self._last[0]:
            self._last_other = self._last
        self._last = (uid, now)

    def _wait(self, uid: int, share: _Share, now: float) -> float:
        """Seconds until this user may begin another request; takes the place when there are none."""
        share.tokens = min(BURST, share.tokens + (now - share.filled) * RATE)
        share.filled = now
        other = self._last_other if uid == self._last[0] else self._last
        if uid == 0 or now - other[1] > TOGETHER_SECONDS:
            share.tokens = max(0.0, share.tokens - 1)
            return 0.0
        if share.tokens < 1:
            return (1 - share.tokens) / RATE
        share.tokens -= 1
        return 0.0

    def _wake_later(self, uid: int, share: _Share, now: float) -> None:
        if share.timer is None and share.running < self.most:
            delay = max(0.0, (1 - share.tokens) / RATE)
            share.timer = self._loop.call_at(now + delay, self._woken, uid)

    def _woken(self, uid: int) -> None:
        self._shares[uid].timer = None
        self._next(uid)

    def _next(self, uid: int) -> None:
        share = self._shares.get(uid)
        if share is None or not share.waiting or share.running >= self.most:
            return
        now = self._loop.time()
        if self._wait(uid, share, now) > 0:
            self._wake_later(uid, share, now)
            return
        exchange = share.waiting.popleft()
        share.running += 1
        exchange.go()
        if share.waiting and share.running < self.most:
            self._loop.call_soon(self._next, uid)
