# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests make things, and what such a request and its answer tell of the thing. Pure.

===================  =========  =====================================================================
routes               how        what becomes of it
===================  =========  =====================================================================
container_create     BOUND      the request is written down before it goes to the engine, and tied to
                                the new container's id before the client hears of it
volume_create,       NOTED      the id in the answer is written down before the client hears of it
network_create,
exec_create, commit
image_tag,           SPANNED    that it was asked is written down before it goes to the engine, and
image_pull,                     that it is over at its end: the engine tells by its events what came
image_load, build,              of it
grpc, session
===================  =========  =====================================================================

A request's body is read as the engine reads it (Go's encoding/json): the first value counts, names of
fields in any case, of several the last. What is not sure is not guessed: then it tells nothing.
Source: Docker Engine API; https://pkg.go.dev/encoding/json#Unmarshal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl

from .owners import CONTAINER, EXEC, IMAGE, NETWORK, VOLUME

BOUND = "bound"
NOTED = "noted"
SPANNED = "spanned"

AGENT_MAX = 200
NAME_MAX = 255
LEASE_KIND = "ds01.local/lease"
_MARKS_MAX = 20_000
"""Commas and brackets of a body up to which it is read: a long one would hold everybody up."""
_ID = re.compile(r"[0-9a-f]{64}\Z")
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_LEASE = re.compile(rf"{LEASE_KIND}=([A-Za-z0-9_.-]{{1,64}})\Z")
_BEGUN = re.compile(rb'\s*\{"Id":\s*"([0-9a-f]{64})"')
_FIELDS: dict[str, str] = {
    name.lower(): name
    for name in (
        *("Image", "Cmd", "Entrypoint", "User", "Hostname", "Tty", "OpenStdin", "Env", "Labels"),
        *("HostConfig", "NetworkMode", "RestartPolicy", "CgroupParent", "Binds", "Mounts"),
        *("Name", "Type", "Source", "Target"),
    )
}
_PATH = re.compile(r"/containers/(.+)/exec\Z")
_HUBS = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/")


@dataclass(frozen=True)
class Plan:
    """How requests to a route are recorded.

    :param kind: of what they make, one of :data:`.owners.KINDS`.
    :param how: :data:`BOUND`, :data:`NOTED` or :data:`SPANNED`.
    """

    kind: str
    how: str

    @property
    def gathers(self) -> bool:
        """Whether body and answer are read whole before they are passed on."""
        return self.how != SPANNED


_PLANS = {
    "container_create": Plan(CONTAINER, BOUND),
    "volume_create": Plan(VOLUME, NOTED),
    "network_create": Plan(NETWORK, NOTED),
    "exec_create": Plan(EXEC, NOTED),
    "commit": Plan(IMAGE, NOTED),
    "image_tag": Plan(IMAGE, SPANNED),
    "image_pull": Plan(IMAGE, SPANNED),
    "image_load": Plan(IMAGE, SPANNED),
    "build": Plan(IMAGE, SPANNED),
    "grpc": Plan(IMAGE, SPANNED),
    "session": Plan(IMAGE, SPANNED),
}


def plan_of(route: str) -> Plan | None:
    """How a route is recorded; None for one that makes nothing.

    :param route: its name in :mod:`.route_table`.
    """
    return _PLANS.get(route)


# --- the request ------------------------------------------------------------------------------------


def read_body(body: bytes, slices: set[str] | None = None) -> dict[str, Any] | None:
    """The object that the engine reads in a request's body, as far as it is sure; None otherwise.

    :param slices: takes up each ``CgroupParent`` that is named anywhere in it, also those of which the
        engine may take another.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MARKS_MAX:
        return None
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    try:
        found, _end = _decoder(slices).raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _decoder(slices: set[str] | None) -> json.JSONDecoder:
    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # An object whose fields are in the order in which they were last given.
        found: dict[str, Any] = {}
        for key, value in pairs:
            found.pop(key, None)
            found[key] = value
            if slices is not None and isinstance(value, str) and key.lower() == "cgroupparent":
                slices.add(value.rpartition("/")[2])
        return found

    return json.JSONDecoder(object_pairs_hook=read)


def field(data: Any, name: str) -> Any:
    """A field as Go finds it: in any case, the last one counts; None where there is none."""
    if not isinstance(data, Mapping):
        return None
    found = [value for key, value in data.items() if key.lower() == name.lower()]
    return found[-1] if found else None


def spelled(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of a create with its fields named as the API names them: the engine takes them in any case."""
    found = _spelled(body)
    if isinstance(found.get("HostConfig"), Mapping):
        host = found["HostConfig"] = _spelled(found["HostConfig"])
        host["RestartPolicy"] = _spelled(host.get("RestartPolicy"))
        host["Mounts"] = [_spelled(one) for one in _list(host.get("Mounts"))]
    return found


