# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the layout in the inventory to the steps on each GPU, and why a layout is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ds01.core import mig
from ds01.core.mig import Gpu, Instance, Plan, Profile

GIB = 2**30
A100 = (
    Profile("1g.5gb", 19, 1, 4864 * 2**20, tuple((start, 1) for start in range(7))),
    Profile("1g.10gb", 15, 1, 9856 * 2**20, ((0, 2), (2, 2), (4, 2), (6, 2))),
    Profile("2g.10gb", 14, 2, 9856 * 2**20, ((0, 2), (2, 2), (4, 2))),
    Profile("3g.20gb", 9, 3, 19968 * 2**20, ((0, 4), (4, 4))),
    Profile("4g.20gb", 5, 4, 19968 * 2**20, ((0, 4),)),
    Profile("7g.40gb", 0, 7, 40192 * 2**20, ((0, 8),)),
)
WHOLE = Gpu(0, "GPU-a", True, memory=40 * GIB, profiles=A100)
THIRDS = Gpu(
    2,
    "GPU-c",
    True,
    True,
    True,
    40 * GIB,
    A100,
    (Instance(3, "2g.10gb"), Instance(4, "2g.10gb"), Instance(5, "2g.10gb")),
)
OLD = Gpu(1, "GPU-b", memory=16 * GIB)
PROFILES: dict[str, list[str]] = {
    "whole": [],
    "halves": ["3g.20gb", "3g.20gb"],
    "thirds": ["2g.10gb"] * 3,
    "sevenths": ["1g.5gb"] * 7,
    "mixed": ["1g.5gb", "1g.5gb", "3g.20gb", "1g.5gb", "1g.5gb"],
}


def planned(
    layout: Mapping[Any, str],
    gpus: Sequence[Gpu] = (WHOLE, OLD, THIRDS),
    users: Mapping[str, Sequence[str]] | None = None,
    profiles: Mapping[str, Sequence[str]] | None = None,
) -> Plan:
    wanted, problems = mig.resolve(PROFILES if profiles is None else profiles, layout, gpus)
    plan = mig.plan(gpus, wanted, users or {})
    return replace(plan, problems=(*problems, *plan.problems))


def refusal(layout: Mapping[Any, str], **given: Any) -> str:
    plan = planned(layout, **given)
    (problem,) = plan.problems
    return str(problem)


@dataclass
class Driver:
    """One GPU that does what it is told, as far as it goes.

    :param broken_at: the action, counted from 1, that fails.
    """

    gpu: Gpu
    broken_at: int = 0
    log: list[str] = field(default_factory=list)

    def _act(self, words: str) -> None:
        self.log.append(words)
        if len(self.log) == self.broken_at:
            raise RuntimeError("the driver refuses")

    def set_mode(self, uuid: str, on: bool) -> None:
        self._act(f"mode {on}")
        assert not self.gpu.instances
        self.gpu = replace(self.gpu, mode=on, pending=on)

    def destroy(self, uuid: str, instance: int) -> None:
        self._act(f"destroy {instance}")
        kept = tuple(i for i in self.gpu.instances if i.id != instance)
        self.gpu = replace(self.gpu, instances=kept)

    def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None:
        self._act(f"create {profile} {placement}")
        assert self.gpu.mode
        number = 1 + max((i.id for i in self.gpu.instances), default=0)
        made = (*self.gpu.instances, Instance(number, profile))
        self.gpu = replace(self.gpu, instances=made)


def test_an_equal_layout_is_left_alone_whoever_uses_the_gpu() -> None:
    plan = planned({"2": "thirds"}, users={"GPU-c": ["alice leases it (bound)"]})
    assert plan == Plan()


def test_the_order_of_the_devices_does_not_matter() -> None:
    kinds = ("1g.5gb", "3g.20gb", "1g.5gb", "1g.5gb", "1g.5gb")
    split = replace(THIRDS, instances=tuple(Instance(n, kind) for n, kind in enumerate(kinds)))
    assert planned({"2": "mixed"}, [split]).steps == ()


def test_gpus_that_the_layout_does_not_name_are_left_alone() -> None:
    assert [step.index for step in planned({"0": "halves"}).steps] == [0]


