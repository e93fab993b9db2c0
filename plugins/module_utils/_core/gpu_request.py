# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a request for GPUs is one that can be fulfilled: its form, the slots there are, the limits.

What is refused here no waiting would change. Whether a slot is free now is decided in allot.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from .gpus import FULL_GPU_SLICES, OK, Slot
from .leases import ANY, FULL, MIG, Allowance, Ask, Lease, Refused, Waiter

NOTE_MAX = 200
COUNT_MAX = 1024
_PROFILE = re.compile(r"[1-9][0-9]?g\.[1-9][0-9]{0,3}gb(\+[a-z.]+)?\Z")


@dataclass(frozen=True)
class Use:
    """What a user has, or what is left.

    :param sevenths: GPU equivalents times seven.
    :param mig: MIG devices.
    """

    sevenths: int = 0
    mig: int = 0


def well_formed(ask: Ask) -> Ask:
    """The request with its explicit devices counted.

    :raises Refused: a count, kind or note that cannot be meant.
    """
    if isinstance(ask.count, bool) or not isinstance(ask.count, int) or ask.count < 1:
        raise Refused("count", f"{ask.count!r} is no number of GPUs", "count", "Ask for 1 or more")
    if ask.count > COUNT_MAX:
        raise Refused("count", f"{ask.count} GPUs are more than any host has", "count")
    if ask.kind not in (ANY, FULL, MIG) and not _PROFILE.match(ask.kind):
        raise Refused(
            "kind",
            f"{ask.kind[:40]!r} is no kind of GPU",
            "kind",
            "Ask for any, full, mig, or a MIG profile such as 2g.10gb",
        )
    if len(ask.note) > NOTE_MAX or not (ask.note.isprintable() or not ask.note):
        raise Refused("note", f"a note has up to {NOTE_MAX} printable characters", "note")
    if not ask.devices:
        return ask
    if ask.kind != ANY:
        raise Refused("kind", "explicit devices and a kind exclude each other", "devices")
    if len(set(ask.devices)) != len(ask.devices) or len(ask.devices) > COUNT_MAX:
        raise Refused("devices", "a device is named twice", "devices", "Name each device once")
    return replace(ask, count=len(ask.devices))


