# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at the other end of a unix socket: what the kernel says of it.

A user id alone is no identity: root in a container that was given the socket has uid 0 as well. So
the peer's cgroup is read too, of a process that is pinned meanwhile. What follows from these facts
is decided elsewhere, by rules without any look at the machine (``callers`` of the domain).

Each new connection at the gateway passes here, so that files are read with plain system calls.
Source: unix(7), socket(7), pidfd_open(2), proc_pid_cgroup(5), and include/uapi/asm-generic/socket.h.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

SO_PEERGROUPS = 59
SO_PEERPIDFD = 77
_UCRED = struct.Struct("iII")
_INT = struct.Struct("i")
_GROUPS_MAX = 65536
# Groups that most people's lists fit into: asking with room for more costs time.
_GROUPS_FIRST = 64
_READ = 8192
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC


class PeerError(Exception):
    """The peer cannot be known for certain.

    :param what: why, in plain words.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class Peer(NamedTuple):
    """The process that connected. A tuple, since one is made for every connection.

    :param uid: its effective user id when it connected.
    :param groups: its supplementary groups then, with ``gid``.
    :param cgroup: its cgroup's path, ``/user.slice/user-1001.slice/session-3.scope``.
    """

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    cgroup: str = ""


def read_cgroup(pid: int, proc: str = "/proc") -> str:
    """Path of a process's cgroup (v2); bytes that are no UTF-8 as surrogates.

    :raises OSError: the process has ended, or may not be looked at.
    :raises PeerError: the host has no cgroup v2.
    """
    descriptor = os.open(f"{proc}/{pid}/cgroup", _READ_FLAGS)
    try:
        raw = os.read(descriptor, _READ)
        while len(raw) % _READ == 0 and (more := os.read(descriptor, _READ)):
            raw += more
    finally:
        os.close(descriptor)
    # The line of v2 is the last one (cgroups(7)), and on most hosts the only one. No cgroup has a
    # line's end in its name.
    start = 0 if raw.startswith(b"0::") else raw.find(b"\n0::") + 1
    if not start and not raw.startswith(b"0::"):
        raise PeerError("its cgroup is not one of cgroup v2")
    end = raw.find(b"\n", start)
    return raw[start + 3 : end if end >= 0 else None].decode("utf-8", "surrogateescape")


def peer_of(sock: socket.socket, cgroup_of: Callable[[int], str] = read_cgroup) -> Peer:
    """Who connected this socket.

    :param sock: a connected unix stream socket.
    :param cgroup_of: path of a process's cgroup (for tests).
    :raises PeerError: it has ended, is of another pid namespace, or hides its cgroup.
    """
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if pid <= 0:
        raise PeerError("its process cannot be seen from here")
    pin = _pin(sock, pid)
    try:
        cgroup = cgroup_of(pid)
        # Alive after the look, so that the number was its own all along.
        alive = _alive(pin)
    except OSError as error:
        raise PeerError(f"its cgroup cannot be read: {error.strerror}") from error
    finally:
        os.close(pin)
    if not alive:
        raise PeerError("its process has ended")
    return Peer(pid, uid, gid, frozenset((gid, *_groups(sock))), cgroup)


def _pin(sock: socket.socket, pid: int) -> int:
    """A descriptor of the very process that connected (Linux 6.5), else of its pid's owner now.

    Older kernels leave a gap between connect(2) and here in which the pid could be given anew.
    """
    try:
        pin: int = _INT.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4))[0]
        return pin
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


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """Supplementary groups; a peer with more than fits is asked for again with room for all."""
    room = _GROUPS_FIRST
    while True:
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, room * 4)
            return struct.unpack(f"{len(raw) // 4}I", raw)
        except OSError as error:
            if room >= _GROUPS_MAX:
                raise PeerError(f"its groups cannot be read: {error.strerror}") from error
            room *= 4
