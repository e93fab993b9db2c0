# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether limits make sense together, and whether the host can hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .errors import Problem
from .keys import KEYS
from .limits import (
    Limits,
    Override,
    Setting,
    Settings,
    account_key,
    group_of,
    merge,
    of_group,
    of_login,
    of_total,
)
from .names import UNATTRIBUTED_GROUP
from .units import show_size

# (lower, upper, level): the first may not exceed the second; the level says how bad it is.
_ORDER = (
    ("memory_high", "memory_max", "error"),
    ("memory", "memory_max", "warning"),
    ("shm_size", "memory", "warning"),
    ("idle_timeout", "max_runtime", "warning"),
    ("max_gpus_per_container", "max_mig_instances", "warning"),
)


@dataclass(frozen=True)
class Capacity:
    """What a host has.

    :param cpus: online CPUs.
    :param memory: RAM in bytes.
    :param pids: the kernel's largest process id (``kernel.pid_max``).
    """

    cpus: int
    memory: int
    pids: int


def _value(settings: Settings, key: str) -> Any:
    setting = settings.get(key)
    return None if setting is None else setting.value


def _order_faults(settings: Settings, who: str) -> Iterator[Problem]:
    for low, high, level in _ORDER:
        small, large = settings.get(low), settings.get(high)
        if small is None or large is None or small.value is None or large.value is None:
            continue
        # Two built-in values are not the admin's doing.
        if small.value > large.value and (small.where or large.where):
            yield Problem(
                level,
                f"{who}: {low} {small.shown} from {small.origin} is above {high} {large.shown} "
                f"from {large.origin}",
                small.where or large.where,
                f"Lower {low} or raise {high}",
            )


def _container_cpus(settings: Settings, who: str) -> Iterator[Problem]:
    cpus, quota = settings.get("max_cpus"), settings.get("cpu_quota")
    if cpus is None or quota is None or cpus.value is None or quota.value is None:
        return
    if cpus.value * 100 > quota.value:
        yield Problem(
            "warning",
            f"{who}: max_cpus {cpus.shown} from {cpus.origin} is above "
            f"cpu_quota {quota.shown} from {quota.origin}; the slice still holds",
            cpus.where or quota.where,
            "Lower max_cpus or raise cpu_quota",
        )


def _above_total(settings: Settings, total: Settings, who: str, whole: str) -> Iterator[Problem]:
    for key in ("memory_max", "tasks_max", "cpu_quota"):
        own, all_of = _value(settings, key), total.get(key)
        if (
            own is not None
            and all_of is not None
            and all_of.value is not None
            and own > all_of.value
        ):
            yield Problem(
                "warning",
                f"{who}: {key} {settings[key].shown} from "
                f"{settings[key].origin} can never be reached, {whole} has "
                f"{all_of.shown} from {all_of.origin}",
                settings[key].where,
                f"Lower {key} or raise the total",
            )


def _once(problems: Iterable[Problem]) -> list[Problem]:
    """Each fault once, at the first who has it: groups share their defaults' faults."""
    seen: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        words = problem.what.partition(": ")[2]
        seen.setdefault((words, problem.where), problem)
    return list(seen.values())


def _group_faults(limits: Limits) -> Iterator[Problem]:
    for name, group in limits.groups.items():
        who, settings = f"group {name}", of_group(limits, name)
        whole = f"group {name} as a whole"
        yield from _order_faults(settings, who)
        yield from _container_cpus(settings, who)
        yield from _above_total(settings, of_total(limits, name), who, whole)
        yield from _above_total(settings, of_total(limits), who, "the whole host")
        yield from _order_faults(group.total, whole)
        yield from _above_total(group.total, of_total(limits), whole, "the whole host")


def _override_faults(limits: Limits, override: Override, group: str) -> Iterator[Problem]:
    settings = merge(of_group(limits, group), override.settings)
    yield from _order_faults(settings, f"user {override.user}")
    yield from _container_cpus(settings, f"user {override.user}")
    for total, whole in (
        (of_total(limits, group), f"group {group} as a whole"),
        (of_total(limits), "the whole host"),
    ):
        yield from _above_total(override.settings, total, f"user {override.user}", whole)


def _overrides(limits: Limits, now: datetime) -> Iterator[Problem]:
    """Overrides against the group that the file gives; one that Unix groups give is only guessed."""
    by_host = any(group.unix_groups for group in limits.groups.values())
    for name, override in limits.overrides.items():
        if override.expired(now):
            continue
        group, _unused = group_of(limits, name)
        sure = not by_host or account_key(name) in limits.group_by_member
        for problem in _override_faults(limits, override, group):
            if sure or problem.level != "error":
                yield problem
            else:
                guess = f"{problem.what}, if {name} is in group {group}"
                yield Problem("warning", guess, problem.where, problem.remedy)


def _all(limits: Limits, now: datetime) -> Iterator[Problem]:
    if not limits.groups:
        yield from _order_faults(limits.defaults, "defaults")
    yield from _group_faults(limits)
    yield from _overrides(limits, now)
    yield from _order_faults(limits.total, "the whole host")
    yield from _order_faults(of_total(limits, UNATTRIBUTED_GROUP), UNATTRIBUTED_GROUP)
    yield from _order_faults(of_login(limits, None, now), "login")


def check_limits(limits: Limits, now: datetime) -> list[Problem]:
    """Values that contradict each other: errors, and warnings for what can never take effect.

    :param now: decides which overrides have ended; they count for nothing.
    """
    return _once(_all(limits, now))


def check_users(limits: Limits, groups: Mapping[str, str], now: datetime) -> list[Problem]:
    """Overrides that contradict their group, once the host has said which group that is.

    :param groups: the group of each user who has an override.
    """
    return _once(
        problem
        for name, override in limits.overrides.items()
        if name in groups and not override.expired(now)
        for problem in _override_faults(limits, override, groups[name])
        if problem.level == "error"
    )


def _above(setting: Setting, host: Capacity) -> str:
    key, value = setting.key, setting.value
    if value is None:
        return ""
    if key in ("cpu_quota", "max_cpus"):
        most = host.cpus * (100 if key == "cpu_quota" else 1)
        return f"the host has {host.cpus} CPUs ({KEYS[key].show(most)})" if value > most else ""
    if key in ("memory_max", "memory_high", "memory", "shm_size"):
        return f"the host has {show_size(host.memory)} of memory" if value > host.memory else ""
    if key in ("tasks_max", "pids_limit"):
        return f"the kernel has {host.pids} process ids" if value > host.pids else ""
    return ""


def check_host(limits: Limits, host: Capacity, now: datetime) -> list[Problem]:
    """Errors for every value above what the host has; overrides that have ended count for nothing."""
    ended = {f"user {name}" for name, o in limits.overrides.items() if o.expired(now)}
    found = []
    for who, settings in limits.sections():
        for setting in settings.values() if who not in ended else ():
            fault = _above(setting, host)
            if fault:
                found.append(
                    Problem(
                        "error",
                        f"{setting.path}: {setting.shown} is above the host: {fault}",
                        setting.where,
                        "Lower it, or write null for no limit",
                    )
                )
    return found
