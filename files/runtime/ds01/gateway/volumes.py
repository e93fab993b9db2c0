# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is to make a volume of a name.

The engine gives the same answer to who makes a volume and to who asks for one that is there. So requests
for one name go one by one, each after a look at whether the volume is there; and where a container of
somebody else that brings a volume of that name into being is made at the same time, nobody is sure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

TURN_SECONDS = 10.0


@dataclass(eq=False)
class Claim:
    """A request to make a volume.

    :ivar alone: nobody else can have made it meanwhile through the door.
    """

    uid: int
    alone: bool = True


@dataclass
class _Name:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    claims: list[Claim] = field(default_factory=list)
    users: Counter[int] = field(default_factory=Counter)


class Volumes:
    """The names of volumes that requests under way may make. For one event loop."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}

    @contextlib.asynccontextmanager
    async def claim(self, names: Iterable[str], uid: int) -> AsyncIterator[Claim]:
        """Make a volume of one of these names, alone as far as that can be."""
        claim = Claim(uid)
        async with contextlib.AsyncExitStack() as stack:
            # In one order, so that no two wait for each other.
            for name in sorted(names):
                await stack.enter_async_context(self._one(name, claim))
            yield claim

    @contextlib.asynccontextmanager
    async def _one(self, name: str, claim: Claim) -> AsyncIterator[None]:
        entry = self._names.setdefault(name, _Name())
        entry.waiting += 1
        locked = False
        try:
            try:
                if entry.lock.locked():
                    await asyncio.wait_for(entry.lock.acquire(), TURN_SECONDS)
                else:
                    await entry.lock.acquire()
                locked = True
            except asyncio.TimeoutError:
                claim.alone = False
            if any(uid != claim.uid for uid in entry.users):
                claim.alone = False
            entry.claims.append(claim)
            yield
        finally:
            if claim in entry.claims:
                entry.claims.remove(claim)
            if locked:
                entry.lock.release()
            entry.waiting -= 1
            self._forget(name, entry)

    @contextlib.contextmanager
    def used(self, names: Iterable[str], uid: int) -> Iterator[None]:
        """Make a container with volumes of these names."""
        entries = [(name, self._names.setdefault(name, _Name())) for name in names]
        for _name, entry in entries:
            entry.users[uid] += 1
            for claim in entry.claims:
                claim.alone = claim.alone and claim.uid == uid
        try:
            yield
        finally:
            for name, entry in entries:
                entry.users[uid] -= 1
                if not entry.users[uid]:
                    del entry.users[uid]
                self._forget(name, entry)

    def _forget(self, name: str, entry: _Name) -> None:
        if not entry.waiting and not entry.users:
            self._names.pop(name, None)