def named_slots(ask: Ask, slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """The slots that a request names, in the order of their indices.

    :raises Refused: a device is unknown, lost, gone, or a GPU in MIG mode.
    """
    found = [_named(name, slots) for name in ask.devices]
    if len({slot.uuid for slot in found}) != len(found):
        raise Refused("devices", "a device is named twice", "devices", "Name each device once")
    return tuple(sorted(found, key=lambda slot: slot.order))


def _named(name: str, slots: Sequence[Slot]) -> Slot:
    present = [slot for slot in slots if slot.health == OK]
    for slot in present:
        if name in (slot.uuid, slot.index):
            return slot
    if any(name == slot.parent or name == slot.index.partition(":")[0] for slot in present):
        inside = [s.index for s in present if name in (s.parent, s.index.partition(":")[0])]
        raise Refused(
            "devices",
            f"GPU {name} is split by MIG and cannot be leased as a whole",
            "devices",
            f"Name one of its MIG devices: {', '.join(inside)}",
        )
    for slot in slots:
        if name in (slot.uuid, slot.index):
            raise Refused(
                "stale",
                f"{slot.index} ({slot.uuid}) is {slot.health}",
                "devices",
                "See 'ds01 gpu status' for what there is",
            )
    raise Refused(
        "devices",
        f"this host has no GPU or MIG device {name[:80]!r}",
        "devices",
        f"It has {', '.join(slot.index for slot in present) or 'none'}",
    )


def may_lease(slot: Slot, allowance: Allowance) -> bool:
    """Whether the user may have a slot of this kind at all."""
    return slot.is_mig or allowance.allow_full_gpu


def fits_kind(slot: Slot, kind: str) -> bool:
    """Whether a slot is of the kind that is asked for."""
    if kind == ANY:
        return True
    if kind == FULL:
        return not slot.is_mig
    return slot.is_mig and kind in (MIG, slot.profile)


def class_of(slot: Slot) -> str:
    """Slots of one class can stand for one another: a request's slots are of one class."""
    return slot.profile or FULL


def room(allowance: Allowance, used: Use) -> Use:
    """What a user may still lease; a very large number where nothing limits it."""
    endless = 10**9
    equivalents, mig = allowance.max_gpu_equivalents, allowance.max_mig_instances
    sevenths = endless
    if equivalents is not None:
        sevenths = _whole_sevenths(equivalents)
    return Use(sevenths - used.sevenths, (endless if mig is None else mig) - used.mig)


@lru_cache(maxsize=1024)
def _whole_sevenths(equivalents: float) -> int:
    """0.43 is meant as 3/7: what is written with two digits is taken as the nearest seventh."""
    exact = Fraction(str(equivalents)) * FULL_GPU_SLICES
    return round(exact) if abs(exact - round(exact)) < Fraction(1, 20) else int(exact)


def fits(slots: Iterable[Slot], left: Use) -> bool:
    """Whether these slots fit what is left."""
    chosen = tuple(slots)
    mig = sum(slot.is_mig for slot in chosen)
    return sum(s.sevenths for s in chosen) <= left.sevenths and (mig == 0 or mig <= left.mig)


def use_of(leases: Iterable[Lease], slots: dict[str, Slot], uid: int) -> Use:
    """What a user's leases take, those on lost or gone slots included."""
    mine = [
        slots[u]
        for lease in leases
        if lease.uid == uid and lease.holding
        for u in lease.slots
        if u in slots
    ]
    return Use(sum(slot.sevenths for slot in mine), sum(slot.is_mig for slot in mine))


def least(ask: Ask, allowance: Allowance, slots: Sequence[Slot]) -> Use:
    """The least that a request can come to, for the count of a user's waiting requests."""
    if ask.devices:
        named = set(ask.devices)
        chosen = [s for s in slots if s.health == OK and named & {s.uuid, s.index}]
        return Use(sum(s.sevenths for s in chosen), sum(s.is_mig for s in chosen))
    wanted = [s for s in slots if fits_kind(s, ask.kind) and may_lease(s, allowance)]
    if not wanted:
        return Use()
    smallest = min(slot.sevenths for slot in wanted)
    every_mig = all(slot.is_mig for slot in wanted)
    return Use(smallest * ask.count, ask.count if every_mig else 0)


def check(
    ask: Ask,
    allowance: Allowance,
    slots: Sequence[Slot],
    used: Use,
    waiting: Sequence[Waiter] = (),
) -> None:
    """Whether the limits and the host's slots allow a request at all, now.

    :param used: what the user's leases take.
    :param waiting: the user's other requests in the queue; they count too, or the queue would be a
        way round the limits.
    :raises Refused: they do not.
    """
    most = allowance.max_gpus_per_container
    if most is not None and ask.count > most:
        raise _limit(
            allowance,
            "max_gpus_per_container",
            f"{ask.count} GPUs for one container are more than the {most} that {allowance.user} "
            "may give one",
            "Ask for fewer",
        )
    candidates = _candidates(ask, allowance, slots)
    for other in waiting:
        more = least(other.ask, other.allowance, slots)
        used = Use(used.sevenths + more.sevenths, used.mig + more.mig)
    left = room(allowance, used)
    if any(fits([slot] * ask.count, left) for slot in candidates) and not ask.devices:
        return
    if ask.devices and fits(candidates, left):
        return
    raise _over(ask, allowance, candidates, used, left, bool(waiting))


def _candidates(ask: Ask, allowance: Allowance, slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """The slots that could serve the request once they are free.

    :raises Refused: there are none, or not enough of one class.
    """
    if ask.devices:
        chosen = named_slots(ask, slots)
        forbidden = [slot.index for slot in chosen if not may_lease(slot, allowance)]
        if forbidden:
            raise _no_full(allowance, f"{forbidden[0]} is a whole GPU")
        return chosen
    kind = [slot for slot in slots if slot.health == OK and fits_kind(slot, ask.kind)]
    if not kind:
        there = sorted({class_of(slot) for slot in slots if slot.health == OK})
        raise Refused(
            "slots",
            f"this host has no {'GPU' if ask.kind == ANY else ask.kind + ' slot'} now",
            "kind",
            f"It has {', '.join(there)}" if there else "See 'ds01 gpu status'",
        )
    allowed = [slot for slot in kind if may_lease(slot, allowance)]
    if not allowed:
        raise _no_full(allowance, "what is asked for is a whole GPU")
    counts: dict[str, int] = {}
    for slot in allowed:
        counts[class_of(slot)] = counts.get(class_of(slot), 0) + 1
    if max(counts.values()) < ask.count:
        raise Refused(
            "slots",
            f"this host has no {ask.count} slots of one kind that {allowance.user} may lease",
            "count",
            "It has " + ", ".join(f"{n} x {name}" for name, n in sorted(counts.items())),
        )
    return tuple(slot for slot in allowed if counts[class_of(slot)] >= ask.count)


def _over(
    ask: Ask,
    allowance: Allowance,
    candidates: Sequence[Slot],
    used: Use,
    left: Use,
    with_waiting: bool,
) -> Refused:
    counted = " and has asked for" if with_waiting else ""
    smallest = min(slot.sevenths for slot in candidates) * ask.count
    if ask.devices:
        smallest = sum(slot.sevenths for slot in candidates)
    if smallest > left.sevenths:
        return _limit(
            allowance,
            "max_gpu_equivalents",
            f"{allowance.user} holds{counted} {equivalents(used.sevenths)} GPU equivalents, "
            f"this needs {equivalents(smallest)} more, and the limit is "
            f"{allowance.max_gpu_equivalents:g}",
            "Release what you do not need: ds01 gpu status --user yourself",
        )
    return _limit(
        allowance,
        "max_mig_instances",
        f"{allowance.user} holds{counted} {used.mig} MIG devices, this needs more, and the "
        f"limit is {allowance.max_mig_instances}",
        "Release what you do not need: ds01 gpu status --user yourself",
    )


def _no_full(allowance: Allowance, what: str) -> Refused:
    return _limit(
        allowance,
        "allow_full_gpu",
        f"{what}, and {allowance.user} may lease MIG devices only",
        "Ask for a MIG device: ds01 gpu request --mig",
    )


def _limit(allowance: Allowance, key: str, what: str, remedy: str) -> Refused:
    return Refused(key, what, allowance.origins.get(key, key), remedy)


def equivalents(sevenths: int) -> str:
    """GPU equivalents for people: ``1``, ``0.29``."""
    return f"{sevenths / FULL_GPU_SLICES:.2f}".rstrip("0").rstrip(".")
