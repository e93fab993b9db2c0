# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of requests that are read whole before anything of them goes to the engine."""

from __future__ import annotations

from collections import Counter

from ds01.gateway.body import LAST_CHUNK, chunk, request_body
from ds01.gateway.head import HttpError

BODY_MAX = 4 * 1024 * 1024
"""Bytes of one body. The longest that tools send are some tens of thousands."""
ECHOED_MAX = 128 * 1024
"""The same where the engine's answer holds all of it again: at most three times as long, and what is longer
than :data:`.errand.ANSWER_MAX` is not read, so that nobody would know what was made."""
USER_MAX = 16 * 1024 * 1024
TOTAL_MAX = 128 * 1024 * 1024
SECONDS = 60.0
"""In which a body has to be whole."""


class Held:
    """How many bytes of bodies are held here for everybody."""

    def __init__(self, each: int = USER_MAX, total: int = TOTAL_MAX) -> None:
        self._each, self._most = each, total
        self._of: Counter[int] = Counter()
        self.total = 0

    def take(self, uid: int, size: int) -> bool:
        """Hold more for a user; False when that would be too much."""
        if self._of[uid] + size > self._each or self.total + size > self._most:
            return False
        self._of[uid] += size
        self.total += size
        return True

    def give_back(self, uid: int, size: int) -> None:
        """Hold so much less."""
        self.total -= size
        self._of[uid] -= size
        if not self._of[uid]:
            del self._of[uid]


class Gather:
    """One body as it comes.

    :param length: bytes; None for a chunked one.
    :param uid: to whose share it counts.
    :param most: bytes.
    :raises HttpError: it is too long (413).
    """

    def __init__(self, length: int | None, held: Held, uid: int, most: int = BODY_MAX) -> None:
        if length is not None and length > most:
            raise _too_long(most)
        self._most = most
        self._reader = request_body(length)
        self._chunked = length is None
        self._held, self._uid = held, uid
        self._size = 0
        self._parts: list[bytes] = []

    @property
    def done(self) -> bool:
        """Whether its last byte was there."""
        return self._reader.done

    def feed(self, data: memoryview) -> int:
        """Take bytes that came; how many of them belong to it.

        :raises HttpError: they cannot belong to it, or there are too many.
        """
        taken, parts = self._reader.feed(data)
        size = sum(len(part) for part in parts)
        if self._size + size > self._most:
            raise _too_long(self._most)
        if size and not self._held.take(self._uid, size):
            raise HttpError(
                503,
                "too much of what is asked waits for its rest",
                "Try again when your other requests are done",
            )
        self._size += size
        self._parts += [bytes(part) for part in parts]
        return taken

    def content(self) -> bytes:
        """What came, without its framing."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    def framed(self) -> bytes:
        """The same as it is sent on: chunked if it came so."""
        if not self._chunked:
            return self.content()
        return b"".join([*chunk([self.content()]), LAST_CHUNK])

    def free(self) -> None:
        """It is not held any more."""
        self._held.give_back(self._uid, self._size)
        self._size, self._parts = 0, []


def _too_long(most: int) -> HttpError:
    what = f"the body of this request is longer than {most} bytes, which no tool needs"
    return HttpError(413, what, "Mount long texts from a file instead of passing them here")
