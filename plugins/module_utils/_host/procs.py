# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of the host: whose they are, what they run, and in which container.

Source: proc_pid_cgroup(5), proc_pid_status(5), proc_pid_cmdline(5), proc_pid_stat(5).
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from .patience import within

COMMAND_MAX = 200
PATIENCE_SECONDS = 0.5
_READ_MAX = 4096
_SCOPE = re.compile(r"docker-([0-9a-f]{64})\.scope")
_CGROUPFS = re.compile(r"[0-9a-f]{64}")
_NVIDIA_MAJOR = 195
_FIRST_CONTROL_MINOR = 254
"""nvidia-modeset and nvidiactl have no GPU behind them."""


@dataclass(frozen=True)
class Process:
    """What the host knows of a process.

    :param uid: real user id, in the host's user namespace.
    :param user: its name, or the number where it has none.
    :param command: at most :data:`COMMAND_MAX` characters, control characters escaped.
    :param cgroup: path of its unified cgroup.
    :param container_id: empty outside of containers.
    :param started: seconds since the epoch.
    """

    pid: int
    uid: int
    user: str
    command: str
    cgroup: str
    container_id: str
    started: float


class Processes:
    """Looks processes up; names of users are remembered.

    :param proc: the proc file system.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._names: dict[int, str] = {}

    def look(self, pid: int) -> Process | None:
        """A process; None if it has ended, also meanwhile."""
        folder = Path(self._proc, str(pid))
        try:
            born = _ticks(pid, self._proc)
            cgroup = cgroup_path((folder / "cgroup").read_text("utf-8", "replace"))
            status = (folder / "status").read_text("utf-8", "replace")
            command = _command(folder)
            uid = _uid(status)
            since = started(pid, self._proc)
            # A number can be given anew at any moment: it must be the same process throughout.
            if uid is None or since is None or _ticks(pid, self._proc) != born:
                return None
        except (OSError, ValueError, IndexError):
            return None
        return Process(pid, uid, self.user(uid), command, cgroup, container_of(cgroup), since)

    def user(self, uid: int) -> str:
        """A user's name; the number where it has none, or nobody can be asked."""
        if uid not in self._names:
            try:
                self._names[uid] = pwd.getpwuid(uid).pw_name
            except (KeyError, OSError, OverflowError):
                return str(uid)
        return self._names[uid]


def cgroup_path(text: str) -> str:
    """The unified cgroup in the content of /proc/<pid>/cgroup; empty without one."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    return ""


def container_of(cgroup: str) -> str:
    """Id of the engine's container that a cgroup belongs to, the outermost one; empty if none.

    Below user.slice everybody makes scopes of any name by his own service manager.
    """
    parts = cgroup.split("/")
    if "user.slice" in parts:
        return ""
    for before, part in zip(["", *parts], parts, strict=False):
        scope = _SCOPE.fullmatch(part)
        if scope:
            return scope[1]
        if before == "docker" and _CGROUPFS.fullmatch(part):
            return part  # the cgroupfs driver
    return ""


def escaped(text: str) -> str:
    """A text without control characters, cut to :data:`COMMAND_MAX` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= COMMAND_MAX else shown[: COMMAND_MAX - 1] + "…"


def _command(folder: Path) -> str:
    # It is read from the process's memory, which may be mapped from a file that hangs.
    raw = within(PATIENCE_SECONDS, lambda: _words(folder / "cmdline"), b"")
    text = " ".join(word.decode("utf-8", "backslashreplace") for word in raw.split(b"\0"))
    if not text:  # a kernel thread, one that has ended, or one that hides it
        text = f"[{(folder / 'comm').read_text('utf-8', 'backslashreplace').strip()}]"
    return escaped(text)


def _words(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_READ_MAX).rstrip(b"\0")


def _uid(status: str) -> int | None:
    for line in status.splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return None


def started(pid: int, proc: str = "/proc") -> float | None:
    """When a process started, seconds since the epoch; None if it has ended.

    To a hundredth of a second, as the kernel counts; it moves with the wall clock when that is set.
    """
    try:
        return _boot(proc) + _ticks(pid, proc) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _ticks(pid: int, proc: str) -> int:
    """When a process started, in clock ticks since boot."""
    text = Path(proc, str(pid), "stat").read_text("utf-8", "replace")
    # The name may contain blanks and brackets; the numbers follow its last one.
    return int(text.rpartition(")")[2].split()[19])


def _boot(proc: str) -> float:
    for line in Path(proc, "stat").read_text("ascii", "replace").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise ValueError("no btime")


def gpu_nodes(pid: int, proc: str = "/proc") -> tuple[int, ...]:
    """Minors of the GPU nodes in a process's /dev, sorted; none if it has ended.

    What is a node there need not be allowed: the device rules say that. For want of better.
    """
    return within(PATIENCE_SECONDS, lambda: _nodes(Path(proc, str(pid), "root/dev")), ())


def _nodes(folder: Path) -> tuple[int, ...]:
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISCHR(info.st_mode) and os.major(info.st_rdev) == _NVIDIA_MAJOR:
                found.add(os.minor(info.st_rdev))
    return tuple(sorted(minor for minor in found if minor < _FIRST_CONTROL_MINOR))
