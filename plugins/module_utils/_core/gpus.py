# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GPUs there are: slots, their health, and what changed since the last look.

A slot is a full GPU or a MIG device. A GPU in MIG mode is no slot itself.
Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

# States of the driver. Only with READY is anything handed out.
READY = "ready"
DRIVER_ABSENT = "driver_absent"
DRIVER_RESTARTING = "driver_restarting"

# Health of a slot.
OK = "ok"
LOST = "lost"
"""The GPU fell off the bus (NVML_ERROR_GPU_IS_LOST) or is not found any more."""
GONE = "gone"
"""The MIG device is no more: its GPU was partitioned anew."""

FULL_GPU_SLICES = 7
"""Compute slices that one GPU equivalent has."""


@dataclass(frozen=True)
class Slot:
    """A full GPU or a MIG device.

    :param uuid: ``GPU-…`` or ``MIG-…``.
    :param index: for people: ``0``, or ``0:1`` (GPU index, MIG index; MIG indices have holes).
    :param parent: UUID of the GPU; of a full GPU its own.
    :param profile: MIG profile such as ``2g.10gb``; empty for a full GPU.
    :param memory: bytes.
    :param compute_slices: of a MIG device; :data:`FULL_GPU_SLICES` for a full GPU.
    :param health: :data:`OK`, :data:`LOST` or :data:`GONE`.
    """

    uuid: str
    index: str
    parent: str
    profile: str
    memory: int
    compute_slices: int
    health: str = OK

    @property
    def is_mig(self) -> bool:
        """Whether it is a MIG device."""
        return bool(self.profile)

    @property
    def sevenths(self) -> int:
        """GPU equivalents times seven, a whole number: sums of 1/7 would not be exact."""
        return self.compute_slices if self.is_mig else FULL_GPU_SLICES

    @cached_property
    def order(self) -> tuple[int, int]:
        """Sorts slots as people count them."""
        gpu, _colon, mig = self.index.partition(":")
        return int(gpu), int(mig or 0)


@dataclass(frozen=True)
class GpuProcess:
    """A process that NVML sees on a slot.

    :param slot: UUID of the slot; of a MIG-enabled GPU's own processes that of the GPU.
    :param memory: bytes of GPU memory, 0 where NVML does not say.
    """

    pid: int
    slot: str
    memory: int = 0