def _spelled(data: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict(data) if isinstance(data, Mapping) else {}
    return {_FIELDS.get(key.lower(), key): value for key, value in found.items()}


def name_asked(route: str, query: str, body: Mapping[str, Any] | None) -> str:
    """The name that a request gives to what it makes; empty where it gives none.

    A reference of an image is in the short form in which the engine shows it; several are separated
    by spaces.

    :param query: as in :class:`.targets.Target`.
    """
    asked = _query(query)
    if route == "container_create":
        return asked.get("name", [""])[0].lstrip("/")[:NAME_MAX]
    if route in ("volume_create", "network_create"):
        name = field(body, "Name")
        return name[:NAME_MAX] if isinstance(name, str) else ""
    if route in ("image_tag", "commit"):
        return _reference(asked.get("repo", [""])[0], asked.get("tag", [""])[0])
    if route == "image_pull":
        image = asked.get("fromImage", [""])[0] or asked.get("repo", [""])[0]
        return _reference(image, asked.get("tag", [""])[0])
    if route == "build":
        return " ".join(_reference(name, "") for name in asked.get("t", []))[:NAME_MAX]
    return ""


def _query(query: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        return found
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _reference(name: str, tag: str) -> str:
    if not name:
        return ""
    for hub in _HUBS:
        if name.startswith(hub):
            name = name[len(hub) :]
            break
    if tag:
        name += f"@{tag}" if ":" in tag else f":{tag}"
    elif "@" not in name and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name[:NAME_MAX]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def leases_named(body: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Ids of the GPU leases that a create names: ``DeviceRequests`` of the driver ``cdi``."""
    found: dict[str, None] = {}
    for request in _list(field(field(body, "HostConfig"), "DeviceRequests")):
        if field(request, "Driver") != "cdi":
            continue
        for device in _list(field(request, "DeviceIDs")):
            match = _LEASE.match(device) if isinstance(device, str) else None
            if match:
                found[match[1]] = None
    return tuple(found)


def volumes_named(body: Mapping[str, Any] | None) -> frozenset[str]:
    """Names of the volumes that the engine makes with a container, unless they are there."""
    host = field(body, "HostConfig")
    found = set()
    for bind in _list(field(host, "Binds")):
        if isinstance(bind, str):
            found.add(bind.partition(":")[0])
    for mount in _list(field(host, "Mounts")):
        source = field(mount, "Source")
        if field(mount, "Type") == "volume" and isinstance(source, str):
            found.add(source)
    return frozenset(name for name in found if _VOLUME.match(name))


def volumes_asked(body: Mapping[str, Any] | None) -> frozenset[str]:
    """Names that a request to make a volume may mean: the engine takes one of them."""
    named = [value for key, value in (body or {}).items() if key.lower() == "name"]
    return frozenset(name for name in named if isinstance(name, str) and _VOLUME.match(name))


def agent_of(headers: list[tuple[bytes, bytes]]) -> str:
    """What the client calls itself, cut."""
    for name, value in headers:
        if name.lower() == b"user-agent":
            return value.decode("ascii", "replace")[:AGENT_MAX]
    return ""


def container_asked(path: str) -> str:
    """The container of an exec as the path names it: an id, a part of one, or a name."""
    match = _PATH.match(path)
    return match[1] if match else ""


def is_id(text: str) -> bool:
    """Whether it is a full id of a container, network or exec."""
    return _ID.match(text) is not None


# --- the answer -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """What was made.

    :param created: seconds of the wall clock, where the answer tells (volumes, in whole seconds).
    """

    id: str
    name: str = ""
    created: float | None = None


def thing_in(kind: str, status: int, body: bytes) -> Thing | None:
    """What an answer says was made; None where it says nothing of the kind.

    :param kind: of :class:`Plan`.
    """
    if status not in (200, 201):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if kind == VOLUME:
        name = found.get("Name")
        if not isinstance(name, str) or not _VOLUME.match(name) or len(name) > NAME_MAX:
            return None
        return Thing(name, name, seconds_of(found.get("CreatedAt")))
    name = found.get("Id")
    wanted = _IMAGE_ID if kind == IMAGE else _ID
    return Thing(name) if isinstance(name, str) and wanted.match(name) else None


def thing_begun(kind: str, status: int, content: bytes) -> Thing | None:
    """What was made, from the beginning of an answer that is too long to be read.

    Whoever makes the image says how long: the engine warns of its platform, in the image's own words. But
    it names the id first (``CreateResponse`` of Moby: ``Id``, then ``Warnings``).
    """
    found = _BEGUN.match(content) if kind == CONTAINER and status == 201 else None
    return Thing(found[1].decode()) if found else None


def seconds_of(text: object) -> float | None:
    """Seconds of the wall clock of a time as the engine writes it (RFC 3339); None for another."""
    if not isinstance(text, str):
        return None
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", text
    )
    if match is None:
        return None
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        whole = datetime.fromisoformat(match[1] + zone).astimezone(timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None
    return whole + (float(f"0.{match[2]}") if match[2] else 0.0)


def is_new_volume(made: Thing, asked: float, absent: frozenset[str], named: bool) -> bool:
    """Whether a volume came of this request, rather than having been there.

    The engine answers alike in both cases; so it was asked before, and its word on when the volume
    was made must not speak against it. (That word alone is not enough: it is the time of the last
    change of a folder.)

    :param asked: when the request came, seconds of the wall clock.
    :param absent: names that the engine did not know when it was asked after ``asked``.
    :param named: whether the request gave a name; else the engine made one up.
    """
    if made.created is not None and made.created < int(asked):
        return False
    return made.id in absent if named else is_id(made.id)
