# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the book says, as the daemon's clients get it. Pure.

A lease's id gives its GPUs to whoever names it; so only its owner and administrators see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ds01.core.allot import lease_end
from ds01.core.book import Queued, Snapshot
from ds01.core.gpu_request import use_of
from ds01.core.gpus import FULL_GPU_SLICES, GONE, OK, Slot
from ds01.core.leases import Allowance, Block, Lease


class View:
    """One snapshot as one caller may see it.

    :param uid: the caller's.
    :param admin: sees everything.
    :param allowances: those that are known, by uid.
    """

    def __init__(
        self, snapshot: Snapshot, uid: int, admin: bool, allowances: Mapping[int, Allowance]
    ) -> None:
        self.snapshot = snapshot
        self.uid = uid
        self.admin = admin
        self._allowances = dict(allowances)
        for row in snapshot.queue:
            self._allowances[row.waiter.allowance.uid] = row.waiter.allowance
        self._slots = {slot.uuid: slot for slot in snapshot.slots}
        self._holder = {
            uuid: lease for lease in snapshot.leases if lease.holding for uuid in lease.slots
        }
        self._blocks: dict[str, list[Block]] = {}
        for block in snapshot.blocks:
            self._blocks.setdefault(block.slot, []).append(block)

    def sees(self, uid: int) -> bool:
        """Whether what is this user's secret may be shown."""
        return self.admin or uid == self.uid

    def status(self, user: str = "") -> dict[str, Any]:
        """``gpu status``.

        :param user: only what this user has; empty: all.
        """
        found = self.snapshot
        slots = [self.slot(slot) for slot in found.slots if self._of_interest(slot)]
        leases = [self.lease(one) for one in found.leases if self.sees(one.uid)]
        waiting = [self.waiting(row) for row in found.queue]
        return {
            "now": found.wall,
            "driver": {"state": found.driver, "reason": found.driver_reason},
            "slots": [row for row in slots if not user or row["user"] == user],
            "leases": [row for row in leases if not user or row["user"] == user],
            "users": [row for row in self.users() if not user or row["user"] == user],
            "queue": [row for row in waiting if not user or row["user"] == user],
        }

    def queue(self) -> dict[str, Any]:
        """``gpu queue``."""
        rows = [self.waiting(row) for row in self.snapshot.queue]
        return {"now": self.snapshot.wall, "queue": rows}

    def _of_interest(self, slot: Slot) -> bool:
        """A MIG device of an earlier partition is, as long as somebody has it leased."""
        return slot.health != GONE or slot.uuid in self._holder

    def slot(self, slot: Slot) -> dict[str, Any]:
        """One row of the table."""
        lease = self._holder.get(slot.uuid)
        blocks = self._blocks.get(slot.uuid, [])
        end = lease_end(lease) if lease else None
        return {
            "slot": slot.index,
            "uuid": slot.uuid,
            "gpu": slot.parent,
            "profile": slot.profile,
            "memory": slot.memory,
            "state": self.state(slot),
            "user": lease.user if lease else "",
            "mine": bool(lease and lease.uid == self.uid),
            "container": lease.container_name if lease else "",
            "since": self._wall(lease.bound_at or lease.created) if lease else None,
            "until": self._wall(end),
            "note": lease.ask.note if lease else "",
            "text": "; ".join(self._block_words(block) for block in blocks),
        }

    @staticmethod
    def _block_words(block: Block) -> str:
        if block.why == "drained":
            return f"drained by {block.by}: {block.text}"
        return f"in use without a lease: {block.text}" if block.why == "foreign" else block.text

    def state(self, slot: Slot) -> str:
        """``free``, a lease's state, ``stale``, ``ending``, ``drained``, ``foreign``, ``lost``."""
        lease = self._holder.get(slot.uuid)
        if lease is None:
            blocks = [block.why for block in self._blocks.get(slot.uuid, ())]
            return slot.health if slot.health != OK else (min(blocks) if blocks else "free")
        if slot.health != OK:
            return "stale"
        return "ending" if lease.revoked is not None else lease.state

    def lease(self, lease: Lease) -> dict[str, Any]:
        """A lease, its id included: only for those who may see it."""
        return {
            "id": lease.id,
            "user": lease.user,
            "uid": lease.uid,
            "mine": lease.uid == self.uid,
            "state": "ended" if lease.state == "free" else lease.state,
            "stale": lease.stale,
            "slots": [self._slot_name(uuid) for uuid in lease.slots],
            "container": lease.container_name or lease.container[:12],
            "since": self._wall(lease.created),
            "until": self._wall(lease_end(lease)) if lease.holding else None,
            "note": lease.ask.note,
        }

    def _slot_name(self, uuid: str) -> dict[str, str]:
        slot = self._slots.get(uuid)
        return {
            "slot": slot.index if slot else "?",
            "uuid": uuid,
            "profile": slot.profile if slot else "",
        }

    def waiting(self, row: Queued) -> dict[str, Any]:
        """A place in the queue."""
        waiter = row.waiter
        mine = waiter.allowance.uid == self.uid
        return {
            "position": row.position,
            "of": len(self.snapshot.queue),
            "user": waiter.allowance.user,
            "uid": waiter.allowance.uid,
            "mine": mine,
            "count": waiter.ask.count,
            "kind": waiter.ask.kind,
            "devices": list(waiter.ask.devices),
            "note": waiter.ask.note,
            "since": self._wall(waiter.asked),
            "until": self._wall(waiter.deadline),
            "eta": row.eta,
            "reason": row.reason,
            "ticket": waiter.ticket if self.sees(waiter.allowance.uid) else None,
        }

    def users(self) -> list[dict[str, Any]]:
        """What each user has of what he may have."""
        names = {lease.uid: lease.user for lease in self.snapshot.leases if lease.holding}
        names |= {r.waiter.allowance.uid: r.waiter.allowance.user for r in self.snapshot.queue}
        rows = []
        for uid, name in sorted(names.items(), key=lambda item: item[1]):
            used = use_of(self.snapshot.leases, self._slots, uid)
            allowed = self._allowances.get(uid)
            rows.append(
                {
                    "user": name,
                    "uid": uid,
                    "gpu_equivalents": used.sevenths / FULL_GPU_SLICES,
                    "max_gpu_equivalents": allowed.max_gpu_equivalents if allowed else None,
                    "mig": used.mig,
                    "max_mig_instances": allowed.max_mig_instances if allowed else None,
                    "waiting": sum(r.waiter.allowance.uid == uid for r in self.snapshot.queue),
                }
            )
        return rows

    def find_leases(self, subject: str) -> list[Lease]:
        """The leases that may be meant, of those that the caller may act on.

        :param subject: id of a lease, name or id of a container, index or UUID of a slot.
        """
        mine = [lease for lease in self.snapshot.leases if self.sees(lease.uid)]
        return [lease for lease in mine if self._means(lease, subject)]

    def _means(self, lease: Lease, subject: str) -> bool:
        if subject in (lease.id, lease.container_name):
            return True
        if len(subject) >= 12 and lease.container.startswith(subject):
            return True
        known = [self._slots[uuid] for uuid in lease.slots if uuid in self._slots]
        return lease.holding and any(subject in (slot.uuid, slot.index) for slot in known)

    def find_slot(self, subject: str) -> Slot | None:
        """A slot by index or UUID; one that is there before one that is gone."""
        found = [slot for slot in self.snapshot.slots if subject in (slot.index, slot.uuid)]
        return min(found, key=lambda slot: slot.health != OK, default=None)

    def _wall(self, moment: float | None) -> float | None:
        return None if moment is None else self.snapshot.wall_of(moment)


def one_of(leases: Iterable[Lease]) -> Lease | None:
    """The lease that is meant: one that holds GPUs before those that have ended."""
    found = sorted(leases, key=lambda lease: not lease.holding)
    holding = [lease for lease in found if lease.holding]
    if len(holding) == 1:
        return holding[0]
    return found[0] if len(found) == 1 else None
