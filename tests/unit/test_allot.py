# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which request is refused for good, who comes first, and which slot it becomes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ds01.core.allot import (
    PACK,
    SPREAD,
    Board,
    choose,
    estimates,
    in_order,
    pass_queue,
    refuse_taken,
)
from ds01.core.gpu_request import Use, check, equivalents, room, use_of, well_formed
from ds01.core.gpus import OK, Slot
from ds01.core.leases import BOUND, HELD, RESERVED, Allowance, Ask, Block, Lease, Refused, Waiter
from lease_book import ALICE, BOB, CAROL, DANA
from soak.gpus import SEVEN, gpu, lab_gpus, reading

SLOTS = lab_gpus().slots
BY_INDEX = {slot.index: slot for slot in SLOTS}


def lease(who: Allowance, *indices: str, state: str = BOUND, **more: float | None) -> Lease:
    uuids = tuple(BY_INDEX[index].uuid for index in indices)
    named = f"{who.user}-{'-'.join(indices)}"
    base = Lease(named, who.uid, who.user, state, uuids, 0.0, container_name=f"of-{who.user}")
    return replace(base, **more)  # type: ignore[arg-type]


def waiter(who: Allowance, ask: Ask, asked: float = 0.0, ticket: str = "") -> Waiter:
    return Waiter(ticket or f"{who.user}-{asked}", asked, asked, None, ask, who)


def indices(slots: tuple[Slot, ...] | None) -> list[str]:
    return [slot.index for slot in slots or ()]


