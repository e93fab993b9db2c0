# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at the other end of a unix socket, by what the kernel says of it.

A user id alone is no identity: root in a container that was given the socket has uid 0 as well.
So the peer's cgroup is read too, of a process that is pinned meanwhile. A cgroup that is not known
to belong to the host is taken for foreign ground.
Source: unix(7), socket(7), pidfd_open(2), proc_pid_cgroup(5), and include/uapi/asm-generic/socket.h.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

SO_PEERGROUPS = 59
SO_PEERPIDFD = 77
_UCRED = struct.Struct("3i")
_GROUPS_MAX = 65536

_CONTAINER_ID = re.compile(r"(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])")
# Names that engines and builders give to cgroups of what they run.
_FOREIGN = re.compile(
    r"(docker|containerd|cri-containerd|nerdctl|libpod|crio|cri-o|buildkit|buildkitd|kubepods|lxc"
    r"|podman|machine)([-_.:/].*)?"
)
# Units whose processes are the host's own; what an engine keeps below its service is not.
_ENGINE_UNITS = frozenset({"docker.service", "containerd.service", "buildkit.service"})
_HOST_TOPS = frozenset({"system.slice", "user.slice"})
_UNIT = re.compile(r"[^/:]+\.(service|scope|slice|socket|mount|swap)")


class PeerError(Exception):
    """The peer cannot be known for certain.

    :param what: why, in plain words.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


@dataclass(frozen=True)
class Peer:
    """The process that connected.

    :param uid: its effective user id when it connected.
    :param groups: its supplementary groups then, with ``gid``.
    :param cgroup: its cgroup's path, ``/user.slice/user-1001.slice/session-3.scope``.
    :param container: id of the container it is in, as far as its cgroup names one.
    :param foreign: why it is not a process of the host proper; empty when it is one.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    cgroup: str = ""
    container: str = ""
    foreign: str = ""


def read_cgroup(pid: int, proc: str = "/proc") -> str:
    """Path of a process's cgroup (v2).

    :raises OSError: the process has ended, or may not be looked at.
    :raises PeerError: the host has no cgroup v2.
    """
    with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    raise PeerError("its cgroup is not one of cgroup v2")


def foreign_ground(cgroup: str) -> str:
    """Why a cgroup is not the host's own; empty for one of a service, a login or init.

    :param cgroup: path below the cgroup root.
    """
    if cgroup == "/init.scope":
        return ""
    parts = cgroup.strip("/").split("/")
    if parts[0] == "ds01.slice":
        return "it runs in a container's slice"
    if any(_FOREIGN.fullmatch(part) or _CONTAINER_ID.search(part) for part in _names(parts)):
        return "it runs in a container"
    if not cgroup.startswith("/") or parts[0] not in _HOST_TOPS or ".." in parts:
        return "its place on this host is not known"
    if len(parts) < 2 or _UNIT.fullmatch(parts[1]) is None:
        return "its place on this host is not known"
    if parts[1] in _ENGINE_UNITS and len(parts) > 2:
        return "it runs below the engine"
    return ""


def _names(parts: list[str]) -> list[str]:
    """The parts that may name what is run; an engine's own service is not one of them."""
    return [part for n, part in enumerate(parts) if not (n == 1 and part in _ENGINE_UNITS)]


def container_id(cgroup: str) -> str:
    """Id of the container that a cgroup belongs to; empty when it names none."""
    found = _CONTAINER_ID.search(cgroup)
    return found[1] if found else ""


def peer_of(sock: socket.socket, cgroup_of: Callable[[int], str] = read_cgroup) -> Peer:
    """Who connected this socket.

    :param sock: a connected unix stream socket.
    :param cgroup_of: path of a process's cgroup (for tests).
    :raises PeerError: it has ended, is of another pid namespace, or hides its cgroup.
    """
    pid, uid, gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    if pid <= 0:
        raise PeerError("its process cannot be seen from here")
    pin = _pin(sock, pid)
    try:
        cgroup = cgroup_of(pid)
    except OSError as error:
        raise PeerError(f"its cgroup cannot be read: {error.strerror}") from error
    finally:
        alive = _alive(pin)
        os.close(pin)
    if not alive:
        raise PeerError("its process has ended")
    return Peer(
        pid=pid,
        uid=uid,
        gid=gid,
        groups=frozenset({gid, *_groups(sock)}),
        cgroup=cgroup,
        container=container_id(cgroup),
        foreign=foreign_ground(cgroup),
    )


def _pin(sock: socket.socket, pid: int) -> int:
    """A descriptor of the very process that connected (Linux 6.5), else of its pid's owner now.

    Older kernels leave a gap between connect(2) and here in which the pid could be given anew.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, struct.calcsize("i"))
        return int(struct.unpack("i", raw)[0])
    except ProcessLookupError as error:
        raise PeerError("its process has ended") from error
    except OSError:
        pass
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise PeerError("its process has ended") from error


def _alive(pin: int) -> bool:
    """Whether a pinned process runs; a pidfd becomes readable when it ends."""
    watch = select.poll()
    watch.register(pin, select.POLLIN)
    return not watch.poll(0)


def _groups(sock: socket.socket) -> list[int]:
    """Supplementary groups; a peer with more than fits is asked for again with room for all."""
    size = 64 * 4
    while True:
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, size)
            return [group for (group,) in struct.iter_unpack("I", raw)]
        except OSError as error:
            if size >= _GROUPS_MAX * 4:
                raise PeerError(f"its groups cannot be read: {error.strerror}") from error
            size *= 4
