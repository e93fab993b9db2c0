# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapters of this host in one piece, as the domain asks for them."""

from __future__ import annotations

import json

from . import accounts, blockdev
from .cgroupfs import CgroupFs
from .systemd import Systemd

DAEMON_JSON = "/etc/docker/daemon.json"
ENGINE_DATA = "/var/lib/docker"
HOMES = "/home"


class Host:
    """This host.

    :param cgroups: the cgroup file system.
    :param systemd: the system manager.
    """

    def __init__(self, cgroups: CgroupFs | None = None, systemd: Systemd | None = None) -> None:
        self.cgroups = cgroups or CgroupFs()
        self.systemd = systemd or Systemd()

    def find_account(self, name: str) -> accounts.HostAccount | None:
        """An account by its name."""
        return accounts.find(name)

    def disk(self, node_or_path: str, is_node: bool) -> tuple[blockdev.Disk | None, str]:
        """The disk under a path, or the one that a node names; else None and why."""
        try:
            find = blockdev.disk_by_node if is_node else blockdev.disk_of
            return find(node_or_path), ""
        except (blockdev.NoDisk, OSError) as error:
            return None, str(error)

    def io_paths(self) -> tuple[str, ...]:
        """Where the engine's data and the homes live: the paths whose disks IO limits count for."""
        return tuple(dict.fromkeys([_engine_data(), HOMES, *accounts.home_parents()]))


def _engine_data(path: str = DAEMON_JSON) -> str:
    """The engine's data-root (dockerd(8)); a file that dockerd could not read names none."""
    try:
        with open(path, encoding="utf-8") as stream:
            root = json.load(stream).get("data-root")
    except (OSError, ValueError, AttributeError):
        return ENGINE_DATA
    return root if isinstance(root, str) and root.startswith("/") else ENGINE_DATA
