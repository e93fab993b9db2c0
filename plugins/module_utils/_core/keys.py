# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of limits: one row a key. Adding a limit is adding a row.

From this table come validation, resolution, the drop-ins, the JSON Schema for editors and the
reference page of the docs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .kinds import (
    BOOL,
    CAPABILITIES,
    COUNT,
    DEVICES,
    DURATION,
    MODE,
    MOUNTS,
    NAMESPACES,
    NUMBER,
    PERCENT,
    PORTS,
    RATE,
    SIZE,
    VISIBILITY,
    Kind,
)

SYSTEMD = "systemd slice"
ADMISSION = "gateway admission"
GATEWAY = "gateway"
LEASES = "lease book"
LIFECYCLE = "lifecycle timers"
DISK = "disk quota"
# What a key's enforcement is waiting for is said wherever the key is shown.
NOT_YET = frozenset({ADMISSION, LIFECYCLE, DISK})

LEVELS = {
    "container": "one container",
    "slice": "one user, all containers together (systemd slice)",
    "count": "one user (counts)",
    "time": "time",
    "access": "what a container may ask for",
    "space": "disk space",
}


@dataclass(frozen=True)
class Key:
    """One limit.

    :param name: the key in the limits file, everywhere else too.
    :param level: one of :data:`LEVELS`.
    :param default: built-in value as text; None means not limited.
    :param enforced_by: who makes it true.
    :param about: what it does, for the docs.
    :param minimum: smallest sensible value in the key's base unit (bytes, seconds, per cent, …).
    :param maximum: largest one; None where only the host bounds it.
    :param nullable: ``null`` means unlimited or never.
    :param setting: the systemd setting (systemd.resource-control(5)).
    :param cgroup: the kernel's file for it (cgroup v2).
    """

    name: str
    level: str
    kind: Kind
    default: str | tuple[str, ...] | None
    enforced_by: str
    about: str
    minimum: float = 0
    maximum: float | None = None
    nullable: bool = True
    setting: str = ""
    cgroup: str = ""

    @property
    def pending(self) -> bool:
        """The part that enforces this key is still to come."""
        return self.enforced_by in NOT_YET

    def show(self, value: Any) -> str:
        """A value for people; null reads unlimited or never."""
        if value is None:
            return "never" if self.kind is DURATION else "unlimited"
        if isinstance(value, (list, tuple)):
            return ", ".join(self.kind.show(v) for v in value) or "none"
        return self.kind.show(value)

    def out_of_bounds(self, value: Any) -> str:
        """Why a number is too small or too large to be meant; empty when it is not."""
        if isinstance(value, (bool, str, list, tuple)) or value is None:
            return ""
        if value < self.minimum:
            whole = int(self.minimum)
            least = self.show(whole if whole == self.minimum else self.minimum)
            return f"is less than the smallest sensible value, {least}"
        if self.maximum is not None and value > self.maximum:
            return f"is more than the largest allowed value, {self.maximum:g}"
        return ""

    def accepts(self, value: Any) -> bool:
        """Whether a value that was read back from JSON can be one of this key."""
        if value is None:
            return self.nullable
        return self.kind.holds(value) and not self.out_of_bounds(value)


_MIB = 1024**2

