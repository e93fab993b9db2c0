# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd and the daemon tell each other (sd_listen_fds(3), sd_notify(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3


def passed_descriptors(
    environment: MutableMapping[str, str] | None = None,
) -> list[tuple[str, int]]:
    """What systemd passed, with the names it has there: sockets, and what its descriptor store kept.

    The variables are removed, so that no child takes them for its own. A name is empty where systemd
    sent none.
    """
    environment = _or_ours(environment)
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    numbers = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for number in numbers:
        os.set_inheritable(number, False)
    names += [""] * (len(numbers) - len(names))
    return list(zip(names, numbers, strict=False))


def passed_sockets(environment: MutableMapping[str, str] | None = None) -> list[socket.socket]:
    """The sockets that systemd opened; none when it did not start us."""
    return [socket.socket(fileno=number) for _name, number in passed_descriptors(environment)]


class Notifier:
    """Tells systemd how it goes; silent where systemd does not listen.

    :param address: ``NOTIFY_SOCKET``.
    """

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @property
    def address(self) -> str:
        """Where systemd listens, as a socket takes it; empty where it does not."""
        return self._address

    def tell(self, **states: str | int) -> None:
        """``READY=1``, ``STATUS=…``, ``WATCHDOG=1``: one datagram, never waited for."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in states.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(text.encode(), self._address)
            except OSError:
                return


def notifier(environment: MutableMapping[str, str] | None = None) -> Notifier:
    """The one that the environment names."""
    return Notifier(_or_ours(environment).pop("NOTIFY_SOCKET", ""))


def watchdog_seconds(environment: MutableMapping[str, str] | None = None) -> float | None:
    """How often systemd wants to hear from us; None when it does not watch (sd_watchdog_enabled(3))."""
    environment = _or_ours(environment)
    microseconds = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or pid != str(os.getpid()):
        return None
    return int(microseconds) / 1e6


def _or_ours(environment: MutableMapping[str, str] | None) -> MutableMapping[str, str]:
    return os.environ if environment is None else environment
