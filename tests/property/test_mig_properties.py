# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a GPU can hold is found a place for, and reached from any layout, broken runs included."""

from __future__ import annotations

from dataclasses import replace

from ds01.core import mig
from ds01.core.mig import Gpu, Instance, Plan, Profile
from hypothesis import given
from hypothesis import strategies as st

MIB = 2**20
A100 = (
    Profile("1g.5gb", 19, 1, 4864 * MIB, tuple((start, 1) for start in range(7))),
    Profile("1g.10gb", 15, 1, 9856 * MIB, ((0, 2), (2, 2), (4, 2), (6, 2))),
    Profile("2g.10gb", 14, 2, 9856 * MIB, ((0, 2), (2, 2), (4, 2))),
    Profile("3g.20gb", 9, 3, 19968 * MIB, ((0, 4), (4, 4))),
    Profile("4g.20gb", 5, 4, 19968 * MIB, ((0, 4),)),
    Profile("7g.40gb", 0, 7, 40192 * MIB, ((0, 8),)),
)
PLACES = [(profile, place) for profile in A100 for place in profile.placements]
WHOLE = Gpu(0, "GPU-a", True, memory=40960 * MIB, profiles=A100)


def cells(place: tuple[int, int]) -> set[int]:
    return set(range(place[0], place[0] + place[1]))


@st.composite
def layouts(draw: st.DrawFn) -> list[str]:
    """What fits, made by putting devices down until none is wanted any more."""
    taken: set[int] = set()
    slices, names = 0, []
    for profile, place in draw(st.lists(st.sampled_from(PLACES), max_size=12)):
        if not taken & cells(place) and slices + profile.slices <= 7:
            taken |= cells(place)
            slices += profile.slices
            names.append(profile.name)
    return names


class Broken(Exception):
    """The driver refuses, once."""


class Driver:
    """One GPU that keeps the rules of MIG, and breaks off after so many actions."""

    def __init__(self, gpu: Gpu, actions: int) -> None:
        self.gpu = gpu
        self.actions = actions
        self.places: dict[int, tuple[int, int]] = {}

    def _act(self) -> None:
        self.actions -= 1
        if self.actions == -1:
            raise Broken

    def set_mode(self, uuid: str, on: bool) -> None:
        self._act()
        assert not self.gpu.instances
        self.gpu = replace(self.gpu, mode=on, pending=on)

    def destroy(self, uuid: str, instance: int) -> None:
        self._act()
        del self.places[instance]
        kept = tuple(i for i in self.gpu.instances if i.id != instance)
        self.gpu = replace(self.gpu, instances=kept)

    def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None:
        self._act()
        assert self.gpu.mode and placement
        assert (profile, placement) in [(p.name, place) for p, place in PLACES]
        assert not any(cells(placement) & cells(other) for other in self.places.values())
        number = 1 + max(self.places, default=0)
        self.places[number] = placement
        made = (*self.gpu.instances, Instance(number, profile))
        self.gpu = replace(self.gpu, instances=made)


def step_to(driver: Driver, names: list[str]) -> Plan:
    wanted, problems = mig.resolve({"wanted": names}, {"0": "wanted"}, [driver.gpu])
    assert problems == []
    plan = mig.plan([driver.gpu], wanted, {})
    for step in plan.steps:
        mig.apply(step, driver)
    return plan


@given(layouts(), layouts(), st.integers(0, 20))
def test_every_layout_is_reached_from_every_other(
    first: list[str], then: list[str], actions: int
) -> None:
    driver = Driver(WHOLE, 1000)
    step_to(driver, first)
    driver.actions = actions
    try:
        step_to(driver, then)
    except Broken:
        step_to(driver, then)
    assert sorted(driver.gpu.layout) == sorted(then)
    assert driver.gpu.mode is bool(then)
    assert step_to(driver, then) == Plan()


@given(st.lists(st.sampled_from([profile.name for profile in A100]), max_size=9))
def test_a_layout_is_refused_or_has_a_place_for_each_device(names: list[str]) -> None:
    wanted, problems = mig.resolve({"wanted": names}, {"0": "wanted"}, [WHOLE])
    assert bool(problems) is not bool(wanted)
    if wanted:
        step_to(Driver(WHOLE, 1000), names)
