# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How GPUs are split by MIG: the layout of the inventory, what there is, and the steps between.

Pure but for :func:`apply`, which is given who does it. A GPU is split anew as a whole: a run that was
broken off in the middle leaves a layout that differs, which the next run mends.
Source: NVML API reference, Multi Instance GPU Management; NVIDIA MIG user guide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .errors import Problem

GPU_SLICES = 7
"""Compute slices of the GPUs that can be split, where the driver does not say more."""
_MAX_INSTANCES = 16
_PROFILE_NAME = re.compile(r"(\d)g\.(\d+)gb([+-][a-z][a-z.]*)?")

LAYOUT = "gpu_host_mig_layout"
PROFILES = "gpu_host_mig_profiles"


@dataclass(frozen=True)
class Profile:
    """A size in which this GPU gives instances.

    :param id: NVML's number of it; it differs between GPU models.
    :param slices: compute slices.
    :param memory: bytes.
    :param placements: (first memory slice, number of memory slices) that it may take; empty where the
        driver does not say.
    """

    name: str
    id: int
    slices: int
    memory: int
    placements: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Instance:
    """A GPU instance.

    :param id: NVML's number of it.
    :param whole: it has one compute instance with all its slices: it is one MIG device.
    """

    id: int
    profile: str
    whole: bool = True


@dataclass(frozen=True)
class Gpu:
    """A GPU as far as splitting it goes.

    :param capable: whether it has MIG at all.
    :param mode: whether MIG is on.
    :param pending: whether it will be on after the next reset.
    :param memory: bytes.
    :param model: its product name.
    :param profiles: empty where the driver does not say, as some do while MIG is off.
    """

    index: int
    uuid: str
    capable: bool = False
    mode: bool = False
    pending: bool = False
    memory: int = 0
    profiles: tuple[Profile, ...] = ()
    instances: tuple[Instance, ...] = ()
    lost: bool = False
    model: str = ""

    @property
    def layout(self) -> tuple[str, ...]:
        """Its MIG devices by profile, biggest first; an unusable one is marked."""
        names = [i.profile if i.whole else f"{i.profile} (incomplete)" for i in self.instances]
        return tuple(sorted(names, key=_size_order))


