# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one process of the soak does: users' requests, containers' lives, the daemon's work."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ds01.core.book import FAULT_POINTS, Book
from ds01.core.leases import ANY, FULL, HOLDING, MIG, Ask, Lease, Refused
from soak.engine import Engine, seen
from soak.gpus import lab_gpus
from soak.kills import Killer, Log
from soak.place import Place, users

OWN_POINTS = ("soak.granted", "soak.created", "soak.bound", "soak.started", "soak.delivered")
"""Where the book's callers may die, between two of its operations."""

POINTS = (*FAULT_POINTS, *OWN_POINTS)

KINDS = (ANY, ANY, ANY, MIG, MIG, FULL, "1g.5gb", "2g.10gb")


class Worker:
    """One process.

    :param points: fault points where it may die.
    """

    def __init__(self, place: Place, log: Log, points: Sequence[str], seed: int) -> None:
        self.place = place
        self.log = log
        self.rng = random.Random(seed)
        self.fault = Killer(points, self.rng, log)
        self.book = place.book(self.fault)
        self.engine = Engine(place)
        self.users = users()
        self.tickets: list[str] = []
        self.requests = 0

    def work(self, share: int) -> None:
        """Ask so many times, and do other things between."""
        does: list[tuple[int, Callable[[], None]]] = [
            (30, self.request),
            (20, self.wait),
            (20, self.deliver),
            (12, self.stop),
            (14, self.start),
            (20, self.remove),
            (8, self.release),
            (15, self.finish),
            (4, self.drain),
            (5, self.reconcile),
            (3, self.snapshot),
            (1, self.turn_the_clock),
        ]
        weights = [weight for weight, _what in does]
        steps = 0
        while self.requests < share:
            if steps % 12 == 0:
                self.fault.arm()
            steps += 1
            self.rng.choices(does, weights)[0][1]()
        self.fault.disarm()
        for ticket in self.tickets:
            self.book.cancel(ticket, "the worker ends")

    # --- users ------------------------------------------------------------------------------------

    def request(self) -> None:
        """Somebody asks for something."""
        self.requests += 1
        self.log.add("requested")
        allowance = self.rng.choice(list(self.users.values()))
        ask = Ask(self.rng.choice((1, 1, 1, 1, 2, 3)), self.rng.choice(KINDS))
        if self.rng.random() < 0.1:
            ask = Ask(devices=(self.rng.choice(lab_gpus().slots).index,))
        try:
            outcome = self.book.request(ask, allowance, queue=self.rng.random() < 0.8)
        except Refused as refusal:
            self.log.add("refused", refusal.rule)
            return
        if outcome.granted:
            self.log.add("granted")
            self._live(outcome.granted)
        elif outcome.waiting:
            self.log.add("waited")
            self.tickets.append(outcome.waiting.ticket)

    def wait(self) -> None:
        """Look after a request in the queue, or leave it."""
        if not self.tickets:
            return
        ticket = self.tickets.pop(self.rng.randrange(len(self.tickets)))
        if self.rng.random() < 0.1:
            self.book.cancel(ticket, "changed my mind")
            return
        outcome = self.book.poll(ticket)
        if outcome is None or outcome.ended:
            self.log.add("waited in vain")
        elif outcome.granted:
            self.log.add("granted after a wait")
            self._live(outcome.granted)
        else:
            self.tickets.append(ticket)

    def _live(self, lease: Lease) -> None:
        """A container for a new lease."""
        self.fault("soak.granted")
        if self.rng.random() < 0.1:
            return  # whoever asked never comes back
        name = f"c{self.rng.getrandbits(48):012x}"
        self.engine.world.create(name, lease.uid, lease.id)
        self.fault("soak.created")
        if self.rng.random() < 0.1:
            self._start(name)
        try:
            self.book.bind(lease.id, name, name)
        except Refused:
            self.log.add("bound too late")
            return
        self.fault("soak.bound")
        self._start(name)
        self.fault("soak.started")

    def _start(self, name: str) -> bool:
        started = self.engine.world.start(name, self.rng.choice((0.0, 0.0, 0.004)))
        self.log.add("container started" if started else "start refused")
        return started

    def _any(self, state: str = "") -> tuple[str, int, str] | None:
        found = [c for c in self.engine.world.containers() if state in ("", c.state)]
        if not found:
            return None
        one = self.rng.choice(found)
        return one.id, one.uid, one.lease

    def stop(self) -> None:
        """Stop a container."""
        if (one := self._any("running")) is not None:
            self.engine.world.stop(one[0])

    def start(self) -> None:
        """Start a stopped container; where its lease has ended, with new slots under the old id."""
        one = self._any("exited") or self._any("created")
        if one is None or self._start(one[0]):
            return
        try:
            outcome = self.book.request(
                Ask(1), self.users[one[1]], queue=self.rng.random() < 0.5, lease=one[2]
            )
        except Refused:
            return
        if outcome.granted:
            self.log.add("renewed")
            self._start(one[0])

    def remove(self) -> None:
        """Remove a container."""
        if (one := self._any()) is not None:
            self.engine.world.remove(one[0])

    def release(self) -> None:
        """Somebody releases a lease, or tries to."""
        leases = [lease for lease in self.book.snapshot(eta=False).leases if lease.holding]
        if not leases:
            return
        try:
            self.book.release(self.rng.choice(leases).id, "somebody", self.engine, wait=False)
        except Refused as refusal:
            self.log.add("release refused", refusal.rule)

    # --- the daemon and the admin -----------------------------------------------------------------

    def deliver(self) -> None:
        """Be the daemon for a moment: tell the book what the engine told, in its order."""
        with self._daemon() as is_mine:
            if not is_mine:
                return
            for number, kind, name, lease in self.engine.news():
                if kind == "start":
                    self.book.container_started(lease, name)
                elif kind == "die":
                    self.book.container_stopped(lease, name)
                else:
                    self.book.container_gone(lease, name)
                self.fault("soak.delivered")
                self.engine.delivered(number)
            if self.rng.random() < 0.2:
                self.book.settle()

    @contextmanager
    def _daemon(self) -> Iterator[bool]:
        descriptor = os.open(self.place.top / "daemon.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(descriptor)

    def finish(self) -> None:
        """The second step of what was ended."""
        self.book.finish(self.engine)

    def drain(self) -> None:
        """An admin takes a slot out, or back in."""
        slot = self.rng.choice(lab_gpus().slots).uuid
        if self.rng.random() < 0.15:
            self.book.drain(slot, "a fan is loud", "dana")
        else:
            self.book.undrain(slot, "dana")

    def reconcile(self) -> None:
        """Compare the book with the world, as it was a moment ago."""
        reconcile(self.book, self.engine, self.rng.choice((0.0, 0.0, 0.01)))

    def snapshot(self) -> None:
        """Look: one view must be whole."""
        shown = self.book.snapshot(eta=self.rng.random() < 0.3)
        held = [slot for lease in shown.leases if lease.holding for slot in lease.slots]
        double = [slot for slot, number in Counter(held).items() if number > 1]
        if double:
            raise AssertionError(f"a snapshot shows two leases on {double}")

    def turn_the_clock(self) -> None:
        """Somebody puts the wall clock by up to a day."""
        self.place.set_wall(self.rng.uniform(-86_400, 86_400))


def reconcile(book: Book, engine: Engine, pause: float = 0.0) -> None:
    """One reconciliation.

    :param pause: seconds between the look at the containers and the book's decision.
    """
    looked = book.now()
    containers = [seen(one) for one in engine.world.containers()]
    processes = engine.processes()
    if pause:
        time.sleep(pause)
    book.reconcile(lab_gpus(), containers, processes, looked=looked)


def recover(place: Place) -> None:
    """What the daemon does when it starts: forget the news, look for itself."""
    book, engine = place.book(), Engine(place)
    engine.skip_news()
    reconcile(book, engine)


def wind_up(place: Place) -> None:
    """Give everything back.

    :raises AssertionError: the book does not come to an end.
    """
    book, engine = place.book(), Engine(place)
    for container in engine.world.containers():
        engine.world.remove(container.id)
    for queued in book.snapshot(eta=False).queue:
        book.cancel(queued.waiter.ticket, "the end")
    for lease in book.snapshot(eta=False).leases:
        if lease.state in HOLDING:
            book.release(lease.id, "the soak", engine, wait=False)
    for slot in lab_gpus().slots:
        book.undrain(slot.uuid, "dana")
    until = time.monotonic() + 30
    while any(lease.holding for lease in book.snapshot(eta=False).leases):
        if time.monotonic() > until:
            raise AssertionError("leases are left that nobody uses")
        book.settle()
        book.finish(engine)
        reconcile(book, engine)
        time.sleep(0.01)
    _all_can_be_leased_again(book)


def _all_can_be_leased_again(book: Book) -> None:
    blocks = book.snapshot(eta=False).blocks
    if blocks:
        raise AssertionError(f"slots are blocked for ever: {blocks}")
