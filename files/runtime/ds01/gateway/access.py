# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway writes down: who asked what, and what was answered.

Each request leaves a line in the access log, of the same form as events, as long as its user has lines
left (:mod:`.line_shares`): ``ds01 events --log /var/log/ds01/access.jsonl`` shows it. What was refused,
or would have been, is an event as well: the first of a user and rule at once, and then how many more each
minute, so that a client in a loop hides nothing.

The event loop only appends a tuple to a queue. A thread makes lines of it, a batch at a time, and lets
the loop run in between. What does not fit into the queue, or on the disk, is counted and said; it stops
nobody.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ds01.core.callers import Caller
from ds01.core.events import EVENTS_PATH, Event, EventError, append_many, format_timestamp
from ds01.core.routes import READ
from ds01.door_refusals import KEPT, REFUSALS_PATH, read_refusals, write_refusals
from ds01.gateway.counters import PUBLISH_SECONDS, Counters, bucket
from ds01.gateway.line_shares import LineShares
from ds01.host.peer import Peer

ACCESS_PATH = "/var/log/ds01/access.jsonl"
SOURCE = "ds01-gateway"
ACCESS = "gateway.access"
DROPPED = "gateway.access_dropped"
LEFT_OUT = "gateway.access_left_out"
DENIED = "gateway.denied"
WOULD_DENY = "gateway.would_deny"
QUEUE_MAX = 20000
BATCH_SECONDS = 0.25
BATCH = 50
REFUSALS_SECONDS = 1.0
REPEAT_SECONDS = 60.0
_REPEATS_MAX = 4096
_TEXT_MAX = 512
_EVENT_OF = {"deny": DENIED, "would_deny": WOULD_DENY}


class Entry(NamedTuple):
    """One request and its answer. A tuple, since one is made for every request.

    :param caller: None where nobody could be told.
    :param peer: None where the kernel could not say.
    :param decision: ``allow``, ``would_deny`` or ``deny``.
    :param status: of the answer; 0 when there was none.
    :param seconds: from the request's head to the end of its answer.
    :param sent: bytes of the answer's body.
    :param received: bytes of the request's body.
    :param note: what else happened.
    :param what: of a refusal: what the user was told.
    :param remedy: likewise.
    """

    caller: Caller | None
    peer: Peer | None
    method: str
    route: str
    kind: str
    path: str
    decision: str
    rule: str
    status: int
    seconds: float
    sent: int = 0
    received: int = 0
    note: str = ""
    what: str = ""
    remedy: str = ""


class _Repeat:
    """Refusals of one user by one rule within a minute, after the first."""

    __slots__ = ("count", "end", "last")

    def __init__(self, end: float) -> None:
        self.end = end
        self.count = 0
        self.last: tuple[float, Entry] | None = None


