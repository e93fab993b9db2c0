# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What slots there are, and what a look says became of those that were there before."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core.gpus import (
    DRIVER_ABSENT,
    DRIVER_RESTARTING,
    GONE,
    LOST,
    OK,
    Change,
    Inventory,
    Slot,
    inventory,
    settled,
)

GIB = 1 << 30


def gpu(index: int, *migs: str, mode: bool | None = None, **more: Any) -> dict[str, Any]:
    """A GPU as the adapter reads it; with MIG devices, or the mode alone, it is in MIG mode."""
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA A100-PCIE-40GB",
        "memory": 40 * GIB,
        "minor": index,
        "lost": False,
        "mig_enabled": bool(migs) if mode is None else mode,
        "mig": [
            {
                # Indices with holes, as after a device was destroyed.
                "index": 2 * place,
                "uuid": uuid,
                "profile": "3g.20gb",
                "memory": 20 * GIB,
                "compute_slices": 3,
            }
            for place, uuid in enumerate(migs)
        ],
        "processes": [],
        **more,
    }


def seen(*gpus: dict[str, Any]) -> Inventory:
    return inventory({"state": "ready", "driver_version": "550.163.01", "gpus": list(gpus)})


def slots(*gpus: dict[str, Any]) -> tuple[Slot, ...]:
    return settled((), seen(*gpus))[0]


def health(found: tuple[Slot, ...]) -> dict[str, str]:
    return {slot.uuid: slot.health for slot in found}


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.kind, change.subject) for change in changes]


def test_full_gpus_and_mig_devices_are_slots_and_a_gpu_in_mig_mode_is_none() -> None:
    found = seen(gpu(1, "MIG-a", "MIG-b"), gpu(0))
    assert [(s.uuid, s.index, s.parent, s.profile, s.sevenths) for s in found.slots] == [
        ("GPU-0", "0", "GPU-0", "", 7),
        ("MIG-a", "1:0", "GPU-1", "3g.20gb", 3),
        ("MIG-b", "1:2", "GPU-1", "3g.20gb", 3),
    ]
    assert found.mig == ("GPU-1",)


def test_slots_are_in_the_order_in_which_people_count() -> None:
    found = seen(*(gpu(index) for index in (10, 9, 2)))
    assert [slot.index for slot in found.slots] == ["2", "9", "10"]


def test_a_lost_gpu_gives_no_slots_and_its_row_may_hold_no_more_than_that() -> None:
    found = seen({"index": 0, "lost": True}, gpu(1), gpu(2, lost=True))
    assert [slot.uuid for slot in found.slots] == ["GPU-1"]
    assert found.lost == ("GPU-2",)
    assert found.present == {"GPU-1"}


@pytest.mark.parametrize("state", [DRIVER_ABSENT, DRIVER_RESTARTING])
def test_while_the_driver_does_not_answer_the_slots_stay_as_they_were(state: str) -> None:
    known = slots(gpu(0), gpu(1, "MIG-a"))
    assert settled(known, inventory({"state": state, "reason": "no", "gpus": []})) == (known, [])


def test_a_slot_that_was_never_seen_is_new() -> None:
    found, changes = settled((), seen(gpu(0)))
    assert (health(found), told(changes)) == ({"GPU-0": OK}, [("slot_new", "GPU-0")])


def test_the_same_machine_looked_at_again_changed_nothing() -> None:
    known = slots(gpu(0), gpu(1, "MIG-a"))
    assert settled(known, seen(gpu(0), gpu(1, "MIG-a"))) == (known, [])


@pytest.mark.parametrize("row", [{"index": 1, "lost": True}, gpu(1, lost=True), None])
def test_all_slots_of_a_lost_gpu_are_lost_and_come_back_with_it(row: dict[str, Any] | None) -> None:
    known = slots(gpu(0), gpu(1, "MIG-a", "MIG-b"))
    gone, changes = settled(known, seen(gpu(0), *([row] if row else [])))
    assert health(gone) == {"GPU-0": OK, "MIG-a": LOST, "MIG-b": LOST}
    assert told(changes) == [("gpu_lost", "MIG-a"), ("gpu_lost", "MIG-b")]
    again, changes = settled(gone, seen(gpu(0), gpu(1, "MIG-a", "MIG-b")))
    assert again == known
    assert told(changes) == [("gpu_back", "MIG-a"), ("gpu_back", "MIG-b")]


def test_a_repartitioned_gpu_keeps_its_old_slots_as_gone() -> None:
    found, changes = settled(slots(gpu(0, "MIG-a", "MIG-b")), seen(gpu(0, "MIG-a", "MIG-c")))
    assert health(found) == {"MIG-a": OK, "MIG-b": GONE, "MIG-c": OK}
    assert told(changes) == [
        ("slot_gone", "MIG-b"),
        ("slot_new", "MIG-c"),
        ("repartitioned", "GPU-0"),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (gpu(0), gpu(0, "MIG-a")),
        (gpu(0), gpu(0, mode=True)),
        (gpu(0, "MIG-a"), gpu(0)),
        (gpu(0, "MIG-a"), gpu(0, mode=True)),
    ],
    ids=["whole to MIG", "whole to MIG without devices", "MIG to whole", "all devices destroyed"],
)
def test_a_slot_of_a_gpu_that_is_there_is_gone_and_not_lost(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    (old,) = slots(before)
    found, changes = settled((old,), seen(after))
    assert health(found)[old.uuid] == GONE
    assert ("slot_gone", old.uuid) in told(changes)
    assert ("repartitioned", "GPU-0") in told(changes)
    assert "gpu_lost" not in [change.kind for change in changes]


def test_a_gone_slot_stays_gone_when_its_gpu_is_lost_too() -> None:
    gone, _unused = settled(slots(gpu(0, "MIG-a")), seen(gpu(0, mode=True)))
    assert settled(gone, seen()) == (gone, [])


def test_a_lost_slot_is_gone_when_its_gpu_comes_back_in_another_way() -> None:
    lost, _unused = settled(slots(gpu(0, "MIG-a")), seen())
    found, changes = settled(lost, seen(gpu(0)))
    assert health(found) == {"GPU-0": OK, "MIG-a": GONE}
    assert told(changes) == [
        ("slot_gone", "MIG-a"),
        ("slot_new", "GPU-0"),
        ("repartitioned", "GPU-0"),
    ]


def test_a_gpu_that_is_whole_again_is_a_new_slot_and_not_one_that_was_lost() -> None:
    known = slots(gpu(0))
    split, _unused = settled(known, seen(gpu(0, "MIG-a")))
    found, changes = settled(split, seen(gpu(0)))
    assert health(found) == {"GPU-0": OK, "MIG-a": GONE}
    assert ("slot_new", "GPU-0") in told(changes)
