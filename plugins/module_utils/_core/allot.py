# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets which slot: the queue's order, placement, and the estimate of a wait. Pure.

A new request joins the queue before anything is decided, so nobody overtakes by asking late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from .gpu_request import Use, check, class_of, fits, fits_kind, may_lease, named_slots, room, use_of
from .gpus import OK, Slot
from .leases import ANY, PACK, SPREAD, Block, Lease, Refused, Waiter

AGEING_SECONDS = 600
"""Each time that a request has waited for so long, …"""
AGEING_POINTS = 10
"""… it counts as if its priority were so much higher: everybody comes first one day."""


@dataclass(frozen=True)
class Board:
    """All that a decision looks at.

    :param slots: of the last look, lost and gone ones included.
    :param leases: those that hold slots.
    :param waiters: requests in the queue, in any order.
    :param blocks: slots that are not handed out although nobody leases them.
    :param ready: whether the driver answers; without it nothing is handed out.
    """

    slots: tuple[Slot, ...]
    leases: tuple[Lease, ...]
    waiters: tuple[Waiter, ...] = ()
    blocks: tuple[Block, ...] = ()
    ready: bool = True

    @cached_property
    def by_uuid(self) -> dict[str, Slot]:
        """Slots by UUID."""
        return {slot.uuid: slot for slot in self.slots}

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(class_of(slot) for slot in self.slots if slot.health == OK)

    def count_of(self, name: str) -> int:
        """How many sound slots of a class there are."""
        return self._counts[name]


@dataclass(frozen=True)
class Pass:
    """What one pass over the queue comes to.

    :param granted: requests and the slots they get, in the queue's order.
    :param refused: requests that the limits no longer allow at all, and why.
    :param waiting: the others, in the queue's order, each with the reason in words.
    """

    granted: tuple[tuple[Waiter, tuple[Slot, ...]], ...] = ()
    refused: tuple[tuple[Waiter, Refused], ...] = ()
    waiting: tuple[tuple[Waiter, str], ...] = ()