TABLE: tuple[Key, ...] = (
    Key("max_cpus", "container", NUMBER, None, ADMISSION, "CPUs of one container", 0.01),
    Key("memory", "container", SIZE, None, ADMISSION, "memory of one container", 6 * _MIB),
    Key(
        "memory_swap",
        "container",
        SIZE,
        None,
        ADMISSION,
        "memory and swap of one container together, as Docker counts it",
        6 * _MIB,
    ),
    Key("shm_size", "container", SIZE, "64m", ADMISSION, "/dev/shm of one container", _MIB),
    Key("pids_limit", "container", COUNT, None, ADMISSION, "processes of one container", 4),
    Key("max_gpus_per_container", "container", COUNT, None, LEASES, "GPU slots of one container"),
    Key(
        "cpu_quota",
        "slice",
        PERCENT,
        None,
        SYSTEMD,
        "CPU time, 100% is one CPU",
        1,
        setting="CPUQuota",
        cgroup="cpu.max",
    ),
    Key(
        "cpu_weight",
        "slice",
        COUNT,
        None,
        SYSTEMD,
        "share of the CPU when it is short, 1 to 10000, the kernel's default is 100",
        1,
        10000,
        setting="CPUWeight",
        cgroup="cpu.weight",
    ),
    Key(
        "memory_max",
        "slice",
        SIZE,
        None,
        SYSTEMD,
        "memory, above it the kernel kills",
        16 * _MIB,
        setting="MemoryMax",
        cgroup="memory.max",
    ),
    Key(
        "memory_high",
        "slice",
        SIZE,
        None,
        SYSTEMD,
        "memory, above it the kernel slows down",
        16 * _MIB,
        setting="MemoryHigh",
        cgroup="memory.high",
    ),
    Key(
        "memory_swap_max",
        "slice",
        SIZE,
        "0",
        SYSTEMD,
        "swap; 0 unless said otherwise, since swap would be a way round memory_max",
        setting="MemorySwapMax",
        cgroup="memory.swap.max",
    ),
    Key(
        "io_weight",
        "slice",
        COUNT,
        None,
        SYSTEMD,
        "share of the disk when it is short, 1 to 10000; needs BFQ or io.cost on the disk",
        1,
        10000,
        setting="IOWeight",
        cgroup="io.weight",
    ),
    Key(
        "io_read_bw_max",
        "slice",
        RATE,
        None,
        SYSTEMD,
        "bytes read per second, each disk",
        4096,
        setting="IOReadBandwidthMax",
        cgroup="io.max:rbps",
    ),
    Key(
        "io_write_bw_max",
        "slice",
        RATE,
        None,
        SYSTEMD,
        "bytes written per second, each disk",
        4096,
        setting="IOWriteBandwidthMax",
        cgroup="io.max:wbps",
    ),
    Key(
        "io_read_iops_max",
        "slice",
        COUNT,
        None,
        SYSTEMD,
        "reads per second, each disk",
        1,
        setting="IOReadIOPSMax",
        cgroup="io.max:riops",
    ),
    Key(
        "io_write_iops_max",
        "slice",
        COUNT,
        None,
        SYSTEMD,
        "writes per second, each disk",
        1,
        setting="IOWriteIOPSMax",
        cgroup="io.max:wiops",
    ),
    Key(
        "tasks_max",
        "slice",
        COUNT,
        None,
        SYSTEMD,
        "processes and threads",
        16,
        setting="TasksMax",
        cgroup="pids.max",
    ),
    Key("max_containers_per_user", "count", COUNT, None, ADMISSION, "containers of one user"),
    Key("max_mig_instances", "count", COUNT, None, LEASES, "MIG devices of one user"),
    Key(
        "max_gpu_equivalents",
        "count",
        NUMBER,
        None,
        LEASES,
        "GPUs of one user; a MIG device counts its compute slices / 7",
    ),
    Key(
        "allow_full_gpu", "count", BOOL, "false", LEASES, "whole GPUs may be leased", nullable=False
    ),
    Key(
        "priority",
        "count",
        COUNT,
        "10",
        LEASES,
        "place in the queue, higher is earlier",
        0,
        1000,
        nullable=False,
    ),
    Key(
        "idle_timeout", "time", DURATION, None, LIFECYCLE, "an idle container is stopped after", 60
    ),
    Key("max_runtime", "time", DURATION, None, LIFECYCLE, "a container is stopped after", 60),
    Key(
        "gpu_hold_after_stop",
        "time",
        DURATION,
        "15m",
        LEASES,
        "a stopped container keeps its GPU for",
    ),
    Key(
        "container_hold_after_stop",
        "time",
        DURATION,
        None,
        LIFECYCLE,
        "a stopped container is removed after",
    ),
    Key("gpu_wait_timeout", "time", DURATION, "30m", LEASES, "a request waits for a GPU for"),
    Key(
        "mounts", "access", MOUNTS, (), ADMISSION, "host paths that may be mounted", nullable=False
    ),
    Key("privileged", "access", BOOL, "false", ADMISSION, "--privileged", nullable=False),
    Key(
        "host_namespaces",
        "access",
        NAMESPACES,
        (),
        ADMISSION,
        "namespaces shared with the host (network, ipc, pid, uts)",
        nullable=False,
    ),
    Key(
        "devices",
        "access",
        DEVICES,
        (),
        ADMISSION,
        "device nodes besides leased GPUs",
        nullable=False,
    ),
    Key(
        "capabilities",
        "access",
        CAPABILITIES,
        (),
        ADMISSION,
        "capabilities beyond the engine's own",
        nullable=False,
    ),
    Key(
        "ports",
        "access",
        PORTS,
        ("1024-65535",),
        ADMISSION,
        "ports that may be published",
        nullable=False,
    ),
    Key("builds", "access", BOOL, "true", ADMISSION, "images may be built", nullable=False),
    Key(
        "visibility",
        "access",
        VISIBILITY,
        "own",
        ADMISSION,
        "whose containers are listed: own or all",
        nullable=False,
    ),
    Key(
        "gateway_mode",
        "access",
        MODE,
        "observe",
        GATEWAY,
        "what the gateway does with a request that its rules refuse: observe (it passes and is "
        "recorded) or enforce (it is refused)",
        nullable=False,
    ),
    Key(
        "disk_quota",
        "space",
        SIZE,
        None,
        DISK,
        "images, layers, volumes and logs of one user",
        _MIB,
    ),
)

KEYS: dict[str, Key] = {key.name: key for key in TABLE}
SLICE_KEYS: tuple[Key, ...] = tuple(key for key in TABLE if key.level == "slice")


@dataclass(frozen=True)
class Alias:
    """A spelling of the existing installation.

    :param key: the key that it means.
    :param suffix: a unit that its bare numbers lack (``h``), or empty.
    """

    key: str
    suffix: str = ""


ALIASES: dict[str, Alias] = {
    "max_gpus_per_user": Alias("max_gpu_equivalents"),
    "max_gpu_slots": Alias("max_mig_instances"),
    "gpu_limit": Alias("max_gpu_equivalents"),
    "max_mig_per_container": Alias("max_gpus_per_container"),
    "max_tasks": Alias("tasks_max"),
    "io_read_bps": Alias("io_read_bw_max"),
    "io_write_bps": Alias("io_write_bw_max"),
    "idle_timeout_h": Alias("idle_timeout", "h"),
    "max_runtime_h": Alias("max_runtime", "h"),
    "gpu_hold_after_stop_h": Alias("gpu_hold_after_stop", "h"),
    "container_hold_after_stop_h": Alias("container_hold_after_stop", "h"),
    "gpu_wait_timeout_h": Alias("gpu_wait_timeout", "h"),
}
