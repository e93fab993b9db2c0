# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading /sys/fs/cgroup (cgroups(7), the kernel's admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class CgroupFs:
    """The cgroup v2 file system of this host.

    :param root: where it is mounted.
    :param proc: where proc is mounted.
    """

    def __init__(self, root: str = "/sys/fs/cgroup", proc: str = "/proc") -> None:
        self.root = Path(root)
        self.proc = Path(proc)

    def unified(self) -> bool:
        """Whether the host runs cgroup v2 alone."""
        return (self.root / "cgroup.controllers").exists()

    def controllers(self) -> frozenset[str]:
        """The controllers of the root: ``cpu``, ``io``, ``memory``, ``pids``, …"""
        try:
            return frozenset((self.root / "cgroup.controllers").read_text().split())
        except OSError:
            return frozenset()

    def has_io_cost(self) -> bool:
        """Whether the kernel knows io.cost, which makes io.weight count when it is switched on."""
        return (self.root / "io.cost.qos").exists()

    def io_cost_devices(self) -> frozenset[str]:
        """``major:minor`` of the disks on which io.cost is switched on."""
        try:
            lines = (self.root / "io.cost.qos").read_text().splitlines()
        except OSError:
            return frozenset()
        return frozenset(line.split()[0] for line in lines if "enable=1" in line.split())

    def slices(self) -> list[str]:
        """Unit names of the slices of ds01 and of logins that have a cgroup now."""
        found = []
        for top in ("ds01.slice", "user.slice"):
            for folder, names, _unused in os.walk(self.root / top):
                names[:] = [name for name in names if name.endswith(".slice")]
                if Path(folder).name != "user.slice":
                    found.append(Path(folder).name)
        return sorted(found)

    def read(self, path: str, names: Iterable[str]) -> dict[str, str]:
        """Texts of a cgroup's files; files that are not there are left out.

        :param path: the cgroup's path below the root.
        """
        texts: dict[str, str] = {}
        for name in names:
            try:
                texts[name] = (self.root / path / name).read_text()
            except OSError:
                continue
        return texts

    def exists(self, path: str) -> bool:
        """Whether a cgroup is there."""
        return (self.root / path).is_dir()

    def capacity(self) -> tuple[int, int, int]:
        """CPUs online, bytes of RAM, and the largest process id."""
        memory = 0
        for line in (self.proc / "meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                memory = int(line.split()[1]) * 1024
        pids = int((self.proc / "sys/kernel/pid_max").read_text())
        return os.cpu_count() or 1, memory, pids