def rank(waiter: Waiter, in_use: int, now: float) -> tuple[int, int, float, str]:
    """Sorts the queue: priority with age, then least in use, then first come.

    :param in_use: sevenths of a GPU that the user has now.
    """
    aged = int(max(0.0, now - waiter.asked) // AGEING_SECONDS) * AGEING_POINTS
    return -(waiter.allowance.priority + aged), in_use, waiter.asked, waiter.ticket


def in_order(board: Board, now: float) -> list[Waiter]:
    """The queue."""
    return _sorted(board.waiters, _Uses(board), now)


def _sorted(waiters: Iterable[Waiter], uses: _Uses, now: float) -> list[Waiter]:
    return sorted(waiters, key=lambda w: rank(w, uses.of(w.allowance.uid).sevenths, now))


class _Uses:
    """What each user has, counted when it is asked for."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._known: dict[int, Use] = {}

    def of(self, uid: int) -> Use:
        """What one user has."""
        if uid not in self._known:
            self._known[uid] = use_of(self._board.leases, self._board.by_uuid, uid)
        return self._known[uid]

    def add(self, uid: int, slots: Iterable[Slot]) -> None:
        """A user gets slots."""
        used = self.of(uid)
        for slot in slots:
            used = Use(used.sevenths + slot.sevenths, used.mig + slot.is_mig)
        self._known[uid] = used


@dataclass
class _Free:
    """What is still to have in one pass.

    :param slots: free slots by UUID.
    :param load: sevenths leased of each GPU, by its UUID.
    :param uses: each user's use.
    """

    slots: dict[str, Slot]
    load: dict[str, int]
    uses: _Uses


def pass_queue(board: Board, now: float, placement: str = SPREAD) -> Pass:
    """Serve the queue from its head as far as the free slots go.

    A request that cannot be served keeps the free slots that it could use for itself: smaller
    requests behind it would otherwise take them for ever.
    """
    if not board.ready:
        why = "the GPU driver does not answer"
        return Pass(waiting=tuple((waiter, why) for waiter in in_order(board, now)))
    free = _free(board)
    granted: list[tuple[Waiter, tuple[Slot, ...]]] = []
    refused: list[tuple[Waiter, Refused]] = []
    waiting: list[tuple[Waiter, str]] = []
    checked = _checker(board)
    left = _sorted(board.waiters, free.uses, now)
    while left:
        waiter, uid = left[0], left[0].allowance.uid
        left = left[1:]
        refusal = checked(waiter)
        if refusal is not None:
            refused.append((waiter, refusal))
            continue
        chosen = None
        if free.slots:
            chosen = choose(waiter, free.slots.values(), free.load, free.uses.of(uid), placement)
        if chosen:
            granted.append((waiter, chosen))
            _take(free, uid, chosen)
            # Who has just got something has more in use than those behind.
            left = _sorted(left, free.uses, now)
        else:
            waiting.append((waiter, _claim(waiter, free, board)))
    return Pass(tuple(granted), tuple(refused), tuple(waiting))


def _checker(board: Board) -> Callable[[Waiter], Refused | None]:
    """Why a request cannot be fulfilled at all; requests that are alike are looked at once."""
    known: dict[tuple[object, ...], Refused | None] = {}

    def checked(waiter: Waiter) -> Refused | None:
        allowed = waiter.allowance
        key = (
            waiter.ask,
            allowed.allow_full_gpu,
            allowed.max_gpus_per_container,
            allowed.max_mig_instances,
            allowed.max_gpu_equivalents,
        )
        if key not in known:
            try:
                check(waiter.ask, allowed, board.slots, Use())
            except Refused as refusal:
                return refusal  # it names the user
            known[key] = None
        return known[key]

    return checked


def _free(board: Board) -> _Free:
    taken = {uuid for lease in board.leases if lease.holding for uuid in lease.slots}
    blocked = {block.slot for block in board.blocks}
    load: dict[str, int] = {slot.parent: 0 for slot in board.slots}
    for slot in board.slots:
        if slot.uuid in taken:
            load[slot.parent] += slot.sevenths
    free = {
        slot.uuid: slot
        for slot in board.slots
        if slot.health == OK and slot.uuid not in taken and slot.uuid not in blocked
    }
    return _Free(free, load, _Uses(board))


def _take(free: _Free, uid: int, chosen: Iterable[Slot]) -> None:
    for slot in chosen:
        del free.slots[slot.uuid]
        free.load[slot.parent] += slot.sevenths
    free.uses.add(uid, chosen)


def choose(
    waiter: Waiter,
    free: Iterable[Slot],
    load: Mapping[str, int],
    used: Use,
    placement: str = SPREAD,
) -> tuple[Slot, ...] | None:
    """The slots for one request, all of one class, or None while there are not enough.

    :param load: sevenths leased of each GPU, by its UUID.
    :param placement: ``spread``: the GPU of which the least is leased first, then the smaller slot;
        ``pack``: MIG devices before whole GPUs, the GPU of which the most is leased first.
    """
    ask, left = waiter.ask, room(waiter.allowance, used)
    usable = [s for s in free if may_lease(s, waiter.allowance) and fits_kind(s, ask.kind)]
    if ask.devices:
        named = tuple(
            sorted(
                (s for s in usable if s.uuid in ask.devices or s.index in ask.devices),
                key=lambda s: s.order,
            )
        )
        return named if len(named) == ask.count and fits(named, left) else None
    sets = []
    for name in {class_of(slot) for slot in usable}:
        chosen = _place([s for s in usable if class_of(s) == name], ask.count, load, placement)
        if chosen and fits(chosen, left):
            sets.append(chosen)
    if not sets:
        return None
    return min(sets, key=lambda chosen: _cost(chosen, load, placement))


def _place(
    slots: list[Slot], count: int, load: Mapping[str, int], placement: str
) -> tuple[Slot, ...] | None:
    if len(slots) < count:
        return None
    load = dict(load)
    chosen: list[Slot] = []
    sign = -1 if placement == PACK else 1
    for _turn in range(count):
        best = min(
            (slot for slot in slots if slot not in chosen),
            key=lambda slot: (sign * load[slot.parent], slot.order),
        )
        chosen.append(best)
        load[best.parent] += best.sevenths
    return tuple(sorted(chosen, key=lambda slot: slot.order))


def _cost(
    chosen: Sequence[Slot], load: Mapping[str, int], placement: str
) -> tuple[int, int, int, tuple[int, int]]:
    leased = sum(load[slot.parent] for slot in chosen)
    size = sum(slot.sevenths for slot in chosen)
    if placement == PACK:
        return int(not chosen[0].is_mig), size, -leased, chosen[0].order
    return leased, size, 0, chosen[0].order


def _claim(waiter: Waiter, free: _Free, board: Board) -> str:
    """Keep what the request could use of the free slots; the reason of its wait, in words."""
    allowance, ask = waiter.allowance, waiter.ask
    left = room(allowance, free.uses.of(allowance.uid))
    if not fits_something(waiter, left):
        return "over the user's limits"
    worth = [
        chosen
        for chosen in _classes(waiter, free.slots.values(), left)
        # A class of which there are not enough slots at all will never serve it.
        if ask.devices or board.count_of(class_of(chosen[0])) >= ask.count
    ]
    if not worth:
        return f"no {'GPU' if ask.kind == ANY else f'{ask.kind} slot'} is free"
    kept = max(worth, key=lambda c: (len(c), -c[0].sevenths))[: ask.count]
    for slot in kept:
        del free.slots[slot.uuid]
    return f"{len(kept)} of {ask.count} slots are kept for it, the others are not free yet"


def _classes(waiter: Waiter, free: Iterable[Slot], left: Use) -> list[list[Slot]]:
    """The free slots that a request could use, by class; explicit devices are one class."""
    allowance, ask = waiter.allowance, waiter.ask
    classes: dict[str, list[Slot]] = {}
    for slot in free:
        if ask.devices:
            if slot.uuid in ask.devices or slot.index in ask.devices:
                classes.setdefault("", []).append(slot)
        elif may_lease(slot, allowance) and fits_kind(slot, ask.kind):
            classes.setdefault(class_of(slot), []).append(slot)
    return [c for c in classes.values() if ask.devices or fits([c[0]] * ask.count, left)]


def fits_something(waiter: Waiter, left: Use) -> bool:
    """Whether any slot at all would fit what the user has left."""
    return left.sevenths >= 1 and (left.mig >= 1 or waiter.allowance.allow_full_gpu)


def refuse_taken(waiter: Waiter, board: Board) -> Refused:
    """Why explicit devices, allowed as they are, cannot be had now: who has them.

    :raises Refused: from :func:`named_slots`.
    """
    for slot in named_slots(waiter.ask, board.slots):
        for lease in board.leases:
            if lease.holding and slot.uuid in lease.slots:
                what = f" in container {lease.container_name}" if lease.container_name else ""
                return Refused(
                    "devices",
                    f"{slot.index} is leased to {lease.user}{what}",
                    "devices",
                    "Ask for another device, or for any: ds01 gpu request --wait",
                )
        for block in board.blocks:
            if block.slot == slot.uuid:
                word = "drained" if block.why == "drained" else "in use without a lease"
                return Refused(
                    "devices", f"{slot.index} is {word}: {block.text}", "devices", "Ask for another"
                )
    return Refused(
        "devices",
        "the devices are free, but requests that came earlier wait for them",
        "devices",
        "Wait with them: ds01 gpu request --wait",
    )


def lease_end(lease: Lease) -> float | None:
    """When a lease ends by its limits at the latest; None where no limit says so. An estimate."""
    if lease.state == "reserved":
        return lease.expires
    if lease.state == "held":
        return lease.hold_until
    if lease.bound_at is None or lease.max_runtime is None:
        return None
    return lease.bound_at + lease.max_runtime


def estimates(board: Board, now: float, placement: str = SPREAD) -> dict[str, float | None]:
    """For each waiting request the book time at which it may be served: an estimate.

    Played through with every lease ending at its limit and none before. Leases end earlier when
    people stop their containers, and new requests of a higher priority may come.

    :returns: by ticket; None where no limit ends what is in the way.
    """
    found: dict[str, float | None] = {waiter.ticket: None for waiter in board.waiters}
    ends = sorted(
        (end, lease.id) for lease in board.leases if (end := lease_end(lease)) is not None
    )
    leases = {lease.id: lease for lease in board.leases}
    waiters = board.waiters
    for end, lease_id in ends:
        if not waiters:
            break
        del leases[lease_id]
        then = max(now, end)
        state = replace(board, leases=tuple(leases.values()), waiters=waiters)
        served = {w.ticket: slots for w, slots in pass_queue(state, then, placement).granted}
        for waiter in waiters:
            if waiter.ticket in served:
                found[waiter.ticket] = then
                slots = tuple(slot.uuid for slot in served[waiter.ticket])
                a = waiter.allowance
                leases[f"?{waiter.ticket}"] = Lease(
                    f"?{waiter.ticket}", a.uid, a.user, "bound", slots, then
                )
        waiters = tuple(w for w in waiters if w.ticket not in served)
    return found
