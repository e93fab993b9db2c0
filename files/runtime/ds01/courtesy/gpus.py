# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``docker run --gpus …``: lease first, wait in the queue if need be, then run with the lease."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ds01 import client as daemon
from ds01.cli.gpu import Live
from ds01.cli.gpu_text import slots_of
from ds01.cli.output import Exit, Output, printable
from ds01.client import DaemonDown, DaemonError
from ds01.core.errors import Ds01Error
from ds01.core.gpu_request import Use, check
from ds01.core.gpus import FULL_GPU_SLICES, LOST, OK, Slot
from ds01.core.leases import Allowance, Ask, Refused
from ds01.courtesy.client import Client
from ds01.courtesy.context import goes_here
from ds01.courtesy.options import ALL, GpuWish, gpu_wish, with_lease
from ds01.daemon import protocol

FAILED = 125
"""What ``docker run`` ends with when no container was started."""

# These tell the user something about his request; any other error is about the daemon.
_ABOUT_THE_REQUEST = frozenset(
    {
        protocol.REFUSED,
        protocol.NOT_ALLOWED,
        protocol.NO_GPU,
        protocol.NOT_FOUND,
        protocol.BAD_REQUEST,
        protocol.BUSY,
    }
)


def run(client: Client, words: Sequence[str]) -> int:
    """Call the client with a lease in place of the GPUs; as it is where no lease is called for.

    :param words: what follows ``docker``.
    :returns: the client's exit code, :data:`FAILED` where GPUs are refused, 130 after Ctrl-C.
    """
    if not sys.stderr:
        # The caller has closed it: what is said must not end up anywhere else.
        sys.stderr = io.StringIO()
    try:
        wish = gpu_wish(words)
        # Root's containers need no lease, and an administrator repairs things with them.
        if wish is None or os.geteuid() == 0 or not goes_here(words, os.environ):
            client.become(words)
        lease = _lease(wish)
    except KeyboardInterrupt:
        _say("interrupted: you wait no longer, and nothing was started")
        return Exit.INTERRUPTED
    except DaemonError as error:
        if error.code in _ABOUT_THE_REQUEST:
            return _refused(error)
        _pass(client, words, error)
    except DaemonDown as error:
        _pass(client, words, error)
    except Exception as error:  # a fault of ours must not keep anybody from docker
        _pass(client, words, Ds01Error(f"{type(error).__name__}: {error}"))
    return _run_with(client, words, wish, lease)


def _run_with(client: Client, words: Sequence[str], wish: GpuWish, lease: Mapping[str, Any]) -> int:
    name = str(lease["id"])
    code = FAILED
    try:
        _say(f"{slots_of(lease)} {'is' if len(lease['slots']) == 1 else 'are'} yours: lease {name}")
        code = client.run(with_lease(words, wish, name))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        _say(f"docker could not be called: {error.strerror}")
    finally:
        if code == FAILED:
            # The client has said why. Nobody else need wait for what nobody uses.
            with contextlib.suppress(Ds01Error, OSError):
                daemon.ask("release", path=protocol.SOCKET_PATH, lease=name)
                _say(f"no container was started, so lease {name} went back")
    return code


def _lease(wish: GpuWish) -> Mapping[str, Any]:
    """A lease, after a wait if need be.

    :raises DaemonDown: nobody serves.
    :raises DaemonError: it is refused.
    """
    fields: dict[str, Any] = {"note": "docker run", "wait": True}
    if wish.devices:
        fields["devices"] = list(wish.devices)
    else:
        fields["count"] = _as_many_as_may_be() if wish.count == ALL else wish.count
    live = Live(Output())
    try:
        with contextlib.closing(daemon.request(path=protocol.SOCKET_PATH, **fields)) as messages:
            for message in messages:
                if "granted" in message:
                    granted: Mapping[str, Any] = message["granted"]
                    return granted
                live.show(message)
    finally:
        live.end()
    raise DaemonDown("ds01d ended the connection without an answer", protocol.SOCKET_PATH)


def _as_many_as_may_be() -> int:
    """How many GPUs ``--gpus all`` comes to: those that the user's limits let one container have."""
    from ds01.daemon.allowances import LimitsFile
    from ds01.host import accounts

    found = daemon.ask("status", path=protocol.SOCKET_PATH)
    account = accounts.by_uid(os.geteuid())
    count = 1
    if account is not None:
        # Limits that cannot be read: the daemon says so when it is asked for one GPU.
        with contextlib.suppress(Ds01Error):
            count = most(found, LimitsFile().allowance(account))
    _say(f"all GPUs: {count}, as many as your limits let one container have now")
    return count


def most(found: Mapping[str, Any], allowance: Allowance) -> int:
    """The most GPUs that one request of a user can come to; 1 where none would be granted.

    :param found: the daemon's answer to ``status``.
    """
    slots = [_slot(row) for row in found["slots"]]
    mine = next((row for row in found["users"] if row["uid"] == allowance.uid), None)
    used = Use(round(mine["gpu_equivalents"] * FULL_GPU_SLICES), mine["mig"]) if mine else Use()
    top = allowance.max_gpus_per_container or len(slots)
    for count in range(min(top, len(slots)), 1, -1):
        with contextlib.suppress(Refused):
            check(Ask(count=count), allowance, slots, used)
            return count
    return 1


def _slot(row: Mapping[str, Any]) -> Slot:
    profile = str(row["profile"])
    slices = int(profile.partition("g")[0]) if profile else FULL_GPU_SLICES
    health = LOST if row["state"] in ("lost", "gone", "stale") else OK
    return Slot(row["uuid"], row["slot"], row["gpu"], profile, row["memory"], slices, health)


def _refused(error: DaemonError) -> int:
    for line in str(error).splitlines():
        _say(line)
    _say("nothing was started")
    return FAILED


def _pass(client: Client, words: Sequence[str], error: Ds01Error) -> NoReturn:
    """No lease is to be had of anybody: docker as it is."""
    _say(f"no lease was asked for, docker is called as it is: {error.what}")
    client.become(words)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"ds01: {printable(text)}", file=sys.stderr, flush=True)