class AccessLog:
    """Writes entries down, in a thread; nothing here waits for the disk.

    :param path: the access log.
    :param events: the event log.
    :param counters: told of each entry; published from this thread.
    :param refusals: each user's last refusal, for ``ds01 why``; empty: nowhere.
    """

    def __init__(
        self,
        path: str = ACCESS_PATH,
        events: str = EVENTS_PATH,
        counters: Counters | None = None,
        refusals: str = REFUSALS_PATH,
    ) -> None:
        self.path = path
        self.events = events
        self.counters = counters or Counters("")
        self._refusals_path = refusals
        self._refusals = read_refusals(refusals) if refusals else {}
        self._queue: deque[tuple[float, Entry]] = deque()
        # Entries that found no room in the queue or on the disk, how many of them were counted, and
        # how many the log itself tells of.
        self._dropped = 0
        self._lost = 0
        self._counted = 0
        self._told = (0, 0)
        self._shares = LineShares()
        self._repeats: dict[tuple[int, str, str], _Repeat] = {}
        self._refusals_changed = False
        self._complained: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Write down what is there and end.

        :param seconds: how long a disk is waited for.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def record(self, entry: Entry) -> None:
        """Have an entry written down; never waits, drops and counts when too many wait."""
        if len(self._queue) < QUEUE_MAX:
            self._queue.append((time.time(), entry))
        else:
            self._dropped += 1

    @property
    def waiting(self) -> int:
        """Entries that are not written yet."""
        return len(self._queue)

    def _run(self) -> None:
        refusals_at = publish_at = 0.0
        stopping = False
        while True:
            stopping = self._stop.wait(BATCH_SECONDS)
            now = time.monotonic()
            try:
                self._write_waiting()
                self._tell_repeats(now, stopping)
                self._tell_left_out(now, stopping)
                # The first at once: the docker wrapper asks for it as soon as its client has failed.
                due = stopping or now - refusals_at >= REFUSALS_SECONDS
                if due and self._refusals_changed:
                    refusals_at = now
                    self._publish_refusals()
                if stopping or now - publish_at >= PUBLISH_SECONDS:
                    publish_at = now
                    self.counters.publish()
            except Exception as error:  # the log goes on
                self._complain("access log", f"{type(error).__name__}: {error}")
            if stopping:
                return

    def _write_waiting(self) -> None:
        # What comes meanwhile is for the next time: this ends.
        left = len(self._queue)
        while left > 0:
            taken = [self._queue.popleft() for _n in range(min(BATCH, left))]
            left -= len(taken)
            self._write(taken)
            # Let the loop have its turn: formatting holds the interpreter's lock.
            time.sleep(0.0005)
        self._tell_missing()

    def _write(self, taken: list[tuple[float, Entry]]) -> None:
        lines: list[Event] = []
        told: list[Event] = []
        for at, entry in taken:
            try:
                self._count(entry)
                if entry.decision in _EVENT_OF:
                    told += self._denial(at, entry)
                name = _name(entry) or ""
                if self._shares.take(_uid(entry), name, entry.kind == READ, time.monotonic()):
                    lines.append(_access(at, entry))
            except Exception as error:  # one odd entry must not take the others with it
                self._lost += 1
                self._complain("access log", f"{type(error).__name__}: {error}")
        if lines:
            self._append(self.path, lines)
        if told:
            self._append(self.events, told)

    def _tell_missing(self) -> None:
        """Count what is not in the log, and say so in it as soon as it can be written again."""
        missing = (self._dropped, self._lost)
        self.counters.add(("access_dropped", ()), sum(missing) - self._counted)
        self._counted = sum(missing)
        if missing != self._told:
            now = {"dropped": missing[0] - self._told[0], "lost": missing[1] - self._told[1]}
            if self._append(self.path, [Event(DROPPED, SOURCE, details=now)]):
                self._told = missing

    def _append(self, path: str, events: list[Event]) -> bool:
        try:
            append_many(path, events)
        except EventError as error:
            if path == self.path and events[0].event_type == ACCESS:
                self._lost += error.lost
            self._complain(path, str(error))
            return False
        return True

    def _complain(self, about: str, text: str) -> None:
        """Once a minute for each thing, into the journal."""
        now = time.monotonic()
        if now - self._complained.get(about, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._complained[about] = now
            print(f"ds01-gateway: {text}", file=sys.stderr, flush=True)

    def _count(self, entry: Entry) -> None:
        add = self.counters.add
        kind = entry.kind or "none"
        status = f"{entry.status // 100}xx" if entry.status else "none"
        route = entry.route or "none"
        labels = (("route", route), ("class", kind), ("decision", entry.decision))
        add(("requests", (*labels, ("status", status))))
        add(("seconds", (("class", kind),)), max(0.0, entry.seconds))
        add(("durations", (("class", kind), ("le", bucket(entry.seconds)))))
        add(("bytes_sent", (("class", kind),)), max(0, entry.sent))
        add(("bytes_received", (("class", kind),)), max(0, entry.received))
        if entry.decision in _EVENT_OF:
            add(("refusals", (("rule", entry.rule), ("decision", entry.decision))))

    def _denial(self, at: float, entry: Entry) -> list[Event]:
        """The event of a refusal, unless the like was told within a minute."""
        uid = _uid(entry)
        if entry.decision == "deny" and entry.caller is not None:
            self._keep_refusal(uid, at, entry)
        key = (uid, entry.rule, entry.decision)
        repeat = self._repeats.get(key)
        if repeat is not None:
            repeat.count += 1
            repeat.last = (at, entry)
            return []
        if len(self._repeats) >= _REPEATS_MAX:
            self.counters.add(("events_left_out", ()))
            return []
        self._repeats[key] = _Repeat(time.monotonic() + REPEAT_SECONDS)
        return [_denied(at, entry, 0)]

    def _tell_left_out(self, now: float, stopping: bool) -> None:
        told = []
        for (uid, name, reads), count in self._shares.ended(now, stopping):
            self.counters.add(("access_left_out", ()), count)
            details = {"uid": uid, "class": READ if reads else "others", "left_out": count}
            told.append(Event(LEFT_OUT, SOURCE, name or None, details))
        if told:
            self._append(self.path, told)

    def _tell_repeats(self, now: float, stopping: bool) -> None:
        told = []
        for key, repeat in list(self._repeats.items()):
            if now < repeat.end and not stopping:
                continue
            if repeat.last is None:
                del self._repeats[key]
                continue
            told.append(_denied(*repeat.last, repeat.count))
            self._repeats[key] = _Repeat(now + REPEAT_SECONDS)
        if told:
            self._append(self.events, told)

    def _keep_refusal(self, uid: int, at: float, entry: Entry) -> None:
        self._refusals.pop(uid, None)
        while len(self._refusals) >= KEPT:
            del self._refusals[next(iter(self._refusals))]
        asked = f"{entry.method} {entry.path}".strip()
        self._refusals[uid] = {
            "what": (entry.what or f"{asked} was refused")[:_TEXT_MAX],
            "where": entry.rule,
            "remedy": entry.remedy[:_TEXT_MAX],
            "timestamp": format_timestamp(_moment(at)),
        }
        self._refusals_changed = True

    def _publish_refusals(self) -> None:
        if not (self._refusals_changed and self._refusals_path):
            return
        self._refusals_changed = False
        try:
            write_refusals(self._refusals, self._refusals_path)
        except OSError as error:
            self._complain(self._refusals_path, f"{self._refusals_path}: {error.strerror}")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)


