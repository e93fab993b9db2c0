# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine's events say, and the events of ours that tell it. Pure.

Source: Docker Engine API 1.45, ``GET /events``. Two events are the same when time, type, action and id
are: that is how repeated ones are known, also after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .events import Event
from .owners import CONTAINER, IMAGE, NETWORK, VOLUME, Record

CREATE = "create"
DESTROY = "destroy"
START = "start"
DIE = "die"

RUNNING = frozenset({"running", "paused", "restarting"})
"""States in which a container has processes."""

_STATES = {
    "create": "created",
    "start": "running",
    "restart": "running",
    "unpause": "running",
    "pause": "paused",
    "die": "exited",
    "stop": "exited",
}

_TYPES = {
    (CONTAINER, "create"): "container.created",
    (CONTAINER, "start"): "container.started",
    (CONTAINER, "restart"): "container.restarted",
    (CONTAINER, "pause"): "container.paused",
    (CONTAINER, "unpause"): "container.unpaused",
    (CONTAINER, "kill"): "container.killed",
    (CONTAINER, "stop"): "container.stopped",
    (CONTAINER, "die"): "container.died",
    (CONTAINER, "oom"): "container.out_of_memory",
    (CONTAINER, "rename"): "container.renamed",
    (CONTAINER, "update"): "container.updated",
    (CONTAINER, "destroy"): "container.destroyed",
    (IMAGE, "pull"): "image.pulled",
    (IMAGE, "load"): "image.loaded",
    (IMAGE, "import"): "image.imported",
    (IMAGE, "create"): "image.built",
    (IMAGE, "tag"): "image.tagged",
    (IMAGE, "untag"): "image.untagged",
    (IMAGE, "delete"): "image.deleted",
    (VOLUME, "create"): "volume.created",
    (VOLUME, "destroy"): "volume.destroyed",
    (NETWORK, "create"): "network.created",
    (NETWORK, "destroy"): "network.destroyed",
}
_OF_THE_ENGINE = frozenset({"image", "name", "exitCode", "signal", "oldName", "execDuration"})
"""Attributes of a container's event that are the engine's own; all others are its labels."""


class Heard(NamedTuple):
    """An event of the engine.

    :param kind: of the thing; ``id``: its full id, or what the engine calls it.
    :param nano: nanoseconds of the wall clock: an integer, since a float would lose the last digits.
    :param attributes: the engine's, and a container's labels among them.
    """

    nano: int
    kind: str
    action: str
    id: str
    attributes: Mapping[str, str]

    @property
    def mark(self) -> str:
        """What two tellings of one event have in common."""
        return f"{self.nano}:{self.kind}:{self.action}:{self.id[:64]}"

    @property
    def at(self) -> float:
        """Seconds of the wall clock."""
        return self.nano / 1e9

    @property
    def state(self) -> str:
        """State of the container after it; empty where it changes none."""
        return _STATES.get(self.action, "")

    @property
    def labels(self) -> dict[str, str]:
        """A container's labels. One that is called as an attribute of the engine's is not seen."""
        return {key: text for key, text in self.attributes.items() if key not in _OF_THE_ENGINE}


def heard(raw: Mapping[str, Any]) -> Heard | None:
    """An event as the engine sends it; None for one that says nothing of interest here."""
    actor = raw.get("Actor")
    kind, action = str(raw.get("Type") or CONTAINER), str(raw.get("Action") or "")
    if (kind, action) not in _TYPES or not isinstance(actor, Mapping):
        return None
    nano = raw.get("timeNano")
    if not isinstance(nano, int) or not actor.get("ID"):
        return None
    found = actor.get("Attributes")
    attributes = {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}
    return Heard(nano, kind, action, str(actor["ID"]), attributes)


def cursor_text(nano: int) -> str:
    """For the engine's ``since``: seconds with all nine digits."""
    return f"{nano // 10**9}.{nano % 10**9:09d}"


def moment(seconds: float) -> datetime:
    """A time of the wall clock for an event."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def told(record: Record, action: str, at: float, source: str, **more: Any) -> Event:
    """Our event for something that happened to a thing.

    :param action: the engine's word.
    :param at: seconds of the wall clock, as the engine tells it.
    """
    return Event(
        _TYPES[record.kind, action],
        source,
        user=record.owner.user or None,
        details={**details(record), **more},
        timestamp=moment(at),
    )


def details(record: Record) -> dict[str, Any]:
    """What each event of a thing tells of it."""
    found: dict[str, Any] = {"id": short_id(record), "name": record.name}
    if record.kind == CONTAINER:
        found["image"] = record.facts.image if record.facts else ""
        found["interface"] = record.origin.interface
    found["uid"] = record.owner.uid
    found["method"] = record.owner.method
    return found


def short_id(record: Record) -> str:
    """Twelve digits, as clients show it; a volume's name is its id."""
    return record.id if record.kind == VOLUME else record.id.removeprefix("sha256:")[:12]


def of_event(event: Heard) -> dict[str, Any]:
    """Details that only the event itself tells."""
    found: dict[str, Any] = {}
    attributes = event.attributes
    if event.action == DIE and attributes.get("exitCode", "").lstrip("-").isdigit():
        found["exit_code"] = int(attributes["exitCode"])
    if event.action == "kill":
        found["signal"] = attributes.get("signal", "")
    if event.action == "rename":
        found["old_name"] = attributes.get("oldName", "").lstrip("/")
    if event.kind == IMAGE and attributes.get("name"):
        found["reference"] = attributes["name"]
    return found


def owner_events(before: Record | None, now: Record, at: float, source: str) -> list[Event]:
    """That a thing's owner is somebody else than before, or that something new speaks against him."""
    events = []
    more = details(now)
    if before is not None and _who(before) != _who(now) and (before.owner.known or now.owner.known):
        was = {"was": before.owner.user or None, "was_uid": before.owner.uid}
        events.append(_event("owner.changed", now, source, at, {**more, **was}))
    known = set(before.owner.contradictions) if before is not None else set()
    news = [words for words in now.owner.contradictions if words not in known]
    if news:
        words = {"contradictions": news}
        events.append(_event("owner.contradiction", now, source, at, {**more, **words}))
    return events


def _event(kind: str, now: Record, source: str, at: float, more: Mapping[str, Any]) -> Event:
    details_of = {**more, "kind": now.kind}
    return Event(
        kind, source, user=now.owner.user or None, details=details_of, timestamp=moment(at)
    )


def _who(record: Record) -> tuple[int | None, str]:
    return record.owner.uid, record.owner.user
