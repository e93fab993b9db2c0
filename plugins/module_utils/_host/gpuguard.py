# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running containers that would lose their GPU when systemd reloads its units.

NVIDIA's legacy hook bind-mounts the host's device nodes into a started container and allows them in
its device cgroup behind systemd's back. systemd does not know of them, and at the next daemon-reload
it installs its own device filter again: the container's GPU answers EPERM from then on
(https://github.com/NVIDIA/nvidia-container-toolkit/issues/48). Telling systemd about exactly those
nodes, in the container's scope, makes them stay.

What is trusted: that a node is a bind mount of the *host's* devtmpfs comes from mountinfo, which the
kernel writes (proc_pid_mountinfo(5)); a node that the container made itself is not a mount. That the
container may use it *now* comes from the kernel too: a short-lived child enters the container's
cgroup and asks access(2), which runs the device filter without opening the device. So nobody is
given a node here that he does not have already.
"""

from __future__ import annotations

import os
import re
import select
import signal
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .engine_host import Runner

_PROBE_SECONDS = 5.0
_NVIDIA = re.compile(r"/nvidia[a-z0-9_-]*|/nvidia-caps/nvidia-cap[0-9]+")
_SCOPE = re.compile(r"docker-[0-9a-f]{64}\.scope")


@dataclass(frozen=True, order=True)
class Node:
    """A device node of the host's devtmpfs.

    :param path: below the devtmpfs (``/nvidia0`` is the host's ``/dev/nvidia0``).
    """

    path: str
    major: int
    minor: int

    @property
    def device(self) -> str:
        """As systemd.resource-control(5) takes it: by number, since names can be made by anyone."""
        return f"/dev/char/{self.major}:{self.minor}"

    def __str__(self) -> str:
        return f"/dev{self.path}"


@dataclass(frozen=True)
class AtRisk:
    """A container whose nodes systemd does not know.

    :param scope: its unit, ``docker-<id>.scope``.
    :param unknown: nodes mounted as the hook does, while nobody could ask the kernel whether the
        container may use them (it is frozen, or the question failed).
    """

    id: str
    name: str
    pid: int
    scope: str
    nodes: tuple[Node, ...]
    unknown: bool = False

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        nodes = [str(node) for node in self.nodes]
        return {"id": self.id, "name": self.name, "scope": self.scope, "nodes": nodes}

    def __str__(self) -> str:
        listed = ", ".join(str(node) for node in self.nodes)
        return f"{self.name} ({self.id[:12]}: {listed})"


def _unescape(text: str) -> str:
    """mountinfo writes blanks and backslashes in octal (``\\040``)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def devtmpfs_nodes(mountinfo: str, host_dev: str) -> list[str]:
    """Roots of those mounts that are GPU nodes of the host's devtmpfs.

    :param mountinfo: content of a process's mountinfo.
    :param host_dev: ``major:minor`` of the host's /dev file system.
    """
    found = []
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split()
        if not separator or len(fields) < 6 or not right.startswith("devtmpfs "):
            continue
        root = _unescape(fields[3])
        if fields[2] == host_dev and _NVIDIA.fullmatch(root) and root not in found:
            found.append(root)
    return found


def scope_of(cgroup: str) -> str | None:
    """The container's scope in the content of /proc/<pid>/cgroup; None with the cgroupfs driver."""
    for line in cgroup.splitlines():
        for part in reversed(line.partition("::")[2].split("/")):
            if _SCOPE.fullmatch(part):
                return part
    return None


def cgroup_dir(cgroup: str, root: str = "/sys/fs/cgroup") -> str | None:
    """Directory of the unified cgroup in the content of /proc/<pid>/cgroup."""
    for line in cgroup.splitlines():
        if line.startswith("0::/"):
            return root + line.removeprefix("0::")
    return None


@dataclass(frozen=True)
class Filter:
    """What systemd knows of a scope's devices.

    :param open: no filter at all (a privileged container): nothing can be lost, and naming a device
        would even close it.
    :param devices: those that may be read and written.
    """

    open: bool
    devices: frozenset[str]


def parse_filter(shown: str) -> Filter:
    """Read ``systemctl show --property=DevicePolicy,DeviceAllow``."""
    policy, devices = "", set()
    for line in shown.splitlines():
        name, _unused, value = line.partition("=")
        words = value.split()
        if name == "DevicePolicy":
            policy = value
        elif name == "DeviceAllow" and len(words) > 1 and {"r", "w"} <= set(words[-1]):
            devices.add(words[0])
    return Filter(policy == "auto" and not devices, frozenset(devices))


class KernelProbe:
    """Asks the kernel what a cgroup's device filter says."""

    def allows(self, directory: str, path: str) -> bool | None:
        """Whether processes of a cgroup may read and write a device node; None if nobody knows.

        :param directory: the cgroup's directory. A frozen one is not entered: the child would stay.
        :param path: the node on the host.
        """
        try:
            events = Path(directory, "cgroup.events").read_text(encoding="ascii")
        except OSError:
            return None
        if "frozen 1" in events:
            return None
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            _answer(directory, path, sender)
        os.close(sender)
        answer = b""
        try:
            ready, _unused, _unused = select.select([receiver], [], [], _PROBE_SECONDS)
            if ready:
                answer = os.read(receiver, 1)
        finally:
            os.close(receiver)
            if not answer:
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return {b"y": True, b"n": False}.get(answer)


def _answer(directory: str, path: str, sender: int) -> None:
    """The child's whole life: enter the cgroup, ask, answer with one byte."""
    answer = b"?"
    try:
        Path(directory, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        # access(2) reaches the device filter through inode_permission() and opens nothing; root
        # passes every other check, so a refusal is the filter's.
        answer = b"y" if os.access(path, os.R_OK | os.W_OK) else b"n"
    except OSError:
        answer = b"?"
    finally:
        os.write(sender, answer)
        os._exit(0)


class GpuGuard:
    """Finds and protects containers with legacy GPU injection.

    :param run: see :data:`.engine_host.Runner`.
    :param probe: asks the kernel; replaced in unit tests.
    :param dev: the host's /dev; :param proc: the host's /proc.
    """

    def __init__(
        self,
        run: Runner,
        probe: Callable[[str, str], bool | None] | None = None,
        dev: str = "/dev",
        proc: str = "/proc",
    ) -> None:
        self._run = run
        self._probe = probe or KernelProbe().allows
        self._dev = dev
        self._proc = proc

    def find(self, containers: Iterable[tuple[str, str, int]]) -> list[AtRisk]:
        """The containers at risk.

        :param containers: id, name and first process of every running container.
        """
        host = os.stat(self._dev).st_dev
        host_dev = f"{os.major(host)}:{os.minor(host)}"
        found = [self._look(identity, host_dev) for identity in containers]
        return [risk for risk in found if risk]

    def _look(self, identity: tuple[str, str, int], host_dev: str) -> AtRisk | None:
        container_id, name, pid = identity
        try:
            mounts = Path(self._proc, str(pid), "mountinfo").read_text(encoding="utf-8")
            cgroup = Path(self._proc, str(pid), "cgroup").read_text(encoding="utf-8")
        except OSError:
            return None
        roots = devtmpfs_nodes(mounts, host_dev)
        scope = scope_of(cgroup)
        directory = cgroup_dir(cgroup)
        if not roots or not scope or not directory:
            return None
        systemd = self.filter(scope)
        nodes, unknown = [], False
        for node in [] if systemd.open else self._stat(roots):
            if node.device in systemd.devices:
                continue
            may = self._probe(directory, self._dev + node.path)
            unknown = unknown or may is None
            if may is not False:
                nodes.append(node)
        if not nodes:
            return None
        return AtRisk(container_id, name, pid, scope, tuple(sorted(nodes)), unknown)

    def _stat(self, roots: Sequence[str]) -> list[Node]:
        nodes = []
        for root in roots:
            try:
                found = os.stat(self._dev + root)
            except OSError:
                continue
            if stat.S_ISCHR(found.st_mode):
                nodes.append(Node(root, os.major(found.st_rdev), os.minor(found.st_rdev)))
        return nodes

    def filter(self, scope: str) -> Filter:
        """What systemd allows a scope."""
        command = ["systemctl", "show", "--property=DevicePolicy,DeviceAllow", scope]
        return parse_filter(self._run(command)[1])

    def protect(self, risk: AtRisk) -> list[Node]:
        """Tell systemd about a container's nodes. It forgets them together with the scope.

        :return: the nodes that are still not allowed afterwards; empty means that it worked.
        """
        allow = [f"DeviceAllow={node.device} rw" for node in risk.nodes]
        self._run(["systemctl", "set-property", "--runtime", risk.scope, *allow])
        known = self.filter(risk.scope).devices
        try:
            cgroup = Path(self._proc, str(risk.pid), "cgroup").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []  # The container ended meanwhile: it has nothing left to lose.
        directory = cgroup_dir(cgroup) or ""
        return [
            node
            for node in risk.nodes
            if node.device not in known or not self._probe(directory, self._dev + node.path)
        ]


def scopes(root: str = "/sys/fs/cgroup") -> list[tuple[str, int]]:
    """Every container scope with one of its processes, without asking the engine.

    :return: container id and process id.
    """
    found = []
    for directory, folders, _files in os.walk(root):
        name = os.path.basename(directory)
        if not _SCOPE.fullmatch(name):
            continue
        folders.clear()
        inside = [directory, *(str(path) for path in Path(directory).rglob("*") if path.is_dir())]
        pids = [pid for folder in inside for pid in _processes(folder)]
        if pids:
            found.append((name.removeprefix("docker-").removesuffix(".scope"), min(pids)))
    return found


def _processes(directory: str) -> list[int]:
    try:
        text = Path(directory, "cgroup.procs").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split() if word != "0"]
