# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease book: a lease's life, the queue, and slots."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.gpus import DRIVER_RESTARTING, Inventory, inventory
from ds01.core.leases import BOUND, FREE, HELD, RESERVED, Ask, Refused
from ds01.core.reconcile import SeenContainer, SeenProcess
from lease_book import ALICE, BOB, CAROL, CONTAINER, DANA, Desk
from soak.gpus import SEVEN, THREE, gpu, reading, vendor_spec


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def running(lease_id: str, state: str = "running", number: int = 0) -> SeenContainer:
    name = f"{number:064d}" if number else CONTAINER
    return SeenContainer(name, "train", state, leases=(lease_id,))


# --- a lease's life ---------------------------------------------------------------------------------


def test_a_lease_goes_from_reserved_to_bound_to_held_to_free(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    assert lease.state == RESERVED
    assert desk.files.present() == [lease.id]
    assert desk.book.bind(lease.id, CONTAINER, "train").state == BOUND
    desk.book.container_stopped(lease.id, CONTAINER)
    held = desk.granted(desk.book.lease(lease.id))
    assert (held.state, held.hold_until) == (HELD, held.held_at + 900)  # type: ignore[operator]
    desk.hands.pass_(901)
    desk.book.settle()
    assert desk.files.present() == []
    assert desk.finish() == [lease.id]
    assert desk.book.lease(lease.id) is None
    kinds = [event["event_type"] for event in desk.events("gpu.")]
    assert kinds[-5:] == ["gpu.reserved", "gpu.bound", "gpu.held", "gpu.revoked", "gpu.released"]


def test_the_file_carries_the_vendors_edits_for_the_leased_slot_alone(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(2, "full"), CAROL).granted)
    spec = json.loads(Path(desk.files.path(lease.id)).read_text())
    assert spec["kind"] == "ds01.local/lease"
    assert [device["name"] for device in spec["devices"]] == [lease.id]
    nodes = [n["path"] for n in spec["devices"][0]["containerEdits"]["deviceNodes"]]
    assert nodes == [f"/dev/slot-{uuid}" for uuid in lease.slots]
    assert os.stat(desk.files.path(lease.id)).st_mode & 0o777 == 0o600


def test_a_held_gpu_is_not_handed_out_before_its_hold_ends(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(devices=("0",)), CAROL).granted)
    desk.book.bind(lease.id, CONTAINER)
    desk.book.container_stopped(lease.id, CONTAINER)
    desk.hands.pass_(899)
    with pytest.raises(Refused, match="leased to carol"):
        desk.book.request(Ask(devices=("0",)), DANA)


def test_a_container_that_starts_again_within_its_hold_keeps_its_gpu(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER)
    desk.book.container_stopped(lease.id, CONTAINER)
    desk.hands.pass_(600)
    desk.book.container_started(lease.id, CONTAINER)
    desk.hands.pass_(600)
    desk.book.settle()
    again = desk.granted(desk.book.lease(lease.id))
    assert (again.state, again.slots, again.revoked) == (BOUND, lease.slots, None)


def test_a_hold_that_never_ends_never_ends(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), replace(ALICE, hold=None)).granted)
    desk.book.bind(lease.id, CONTAINER)
    desk.book.container_stopped(lease.id, CONTAINER)
    desk.hands.pass_(10**9)
    desk.book.settle()
    assert desk.granted(desk.book.lease(lease.id)).revoked is None


