# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody is about to make through the door, and which thing came of it. Pure.

The gateway commits an intent before it forwards a request, and the thing's id in place of it before the
answer reaches the client. When it dies in between, the thing is found by what was asked: the engine's
inspection has to show all of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .owners import CONTAINER, NETWORK, VOLUME, Made

EARLY_SECONDS = 1.0
"""Created before it was asked for: no more than clocks and roundings explain."""
LATE_SECONDS = 120.0
"""An engine under load has made a container by then; pulls are requests of their own."""
ITEMS = 256
"""Hashes that are kept of a list."""
GROUP = 256
"""Things that look so alike that the same intents fit; among more nobody tells which is whose."""
_NAME = 256
# The names that the engine gives (namesgenerator of Moby): ``boring_wozniak``, ``boring_wozniak3``.
_GIVEN_NAME = re.compile(r"[a-z]+_[a-z]+\d*\Z")
# Lists of the host configuration that the engine keeps as they were sent.
_COUNTED = ("binds", "mounts")
# What no image says.
_EXACT = ("tty", "stdin", "network", "restart", "cgroup_parent")
_OWN_NETWORK = ("", "default", "bridge")
_SALT = secrets.token_hex(8)


@dataclass(frozen=True)
class Intent:
    """Somebody is about to make a thing.

    :param token: unguessable; names the intent.
    :param kind: one of :data:`.owners.KINDS`.
    :param uid: whose socket it came through, as :class:`.owners.Made`.
    :param at: when the request was forwarded, seconds of the wall clock.
    :param container: id of the container that it was asked from; empty on the host.
    :param name: what the thing shall be called, where that was said; of an image its reference.
    :param fingerprint: of a container: :func:`fingerprint`.
    :param gateway: which gateway's it is: names one run of it.
    :param route: which request it is, for people.
    :param ended: when the engine had answered, where things may still be told of after that.
    :param orphaned: when its gateway was found gone.
    """

    token: str
    kind: str
    uid: int
    user: str
    at: float
    agent: str = ""
    container: str = ""
    admin: bool = False
    name: str = ""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    gateway: str = ""
    route: str = ""
    ended: float | None = None
    orphaned: float | None = None

    def made(self, mended: bool = False) -> Made:
        """The record that comes of it."""
        return Made(
            uid=self.uid,
            user=self.user,
            at=self.at,
            agent=self.agent,
            container=self.container,
            admin=self.admin,
            mended=mended,
        )


def fingerprint(name: str, body: Mapping[str, Any], salt: str = "") -> dict[str, Any]:
    """What an inspection of the container has to show, from the body that is sent to the engine.

    Environments hold secrets: all but the image and the name is kept as hashes, under a salt that each
    process has for itself.

    :param name: as asked for; empty where the engine shall give one.
    :param body: of ``POST /containers/create``, after all that the gateway changes in it.
    :param salt: for tests.
    """
    salt = salt or _SALT
    host = _mapping(body.get("HostConfig"))
    found: dict[str, Any] = {
        "salt": salt,
        "name": name.lstrip("/")[:_NAME],
        "image": str(body.get("Image") or "")[:_NAME],
    }
    for key, value in _single(body, host).items():
        # Nothing said: the image may say something, of what images can say.
        if value or key in _EXACT:
            found[key] = _hash(salt, value)
    for key, items in _lists(body, host).items():
        hashes = sorted({_hash(salt, item) for item in items})
        if hashes:
            found[key] = hashes[:ITEMS]
        if key in _COUNTED:
            found[f"{key}_count"] = len(hashes)
    return found


def fits(intent: Intent, created: float, inspection: Mapping[str, Any], whole: bool = True) -> bool:
    """Whether a thing can be what came of an intent.

    :param created: when the engine made it, seconds of the wall clock.
    :param inspection: of the engine, as it answers.
    :param whole: False: it has no more than the engine's event told: ``Name``, and of ``Config``
        ``Image`` and ``Labels``. The rest is then taken to be as it was asked for.
    """
    return _fits(intent, created, _Shown(inspection), whole)


class _Shown:
    """An inspection, hashed once for each salt."""

    def __init__(self, inspection: Mapping[str, Any]) -> None:
        self.name = str(inspection.get("Name") or "").lstrip("/")
        self._config = _mapping(inspection.get("Config"))
        self._host = _mapping(inspection.get("HostConfig"))
        self.image = str(self._config.get("Image") or "")[:_NAME]
        self._hashed: dict[str, tuple[dict[str, str], dict[str, set[str]]]] = {}

    def hashed(self, salt: str) -> tuple[dict[str, str], dict[str, set[str]]]:
        """What is there once, and lists."""
        if salt not in self._hashed:
            single = _single(self._config, self._host).items()
            lists = _lists(self._config, self._host).items()
            self._hashed[salt] = (
                {key: _hash(salt, value) for key, value in single},
                {key: {_hash(salt, item) for item in items} for key, items in lists},
            )
        return self._hashed[salt]


def _fits(intent: Intent, created: float, shown: _Shown, whole: bool) -> bool:
    last = intent.at + LATE_SECONDS
    if intent.ended is not None:
        last = min(last, intent.ended + EARLY_SECONDS)
    if not intent.at - EARLY_SECONDS <= created <= last:
        return False
    if intent.kind in (VOLUME, NETWORK):
        return bool(intent.name) and shown.name == intent.name
    if intent.kind != CONTAINER:
        return False
    return _named(intent, shown.name) and _shows(intent.fingerprint, shown, whole)


