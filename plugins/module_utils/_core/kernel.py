# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of a slice (cgroup v2), and whether that is what was asked for.

The truth of a limit is in /sys/fs/cgroup, not in ``systemctl show``. File formats: the kernel's
Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from typing import Any

from .keys import KEYS, SLICE_KEYS, Key
from .limits import Settings
from .slices import Device

FILES = (
    "cpu.max",
    "cpu.weight",
    "memory.max",
    "memory.high",
    "memory.swap.max",
    "pids.max",
    "io.max",
    "io.weight",
    "io.bfq.weight",
    "memory.current",
    "pids.current",
    "cgroup.procs",
)
# 4 KiB, or 64 KiB on many arm64 servers: the kernel rounds memory limits down to whole pages.
_PAGE = mmap.PAGESIZE
_DEFAULT_WEIGHT = 100
# The files that hold present use, by the limit that it counts against.
USE = {"memory_max": "memory.current", "memory_high": "memory.current", "tasks_max": "pids.current"}


def _max_or_int(text: str) -> int | None:
    return None if text.strip() == "max" else int(text)


def _cpu_quota(text: str) -> float | None:
    quota, _unused, period = text.strip().partition(" ")
    return None if quota == "max" else round(100 * int(quota) / int(period or 100000), 2)


def _weight(text: str) -> int | None:
    """io.weight is ``default 100``, cpu.weight a bare number; the kernel's default reads as unset."""
    value = int(text.splitlines()[0].split()[-1])
    return None if value == _DEFAULT_WEIGHT else value


def _io_max(text: str, field: str) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        number, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        found[number] = _max_or_int(values.get(field, "max"))
    return found


def kernel_value(key: Key, raw: Mapping[str, str], device: Device | None = None) -> Any:
    """One limit as the kernel has it, in the key's base unit; None where it has none.

    :param raw: texts of the slice's cgroup files by name; a file of a controller that is not
        switched on for the slice is absent, and an absent file limits nothing.
    :param device: the disk, for limits that count per disk.
    """
    name, _unused, field = key.cgroup.partition(":")
    text = raw.get(name)
    if text is None or not text.strip():
        return None
    if name == "io.max":
        return _io_max(text, field).get(device.number) if device else None
    if name == "cpu.max":
        return _cpu_quota(text)
    if name in ("cpu.weight", "io.weight"):
        return _weight(text)
    return _max_or_int(text)


def wanted_value(key: Key, value: Any) -> Any:
    """What the kernel will say once ``value`` is set: memory in whole pages, weights' default unset."""
    if value is None:
        return None
    if key.cgroup.startswith("memory."):
        return value // _PAGE * _PAGE
    if key.cgroup == "cpu.max":
        return round(float(value), 2)
    if key.cgroup in ("cpu.weight", "io.weight") and value == _DEFAULT_WEIGHT:
        return None
    return value


def stale_devices(key: Key, raw: Mapping[str, str], devices: Iterable[Device]) -> list[str]:
    """``major:minor`` of disks that a limit no longer counts for and still holds in the kernel."""
    name, _unused, field = key.cgroup.partition(":")
    if name != "io.max":
        return []
    counted = {device.number for device in devices}
    has = _io_max(raw.get(name, ""), field)
    return sorted(n for n, value in has.items() if value is not None and n not in counted)


def differing(
    settings: Settings,
    raw: Mapping[str, str],
    devices: Iterable[Device],
    unsupported: frozenset[str] = frozenset(),
) -> list[tuple[Key, Any, Any]]:
    """Limits on which the kernel and the settings differ: (key, kernel's value, wanted value).

    :param unsupported: names of keys that this host cannot enforce at all; they are reported by
        the preflight and left out here, or every run would try again.
    """
    found: list[tuple[Key, Any, Any]] = []
    disks = list(devices)
    for key in SLICE_KEYS:
        if key.name in unsupported:
            continue
        setting = settings.get(key.name)
        wanted = wanted_value(key, setting.value if setting else None)
        if key.cgroup.startswith("io.max"):
            wrong = [v for v in (kernel_value(key, raw, d) for d in disks) if v != wanted]
            stale = stale_devices(key, raw, disks)
            if wrong:
                found.append((key, wrong[0], wanted))
            elif stale:
                found.append((key, kernel_value(key, raw, Device("", stale[0])), None))
            continue
        present = kernel_value(key, raw)
        if present != wanted:
            found.append((key, present, wanted))
    return found


def over_use(settings: Settings, raw: Mapping[str, str]) -> list[str]:
    """Limits below what a slice uses right now, in words."""
    found = []
    for name, file in USE.items():
        setting = settings.get(name)
        text = raw.get(file)
        if setting is None or setting.value is None or not text or not text.strip().isdigit():
            continue
        if int(text) > setting.value:
            key = KEYS[name]
            found.append(
                f"uses {key.show(int(text))} now, above the new {name} {key.show(setting.value)}"
                f" from {setting.origin}"
            )
    return found