@dataclass(frozen=True)
class Step:
    """What one GPU needs.

    :param mode: MIG on or off; None leaves it.
    :param destroy: numbers of the GPU instances that go.
    :param create: profile and placement of each instance to make; placement None: the driver's choice.
    :param before: layout as it is, and ``after`` as it will be.
    """

    index: int
    uuid: str
    mode: bool | None
    destroy: tuple[int, ...]
    create: tuple[tuple[str, tuple[int, int] | None], ...]
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The step in words, in the order in which it is done."""
        words = [f"GPU {self.index}: destroy GPU instance {number}" for number in self.destroy]
        if self.mode is not None:
            words.append(f"GPU {self.index}: turn MIG {'on' if self.mode else 'off'}")
        return (*words, *(f"GPU {self.index}: create {name}" for name, _unused in self.create))


@dataclass(frozen=True)
class Plan:
    """The steps, why nothing may be done at all, and what the admin should know."""

    steps: tuple[Step, ...] = ()
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()


class Splitter(Protocol):
    """Who does it. Each verb raises where the driver refuses."""

    def set_mode(self, uuid: str, on: bool) -> None: ...
    def destroy(self, uuid: str, instance: int) -> None: ...
    def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None: ...


def gpus_from(reading: Iterable[Mapping[str, Any]]) -> tuple[Gpu, ...]:
    """The GPUs from what :func:`.._host.nvml_mig.read` read."""
    found = [
        Gpu(
            index=int(row["index"]),
            uuid=str(row.get("uuid", "")),
            capable=bool(row.get("capable")),
            mode=bool(row.get("mode")),
            pending=bool(row.get("pending")),
            memory=int(row.get("memory", 0)),
            profiles=tuple(
                Profile(
                    p["name"],
                    int(p["id"]),
                    int(p["slices"]),
                    int(p["memory"]),
                    tuple((int(start), int(size)) for start, size in p.get("placements", ())),
                )
                for p in row.get("profiles", ())
            ),
            instances=tuple(
                Instance(int(i["id"]), i["profile"], bool(i["whole"]))
                for i in row.get("instances", ())
            ),
            lost=bool(row.get("lost")),
            model=str(row.get("model", "")),
        )
        for row in reading
    ]
    return tuple(_with_profiles(gpu, found) for gpu in found)


def _with_profiles(gpu: Gpu, others: Iterable[Gpu]) -> Gpu:
    """What the driver does not say of a GPU that is not split, it says of its split sisters."""
    if gpu.profiles or not gpu.capable or not gpu.model:
        return gpu
    same = [o for o in others if (o.model, o.memory) == (gpu.model, gpu.memory) and o.profiles]
    return replace(gpu, profiles=same[0].profiles) if same else gpu


def show(layout: Sequence[str]) -> str:
    """A layout for people: ``3 x 2g.10gb + 1g.5gb``; ``whole`` without any."""
    counted = Counter(layout)
    parts = [f"{n} x {name}" if n > 1 else name for name, n in counted.items()]
    return " + ".join(parts) or "whole"


def resolve(
    profiles: Mapping[str, Sequence[str]], layout: Mapping[Any, str], gpus: Sequence[Gpu]
) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """What each GPU shall be split into.

    :param profiles: name → MIG profiles, one for each device; an empty list is a whole GPU.
    :param layout: GPU index or UUID → name out of ``profiles``.
    :returns: UUID → MIG profiles for the GPUs that can be so, and what is wrong with the others.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    named: set[str] = set()
    problems: list[Problem] = []
    for key, name in layout.items():
        where = f"{LAYOUT}.{key}"
        found = [g for g in gpus if str(key) in (str(g.index), g.uuid)]
        if not found:
            there = ", ".join(f"{g.index} ({g.uuid})" if g.uuid else f"{g.index}" for g in gpus)
            problems.append(_problem(f"there is no GPU {key}", where, f"There are: {there or '-'}"))
        elif found[0].lost:
            remedy = "Look at the kernel's log (dmesg: NVRM, Xid), or leave it out of the layout"
            problems.append(_problem("the GPU does not answer", where, remedy))
        elif name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            problems.append(
                _problem(f"there is no profile {name!r}", where, f"{PROFILES} has: {known}")
            )
        elif found[0].uuid in named:
            what = f"GPU {found[0].index} is named twice"
            problems.append(_problem(what, where, "Keep one of the two, the index or the UUID"))
        else:
            named.add(found[0].uuid)
            unfit = _fit(found[0], tuple(profiles[name]), f"{PROFILES}.{name}")
            problems += unfit
            if not unfit:
                wanted[found[0].uuid] = tuple(profiles[name])
    return wanted, problems


def plan(
    gpus: Sequence[Gpu], wanted: Mapping[str, Sequence[str]], users: Mapping[str, Sequence[str]]
) -> Plan:
    """The steps to the wanted layout. Every GPU is checked before the first one is touched.

    :param wanted: UUID → MIG profiles, as :func:`resolve` gives it; other GPUs are left alone.
    :param users: UUID of a GPU → in words, who leases a slot of it or runs a process on it.
    """
    found = [(gpu, _step(gpu, tuple(wanted[gpu.uuid]))) for gpu in gpus if gpu.uuid in wanted]
    todo = [(gpu, step) for gpu, step in found if step]
    refusals = [_refusal(gpu, step, users.get(gpu.uuid, ())) for gpu, step in todo]
    notices = [
        f"GPU {gpu.index}: MIG {'on' if step.mode else 'off'} was asked for before and waits for the "
        "GPU to be idle, or for its reset"
        for gpu, step in todo
        if step.mode is not None and gpu.pending == step.mode
    ]
    return Plan(
        tuple(step for _unused, step in todo),
        tuple(refusal for refusal in refusals if refusal),
        tuple(notices),
    )


def apply(step: Step, splitter: Splitter) -> None:
    """Carry one step out; the caller keeps leases away from the GPU meanwhile."""
    for number in step.destroy:
        splitter.destroy(step.uuid, number)
    if step.mode is not None:
        splitter.set_mode(step.uuid, step.mode)
    for profile, placement in step.create:
        splitter.create(step.uuid, profile, placement)


def first_part(step: Step) -> Step:
    """What of a step can be done before its GPU is looked at again.

    Some drivers tell the profiles and their places only once MIG is on.
    """
    if step.mode and any(placement is None for _unused, placement in step.create):
        return replace(step, create=())
    return step


