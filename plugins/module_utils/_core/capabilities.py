# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host can enforce of the limits, and what it cannot, by name and with the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import Problem
from .keys import SLICE_KEYS, Key
from .limits import Limits
from .slices import Device

# The controller behind each file of the kernel (cgroups(7)).
_CONTROLLERS = {"cpu": "cpu", "memory": "memory", "pids": "pids", "io": "io"}


@dataclass(frozen=True)
class HostFacts:
    """What the preflight read off the host.

    :param systemd: systemd is the host's init.
    :param unified: cgroup v2 alone is mounted.
    :param controllers: the controllers of the cgroup root.
    :param io_cost: the kernel knows io.cost.
    :param io_cost_devices: ``major:minor`` of the disks where io.cost is on.
    :param devices: the disks that IO limits count for.
    :param schedulers: the IO scheduler of each disk, by node.
    :param no_disk: why a path has no disk, in words.
    """

    systemd: bool
    unified: bool
    controllers: frozenset[str]
    io_cost: bool = False
    io_cost_devices: frozenset[str] = frozenset()
    devices: tuple[Device, ...] = ()
    schedulers: tuple[tuple[str, str], ...] = ()
    no_disk: tuple[str, ...] = ()


def _used(limits: Limits, keys: Iterable[Key]) -> list[str]:
    """Names of the keys that the file sets to something."""
    names = {key.name for key in keys}
    return sorted(
        {
            s.key
            for _unused, settings in limits.sections()
            for s in settings.values()
            if s.key in names and s.value is not None and s.where
        }
    )


def _missing_controllers(limits: Limits, host: HostFacts) -> Iterable[Problem]:
    for controller in sorted(set(_CONTROLLERS.values()) - host.controllers):
        keys = [key for key in SLICE_KEYS if key.cgroup.startswith(f"{controller}.")]
        used = _used(limits, keys)
        if used:
            yield Problem(
                "error" if controller != "io" else "warning",
                f"the kernel has no {controller} controller: {', '.join(used)} cannot be enforced",
                "/sys/fs/cgroup/cgroup.controllers",
                f"Boot without cgroup_disable={controller}, or take these keys out of the limits",
            )


def _io_weight(limits: Limits, host: HostFacts) -> Iterable[Problem]:
    weight = [key for key in SLICE_KEYS if key.name == "io_weight"]
    if not _used(limits, weight) or "io" not in host.controllers:
        return
    schedulers = dict(host.schedulers)
    for device in host.devices:
        scheduler = schedulers.get(device.node, "")
        if scheduler != "bfq" and device.number not in host.io_cost_devices:
            yield Problem(
                "warning",
                f"io_weight has no effect on {device.node}: its IO scheduler is "
                f"{scheduler or 'unknown'}, not bfq, and io.cost is off",
                f"/sys/block/{device.node.removeprefix('/dev/')}/queue/scheduler",
                "Switch the disk to bfq by a udev rule, or take io_weight out of the limits",
            )


def host_problems(limits: Limits, host: HostFacts) -> list[Problem]:
    """What stands between the limits and this host. Errors stop the run before any change."""
    if not host.systemd:
        return [
            Problem(
                "error",
                "systemd is not this host's init",
                "/run/systemd/system",
                "ds01 needs a host that is booted by systemd",
            )
        ]
    if not host.unified:
        return [
            Problem(
                "error",
                "the host runs cgroup v1, whose limits systemd does not enforce per slice",
                "/sys/fs/cgroup",
                "Boot with systemd.unified_cgroup_hierarchy=1",
            )
        ]
    found = [*_missing_controllers(limits, host), *_io_weight(limits, host)]
    per_disk = [key for key in SLICE_KEYS if key.cgroup.startswith("io.max")]
    used = _used(limits, per_disk)
    if used:
        found += [
            Problem(
                "warning",
                f"{', '.join(used)} cannot be enforced there: {reason}",
                "slices_io_paths",
                "Name the disks in slices_io_devices, or move the data to a disk",
            )
            for reason in host.no_disk
        ]
    return found


def unsupported_keys(host: HostFacts) -> frozenset[str]:
    """Keys whose kernel file this host cannot have, so that nobody waits for it to change."""
    names = {
        key.name
        for key in SLICE_KEYS
        if key.cgroup.split(".", 1)[0] not in host.controllers
        or (key.cgroup.startswith("io.max") and not host.devices)
    }
    if not host.io_cost:
        names.add("io_weight")
    return frozenset(names)