@pytest.mark.parametrize("key", ["2", 2, "GPU-c"])
def test_a_gpu_is_named_by_index_or_uuid(key: str | int) -> None:
    (step,) = planned({key: "whole"}).steps
    assert (step.uuid, step.mode, step.destroy, step.create) == ("GPU-c", False, (3, 4, 5), ())


def test_a_whole_gpu_is_split() -> None:
    (step,) = planned({"0": "halves"}).steps
    assert step.mode is True
    assert step.create == (("3g.20gb", (0, 4)), ("3g.20gb", (4, 4)))
    assert step.words == (
        "GPU 0: turn MIG on",
        "GPU 0: create 3g.20gb",
        "GPU 0: create 3g.20gb",
    )
    assert (mig.show(step.before), mig.show(step.after)) == ("whole", "2 x 3g.20gb")


def test_places_are_chosen_so_that_all_devices_fit() -> None:
    (step,) = planned({"0": "mixed"}).steps
    # At 0 the driver would put the big one by itself, and one of the small ones had no room.
    assert step.create[0] == ("3g.20gb", (4, 4))
    assert sorted(place for _name, place in step.create[1:] if place) == [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
    ]


def test_an_instance_without_its_compute_instance_is_no_device() -> None:
    broken = replace(THIRDS, instances=(*THIRDS.instances[:2], Instance(5, "2g.10gb", whole=False)))
    (step,) = planned({"2": "thirds"}, [broken]).steps
    assert step.destroy == (3, 4, 5)
    assert step.before == ("2g.10gb", "2g.10gb", "2g.10gb (incomplete)")


@pytest.mark.parametrize("stop", range(1, 13))
def test_a_run_that_was_broken_off_is_finished_by_the_next_one(stop: int) -> None:
    driver = Driver(THIRDS, broken_at=stop)
    (step,) = planned({"2": "sevenths"}, [driver.gpu]).steps
    try:
        mig.apply(step, driver)
    except RuntimeError:
        driver.broken_at = 0
        for again in planned({"2": "sevenths"}, [driver.gpu]).steps:
            mig.apply(again, driver)
    assert driver.gpu.layout == ("1g.5gb",) * 7
    assert planned({"2": "sevenths"}, [driver.gpu]) == Plan()


def test_instances_go_before_mig_is_turned_off() -> None:
    driver = Driver(THIRDS)
    mig.apply(planned({"2": "whole"}).steps[0], driver)
    assert driver.log == ["destroy 3", "destroy 4", "destroy 5", "mode False"]


def test_a_leased_gpu_is_refused_with_its_holders() -> None:
    users = {"GPU-c": ["alice leases it (bound, container train)", "bob leases it (held)"]}
    message = refusal({"2": "whole"}, users=users)
    assert message.startswith("GPU 2 (GPU-c): the layout would change from 3 x 2g.10gb to whole")
    assert "alice leases it (bound, container train); bob leases it (held)" in message
    assert "ds01 gpu drain" in message


def test_every_gpu_is_checked_and_every_refusal_told() -> None:
    plan = planned(
        {"0": "halves", "1": "thirds", "2": "whole", "9": "whole"},
        users={"GPU-a": ["process 7 runs on it"], "GPU-c": ["alice leases it (held)"]},
    )
    places = [problem.where for problem in plan.problems]
    assert places == [
        "gpu_host_mig_profiles.thirds on GPU 1",
        "gpu_host_mig_layout.9",
        "GPU 0 (GPU-a)",
        "GPU 2 (GPU-c)",
    ]


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"7": "whole"}, "gpu_host_mig_layout.7: there is no GPU 7. There are: 0 (GPU-a), 1"),
        ({"0": "eighths"}, "there is no profile 'eighths'. gpu_host_mig_profiles has: halves"),
        ({"0": "whole", "GPU-a": "halves"}, "GPU 0 is named twice"),
    ],
)
def test_a_layout_that_means_nothing_is_refused_with_its_place(
    layout: Mapping[str, str], words: str
) -> None:
    assert words in refusal(layout)


