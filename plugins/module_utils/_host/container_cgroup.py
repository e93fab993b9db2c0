# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in the tree of cgroups a container runs, and as whom, by the kernel's word alone.

Source: cgroups(7), proc_pid_status(5); moby names its scopes ``docker-<id>.scope`` with systemd's driver
and its directories by the id alone with cgroupfs.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = "/sys/fs/cgroup"
PROCESSES_MAX = 64
_DEPTH_MAX = 6
_FOLDERS_MAX = 5000


class ContainerCgroups:
    """Finds containers in the tree.

    :param root: where it is mounted.
    :param proc: the proc file system.
    :param parents: cgroups that containers lie in by default.
    """

    def __init__(
        self,
        root: str = ROOT,
        proc: str = "/proc",
        parents: tuple[str, ...] = ("system.slice", "docker"),
    ) -> None:
        self._root = root
        self._proc = proc
        self._parents: dict[str, None] = dict.fromkeys(parents)

    def find(self, container: str, parent: str = "") -> str:
        """Path of a container's cgroup, with a slash first; empty when it has none.

        :param container: its whole id.
        :param parent: the slice or path that was asked for, where one was.
        """
        asked = [_path_of(parent)] if parent else []
        for folder in dict.fromkeys([*asked, *self._parents]):
            for name in (f"docker-{container}.scope", container):
                path = os.path.join(folder, name)
                if os.path.isdir(os.path.join(self._root, path)):
                    return f"/{path}"
        found = self._search(container)
        if found:
            # The engine's default parent: the next one will be there too.
            self._parents[os.path.dirname(found)] = None
        return f"/{found}" if found else ""

    def _search(self, container: str) -> str:
        """Breadth first, since containers lie near the top; below another container nothing is."""
        names = (f"docker-{container}.scope", container)
        level = [""]
        seen = 0
        for _step in range(_DEPTH_MAX):
            below: list[str] = []
            for folder in level:
                try:
                    with os.scandir(os.path.join(self._root, folder)) as entries:
                        found = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
                except OSError:
                    continue
                for name in found:
                    if name in names:
                        return os.path.join(folder, name)
                    seen += 1
                    if name.endswith(".slice") or not name.endswith((".scope", ".service")):
                        below.append(os.path.join(folder, name))
            if seen > _FOLDERS_MAX:
                return ""
            level = [path for path in below if not path.startswith("user.slice")]
        return ""

    def uids(self, cgroup: str) -> tuple[int, ...]:
        """Real uids of the processes in a cgroup, sorted, of a good many processes at most.

        :param cgroup: as :meth:`find` gives it.
        """
        if not cgroup:
            return ()
        found: set[int] = set()
        for pid in self._pids(cgroup.lstrip("/")):
            try:
                text = Path(self._proc, pid, "status").read_text("utf-8", "replace")
            except OSError:
                continue  # it has ended
            line = next((ln for ln in text.splitlines() if ln.startswith("Uid:")), "")
            words = line.split()
            if len(words) > 1 and words[1].isdigit():
                found.add(int(words[1]))
        return tuple(sorted(found))

    def _pids(self, cgroup: str) -> list[str]:
        # With systemd's driver and a private cgroup namespace processes may lie one level deeper.
        top = os.path.join(self._root, cgroup)
        pids: list[str] = []
        for folder, folders, _files in os.walk(top):
            try:
                pids += Path(folder, "cgroup.procs").read_text("ascii").split()
            except OSError:
                continue
            if len(pids) >= PROCESSES_MAX or len(folders) > PROCESSES_MAX:
                break
        return pids[:PROCESSES_MAX]


def _path_of(parent: str) -> str:
    """The cgroup of a parent: a slice's lies in those that its dashes tell (systemd.slice(5))."""
    if not parent.endswith(".slice") or "/" in parent:
        return os.path.normpath(parent.lstrip("/") or ".").removeprefix("../")
    parts = parent.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: count + 1]) + ".slice" for count in range(len(parts)))
