# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of limits: one row a key. Adding a limit is adding a row.

From this table come validation, resolution, the drop-ins, the JSON Schema for editors and the
reference page of the docs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import units

SYSTEMD = "systemd slice"
ADMISSION = "gateway admission"
LEASES = "lease book"
LIFECYCLE = "lifecycle timers"
DISK = "disk quota"
# What a key's enforcement is waiting for is said wherever the key is shown.
NOT_YET = frozenset({ADMISSION, LEASES, LIFECYCLE, DISK})

LEVELS = {
    "container": "one container",
    "slice": "one user, all containers together (systemd slice)",
    "count": "one user (counts)",
    "time": "time",
    "access": "what a container may ask for",
    "space": "disk space",
}


@dataclass(frozen=True)
class Kind:
    """How a value is written, read and shown.

    :param parse: text to value; raises :class:`units.UnitError`.
    :param show: value to text for people.
    :param pattern: the spelling as an ECMA 262 regular expression, for the JSON Schema.
    """

    name: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    wanted: str
    pattern: str
    is_list: bool = False


def _word(text: str) -> str:
    return text.strip()


def _visibility(text: str) -> str:
    if text.strip() not in ("own", "all"):
        raise units.UnitError(f"{text!r} is neither own nor all")
    return text.strip()


def _mount(text: str) -> str:
    path, _, mode = text.strip().rpartition(":")
    if mode not in ("ro", "rw") or not path.startswith("/") or "/../" in f"{path}/":
        raise units.UnitError(f"{text!r} is not an absolute path with :ro or :rw, as in /data:ro")
    return f"{path.rstrip('/') or '/'}:{mode}"


def _ports(text: str) -> str:
    low, _, high = text.strip().partition("-")
    first, last = units.parse_count(low), units.parse_count(high or low)
    if not 1 <= first <= last <= 65535:
        raise units.UnitError(f"{text!r} is not a port or a range such as 8000-8999")
    return f"{first}-{last}" if high else str(first)


_NUMBER = r"[0-9]+(\.[0-9]+)?"
SIZE = Kind(
    "size",
    units.parse_size,
    units.show_size,
    "a size such as 512m or 32g",
    rf"^{_NUMBER}\s*[kKmMgGtTpP]?[iI]?[bB]?$",
)
RATE = Kind(
    "rate",
    units.parse_rate,
    units.show_rate,
    "bytes per second such as 100M",
    rf"^{_NUMBER}\s*[kKmMgGtTpP]?[iI]?[bB]?(/[sS]|[pP][sS])?$",
)
PERCENT = Kind(
    "percent",
    units.parse_percent,
    lambda v: f"{units.show_number(v)}%",
    "per cent of one CPU such as 400%",
    rf"^{_NUMBER}\s*%$",
)
DURATION = Kind(
    "duration",
    units.parse_duration,
    units.show_duration,
    "a duration such as 48h",
    rf"^({_NUMBER}\s*([wWdDhH]|[mM]([iI][nN])?|[sS]([eE][cC])?)\s*)+$",
)
COUNT = Kind("count", units.parse_count, str, "a whole number", r"^[0-9]+$")
NUMBER = Kind(
    "number", units.parse_number, units.show_number, "a number such as 4 or 0.5", rf"^{_NUMBER}$"
)
BOOL = Kind(
    "bool",
    units.parse_bool,
    lambda v: "true" if v else "false",
    "true or false",
    r"^([tT]rue|[fF]alse|[yY]es|[nN]o|[oO]n|[oO]ff|TRUE|FALSE|YES|NO|ON|OFF)$",
)
VISIBILITY = Kind("visibility", _visibility, str, "own or all", r"^(own|all)$")
WORDS = Kind("words", _word, str, "a list of names", r"^.+$", is_list=True)
MOUNTS = Kind(
    "mounts",
    _mount,
    str,
    "a list of paths with :ro or :rw",
    r"^/(?!(.*/)?\.\.(/|:(ro|rw)$)).*:(ro|rw)$",
    is_list=True,
)
PORTS = Kind("ports", _ports, str, "a list of ports or ranges", r"^[0-9]+(-[0-9]+)?$", is_list=True)


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
        WORDS,
        (),
        ADMISSION,
        "namespaces shared with the host (network, ipc, pid, uts)",
        nullable=False,
    ),
    Key(
        "devices",
        "access",
        WORDS,
        (),
        ADMISSION,
        "device nodes besides leased GPUs",
        nullable=False,
    ),
    Key(
        "capabilities",
        "access",
        WORDS,
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
