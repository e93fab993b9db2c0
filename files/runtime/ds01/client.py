# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to ``ds01d``: one request a connection, its lines as they come."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.daemon.protocol import SOCKET_PATH

ANSWER_MAX_BYTES = 16 * 1024 * 1024
# A daemon that is busy with a hanging disk answers late; one that waits says so more often.
ANSWER_SECONDS = 60.0
RETURN_SECONDS = 25.0
"""How long a restarting daemon is waited for; the place in the queue is kept for a little longer."""


class DaemonDown(Ds01Error):
    """Nobody serves the socket."""


class DaemonError(Ds01Error):
    """The daemon answered with an error.

    :param code: for programs, see :mod:`ds01.daemon.protocol`.
    :param rule: the limit or rule that says so.
    """

    exit_code: int

    def __init__(self, found: Mapping[str, Any]) -> None:
        super().__init__(
            str(found.get("what", "")), str(found.get("where", "")), str(found.get("remedy", ""))
        )
        self.code = str(found.get("code", ""))
        self.rule = str(found.get("rule", ""))

    def as_dict(self) -> dict[str, str]:
        """The parts, for ``--json``."""
        return {**super().as_dict(), "code": self.code, "rule": self.rule}


def ask(verb: str, path: str = SOCKET_PATH, **fields: Any) -> dict[str, Any]:
    """One request's answer.

    :raises DaemonDown: nobody serves.
    :raises DaemonError: the daemon refuses.
    """
    for message in _lines({"verb": verb, **fields}, path):
        if "waiting" not in message:
            return _checked(message)
    raise _broken(path)


def request(path: str = SOCKET_PATH, **fields: Any) -> Generator[dict[str, Any], None, None]:
    """A request for GPUs: ``{"waiting": …}`` as it goes on, then ``{"granted": …}``.

    A daemon that restarts meanwhile is waited for, and the place in the queue is kept. Closing the
    iterator gives the place up.

    :raises DaemonDown: nobody serves, or not again in time.
    :raises DaemonError: the daemon refuses, or the wait came to nothing.
    """
    message: dict[str, Any] = {"verb": "request", "ticket": f"l{secrets.token_hex(8)}", **fields}
    until = time.monotonic()
    waited = False
    while True:
        try:
            for found in _lines(message, path):
                if "waiting" not in found:
                    yield _checked(found)
                    return
                waited = True
                until = time.monotonic() + RETURN_SECONDS
                yield found
        except DaemonDown:
            if time.monotonic() >= until:
                raise
        if waited:
            # Cut off in the middle: the daemon restarts.
            if time.monotonic() >= until:
                raise _broken(path)
            yield {"reconnecting": {}}
            time.sleep(1)
        else:
            raise _broken(path)


def _checked(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise DaemonError(message["error"])
    return message


def _lines(message: Mapping[str, Any], path: str) -> Iterator[dict[str, Any]]:
    """The lines of one connection, until the daemon ends it."""
    with contextlib.closing(_connect(path)) as sock:
        # Refused before it was read: the reason is there to be read.
        with contextlib.suppress(OSError):
            sock.sendall(json.dumps(message).encode() + b"\n")
        pending = b""
        while True:
            try:
                data = sock.recv(65536)
            except TimeoutError as error:
                what = f"ds01d has not answered for {ANSWER_SECONDS:g} s"
                remedy = "Tell the administrators: journalctl -u ds01d.service"
                raise DaemonDown(what, path, remedy) from error
            except OSError:
                return
            if not data:
                return
            *whole, pending = (pending + data).split(b"\n")
            for line in whole:
                found = json.loads(line)
                yield found
                if "waiting" not in found:
                    return
            if len(pending) > ANSWER_MAX_BYTES:
                raise _broken(path)


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(ANSWER_SECONDS)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        remedy = "Tell the administrators: systemctl status ds01d.socket ds01d.service"
        what = f"the helper daemon ds01d does not answer ({error.strerror or error})"
        raise DaemonDown(what, path, remedy) from error
    return sock


def _broken(path: str) -> DaemonDown:
    remedy = "Try again; if it stays so: journalctl -u ds01d.service"
    return DaemonDown("ds01d ended the connection without an answer", path, remedy)
