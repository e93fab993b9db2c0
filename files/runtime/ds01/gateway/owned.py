# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the containers are, in memory: who asks from one is told by that, without a look at the disk.

What this gateway sees made counts at once, what others write into the store within a second. Of what a
gateway that died had under way nobody knows what came of it, until somebody has found out.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator

from ds01.core.owner_index import certain_owners
from ds01.core.owner_intents import LATE_SECONDS
from ds01.core.store import Store

EVERYWHERE = "*"
"""In place of a slice: nobody knows which one is named."""
OWN_SECONDS = 3600.0
"""What was seen made and does not come to be in the store for so long is forgotten."""


class Owned:
    """Owners of containers, for any thread.

    :param path: the store; empty: nothing is known.
    :param gateway: this one's name in the store.
    """

    def __init__(self, path: str, gateway: str = "") -> None:
        self._path = path
        self._gateway = gateway
        self._store = Store(path)
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        self._claimed: dict[str, int] = {}
        # Uid, whether that is certain, and since when it is known here.
        self._own: dict[str, tuple[int, bool, float]] = {}
        self._written: set[str] = set()
        self._left: list[tuple[int, float]] = []
        self._making: dict[str, Counter[int]] = {}
        self._mark: tuple[tuple[int, int] | None, ...] = ()

    def owner(self, container: str) -> int | None:
        """The uid of a container's owner; None where nobody is known for certain.

        What root made says nothing: whose it shall be root says by the slice it is put into.
        """
        uid = self._known.get(container)
        if uid is None and container not in self._claimed:
            own = self._own.get(container)
            uid = own[0] if own and own[1] else None
        return uid or None

    def claimed(self, container: str) -> int | None:
        """The uid of whoever asked for it, where the container that he asked from told who he was."""
        uid = self._claimed.get(container)
        if uid is None and container not in self._known:
            own = self._own.get(container)
            uid = own[0] if own and not own[1] else None
        return uid

    def doubted(self, slice_name: str, uid: int) -> bool:
        """Whether somebody else makes a container in that slice just now, whose id nobody knows yet."""
        with self._lock:
            found = [self._making.get(name) for name in (slice_name, EVERYWHERE)]
            others = [other for users in found if users for other in users]
        since = time.time() - LATE_SECONDS
        others += [other for other, at in self._left if at > since]
        return any(other != uid for other in others)

    @contextlib.contextmanager
    def making(self, slices: Collection[str], uid: int) -> Iterator[None]:
        """Somebody makes a container, and these slices are named for it."""
        if not uid:
            yield
            return
        with self._lock:
            for name in slices:
                self._making.setdefault(name, Counter())[uid] += 1
        try:
            yield
        finally:
            with self._lock:
                for name in slices:
                    users = self._making[name]
                    users[uid] -= 1
                    if not users[uid]:
                        del users[uid]
                    if not users:
                        del self._making[name]

    def made(self, container: str, uid: int, outer: str = "") -> None:
        """A container was made, whether or not that is written down yet.

        :param outer: id of the container that it was asked from; empty on the host.
        """
        certain = not outer or self.owner(outer) == uid
        with self._lock:
            self._own[container] = (uid, certain, time.monotonic())

    def written(self, container: str) -> None:
        """It is in the store now."""
        with self._lock:
            if container in self._own:
                self._written.add(container)

    def reread(self) -> None:
        """Look at the store again, if anybody has written to it.

        :raises StoreError: it cannot be read; what was known stays.
        """
        if not self._path:
            return
        mark = tuple(_mark(self._path + part) for part in ("", "-wal"))
        if mark == self._mark:
            return
        now = time.monotonic()
        written = set(self._written)
        known, claimed, left = certain_owners(self._store, self._gateway)
        with self._lock:
            self._known, self._claimed, self._left = known, claimed, left
            self._written -= written
            self._own = {
                container: own
                for container, own in self._own.items()
                if container not in written and now - own[2] < OWN_SECONDS
            }
            # With some of it not seen there yet the next look is due even if nobody writes.
            self._mark = () if self._own else mark


def _mark(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