@dataclass(frozen=True)
class Inventory:
    """What NVML says.

    :param state: :data:`READY`, :data:`DRIVER_ABSENT` or :data:`DRIVER_RESTARTING`.
    :param reason: NVML's own words where the state is not ready.
    :param slots: in the order of their indices.
    :param lost: UUIDs of GPUs that are lost, where NVML still knows them.
    :param minors: minor of the device node, UUID of its GPU.
    :param mig: UUIDs of the GPUs in MIG mode, also of those that have no MIG device.
    """

    state: str
    reason: str = ""
    driver: str = ""
    slots: tuple[Slot, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    lost: tuple[str, ...] = ()
    minors: tuple[tuple[int, str], ...] = ()
    mig: tuple[str, ...] = ()

    @property
    def present(self) -> frozenset[str]:
        """UUIDs of the GPUs that answered."""
        return frozenset({slot.parent for slot in self.slots} | set(self.mig)) - set(self.lost)


@dataclass(frozen=True)
class Change:
    """One difference between two looks.

    :param kind: ``driver_absent``, ``driver_restarting``, ``driver_ready``, ``gpu_lost``,
        ``gpu_back``, ``repartitioned``, ``slot_new``, ``slot_gone``.
    :param subject: UUID of the GPU or slot; empty for the driver.
    """

    kind: str
    subject: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def inventory(reading: Mapping[str, Any]) -> Inventory:
    """The inventory from what the NVML adapter read.

    :param reading: ``{"state", "reason", "driver_version", "gpus": [{"index", "uuid", "name",
        "memory", "minor", "lost", "mig_enabled", "mig": [{"index", "uuid", "profile", "memory",
        "compute_slices"}], "processes": [{"pid", "slot", "memory"}]}]}``; a lost GPU may lack all
        but index and lost.
    """
    if reading["state"] != READY:
        return Inventory(reading["state"], reading.get("reason", ""))
    slots: list[Slot] = []
    processes: list[GpuProcess] = []
    lost: list[str] = []
    for gpu in reading["gpus"]:
        if gpu.get("lost"):
            if gpu.get("uuid"):
                lost.append(gpu["uuid"])
            continue
        slots += _slots_of(gpu)
        processes += [
            GpuProcess(int(row["pid"]), row["slot"], int(row.get("memory") or 0))
            for row in gpu.get("processes", ())
        ]
    return Inventory(
        READY,
        driver=reading.get("driver_version", ""),
        slots=tuple(sorted(slots, key=lambda slot: slot.order)),
        processes=tuple(processes),
        lost=tuple(lost),
        minors=tuple(
            (int(gpu["minor"]), gpu["uuid"])
            for gpu in reading["gpus"]
            if gpu.get("uuid") and gpu.get("minor") is not None
        ),
        mig=tuple(
            gpu["uuid"] for gpu in reading["gpus"] if gpu.get("mig_enabled") and not gpu.get("lost")
        ),
    )


def _slots_of(gpu: Mapping[str, Any]) -> Iterable[Slot]:
    if not gpu.get("mig_enabled"):
        yield Slot(
            gpu["uuid"], str(gpu["index"]), gpu["uuid"], "", int(gpu["memory"]), FULL_GPU_SLICES
        )
        return
    for mig in gpu.get("mig", ()):
        yield Slot(
            mig["uuid"],
            f"{gpu['index']}:{mig['index']}",
            gpu["uuid"],
            mig["profile"],
            int(mig["memory"]),
            int(mig["compute_slices"]),
        )


def settled(known: Sequence[Slot], found: Inventory) -> tuple[tuple[Slot, ...], list[Change]]:
    """The slots after a look, and what changed.

    A known slot that is not found any more stays, as lost (its GPU is not there) or gone (its GPU
    is, partitioned in another way), so that whoever leased it can be told. While the driver does
    not answer the slots stay as they are.

    :param known: slots of the last look, lost and gone ones included.
    """
    if found.state != READY:
        return tuple(known), []
    now = {slot.uuid: slot for slot in found.slots}
    before = {slot.uuid: slot for slot in known}
    changes: list[Change] = []
    kept: list[Slot] = []
    for slot in before.values():
        if slot.uuid in now:
            continue
        after = _missing(slot, found)
        if after.health != slot.health:
            kind = "gpu_lost" if after.health == LOST else "slot_gone"
            changes.append(Change(kind, slot.uuid, {"index": slot.index, "gpu": slot.parent}))
        kept.append(after)
    for slot in now.values():
        old = before.get(slot.uuid)
        if old is None or old.health == GONE:
            changes.append(Change("slot_new", slot.uuid, {"index": slot.index, "gpu": slot.parent}))
        elif old.health == LOST:
            changes.append(Change("gpu_back", slot.uuid, {"index": slot.index, "gpu": slot.parent}))
    changes += _repartitioned(changes)
    return tuple(sorted([*now.values(), *kept], key=lambda s: (s.order, s.uuid))), changes


def _missing(slot: Slot, found: Inventory) -> Slot:
    """A slot that a look did not find.

    Its GPU answers: then it was partitioned anew and the slot is gone. A slot that is gone stays
    so, whatever becomes of its GPU.
    """
    gone = slot.health == GONE or slot.parent in found.present
    return replace(slot, health=GONE if gone else LOST)


def _repartitioned(changes: Sequence[Change]) -> list[Change]:
    gone = {change.details["gpu"] for change in changes if change.kind == "slot_gone"}
    return [Change("repartitioned", gpu) for gpu in sorted(gone)]