def test_a_lost_gpu_is_refused() -> None:
    gpus = [WHOLE, Gpu(2, "", lost=True)]
    assert "gpu_host_mig_layout.2: the GPU does not answer" in refusal({"2": "thirds"}, gpus=gpus)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (["1g.6gb"], "the GPU has no MIG profile '1g.6gb'. It has: 7g.40gb, 4g.20gb"),
        (["1g.5gb"] * 8, "8 x 1g.5gb needs 8 compute slices, the GPU has 7"),
        (["4g.20gb"] * 2, "needs 8 compute slices"),
        (["1g.10gb"] * 5, "5 x 1g.10gb needs 48.1 GiB of memory, the GPU has 40.0"),
        (["1g.5gb"] * 100_000, "needs 100000 compute slices"),
    ],
)
def test_devices_that_do_not_fit_are_refused(devices: list[str], words: str) -> None:
    message = refusal({"0": "new"}, profiles={"new": devices}, gpus=[WHOLE])
    assert message.startswith("gpu_host_mig_profiles.new on GPU 0: ")
    assert words in message


def test_devices_whose_places_overlap_are_refused() -> None:
    narrow = replace(WHOLE, profiles=(replace(A100[2], placements=((0, 2), (1, 2))), *A100[3:]))
    message = refusal({"0": "new"}, profiles={"new": ["2g.10gb"] * 2}, gpus=[narrow])
    assert "2 x 2g.10gb does not fit: the memory slices that the profiles take overlap" in message


def test_without_the_drivers_table_the_names_alone_are_judged() -> None:
    unknown = replace(WHOLE, profiles=())
    (step,) = planned({"0": "mixed"}, [unknown]).steps
    assert step.create == (("3g.20gb", None), *[("1g.5gb", None)] * 4)
    for devices, words in (
        (["small"], "'small' is no MIG profile"),
        (["4g.20gb", "4g.20gb"], "needs 8"),
        (["3g.40gb", "3g.40gb"], "needs 78.0 GiB of memory, the GPU has 40.0"),
    ):
        assert words in refusal({"0": "new"}, profiles={"new": devices}, gpus=[unknown])


def test_the_places_are_chosen_once_mig_is_on_where_the_driver_tells_them_only_then() -> None:
    (step,) = planned({"0": "mixed"}, [replace(WHOLE, profiles=())]).steps
    assert mig.first_part(step) == replace(step, create=())
    (told,) = planned({"0": "mixed"}).steps
    assert mig.first_part(told) == told


def test_a_gpu_that_is_not_split_has_the_profiles_of_its_split_sister() -> None:
    rows: list[dict[str, Any]] = [
        {"index": n, "uuid": f"GPU-{n}", "model": model, "capable": True, "memory": 40 * GIB}
        for n, model in enumerate(["A100", "A100", "A30"])
    ]
    size = {"name": "1g.5gb", "id": 19, "slices": 1, "memory": GIB, "placements": [(0, 1)]}
    rows[1]["profiles"] = [size]
    assert [len(gpu.profiles) for gpu in mig.gpus_from(rows)] == [1, 1, 0]


def test_a_mode_that_waits_for_a_reset_is_asked_for_again_and_named() -> None:
    plan = planned({"0": "halves"}, [replace(WHOLE, pending=True)])
    assert plan.steps[0].mode is True
    assert "GPU 0: MIG on was asked for before and waits" in plan.notices[0]


def test_a_mode_that_would_come_with_the_next_reset_is_taken_back() -> None:
    (step,) = planned({"0": "whole"}, [replace(WHOLE, pending=True)]).steps
    assert (step.mode, step.destroy, step.create) == (False, (), ())


def test_gpus_are_read_from_the_adapters_rows() -> None:
    rows: list[dict[str, Any]] = [
        {"index": 0, "lost": True},
        {
            "index": 2,
            "uuid": "GPU-c",
            "memory": 40 * GIB,
            "capable": True,
            "mode": True,
            "pending": True,
            "profiles": [
                {"name": p.name, "id": p.id, "slices": p.slices, "memory": p.memory, "most": 7}
                | {"placements": list(p.placements)}
                for p in A100
            ],
            "instances": [{"id": n, "profile": "2g.10gb", "whole": True} for n in (3, 4, 5)],
        },
    ]
    assert mig.gpus_from(rows) == (Gpu(0, "", lost=True), THIRDS)