def _uid(entry: Entry) -> int:
    """Whom an entry counts to; negative where the kernel could not say."""
    if entry.caller is not None:
        return entry.caller.uid
    return entry.peer.uid if entry.peer is not None else -1


def _details(entry: Entry) -> dict[str, Any]:
    details: dict[str, Any] = {
        "uid": _uid(entry),
        "method": entry.method[:32],
        "route": entry.route,
        "class": entry.kind,
        "path": entry.path[:_TEXT_MAX],
        "decision": entry.decision,
        "status": entry.status,
    }
    if entry.rule:
        details["rule"] = entry.rule
    if entry.caller is not None and entry.caller.container:
        details["container"] = entry.caller.container[:12]
    if entry.caller is None and entry.peer is not None:
        details["cgroup"] = entry.peer.cgroup[:_TEXT_MAX]
    if entry.note:
        details["note"] = entry.note[:_TEXT_MAX]
    return details


def _access(at: float, entry: Entry) -> Event:
    details = _details(entry)
    details["ms"] = round(entry.seconds * 1000, 2)
    details["sent"] = entry.sent
    details["received"] = entry.received
    return Event(ACCESS, SOURCE, _name(entry), details, _moment(at))


def _denied(at: float, entry: Entry, repeated: int) -> Event:
    """:param repeated: how many more there were since this was last told; 0 for the first one."""
    details = _details(entry)
    if repeated:
        details["repeated"] = repeated
    if entry.what:
        details["what"] = entry.what[:_TEXT_MAX]
    return Event(_EVENT_OF[entry.decision], SOURCE, _name(entry), details, _moment(at))


def _name(entry: Entry) -> str | None:
    return entry.caller.name if entry.caller is not None else None