def place(gpu: Gpu, names: Sequence[str]) -> tuple[tuple[str, tuple[int, int] | None], ...] | None:
    """A place for each instance so that all have one; None where they do not fit.

    The order matters: 3g.20gb put first leaves an A100 room for three 1g.5gb, put last for four.
    """
    known = {profile.name: profile for profile in gpu.profiles}
    ordered = sorted(names, key=_size_order)
    if not all(name in known and known[name].placements for name in ordered):
        return tuple((name, None) for name in ordered)

    def search(rest: Sequence[str], taken: frozenset[int]) -> list[tuple[int, int]] | None:
        if not rest:
            return []
        for start, size in sorted(known[rest[0]].placements):
            cells = frozenset(range(start, start + size))
            if cells & taken:
                continue
            others = search(rest[1:], taken | cells)
            if others is not None:
                return [(start, size), *others]
        return None

    found = search(ordered, frozenset())
    return None if found is None else tuple(zip(ordered, found, strict=True))


def _step(gpu: Gpu, names: tuple[str, ...]) -> Step | None:
    on = bool(names)
    mode = on if (gpu.mode, gpu.pending) != (on, on) else None
    equal = Counter(gpu.layout) == Counter(names)
    if mode is None and equal:
        return None
    destroy = () if equal else tuple(i.id for i in gpu.instances)
    create = () if equal else place(gpu, names) or ()
    after = tuple(sorted(names, key=_size_order))
    return Step(gpu.index, gpu.uuid, mode, destroy, create, gpu.layout, after)


def _refusal(gpu: Gpu, step: Step, users: Sequence[str]) -> Problem | None:
    where = f"GPU {gpu.index} ({gpu.uuid})"
    if not users:
        return None
    return _problem(
        f"the layout would change from {show(step.before)} to {show(step.after)}, "
        f"but the GPU is in use: {'; '.join(users)}",
        where,
        "Drain its slots (ds01 gpu drain), wait until they are free, and run again",
    )


def _fit(gpu: Gpu, names: Sequence[str], where: str) -> list[Problem]:
    """Why a GPU cannot be split so."""
    if not names:
        return []
    where = f"{where} on GPU {gpu.index}"
    known = {profile.name: profile for profile in gpu.profiles}
    offered = ", ".join(sorted(known, key=_size_order))
    if not gpu.capable:
        return [_problem("the GPU cannot be split (no MIG)", where, f"Take it out of {LAYOUT}")]
    for name in names:
        if known and name not in known:
            return [_problem(f"the GPU has no MIG profile {name!r}", where, f"It has: {offered}")]
        if not known and not _PROFILE_NAME.fullmatch(name):
            what = f"{name!r} is no MIG profile"
            return [_problem(what, where, "Write it as NVIDIA does: 1g.5gb, 3g.20gb, 1g.5gb+me")]
    slices = [known[name].slices if known else int(name[0]) for name in names]
    most = max([GPU_SLICES, *(profile.slices for profile in gpu.profiles)])
    if sum(slices) > most or len(names) > _MAX_INSTANCES:
        what = f"{show(names)} needs {sum(slices)} compute slices, the GPU has {most}"
        return [_problem(what, where, "Give it fewer or smaller devices")]
    memory = sum(known[name].memory if known else _named_memory(name) for name in names)
    if gpu.memory and memory > gpu.memory:
        what = (
            f"{show(names)} needs {memory / 2**30:.1f} GiB of memory, "
            f"the GPU has {gpu.memory / 2**30:.1f}"
        )
        return [_problem(what, where, "Give it fewer or smaller devices")]
    if place(gpu, names) is None:
        what = f"{show(names)} does not fit: the memory slices that the profiles take overlap"
        return [_problem(what, where, f"Choose another mixture of {offered}")]
    return []


def _named_memory(name: str) -> int:
    """Bytes by a profile's name, which rounds up to whole GiB."""
    match = _PROFILE_NAME.fullmatch(name)
    return (int(match[2]) - 1) * 2**30 if match else 0


def _size_order(name: str) -> tuple[int, int, str]:
    """Biggest first."""
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return (-numbers[0] if numbers else 0, -numbers[1] if len(numbers) > 1 else 0, name)


def _problem(what: str, where: str, remedy: str) -> Problem:
    return Problem("error", what, where, remedy)
