# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All streams of the pump: taken, kept, moved, ended."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from ds01.pump.keep import ROLES, SLOTS, Row, Store, Table, name_of
from ds01.pump.stream import Pipe, Stream, hang_up
from ds01.pump.wire import BadMessage, HandOver, stream_socket

Message = dict[str, object]
OPEN_MAX = 500
"""Tags in one message."""
UNTOLD_MAX = 1024
"""Ends that are remembered while no gateway is there to hear of them."""


class Streams:
    """The table of streams.

    :param store: where their descriptors are kept.
    :param table: where the rest of them is kept.
    """

    def __init__(self, store: Store, table: Table) -> None:
        self.store = store
        self.epoll = select.epoll()
        self.full = False  # nothing new is taken
        self.tell: Callable[[Message], bool] = lambda _message: False
        self._table = table
        self._rows: dict[int, Row] = {}
        self._live: dict[int, Stream] = {}
        self._by_descriptor: dict[int, int] = {}
        self._keys: set[str] = set()
        self._of: Counter[int] = Counter()
        self._free = deque(range(1, SLOTS + 1))
        self._ready: set[int] = set()
        self._untold: deque[Message] = deque(maxlen=UNTOLD_MAX)

    @property
    def count(self) -> int:
        """How many streams there are."""
        return len(self._rows)

    @property
    def busy(self) -> bool:
        """Whether a stream can be moved at once."""
        return bool(self._ready)

    def news(self) -> Iterator[Message]:
        """What a gateway is told first."""
        yield {"streams": {str(uid): count for uid, count in self._of.items() if count}}
        tags: list[str] = [row.tag for row in self._rows.values() if "." in row.tag]
        for at in range(0, len(tags), OPEN_MAX):
            part = tags[at : at + OPEN_MAX]
            yield {"open": part, "more": at + OPEN_MAX < len(tags)}
        while self._untold:
            yield self._untold.popleft()

    # --- coming ---------------------------------------------------------------------------------------

    def begin(self, kept: dict[int, dict[str, int]]) -> None:
        """Go on with the streams of the process before this one.

        :param kept: their descriptors by slot and role. A set without a row in force was never moved,
            and whoever handed it over still has it.
        """
        for slot, row in self._table.rows():
            self._free.remove(slot)
            self._admit(slot, row)
            try:
                stream = _rebuilt(kept.pop(slot, {}), row.mode)
            except (BadMessage, OSError) as error:
                print(f"ds01-pump: stream {row.tag} is lost: {error}", file=sys.stderr)
                self._end(slot, f"lost: {error}")
                continue
            stream.up.moved, stream.down.moved = row.up, row.down
            self._start(slot, stream)
        for slot, found in kept.items():
            for descriptor in found.values():
                os.close(descriptor)
            self.store.drop([name_of(slot, role) for role in ROLES])

    def take(
        self,
        order: HandOver,
        client: socket.socket,
        engine: socket.socket,
        answer: Callable[[Message], None],
    ) -> None:
        """Take a stream over, once: what comes with a key that is known came already."""
        row = Row(order.mode, order.uid, time.monotonic(), order.key, order.tag)
        if order.key in self._keys:
            client.close()
            engine.close()
            answer({"taken": row.key, "uid": row.uid, "now": self._of[row.uid]})
            return
        pipes: list[Pipe] = []
        try:
            if self.full or not self._free:
                raise OSError(0, "the pump takes no more streams")
            for owed in (order.up, order.down):
                pipes.append(Pipe.make(owed))
        except OSError as error:
            for pipe in pipes:
                pipe.close()
            for end in (client, engine):
                hang_up(end)
            print(f"ds01-pump: stream {row.tag} is refused: {error.strerror}", file=sys.stderr)
            self._report(row, f"refused: {error.strerror}")
            return
        slot = self._free.popleft()
        stream = Stream(client, engine, pipes[0], pipes[1], order.mode)
        self._admit(slot, row)

        def in_force() -> None:
            self._table.put(slot, row)
            self._start(slot, stream)
            answer({"taken": row.key, "uid": row.uid, "now": self._of[row.uid]})

        ends = (client.fileno(), engine.fileno(), pipes[0].reader, pipes[1].reader)
        named = zip(ROLES, ends, strict=True)
        self.store.keep([(name_of(slot, role), end) for role, end in named], in_force)

    def _admit(self, slot: int, row: Row) -> None:
        self._rows[slot] = row
        self._keys.add(row.key)
        self._of[row.uid] += 1

    def _start(self, slot: int, stream: Stream) -> None:
        self._live[slot] = stream
        for descriptor, mask in stream.watch():
            self._by_descriptor[descriptor] = slot
            self.epoll.register(descriptor, mask)
        self._ready.add(slot)

    # --- moving ---------------------------------------------------------------------------------------

    def note(self, descriptor: int, mask: int) -> None:
        """What epoll said; the stream has its turn with the next :meth:`move`."""
        slot = self._by_descriptor.get(descriptor)
        if slot is not None:
            self._live[slot].note(descriptor, mask)
            self._ready.add(slot)

    def move(self) -> None:
        """One turn for each stream that may have something to do."""
        ready, self._ready = self._ready, set()
        for slot in ready:
            stream = self._live[slot]
            if stream.move():
                self._ready.add(slot)
            self._table.count(slot, stream.up.moved, stream.down.moved)
            if stream.over:
                self._end(slot, "")

    # --- going ----------------------------------------------------------------------------------------

    def _end(self, slot: int, why: str) -> None:
        row = self._rows.pop(slot)
        stream = self._live.pop(slot, None)
        if stream is not None:
            # Before closing: epoll watches the open file, of which systemd has a duplicate.
            for descriptor, _mask in stream.watch():
                self.epoll.unregister(descriptor)
                del self._by_descriptor[descriptor]
            row.up, row.down = stream.up.moved, stream.down.moved
            why = stream.close()
        self._table.clear(slot)
        self.store.drop([name_of(slot, role) for role in ROLES])
        self._free.append(slot)
        self._keys.discard(row.key)
        self._of[row.uid] -= 1
        if not self._of[row.uid]:
            del self._of[row.uid]
        self._report(row, why)

    def _report(self, row: Row, why: str) -> None:
        ended = {"key": row.key, "tag": row.tag, "uid": row.uid, "up": row.up, "down": row.down}
        seconds = round(max(0.0, time.monotonic() - row.started), 3)
        now = self._of[row.uid]
        message: Message = {"ended": {**ended, "seconds": seconds, "why": why, "now": now}}
        if not self.tell(message):
            self._untold.append(message)


def _rebuilt(found: dict[str, int], mode: str) -> Stream:
    """The stream of four descriptors.

    :raises BadMessage: they are not the four; none of them is open any more then.
    :raises OSError: likewise.
    """
    left = dict(found)
    pipes: list[Pipe] = []
    try:
        if set(found) != set(ROLES):
            raise BadMessage("its descriptors are not complete")
        for role in "ud":
            pipes.append(Pipe(found[role]))
        client = stream_socket(left.pop("c"))
        engine = stream_socket(left.pop("e"))
    except (BadMessage, OSError):
        for role, descriptor in left.items():
            with contextlib.suppress(OSError, BadMessage):
                if role in "ce":
                    hang_up(stream_socket(os.dup(descriptor)))
                os.close(descriptor)
        for pipe in pipes:
            os.close(pipe.writer)
        raise
    return Stream(client, engine, pipes[0], pipes[1], mode)
