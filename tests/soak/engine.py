# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The world as the book's engine: what it answers, and the events that it sends."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ds01.core.reconcile import SeenContainer, SeenProcess
from soak.place import Place
from soak.world import Container, World


class Engine:
    """The engine of one process of the soak."""

    def __init__(self, place: Place) -> None:
        self._cursor = place.top / "delivered"
        self.world = World(place.world, place.cdi, lambda: place.clock().wall)

    def containers_of(self, lease_id: str) -> Sequence[SeenContainer]:
        """The containers that name a lease; waits for starts that are under way."""
        names = [one.id for one in self.world.containers() if one.lease == lease_id]
        for name in names:
            self.world.wait_for_start(name)
        return [seen(one) for one in self.world.containers() if one.id in names]

    def processes(self) -> list[SeenProcess]:
        """A process on each slot that a running container uses."""
        return [
            SeenProcess(number, slot, one.uid, f"user{one.uid}", "python", one.id)
            for number, one in enumerate(self.world.containers(), 1000)
            for slot in one.slots
        ]

    def news(self) -> list[tuple[int, str, str, str]]:
        """Events that the daemon has not told the book."""
        return self.world.events(self._number())

    def delivered(self, number: int) -> None:
        """The book knows of all events up to this one."""
        work = self._cursor.with_suffix(f".{os.getpid()}")
        work.write_text(str(number), encoding="utf-8")
        os.replace(work, self._cursor)

    def skip_news(self) -> None:
        """A daemon that starts has missed what was sent before."""
        news = self.news()
        if news:
            self.delivered(news[-1][0])

    def _number(self) -> int:
        try:
            return int(self._cursor.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0


def seen(one: Container) -> SeenContainer:
    """A container as the engine's list shows it."""
    return SeenContainer(
        one.id,
        one.id,
        one.state,
        pid=1 if one.state == "running" else 0,
        created=one.created,
        finished=one.finished,
        leases=(one.lease,),
    )
