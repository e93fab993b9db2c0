# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is published of the book: gpu-allocations.json and gpu-state.json.

Everybody may read these, so they have no lease ids and no tickets: whoever knows one has the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from .book_view import Queued, Snapshot
from .events import format_timestamp
from .gpus import FULL_GPU_SLICES, GONE, OK, Slot
from .leases import ANY, BOUND, FULL, HELD, MIG, RESERVED, Ask, Block, Lease

SCHEMA_VERSION = 1

FREE, DRAINED = "free", "drained"


def equivalents(slots: Iterable[Slot]) -> float:
    """GPU equivalents, to three places: 3/7 of a GPU is 0.429."""
    return round(sum(slot.sevenths for slot in slots) / FULL_GPU_SLICES, 3)


def asked(ask: Ask) -> str:
    """What is asked for, in words: ``2 full GPUs``, ``1 MIG device 2g.10gb``, ``GPU 0, 2:1``."""
    if ask.devices:
        return f"GPU {', '.join(ask.devices)}"
    many = "" if ask.count == 1 else "s"
    if ask.kind == ANY:
        return f"{ask.count} GPU{many} of any kind"
    if ask.kind == FULL:
        return f"{ask.count} full GPU{many}"
    words = f"{ask.count} MIG device{many}"
    return words if ask.kind == MIG else f"{words} {ask.kind}"


class _Clock:
    """Times of the book as timestamps.

    :param wall_now: seconds since the epoch at the snapshot's now.
    """

    def __init__(self, now: float, wall_now: float) -> None:
        self._offset = wall_now - now
        self.wall_now = wall_now

    def __call__(self, moment: float | None) -> str | None:
        return None if moment is None else self.stamp(moment + self._offset)

    @staticmethod
    def stamp(unix: float) -> str:
        return format_timestamp(datetime.fromtimestamp(unix, timezone.utc))


def allocations(snapshot: Snapshot, wall_now: float | None = None) -> dict[str, Any]:
    """The content of gpu-allocations.json.

    :param wall_now: seconds since the epoch at the snapshot's now, if not the snapshot's own.
    """
    clock = _Clock(snapshot.now, snapshot.wall if wall_now is None else wall_now)
    holders = _holders(snapshot)
    return {
        "schema_version": SCHEMA_VERSION,
        "generated_at": clock.stamp(clock.wall_now),
        "driver": {"state": snapshot.driver, "reason": snapshot.driver_reason},
        "slots": [
            _slot(slot, holders.get(slot.uuid), _blocks(snapshot, slot), clock)
            for slot in _shown(snapshot, holders)
        ],
        "users": _users(snapshot),
        "queue": [_queued(row, snapshot, clock) for row in snapshot.queue],
    }


def gpu_state(snapshot: Snapshot) -> dict[str, dict[str, Any] | None]:
    """The content of gpu-state.json, for what reads the file of the earlier system.

    ``{"gpu_0": {"user": …, "container": …}, "gpu_1": null, "gpu_2.0": …}``; null is a slot that can
    be handed out. One that nobody leases and that is not handed out has no user, and ``state``.
    """
    holders = _holders(snapshot)
    found: dict[str, dict[str, Any] | None] = {}
    for slot in _shown(snapshot, holders):
        if slot.health == GONE:
            continue
        lease = holders.get(slot.uuid)
        state = _state(slot, lease, _blocks(snapshot, slot))
        value: dict[str, Any] | None = None
        if lease is not None:
            value = {"user": lease.user or None, "container": lease.container_name or None}
        elif state != FREE:
            value = {"user": None, "container": None, "state": state}
        found[f"gpu_{slot.index.replace(':', '.')}"] = value
    return found


def _holders(snapshot: Snapshot) -> dict[str, Lease]:
    return {uuid: lease for lease in snapshot.leases if lease.holding for uuid in lease.slots}


def _shown(snapshot: Snapshot, holders: dict[str, Lease]) -> list[Slot]:
    """Slots as people count them; one that is gone counts only as long as somebody leases it."""
    found = [slot for slot in snapshot.slots if slot.health != GONE or slot.uuid in holders]
    return sorted(found, key=lambda slot: (slot.order, slot.uuid))


