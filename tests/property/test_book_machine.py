# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real lease book against a small model, in whatever order things happen.

Users ask, containers come and go, events get lost, processes die at fault points, clocks jump, hosts
reboot, GPUs are partitioned anew, fall off the bus, or are used by strangers. What must hold is
looked at after each step.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
from book_model import USERS, BookHost, Box, could_have, held, is_kind, sevenths
from ds01.core.allot import AGEING_POINTS, AGEING_SECONDS
from ds01.core.book import FAULT_POINTS, Outcome, Snapshot
from ds01.core.book_change import LEAST_HOLD_SECONDS
from ds01.core.gpus import OK
from ds01.core.leases import HELD, RESERVED, Ask, Lease, Refused, Waiter
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from soak.checker import over_limits
from soak.gpus import SEVEN, THREE
from soak.world import slots_of_file

LAYOUTS: tuple[tuple[str, ...] | None, ...] = (None, THREE, SEVEN, ("3g.20gb", "3g.20gb"), ())
INDICES = st.integers(0, 999)
WHO = st.sampled_from(sorted(USERS))
ASKS = st.builds(Ask, st.integers(1, 3), st.sampled_from(["any", "any", "mig", "full", "1g.5gb"]))
SECONDS = st.sampled_from([0.5, 1.0, 30.0, 121.0, 600.0, 901.0, 3600.0])