def _named(intent: Intent, shown: str) -> bool:
    asked = intent.name or str(intent.fingerprint.get("name") or "")
    if asked:
        return shown == asked.lstrip("/")
    return bool(_GIVEN_NAME.match(shown))


def _shows(wanted: Mapping[str, Any], shown: _Shown, whole: bool) -> bool:
    if not wanted or wanted.get("image") != shown.image:
        return False
    single, lists = shown.hashed(str(wanted.get("salt") or ""))
    if not whole:
        return lists["labels"].issuperset(wanted.get("labels") or ())
    if any(key in wanted and wanted[key] != value for key, value in single.items()):
        return False
    for key, hashes in lists.items():
        if not hashes.issuperset(wanted.get(key) or ()):
            return False
        if key in _COUNTED and len(hashes) != wanted.get(f"{key}_count", 0):
            return False
    return True


def _single(config: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """What is there once. Where a body says nothing, the image may: then nothing is asked for."""
    network = str(host.get("NetworkMode") or "")
    # The engine puts an id in place of a container's name there.
    network = "" if network.startswith("container:") or network in _OWN_NETWORK else network
    restart = str(_mapping(host.get("RestartPolicy")).get("Name") or "")
    entrypoint = _words(config.get("Entrypoint"))
    return {
        "cmd": _words(config.get("Cmd")),
        # One empty word is how clients take an image's entrypoint away.
        "entrypoint": [] if entrypoint == [""] else entrypoint,
        "user": str(config.get("User") or ""),
        "hostname": str(config.get("Hostname") or ""),
        "tty": bool(config.get("Tty")),
        "stdin": bool(config.get("OpenStdin")),
        "network": network,
        "restart": "" if restart == "no" else restart,
        "cgroup_parent": str(host.get("CgroupParent") or ""),
    }


def _lists(config: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, list[Any]]:
    mounts = []
    for mount in _items(host.get("Mounts")):
        mount = _mapping(mount)
        mounts.append([str(mount.get(key) or "") for key in ("Type", "Source", "Target")])
    return {
        # A variable without a value takes one of the image's away.
        "env": [one for one in map(str, _items(config.get("Env"))) if "=" in one],
        "labels": [[str(k), str(v)] for k, v in _mapping(config.get("Labels")).items()],
        "binds": [str(one) for one in _items(host.get("Binds"))],
        "mounts": mounts,
    }


def _hash(salt: str, value: Any) -> str:
    text = f"{salt}\0{json.dumps(value, sort_keys=True)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return [str(one) for one in _items(value)]


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# --- which thing came of which intent -------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A thing that nobody's is yet.

    :param created: seconds of the wall clock.
    :param inspection: of the engine; or, not ``whole``, what its event told: see :func:`fits`.
    """

    id: str
    created: float
    inspection: Mapping[str, Any]
    whole: bool = True


@dataclass(frozen=True)
class Matches:
    """What came of intents.

    :param claims: a thing's id by the token of the intent that made it.
    :param disputed: users who each could have made a thing, by its id; it stays nobody's.
    """

    claims: Mapping[str, str]
    disputed: Mapping[str, tuple[str, ...]]


def match(intents: Iterable[Intent], things: Iterable[Found]) -> Matches:
    """Which things came of which intents. In doubt it is nobody's.

    An intent makes one thing. So where more things look like what was asked for than were asked for,
    one was made by somebody whom the door did not see, and none of them is claimed.

    :param intents: of gateways that are gone.
    :param things: all that nobody has claimed, so that two that look alike are seen to.
    """
    pending = sorted(intents, key=lambda one: (one.at, one.token))
    fitting: dict[str, list[Intent]] = {}
    for found in sorted(things, key=lambda one: (one.created, one.id)):
        shown = _Shown(found.inspection)
        if ours := [one for one in pending if _fits(one, found.created, shown, found.whole)]:
            fitting[found.id] = ours
    claims: dict[str, str] = {}
    disputed: dict[str, tuple[str, ...]] = {}
    for group in _groups(fitting):
        assigned = _assigned({thing: fitting[thing] for thing in group})
        for thing in group:
            users = {one.uid: one.user for one in fitting[thing]}
            if len(users) == 1 and assigned is not None:
                claims[assigned[thing]] = thing
            else:
                disputed[thing] = tuple(sorted(users.values()))
    return Matches(claims, disputed)


def _groups(fitting: Mapping[str, Sequence[Intent]]) -> list[list[str]]:
    """Things that are connected by the intents that they share, each group by itself."""
    groups: list[tuple[list[str], set[str]]] = []
    for thing, ours in fitting.items():
        tokens = {one.token for one in ours}
        members = [thing]
        apart = []
        for group in groups:
            if group[1] & tokens:
                members = group[0] + members
                tokens |= group[1]
            else:
                apart.append(group)
        groups = [*apart, (members, tokens)]
    return [members for members, _tokens in groups]


def _assigned(fitting: Mapping[str, Sequence[Intent]]) -> dict[str, str] | None:
    """A token for each thing, no two the same; None where there are too few (augmenting paths)."""
    by_token: dict[str, str] = {}

    def seat(thing: str, tried: set[str]) -> bool:
        # A free one first, so that what can goes in the order of asking.
        for one in sorted(fitting[thing], key=lambda one: one.token in by_token):
            if one.token in tried:
                continue
            tried.add(one.token)
            if one.token not in by_token or seat(by_token[one.token], tried):
                by_token[one.token] = thing
                return True
        return False

    if len(fitting) > GROUP or not all(seat(thing, set()) for thing in fitting):
        return None
    return {thing: token for token, thing in by_token.items()}