@pytest.mark.parametrize(
    ("ask", "rule"),
    [
        (Ask(0), "count"),
        (Ask(-1), "count"),
        (Ask(10**9), "count"),
        (Ask(True), "count"),
        (Ask(kind="huge"), "kind"),
        (Ask(kind="0g.5gb"), "kind"),
        (Ask(kind="2g.10gb; rm -rf /"), "kind"),
        (Ask(note="n" * 201), "note"),
        (Ask(note="bell\a"), "note"),
        (Ask(devices=("0", "0")), "devices"),
        (Ask(devices=("0",), kind="full"), "kind"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_with_its_rule(ask: Ask, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        well_formed(ask)
    assert refused.value.rule == rule


def test_the_count_of_explicit_devices_is_their_number() -> None:
    assert well_formed(Ask(devices=("0", "2:1"))).count == 2


@pytest.mark.parametrize(
    ("who", "ask", "rule", "words"),
    [
        (ALICE, Ask(2), "max_gpus_per_container", "more than the 1 that alice"),
        (ALICE, Ask(kind="full"), "allow_full_gpu", "MIG devices only"),
        (ALICE, Ask(devices=("0",)), "allow_full_gpu", "0 is a whole GPU"),
        (CAROL, Ask(kind="3g.20gb"), "slots", "no 3g.20gb slot"),
        (CAROL, Ask(devices=("GPU-none",)), "devices", "no GPU or MIG device 'GPU-none'"),
        (CAROL, Ask(devices=("2",)), "devices", "split by MIG"),
        (CAROL, Ask(devices=("GPU-00000003",)), "devices", "3:0, 3:1"),
        (CAROL, Ask(devices=("0", "GPU-00000000")), "devices", "named twice"),
        (DANA, Ask(8), "slots", "no 8 slots of one kind"),
        (replace(DANA, max_gpu_equivalents=0.1), Ask(), "max_gpu_equivalents", "limit is 0.1"),
        (replace(ALICE, max_mig_instances=0), Ask(), "max_mig_instances", "limit is 0"),
    ],
)
def test_what_no_waiting_would_change_is_refused_at_once(
    who: Allowance, ask: Ask, rule: str, words: str
) -> None:
    with pytest.raises(Refused) as refused:
        check(well_formed(ask), who, SLOTS, Use())
    assert refused.value.rule == rule
    assert words in str(refused.value)


def test_a_refusal_names_the_file_and_line_of_the_limit() -> None:
    who = replace(ALICE, origins={"allow_full_gpu": "defaults.allow_full_gpu (limits.yml:7)"})
    with pytest.raises(Refused, match=r"limits\.yml:7"):
        check(Ask(kind="full"), who, SLOTS, Use())


def test_what_a_user_waits_for_counts_like_what_he_has() -> None:
    waiting = [waiter(ALICE, Ask())]
    check(Ask(), ALICE, SLOTS, Use())
    with pytest.raises(Refused, match="has asked for"):
        check(Ask(), ALICE, SLOTS, Use(), waiting)


def test_a_quota_counts_a_uid_whatever_it_is_called() -> None:
    other_name = replace(ALICE, user="h.baker@hertie-school.lan")
    leases = [lease(ALICE, "3:0")]
    assert use_of(leases, {s.uuid: s for s in SLOTS}, other_name.uid) == Use(1, 1)


@pytest.mark.parametrize(
    ("limit", "sevenths"), [(1.0, 7), (0.43, 3), (0.14, 1), (0.28, 2), (0.29, 2), (0.5, 3), (0, 0)]
)
def test_equivalents_in_two_digits_are_meant_as_sevenths(limit: float, sevenths: int) -> None:
    who = replace(ALICE, max_gpu_equivalents=limit)
    assert room(who, Use()).sevenths == sevenths


@pytest.mark.parametrize(("sevenths", "text"), [(7, "1"), (2, "0.29"), (0, "0"), (14, "2")])
def test_equivalents_are_shown_in_two_digits(sevenths: int, text: str) -> None:
    assert equivalents(sevenths) == text


# --- placement --------------------------------------------------------------------------------------


def placed(who: Allowance, ask: Ask, leases: list[Lease], placement: str) -> list[str]:
    board = Board(SLOTS, tuple(leases), (waiter(who, ask),))
    granted = pass_queue(board, 0.0, placement).granted
    return indices(granted[0][1]) if granted else []


@pytest.mark.parametrize(
    ("who", "ask", "leases", "placement", "wanted"),
    [
        (ALICE, Ask(), [], SPREAD, ["3:0"]),
        (ALICE, Ask(kind="2g.10gb"), [], SPREAD, ["2:0"]),
        (ALICE, Ask(), [lease(BOB, "3:0")], SPREAD, ["2:0"]),
        (ALICE, Ask(), [lease(BOB, "3:0")], PACK, ["3:1"]),
        (CAROL, Ask(), [lease(BOB, "3:0"), lease(ALICE, "2:0")], SPREAD, ["0"]),
        (CAROL, Ask(), [lease(BOB, "3:0"), lease(ALICE, "2:0")], PACK, ["3:1"]),
        (CAROL, Ask(2, "full"), [], SPREAD, ["0", "1"]),
        (CAROL, Ask(2, "2g.10gb"), [], SPREAD, ["2:0", "2:1"]),
        (CAROL, Ask(kind="full"), [lease(DANA, "0")], SPREAD, ["1"]),
        # 12/7 of her 2 are used, so a whole GPU would be too much for her: a MIG device it is.
        (CAROL, Ask(), [lease(CAROL, "0", "2:0", "2:1", "3:0")], SPREAD, ["3:1"]),
        (CAROL, Ask(), [lease(CAROL, "0", "1")], SPREAD, []),
        (CAROL, Ask(), [lease(CAROL, "0", "2:0", "2:1")], SPREAD, ["3:0"]),
    ],
)
def test_placement(
    who: Allowance, ask: Ask, leases: list[Lease], placement: str, wanted: list[str]
) -> None:
    assert placed(who, ask, leases, placement) == wanted


def test_slots_of_one_request_are_of_one_class() -> None:
    taken = [lease(DANA, "1"), lease(DANA, "2:0"), lease(DANA, "2:1"), lease(DANA, "3:0")]
    assert placed(replace(CAROL, max_gpu_equivalents=9), Ask(2), taken, SPREAD) == ["3:1", "3:2"]


def test_lost_drained_and_foreign_slots_are_not_handed_out() -> None:
    lost = [replace(s, health="lost") if s.index == "0" else s for s in SLOTS]
    blocks = (Block(BY_INDEX["1"].uuid, "drained", "fan"),)
    board = Board(tuple(lost), (), (waiter(CAROL, Ask(kind="full")),), blocks)
    result = pass_queue(board, 0.0)
    assert not result.granted
    assert result.waiting[0][1] == "no full slot is free"


def test_nothing_is_handed_out_while_the_driver_does_not_answer() -> None:
    board = Board(SLOTS, (), (waiter(ALICE, Ask()),), ready=False)
    result = pass_queue(board, 0.0)
    assert not result.granted
    assert "driver" in result.waiting[0][1]


# --- the queue --------------------------------------------------------------------------------------


def test_the_queue_is_by_priority_then_least_in_use_then_first_come() -> None:
    low, high = replace(ALICE, priority=1), replace(BOB, priority=2)
    user, idle = replace(CAROL, priority=1), replace(DANA, priority=1)
    waiters = (
        waiter(user, Ask(), 0.0, "has-something"),
        waiter(idle, Ask(), 2.0, "came-later"),
        waiter(low, Ask(), 1.0, "came-earlier"),
        waiter(high, Ask(), 3.0, "priority"),
    )
    board = Board(SLOTS, (lease(CAROL, "0"),), waiters)
    order = [w.ticket for w in in_order(board, 5.0)]
    assert order == ["priority", "came-earlier", "came-later", "has-something"]


def test_who_waits_long_enough_comes_before_a_higher_priority() -> None:
    old = waiter(replace(ALICE, priority=10), Ask(), 0.0, "old")
    new = waiter(replace(BOB, priority=50), Ask(), 2400.0, "new")
    board = Board(SLOTS, (), (old, new))
    assert [w.ticket for w in in_order(board, 2399.0)] == ["new", "old"]
    assert [w.ticket for w in in_order(board, 3001.0)] == ["old", "new"]


def test_small_requests_do_not_take_what_a_larger_one_before_them_waits_for() -> None:
    first = waiter(CAROL, Ask(2, "full"), 0.0)
    later = waiter(replace(DANA, priority=50), Ask(1, "full"), 1.0)
    board = Board(SLOTS, (lease(BOB, "1"),), (later, first))
    result = pass_queue(board, 1.0)
    assert not result.granted
    assert {w.ticket: why for w, why in result.waiting}[first.ticket].startswith("1 of 2")


def test_a_request_that_its_own_quota_holds_up_keeps_nothing_from_others() -> None:
    held_up = waiter(replace(CAROL, max_gpu_equivalents=1.0), Ask(1, "full"), 0.0)
    later = waiter(replace(DANA, priority=1), Ask(1, "full"), 1.0)
    board = Board(SLOTS, (lease(CAROL, "0"),), (held_up, later))
    assert [w.ticket for w, _slots in pass_queue(board, 1.0).granted] == [later.ticket]


def test_one_pass_never_grants_over_a_quota() -> None:
    two = (waiter(ALICE, Ask(), 0.0), waiter(ALICE, Ask(), 1.0))
    result = pass_queue(Board(SLOTS, (), two), 2.0)
    assert len(result.granted) == 1


def test_limits_that_were_lowered_refuse_a_waiting_request() -> None:
    now_forbidden = waiter(replace(CAROL, allow_full_gpu=False), Ask(kind="full"))
    refused = pass_queue(Board(SLOTS, (), (now_forbidden,)), 0.0).refused
    assert refused[0][1].rule == "allow_full_gpu"


@pytest.mark.parametrize(
    ("leases", "blocks", "words"),
    [
        ((lease(BOB, "3:0"),), (), "3:0 is leased to bob in container of-bob"),
        ((), (Block(BY_INDEX["3:0"].uuid, "drained", "new fan"),), "3:0 is drained: new fan"),
        ((), (Block(BY_INDEX["3:0"].uuid, "foreign", "pid 7"),), "without a lease: pid 7"),
        ((), (), "requests that came earlier"),
    ],
)
def test_a_taken_device_is_refused_with_its_holder(
    leases: tuple[Lease, ...], blocks: tuple[Block, ...], words: str
) -> None:
    board = Board(SLOTS, leases, (), blocks)
    assert words in str(refuse_taken(waiter(CAROL, Ask(devices=("3:0",))), board))


def test_explicit_devices_may_be_of_several_classes() -> None:
    both = waiter(DANA, well_formed(Ask(devices=("3:1", "0"))))
    assert indices(choose(both, SLOTS, {s.parent: 0 for s in SLOTS}, Use())) == ["0", "3:1"]


# --- estimates --------------------------------------------------------------------------------------


def test_an_estimate_is_when_the_limits_of_those_before_end() -> None:
    full = tuple(s for s in SLOTS if not s.is_mig)
    leases = (
        lease(CAROL, "0", bound_at=0.0, max_runtime=7200.0),
        lease(DANA, "1", state=HELD, hold_until=300.0),
    )
    first, second = (
        waiter(BOB_FULL, Ask(kind="full"), 1.0),
        waiter(ALICE_FULL, Ask(kind="full"), 2.0),
    )
    found = estimates(Board(full, leases, (first, second)), 10.0)
    assert found == {first.ticket: 300.0, second.ticket: 7200.0}


def test_without_a_limit_there_is_no_estimate() -> None:
    one = tuple(s for s in SLOTS if s.index == "0")
    waiting = waiter(BOB_FULL, Ask(kind="full"))
    board = Board(one, (lease(DANA, "0", bound_at=0.0, max_runtime=None),), (waiting,))
    assert estimates(board, 10.0) == {waiting.ticket: None}


def test_a_reservation_ends_when_nobody_binds_it() -> None:
    one = tuple(s for s in SLOTS if s.index == "0")
    waiting = waiter(BOB_FULL, Ask(kind="full"))
    board = Board(one, (lease(DANA, "0", state=RESERVED, expires=60.0),), (waiting,))
    assert estimates(board, 10.0) == {waiting.ticket: 60.0}


ALICE_FULL = replace(ALICE, allow_full_gpu=True)
BOB_FULL = replace(BOB, allow_full_gpu=True)


def test_the_lab_has_twelve_slots_and_no_gpu_in_mig_mode_is_one() -> None:
    assert len(SLOTS) == 12
    assert all(slot.health == OK for slot in SLOTS)
    assert {slot.parent for slot in SLOTS if slot.is_mig}.isdisjoint(slot.uuid for slot in SLOTS)
    assert reading([gpu(0, SEVEN)])["gpus"][0]["mig_enabled"]
