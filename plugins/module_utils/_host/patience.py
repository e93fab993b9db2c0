# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that a user can make hang, such as a read of a process's memory or of a file system of his."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], default: T) -> T:
    """What a call gives, or the default when it takes too long or meets an error of the system.

    A thread that hangs is left behind: nothing can end it before the kernel does.

    :param seconds: how long it is waited for.
    """
    found: list[T] = []

    def run() -> None:
        try:
            found.append(call())
        except OSError:
            return

    thread = threading.Thread(target=run, name="patience", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else default
