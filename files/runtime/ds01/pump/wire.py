# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gateway and pump tell each other, one datagram of a SOCK_SEQPACKET socket each (unix(7)).

Gateway to pump, with the descriptors of client and engine as SCM_RIGHTS: two bytes with the length of
the JSON header, the header, the bytes still owed to the engine (``up``) and to the client (``down``).

Pump to gateway, JSON: ``{"streams": {uid: n}}`` first; then, if any of its streams have tags with a part
after a dot, ``{"open": [tag, …], "more": bool}`` with these, in as many messages as needed; ``{"taken": key,
"uid", "now"}`` when a stream is in the pump for good; ``{"ended": {key, tag, uid, up, down, seconds, why,
now}}`` at its end. ``now`` is the number of streams which that uid then has.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
from dataclasses import dataclass

BOTH = "both"
DOWN = "down"
"""Engine to client only: nothing is ever read from the client."""

INITIAL_MAX = 128 * 1024
"""Bytes still owed to one side at the hand-over."""
SEND_BUFFER = 400_000
"""For SO_SNDBUF: what a datagram with both owed parts needs (the kernel doubles it)."""
DATAGRAM_MAX = 2 + 2048 + 2 * INITIAL_MAX

_KEY = re.compile(r"[0-9a-f]{16}")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class HandOver:
    """One stream that changes hands.

    :param key: 16 hexadecimal digits, unique to this hand-over: one that comes twice is taken once.
    :param tag: the gateway's own name of the stream, given back at its end.
    :param mode: :data:`BOTH` or :data:`DOWN`.
    :param uid: whose stream it is.
    """

    key: str
    tag: str
    mode: str
    uid: int
    up: bytes = b""
    down: bytes = b""


class BadMessage(Exception):
    """A datagram that is not as it must be."""


def encode(order: HandOver) -> bytes:
    """The datagram of a hand-over.

    :raises BadMessage: a field is not as it must be; said before anything is sent.
    """
    fields = {"key": order.key, "tag": order.tag, "mode": order.mode, "uid": order.uid}
    header = json.dumps({**fields, "up": len(order.up), "down": len(order.down)}).encode()
    datagram = struct.pack("!H", len(header)) + header + order.up + order.down
    decode(datagram)
    return datagram


def decode(datagram: bytes) -> HandOver:
    """The hand-over in a datagram.

    :raises BadMessage: it is not whole, or a field is not as it must be.
    """
    if len(datagram) < 2:
        raise BadMessage("no header")
    (length,) = struct.unpack_from("!H", datagram)
    try:
        fields = json.loads(datagram[2 : 2 + length])
    except (ValueError, RecursionError) as error:
        raise BadMessage("the header is no JSON") from error
    if not isinstance(fields, dict):
        raise BadMessage("the header is no mapping")
    key, tag, mode = (fields.get(name) for name in ("key", "tag", "mode"))
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise BadMessage("key")
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise BadMessage("tag")
    if mode not in (BOTH, DOWN):
        raise BadMessage("mode")
    uid = _number(fields, "uid", 2**32 - 1)
    up, down = _number(fields, "up", INITIAL_MAX), _number(fields, "down", INITIAL_MAX)
    owed = datagram[2 + length :]
    if len(owed) != up + down:
        raise BadMessage("the owed bytes are not as many as the header says")
    return HandOver(key, tag, mode, uid, owed[:up], owed[up:])


def _number(fields: dict[str, object], name: str, most: int) -> int:
    number = fields.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
        raise BadMessage(name)
    return number


def stream_socket(descriptor: int) -> socket.socket:
    """The connected stream socket behind a descriptor, which is closed where it is none.

    :raises BadMessage: it is none.
    """
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        os.close(descriptor)
        raise BadMessage("a descriptor is no socket") from error
    kind = found.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if kind != socket.SOCK_STREAM or listens:
        found.close()
        raise BadMessage("a descriptor is no connected stream socket")
    found.setblocking(False)
    return found