def test_a_reservation_that_nobody_uses_ends(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    assert desk.book.due() == 120
    desk.hands.pass_(121)
    desk.book.settle()
    assert desk.finish() == [lease.id]


def test_the_same_ticket_again_is_the_same_lease(desk: Desk) -> None:
    first = desk.book.request(Ask(), ALICE, ticket="course-1").granted
    assert desk.book.request(Ask(), ALICE, ticket="course-1").granted == first
    with pytest.raises(Refused, match="somebody else's"):
        desk.book.request(Ask(), BOB, ticket="course-1")


@pytest.mark.parametrize("ticket", ["../../etc/cdi/x", "a/b", "x" * 65, "-x", "a b", ".hidden"])
def test_a_ticket_cannot_name_another_file(desk: Desk, ticket: str) -> None:
    with pytest.raises(Refused, match="no ticket"):
        desk.book.request(Ask(), ALICE, ticket=ticket)
    assert desk.files.present() == []


def test_one_lease_is_for_one_container(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER, "train")
    with pytest.raises(Refused, match="belongs to container train"):
        desk.book.bind(lease.id, "d" * 64)


def test_an_ended_lease_binds_nothing(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.cancel(lease.id, "changed my mind")
    with pytest.raises(Refused, match="has ended"):
        desk.book.bind(lease.id, CONTAINER)


# --- ending in two steps ------------------------------------------------------------------------------


def test_a_release_frees_the_slot_only_after_the_engine_was_asked(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(devices=("0",)), CAROL).granted)
    desk.book.release(lease.id, "carol", desk.engine, wait=False)
    assert desk.files.present() == []
    assert desk.book.finish(desk.engine) == []
    with pytest.raises(Refused, match="leased to carol"):
        desk.book.request(Ask(devices=("0",)), DANA)
    desk.hands.pass_(1.5)
    assert desk.book.finish(desk.engine) == [lease.id]
    assert desk.book.request(Ask(devices=("0",)), DANA).granted


def test_a_start_that_was_faster_than_the_end_keeps_its_gpu(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.cancel(lease.id, "ran out")
    assert desk.engine.containers is not None
    desk.engine.containers[lease.id] = [running(lease.id)]
    assert desk.finish() == []
    again = desk.granted(desk.book.lease(lease.id))
    assert (again.state, again.container, again.revoked) == (BOUND, CONTAINER, None)
    assert desk.files.present() == [lease.id]


def test_while_the_engine_does_not_answer_nothing_is_freed(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.cancel(lease.id, "ran out")
    desk.engine.containers = None
    assert desk.finish() == []
    assert desk.granted(desk.book.lease(lease.id)).holding
    with pytest.raises(Ds01Error, match="does not answer"):
        other = desk.granted(desk.book.request(Ask(), BOB).granted)
        desk.book.release(other.id, "bob", desk.engine, wait=False)


def test_a_lease_whose_container_runs_is_not_released(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER, "train")
    assert desk.engine.containers is not None
    desk.engine.containers[lease.id] = [running(lease.id)]
    with pytest.raises(Refused, match="docker stop train"):
        desk.book.release(lease.id, "alice", desk.engine)
    assert desk.files.present() == [lease.id]


def test_a_file_that_a_crash_left_behind_puts_the_end_off(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)

    class Died(Exception):
        pass

    def die(name: str) -> None:
        if name == "committed":
            raise Died

    with pytest.raises(Died):
        desk.opened(fault=die).cancel(lease.id, "ran out")
    assert desk.files.present() == [lease.id]
    desk.hands.pass_(60)
    assert desk.book.finish(desk.engine) == []
    assert desk.files.present() == []
    assert desk.book.finish(desk.engine) == []
    desk.hands.pass_(1.5)
    assert desk.book.finish(desk.engine) == [lease.id]


def test_the_next_in_the_queue_is_served_with_the_end_itself(desk: Desk) -> None:
    first = desk.granted(desk.book.request(Ask(2, "full"), CAROL).granted)
    waiting = desk.book.request(Ask(1, "full"), DANA).waiting
    assert waiting is not None
    desk.book.release(first.id, "carol", desk.engine, wait=False)
    desk.hands.pass_(1.5)
    desk.opened().finish(desk.engine)
    desk.hands.pass_(1.5)
    other_process = desk.opened()
    other_process.finish(desk.engine)
    desk.hands.pass_(1.5)
    other_process.finish(desk.engine)
    outcome = desk.book.poll(waiting.ticket)
    assert outcome is not None
    assert outcome.granted is not None
    assert waiting.ticket in desk.files.present()


# --- the queue ------------------------------------------------------------------------------------------


def full_house(desk: Desk) -> None:
    desk.book.request(Ask(2, "full"), CAROL)


def test_a_wait_ends_with_its_timeout_and_says_so(desk: Desk) -> None:
    full_house(desk)
    waiting = desk.book.request(Ask(1, "full"), DANA).waiting
    assert waiting is not None
    for _minute in range(30):
        desk.hands.pass_(60)
        desk.book.poll(waiting.ticket)
        desk.book.settle()
    outcome = desk.book.poll(waiting.ticket)
    assert outcome is not None
    assert outcome.ended is not None
    assert "gpu_wait_timeout" in outcome.ended["what"]


def test_a_waiter_that_went_away_is_dropped(desk: Desk) -> None:
    full_house(desk)
    waiting = desk.book.request(Ask(1, "full"), DANA).waiting
    assert waiting is not None
    desk.hands.pass_(91)
    desk.book.settle()
    assert not desk.book.snapshot().queue


def test_positions_and_estimates_are_shown(desk: Desk) -> None:
    full_house(desk)
    desk.book.request(Ask(1, "full"), DANA)
    row = desk.book.snapshot().queue[0]
    assert (row.position, row.eta, row.reason) == (1, 120.0, "no full slot is free")


def test_without_waiting_a_full_house_is_refused(desk: Desk) -> None:
    full_house(desk)
    with pytest.raises(Refused) as refused:
        desk.book.request(Ask(1, "full"), DANA, queue=False)
    assert refused.value.rule == "busy"
    assert not desk.book.snapshot().queue


def test_lowered_limits_end_a_wait_and_raised_ones_serve_it(desk: Desk) -> None:
    full_house(desk)
    waiting = desk.book.request(Ask(1, "full"), DANA).waiting
    assert waiting is not None
    desk.book.set_allowances({DANA.uid: replace(DANA, allow_full_gpu=False)})
    outcome = desk.book.poll(waiting.ticket)
    assert outcome is not None
    assert outcome.ended is not None
    assert outcome.ended["rule"] == "allow_full_gpu"


# --- slots ----------------------------------------------------------------------------------------------


def test_a_drained_slot_is_not_handed_out_and_its_lease_stays(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(devices=("0",)), CAROL).granted)
    assert desk.book.drain("0", "new fan on Monday", "dana")
    assert not desk.book.drain("0", "new fan on Monday", "dana")
    assert desk.granted(desk.book.lease(lease.id)).holding
    desk.book.cancel(lease.id, "done")
    desk.finish()
    with pytest.raises(Refused, match="new fan on Monday"):
        desk.book.request(Ask(devices=("0",)), DANA)
    assert desk.book.undrain("0", "dana")
    assert not desk.book.undrain("0", "dana")
    assert desk.book.request(Ask(devices=("0",)), DANA).granted


def test_an_unknown_slot_cannot_be_drained(desk: Desk) -> None:
    with pytest.raises(Refused, match="no GPU or MIG device"):
        desk.book.drain("MIG-none", "", "dana")


def test_a_slot_without_the_vendors_description_is_not_handed_out(desk: Desk) -> None:
    assert desk.spec is not None
    desk.spec["devices"] = [d for d in desk.spec["devices"] if d["name"] != "GPU-00000000"]
    with pytest.raises(Refused, match="does not describe it"):
        desk.book.request(Ask(devices=("0",)), CAROL)
    desk.spec = None
    with pytest.raises(Refused, match="no GPU that fits"):
        desk.book.request(Ask(), ALICE, queue=False)


def test_with_the_driver_away_nothing_is_handed_out_and_nothing_is_lost(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    assert desk.book.look(Inventory(DRIVER_RESTARTING, "Driver Not Loaded")) == [
        "driver_restarting"
    ]
    with pytest.raises(Refused, match="does not answer"):
        desk.book.request(Ask(), BOB)
    assert desk.granted(desk.book.lease(lease.id)).holding
    assert len(desk.book.snapshot().slots) == 12
    assert desk.book.look(desk.found) == ["driver_ready"]
    assert desk.book.request(Ask(), BOB).granted


def test_a_lease_whose_mig_device_is_gone_is_stale_and_gets_no_other_slot(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(devices=("3:0",)), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER, "train")
    anew = inventory(reading([gpu(0), gpu(1), gpu(2, THREE), gpu(3, SEVEN, salt="b")]))
    desk.spec = vendor_spec(anew, "/dev/slot-")
    stopped = replace(running(lease.id), state="exited")
    desk.book.reconcile(anew, [stopped], [])
    stale = desk.granted(desk.book.lease(lease.id))
    assert stale.stale
    assert stale.slots == lease.slots
    assert desk.files.present() == []
    assert desk.events("gpu.stale")
    assert desk.events("gpu.repartitioned")


def test_a_gpu_in_use_without_a_lease_is_not_handed_out_and_named(desk: Desk) -> None:
    process = SeenProcess(4711, "GPU-00000000", 1002, "bob", "python train.py")
    desk.book.reconcile(desk.found, [], [process])
    with pytest.raises(Refused, match="4711"):
        desk.book.request(Ask(devices=("0",)), CAROL)
    desk.book.reconcile(desk.found, [], [])
    assert desk.book.request(Ask(devices=("0",)), CAROL).granted
    assert len(desk.events("gpu.foreign_use")) == 2


def test_a_renewed_lease_has_its_old_name_and_new_slots(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(devices=("0",)), CAROL).granted)
    desk.book.bind(lease.id, CONTAINER, "train")
    assert desk.engine.containers is not None
    desk.engine.containers[lease.id] = [running(lease.id, "exited")]
    desk.book.release(lease.id, "carol", desk.engine, wait=False)
    assert desk.finish() == [lease.id]
    assert desk.granted(desk.book.lease(lease.id)).state == FREE
    assert desk.files.present() == []
    desk.book.request(Ask(devices=("0",)), DANA)
    renewed = desk.granted(desk.book.request(Ask(1, "full"), CAROL, lease=lease.id).granted)
    assert (renewed.id, renewed.state, renewed.container) == (lease.id, HELD, CONTAINER)
    assert renewed.slots == ("GPU-00000001",)
    assert lease.id in desk.files.present()


def test_only_its_owner_renews_a_lease(desk: Desk) -> None:
    with pytest.raises(Refused, match="no lease"):
        desk.book.request(Ask(), ALICE, lease="l0")
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    with pytest.raises(Refused, match="somebody else's"):
        desk.book.request(Ask(), BOB, lease=lease.id)


def test_the_same_refusal_in_a_loop_is_one_event(desk: Desk) -> None:
    for _again in range(5):
        with pytest.raises(Refused):
            desk.book.request(Ask(2), ALICE)
    with pytest.raises(Refused):
        desk.book.request(Ask(3), ALICE)
    assert len(desk.events("gpu.refused")) == 2


def test_a_drain_is_lifted_while_its_gpu_is_lost(desk: Desk) -> None:
    desk.book.drain("0", "fan", "dana")
    rest = inventory(reading([gpu(1), gpu(2, THREE), gpu(3, SEVEN)]))
    assert "gpu_lost" in desk.book.look(rest)
    assert desk.book.undrain("GPU-00000000", "dana")
    assert not any(block.why == "drained" for block in desk.book.snapshot().blocks)


@pytest.mark.parametrize(("watchers", "handed_out"), [((), False), (("exporter",), True)])
def test_a_container_that_only_watches_keeps_no_gpu_from_being_handed_out(
    tmp_path: Path, watchers: tuple[str, ...], handed_out: bool
) -> None:
    desk = Desk(tmp_path, watchers=watchers)
    exporter = SeenContainer("e" * 64, "exporter", "running", gpus=("all",))
    desk.book.reconcile(desk.found, [exporter], [])
    foreign = [block for block in desk.book.snapshot().blocks if block.why == "foreign"]
    assert len(foreign) == (0 if handed_out else 12)
    process = SeenProcess(7, "GPU-00000000", 0, "root", "dcgm", exporter.id)
    desk.book.reconcile(desk.found, [exporter], [process])
    assert "GPU-00000000" in {block.slot for block in desk.book.snapshot().blocks}


def test_with_no_time_to_wait_a_free_gpu_is_had_and_a_taken_one_is_not_waited_for(
    desk: Desk,
) -> None:
    hurried = replace(CAROL, wait=0.0)
    assert desk.book.request(Ask(2, "full"), hurried).granted
    outcome = desk.book.request(Ask(1, "full"), replace(DANA, wait=0.0))
    assert outcome.ended and "gpu_wait_timeout" in outcome.ended["what"]


def test_a_container_that_is_renamed_is_shown_by_its_present_name(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), ALICE).granted)
    desk.book.bind(lease.id, CONTAINER, "before")
    desk.book.reconcile(desk.found, [replace(running(lease.id), name="after")], [])
    assert desk.granted(desk.book.lease(lease.id)).container_name == "after"


def test_an_old_process_of_a_container_that_the_engine_does_not_know_is_foreign(desk: Desk) -> None:
    process = SeenProcess(7, "GPU-00000000", 1002, "bob", "train", "f" * 64, desk.hands.wall - 600)
    desk.book.reconcile(desk.found, [], [process])
    assert [block.slot for block in desk.book.snapshot().blocks] == ["GPU-00000000"]


def test_with_no_hold_a_container_that_is_restarted_keeps_its_gpu(desk: Desk) -> None:
    lease = desk.granted(desk.book.request(Ask(), replace(ALICE, hold=0.0)).granted)
    desk.book.bind(lease.id, CONTAINER, "train")
    desk.book.container_stopped(lease.id, CONTAINER)
    assert desk.files.present() == [lease.id]
    desk.hands.pass_(11)
    desk.book.settle()
    assert desk.files.present() == []