class BookMachine(BookHost):
    """What may happen to the book, and what must hold after it."""

    # --- users ------------------------------------------------------------------------------------

    @rule(who=WHO, ask=ASKS, queue=st.booleans())
    def request(self, who: int, ask: Ask, queue: bool) -> None:
        with suppress(Refused):
            self.do(partial(self.book.request, ask, USERS[who], queue=queue, ticket=self.ticket()))

    @rule(whos=st.lists(WHO, min_size=1, max_size=4))
    def run_some(self, whos: list[int]) -> None:
        """The common case, so that most other steps find something to happen to."""
        for who in whos:
            with suppress(Refused):
                outcome = self.do(
                    partial(self.book.request, Ask(), USERS[who], ticket=self.ticket())
                )
                if outcome and outcome.granted:
                    self.make_box(outcome.granted, starts=True)

    @rule(who=WHO, number=INDICES)
    def request_a_device(self, who: int, number: int) -> None:
        slots = list(self.known.values())
        slot = slots[number % len(slots)]
        before = self.book.snapshot(eta=False)
        with suppress(Refused):
            outcome = self.do(
                partial(
                    self.book.request, Ask(devices=(slot.uuid,)), USERS[who], ticket=self.ticket()
                )
            )
            if isinstance(outcome, Outcome) and outcome.granted:
                assert outcome.granted.slots == (slot.uuid,)
                assert slot.uuid not in held(before)

    @rule(number=INDICES, starts=st.booleans())
    def make_a_container(self, number: int, starts: bool) -> None:
        reserved = [one for one in self.leases() if one.state == RESERVED and one.revoked is None]
        if not reserved:
            return
        self.make_box(reserved[number % len(reserved)], starts)

    def make_box(self, lease: Lease, starts: bool) -> None:
        self.number += 1
        box = Box(f"c{self.number}", lease.uid, lease.id)
        self.boxes[box.name] = box
        self.do(lambda: self.book.bind(lease.id, box.name, box.name))
        if starts:
            self.start_box(box, told=False)

    @rule(number=INDICES, told=st.booleans())
    def start(self, number: int, told: bool) -> None:
        box = self.pick(number, "exited") or self.pick(number, "created")
        if box:
            self.start_box(box, told)

    def start_box(self, box: Box, told: bool) -> None:
        slots = slots_of_file(self.cdi, box.lease)
        if slots is None:
            return
        box.state, box.slots = "running", tuple(slots)
        if told:
            self.do(lambda: self.book.container_started(box.lease, box.name))

    @rule(number=INDICES, told=st.booleans())
    def stop(self, number: int, told: bool) -> None:
        box = self.pick(number, "running")
        if box is None:
            return
        box.state, box.slots, box.finished = "exited", (), self.wall
        if told:
            self.do(lambda: self.book.container_stopped(box.lease, box.name))

    @rule(number=INDICES, told=st.booleans())
    def remove(self, number: int, told: bool) -> None:
        box = self.pick(number)
        if box is None:
            return
        del self.boxes[box.name]
        self.freely = True
        if told:
            self.do(lambda: self.book.container_gone(box.lease, box.name))

    @rule(number=INDICES, queue=st.booleans())
    def renew(self, number: int, queue: bool) -> None:
        ended = [one for one in self.leases() if not one.holding]
        if ended:
            one = ended[number % len(ended)]
            with suppress(Refused):
                self.do(
                    lambda: self.book.request(one.ask, USERS[one.uid], queue=queue, lease=one.id)
                )

    @rule(number=INDICES)
    def release(self, number: int) -> None:
        leases = [one for one in self.leases() if one.holding]
        if not leases:
            return
        lease = leases[number % len(leases)]
        self.freely = True
        running = any(box.lease == lease.id and box.slots for box in self.boxes.values())
        if running and lease.revoked is None:
            with pytest.raises(Refused, match="runs with this lease"):
                self.book.release(lease.id, "somebody", self, wait=False)
        else:
            self.do(lambda: self.book.release(lease.id, "somebody", self, wait=False))

    @rule(number=INDICES, cancel=st.booleans())
    def look_after_a_request(self, number: int, cancel: bool) -> None:
        queue = self.book.snapshot(eta=False).queue
        if not queue:
            return
        ticket = queue[number % len(queue)].waiter.ticket
        if cancel:
            self.do(lambda: self.book.cancel(ticket, "changed my mind"))
        else:
            self.do(lambda: self.book.poll(ticket))

    # --- daemon and admin -------------------------------------------------------------------------

    @rule()
    def finish(self) -> None:
        self.freely = True
        self.do(lambda: self.book.finish(self))

    @rule()
    def reconcile(self) -> None:
        self.freely = True
        self.do(lambda: self.book.reconcile(self.inventory, self.containers(), self.processes()))
        shown = self.book.snapshot(eta=False)
        sound = {slot.uuid for slot in shown.slots if slot.health == OK}
        for lease in shown.leases:
            if lease.holding and shown.driver == "ready":
                assert lease.stale == (not set(lease.slots) <= sound)

    @rule(number=INDICES)
    def a_hold_passes_while_a_start_is_not_known(self, number: int) -> None:
        """The book believes the container stopped; only the engine can tell that it runs again."""
        box = self.pick(number, "running")
        if box is None:
            return
        box.state, box.slots, box.finished = "exited", (), self.wall
        self.do(lambda: self.book.container_stopped(box.lease, box.name))
        self.start_box(box, told=False)
        self.freely = True
        for _turn in range(3):
            self.boottime, self.wall = self.boottime + 901.0, self.wall + 901.0
            self.time += 901.0
            self.do(self.book.settle)
            self.do(lambda: self.book.finish(self))

    @rule(number=INDICES, out=st.booleans())
    def drain(self, number: int, out: bool) -> None:
        slots = list(self.inventory.slots) or list(self.known.values())
        uuid = slots[number % len(slots)].uuid
        with suppress(Refused):
            if out:
                self.do(lambda: self.book.drain(uuid, "noisy", "dana"))
            else:
                self.do(lambda: self.book.undrain(uuid, "dana"))

    @rule(number=INDICES, layout=st.sampled_from(LAYOUTS))
    def partition_anew(self, number: int, layout: tuple[str, ...] | None) -> None:
        index = number % len(self.layout)
        self.layout[index] = layout
        self.salt[index] += layout is not None
        self.look()
        self.do(lambda: self.book.look(self.inventory))

    @rule(number=INDICES, back=st.sampled_from([True, True, False]))
    def lose_a_gpu(self, number: int, back: bool) -> None:
        index = number % len(self.layout)
        (self.lost.discard if back else self.lost.add)(index)
        self.look()
        self.do(lambda: self.book.look(self.inventory))

    @rule(there=st.sampled_from([True, True, True, False]))
    def driver_answers(self, there: bool) -> None:
        self.driver = there
        self.look()
        self.do(lambda: self.book.look(self.inventory))

    @rule(number=INDICES, comes=st.booleans())
    def a_stranger_uses_a_slot(self, number: int, comes: bool) -> None:
        slots = list(self.inventory.slots)
        if comes and slots:
            self.strangers.add(slots[number % len(slots)].uuid)
        else:
            self.strangers.clear()

    @rule(point=st.sampled_from(FAULT_POINTS))
    def die_soon(self, point: str) -> None:
        self.armed = point

    # --- time -------------------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.boottime += seconds
        self.wall += seconds
        self.time += seconds
        self.do(self.book.settle)

    @rule(seconds=st.sampled_from([-1e7, -3600.0, -1.0, 5.0, 86_400.0, 1e9]))
    def the_wall_clock_is_put(self, seconds: float) -> None:
        self.wall += seconds
        self.do(self.book.settle)

    @rule(off=st.sampled_from([1.0, 90.0, 5000.0, -4000.0]))
    def reboot(self, off: float) -> None:
        for box in self.boxes.values():
            if box.state == "running":
                box.state, box.slots, box.finished = "exited", (), self.wall
        for path in self.cdi.iterdir():
            path.unlink()
        self.armed = ""
        self.boot += 1
        self.boottime = 12.0
        self.wall += off
        self.time += max(0.0, off)
        self.book.store.close()
        self.book = self.open()
        self.mend()

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nothing_is_given_twice_or_over_a_limit(self) -> None:
        shown = self.book.snapshot(eta=False)
        taken = held(shown)
        assert max(taken.values(), default=0) <= 1, taken
        for uid, one in USERS.items():
            mine = [
                [self.known[uuid] for uuid in lease.slots]
                for lease in shown.leases
                if lease.holding and lease.uid == uid
            ]
            assert over_limits(one, mine) == []
        running = Counter(slot for box in self.boxes.values() for slot in box.slots)
        assert max(running.values(), default=0) <= 1, self.boxes

    @invariant()
    def files_are_there_for_those_who_may_start_and_for_nobody_else(self) -> None:
        wanted = {
            lease.id: sorted(lease.slots)
            for lease in self.leases()
            if lease.holding and lease.revoked is None and not lease.stale
        }
        found = {}
        for path in self.cdi.glob("ds01-*.json"):
            lease = path.stem.removeprefix("ds01-")
            found[lease] = sorted(slots_of_file(self.cdi, lease) or [])
        assert found == wanted

    @invariant()
    def a_lease_keeps_its_slots_and_a_hold_its_time(self) -> None:
        now, before = self.book.snapshot(eta=False), self.before
        freely, self.freely, self.before = self.freely, False, now
        died, self.died = self.died, False
        self.check_times(now)
        if before is None:
            return
        if not died:
            self.check_grants(before, now)
        leases = {lease.id: lease for lease in now.leases}
        for was in before.leases:
            lease = leases.get(was.id)
            if not was.holding or was.revoked is not None:
                continue
            if lease is not None and lease.holding:
                assert lease.slots == was.slots
            ended = lease is None or not lease.holding or lease.revoked is not None
            if ended and was.state == HELD and not freely:
                assert was.hold_until is not None and now.now >= was.hold_until

    def check_times(self, now: Snapshot) -> None:
        """Nothing outlives its time, and a hold is as long as the limits say."""
        for lease in now.leases:
            if not lease.holding or lease.revoked is not None:
                continue
            if lease.state == RESERVED:
                assert lease.expires is not None and now.now < lease.expires
                assert lease.expires == lease.created + 120.0
            if lease.state == HELD:
                hold = USERS[lease.uid].hold
                if hold is not None:
                    # Renewed: its container has time to start; else as long as a restart takes.
                    hold = max(hold, 120.0 if lease.bound_at is None else LEAST_HOLD_SECONDS)
                assert lease.held_at is not None and lease.held_at <= now.now
                assert lease.hold_until == (None if hold is None else lease.held_at + hold)
                assert lease.hold_until is None or now.now < lease.hold_until

    def check_grants(self, before: Snapshot, now: Snapshot) -> None:
        """What is handed out is healthy, not drained, nobody's, and of the kind asked for."""
        had = {lease.id for lease in before.leases if lease.holding}
        blocked = {block.slot for block in now.blocks}
        healthy = {slot.uuid for slot in now.slots if slot.health == OK}
        for lease in now.leases:
            if lease.state != RESERVED or lease.id in had:
                continue
            assert now.driver == "ready"
            assert not set(lease.slots) & blocked and set(lease.slots) <= healthy
            assert len(lease.slots) == lease.ask.count
            if not lease.ask.devices:
                profiles = {self.known[uuid].profile for uuid in lease.slots}
                assert len(profiles) == 1 and is_kind(profiles.pop(), lease.ask.kind)

    @invariant()
    def the_books_clock_goes_with_time_and_not_with_the_wall(self) -> None:
        assert abs(self.book.now() - self.time) < 0.001

    @invariant()
    def the_queue_is_in_order_and_its_head_waits_for_a_reason(self) -> None:
        shown = self.book.snapshot(eta=False)
        use = Counter[int]()
        for lease in shown.leases:
            if lease.holding:
                use[lease.uid] += sum(sevenths(self.known[uuid]) for uuid in lease.slots)

        def rank(waiter: Waiter) -> tuple[float, int, float]:
            steps = math.floor(max(0.0, shown.now - waiter.asked) / AGEING_SECONDS)
            points = waiter.allowance.priority + AGEING_POINTS * steps
            return -points, use[waiter.allowance.uid], waiter.asked

        ranks = [rank(queued.waiter) for queued in shown.queue]
        assert ranks == sorted(ranks)
        if shown.queue and shown.driver == "ready":
            head = shown.queue[0].waiter
            assert not could_have(head, shown, self.known), shown


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, database=None
)
