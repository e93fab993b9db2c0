# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever waits for GPUs and may have them gets them, whatever stream of requests comes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ds01.core.allot import AGEING_POINTS, AGEING_SECONDS, Board, pass_queue
from ds01.core.gpu_request import Use, check
from ds01.core.gpus import Inventory, inventory
from ds01.core.leases import PACK, SPREAD, Allowance, Ask, Lease, Refused, Waiter
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from soak.gpus import gpu, reading, user

SOME = settings(max_examples=100, deadline=None, database=None)

PROFILES = st.sampled_from([None, ("1g.5gb",) * 7, ("2g.10gb",) * 3, ("3g.20gb", "3g.20gb")])
HOSTS = st.lists(PROFILES, min_size=1, max_size=4).map(
    lambda rows: inventory(reading(gpu(index, row) for index, row in enumerate(rows)))
)
ASKS = st.builds(Ask, st.integers(1, 3), st.sampled_from(["any", "full", "mig", "1g.5gb"]))
PLACEMENTS = st.sampled_from([SPREAD, PACK])
PRIORITIES = st.integers(0, 30)
MINUTE = 60.0


def wide(number: int, priority: int) -> Allowance:
    """A user whom only the host limits."""
    return user(
        number,
        max_gpus_per_container=None,
        max_mig_instances=None,
        max_gpu_equivalents=None,
        priority=priority,
    )


@dataclass
class Host:
    """GPUs in use, as few lines as will do: leases end in an order that the test chooses."""

    found: Inventory
    placement: str
    now: float = 0.0
    waiters: list[Waiter] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    ended: int = 0

    def ask(self, ticket: str, ask: Ask, who: Allowance) -> None:
        self.now += 1
        self.waiters.append(Waiter(ticket, self.now, self.now, None, ask, who))
        self.serve()

    def end(self, which: int) -> None:
        """A lease ends: every second time the oldest, so that each ends one day."""
        self.ended += 1
        if self.leases:
            del self.leases[0 if self.ended % 2 else which % len(self.leases)]
        self.serve()

    def end_of(self, lease: str) -> None:
        self.leases = [one for one in self.leases if one.id != lease]
        self.serve()

    def serve(self) -> None:
        board = Board(self.found.slots, tuple(self.leases), tuple(self.waiters))
        result = pass_queue(board, self.now, self.placement)
        for waiter, slots in result.granted:
            uuids = tuple(slot.uuid for slot in slots)
            who = waiter.allowance
            self.leases.append(Lease(waiter.ticket, who.uid, who.user, "bound", uuids, self.now))
        done = {w.ticket for w, _slots in result.granted} | {w.ticket for w, _why in result.refused}
        self.waiters = [w for w in self.waiters if w.ticket not in done]

    @property
    def waits(self) -> bool:
        return any(waiter.ticket == "victim" for waiter in self.waiters)


def could_ever(ask: Ask, who: Allowance, found: Inventory) -> bool:
    try:
        check(ask, who, found.slots, Use())
    except Refused:
        return False
    return True


@SOME
@given(HOSTS, ASKS, PRIORITIES, PRIORITIES, PLACEMENTS, st.data())
def test_a_waiting_request_is_served_after_a_bounded_number_of_releases_whoever_comes_later(
    found: Inventory, ask: Ask, mine: int, theirs: int, placement: str, data: st.DataObject
) -> None:
    victim = wide(0, mine)
    assume(could_ever(ask, victim, found))
    others = data.draw(st.lists(ASKS, min_size=1, max_size=4), label="the stream's requests")
    others = [other for other in others if could_ever(other, wide(1, theirs), found)] or [Ask(1)]
    order = data.draw(st.lists(st.integers(0, 99), min_size=8, max_size=8), label="what ends")
    starve(Host(found, placement), ask, victim, others, theirs, order)


def starve(
    host: Host,
    ask: Ask,
    victim: Allowance,
    others: Sequence[Ask],
    theirs: int,
    order: Sequence[int],
) -> None:
    """A request on a busy host, and each minute another one and a release.

    :raises AssertionError: it is not served in time.
    """
    slots = len(host.found.slots)
    number = 0
    for number in range(1, slots + 1):
        host.ask(f"before{number}", Ask(1), wide(number, theirs))
    host.waiters.clear()
    host.ask("victim", ask, victim)
    # Those that ask before the victim's age makes up for their priority are served before it; each
    # of them, and the victim, may have to see every lease end: the oldest ends every second time.
    ahead = (max(0, theirs - victim.priority) // AGEING_POINTS + 2) * int(AGEING_SECONDS / MINUTE)
    for step in range(ahead + (ahead + 1) * (2 * slots + 3)):
        if not host.waits:
            return
        host.now += MINUTE
        number += 1
        host.ask(f"stream{number}", others[number % len(others)], wide(number, theirs))
        host.end(order[step % len(order)])
    raise AssertionError(f"{ask} still waits; leased: {host.leases}")


def test_a_request_for_many_keeps_slots_of_which_there_are_enough_and_no_others() -> None:
    """Two whole GPUs fall free first, but three slots of one kind are wanted: MIG devices."""
    found = inventory(reading([gpu(0), gpu(1), gpu(2, ("1g.5gb",) * 7)]))
    host = Host(found, SPREAD)
    for slot in found.slots:
        host.ask(f"of {slot.index}", Ask(1, devices=(slot.uuid,)), wide(1, 10))
    host.ask("three", Ask(3), wide(2, 10))
    for index in ("0", "1", "2:0", "2:1"):
        host.ask(f"small{index}", Ask(1), wide(3, 10))
        host.end_of(f"of {index}")
    got = {lease.slots for lease in host.leases if lease.id.startswith("small")}
    assert got == {(found.slots[0].uuid,), (found.slots[1].uuid,)}
    host.end_of("of 2:2")
    assert "three" in {lease.id for lease in host.leases}


def test_free_slots_that_nobody_before_them_can_use_go_to_those_who_can() -> None:
    """The three that are waited for can only be MIG devices: whole GPUs are not kept for them."""
    found = inventory(reading([gpu(0), gpu(1), gpu(2, ("1g.5gb",) * 7)]))
    host = Host(found, SPREAD)
    for slot in found.slots:
        host.ask(f"of {slot.index}", Ask(1, devices=(slot.uuid,)), wide(1, 10))
    host.ask("three", Ask(3), wide(2, 10))
    host.ask("whole", Ask(1, "full"), wide(3, 10))
    host.end_of("of 0")
    assert "whole" in {lease.id for lease in host.leases}


def test_of_two_free_slots_a_user_with_two_requests_gets_one_and_the_other_user_the_other() -> None:
    found = inventory(reading([gpu(0), gpu(1)]))
    alice, bob = wide(1, 10), wide(2, 10)
    waiters = (
        Waiter("alice 1", 0.0, 0.0, None, Ask(), alice),
        Waiter("alice 2", 1.0, 1.0, None, Ask(), alice),
        Waiter("bob", 2.0, 2.0, None, Ask(), bob),
    )
    granted = pass_queue(Board(found.slots, (), waiters), 3.0).granted
    assert [waiter.ticket for waiter, _slots in granted] == ["alice 1", "bob"]