def _blocks(snapshot: Snapshot, slot: Slot) -> list[Block]:
    found = [block for block in snapshot.blocks if block.slot == slot.uuid]
    return sorted(found, key=lambda block: (block.why != DRAINED, block.why, block.text))


def _state(slot: Slot, lease: Lease | None, blocks: Sequence[Block]) -> str:
    if slot.health != OK:
        return slot.health
    if lease is not None:
        return lease.state
    return blocks[0].why if blocks else FREE


def _slot(
    slot: Slot, lease: Lease | None, blocks: Sequence[Block], clock: _Clock
) -> dict[str, Any]:
    since: float | None = None
    if lease is not None:
        began = {RESERVED: lease.created, BOUND: lease.bound_at, HELD: lease.held_at}
        since = began.get(lease.state) or lease.created
    elif blocks:
        since = blocks[0].since
    return {
        "index": slot.index,
        "uuid": slot.uuid,
        "gpu_uuid": slot.parent,
        "profile": slot.profile or None,
        "memory": slot.memory,
        "compute_slices": slot.compute_slices,
        "gpu_equivalents": equivalents([slot]),
        "health": slot.health,
        "state": _state(slot, lease, blocks),
        "user": (lease.user or None) if lease else None,
        "uid": lease.uid if lease and lease.uid >= 0 else None,
        "container": _container(lease),
        "since": clock(since),
        "until": clock(_until(lease)),
        "message": _message(slot, lease, blocks),
    }


def _container(lease: Lease | None) -> dict[str, str | None] | None:
    if lease is None or not lease.container:
        return None
    return {"id": lease.container, "name": lease.container_name or None}


def _until(lease: Lease | None) -> float | None:
    """When the slots can come free by themselves; None: nobody knows, or never."""
    if lease is None:
        return None
    if lease.state == RESERVED:
        return lease.expires
    if lease.state == HELD:
        return lease.hold_until
    if lease.bound_at is None or lease.max_runtime is None:
        return None
    return lease.bound_at + lease.max_runtime


def _message(slot: Slot, lease: Lease | None, blocks: Sequence[Block]) -> str | None:
    parts = []
    if lease is not None and lease.stale:
        parts.append(
            "the slot of this lease is "
            + ("not there any more" if slot.health != OK else "incomplete: another one is missing")
        )
    if lease is not None and not lease.user:
        parts.append("the owner is not known")
    for block in blocks:
        parts.append(f"drained: {block.text}" if block.why == DRAINED else block.text)
    return "; ".join(part for part in parts if part) or None


def _users(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What each user has in use, held and reserved slots included."""
    slots = {slot.uuid: slot for slot in snapshot.slots}
    names: dict[int, str] = {}
    used: dict[int, list[Slot]] = {}
    for lease in sorted(snapshot.leases, key=lambda lease: (lease.created, lease.id)):
        if lease.holding:
            names[lease.uid] = lease.user
            used.setdefault(lease.uid, []).extend(
                slots[uuid] for uuid in lease.slots if uuid in slots
            )
    return [
        {
            "user": names[uid] or None,
            "uid": uid if uid >= 0 else None,
            "gpu_equivalents": equivalents(used[uid]),
            "mig_instances": sum(slot.is_mig for slot in used[uid]),
            "slots": [slot.index for slot in sorted(used[uid], key=lambda slot: slot.order)],
        }
        for uid in sorted(used, key=lambda uid: (names[uid], uid))
    ]


def _queued(row: Queued, snapshot: Snapshot, clock: _Clock) -> dict[str, Any]:
    waiter = row.waiter
    return {
        "position": row.position,
        "user": waiter.allowance.user,
        "uid": waiter.allowance.uid,
        "asked": asked(waiter.ask),
        "count": waiter.ask.count,
        "kind": waiter.ask.kind,
        "devices": list(waiter.ask.devices),
        "note": waiter.ask.note or None,
        "since": clock(waiter.asked),
        "deadline": clock(waiter.deadline),
        "eta": clock(None if row.eta is None else snapshot.now + row.eta),
        "eta_is_estimate": True,
        "reason": row.reason or None,
    }
