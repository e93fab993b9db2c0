# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers, images, volumes and networks as the engine shows them to whoever asks whose they are.

Source: Docker Engine API 1.45, https://docs.docker.com/reference/api/engine/version/v1.45/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .engine import TIMEOUT_SECONDS, Engine, EngineError
from .engine_gpu import unix_time
from .gpu_requests import VENDOR_KINDS, requests

PATIENCE_SECONDS = 2.0
"""For one volume, network or image of many."""
LOOK_SECONDS = 60.0
"""For one container: its start can take long on a busy host."""

EVENT_TYPES = ["container", "image", "volume", "network"]
EVENT_ACTIONS = [
    *("create", "start", "restart", "die", "kill", "stop", "pause", "unpause", "oom"),
    *("rename", "update", "destroy", "pull", "load", "import", "tag", "untag", "delete"),
]
"""Those that change what is there. The engine compares whole words (moby daemon/events/filter.go), so
that health checks (``exec_create: …``, ``exec_die``, ``health_status: …``) wake nobody."""

MOUNTS_MAX = 256
LABELS_MAX = 64
LABEL_MAX = 1024
TELLING_MAX = 4096
_TELLING = ("ds01.", "aime.", "devcontainer.", "com.docker.")
"""Labels that say whose a container is, or by what it was made, are kept before all others."""

_OWN_NETWORKS = frozenset({"bridge", "host", "none"})
ANONYMOUS = "com.docker.volume.anonymous"


class ThingsEngine(Engine):
    """The engine, for whoever keeps records of what it has.

    :param patience: seconds that one volume, network or image is waited for.
    """

    def __init__(
        self,
        path: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        kinds: Iterable[str] = VENDOR_KINDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(path, timeout)
        self._kinds = tuple(kinds)
        self._patience = patience

    def listed(self, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All containers, stopped ones included, or some, with what the list tells of them; one call.

        The list waits for no container: the engine makes it from a copy (moby container/view.go),
        while an inspection waits for a start that is under way.

        :returns: fields of the domain's ``ContainerFacts``.
        :raises EngineError: the engine does not answer.
        """
        query: dict[str, Any] = {"all": 1}
        if ids:
            query["filters"] = json.dumps({"id": list(ids)})
        return [listed_container(row) for row in self.rows("/containers/json", **query)]

    def look(self, container: str) -> dict[str, Any] | None:
        """One container; None if there is none.

        The engine answers when no start or kill of it is under way any more; whoever gives up and
        asks again piles questions up there. So it is waited for long, in a thread of its own.

        :returns: see :func:`seen`.
        :raises EngineError: the engine does not answer, or not in time: a start of it hangs.
        """
        found = self._one(f"/containers/{quote(container, safe='')}/json", LOOK_SECONDS)
        return None if found is None else seen(found, self._kinds)

    def volumes(self) -> list[dict[str, Any]]:
        """All volumes: ``id``, ``name``, ``created``, ``anonymous``."""
        return [volume(row) for row in self.rows("/volumes", 3)]

    def volume(self, name: str) -> dict[str, Any] | None:
        """One volume; None if there is none."""
        found = self._one(f"/volumes/{quote(name, safe='')}")
        return None if found is None else volume(found)

    def networks(self) -> list[dict[str, Any]]:
        """All networks but the engine's own three: ``id``, ``name``, ``created``."""
        rows = [network(row) for row in self.rows("/networks")]
        return [row for row in rows if row["name"] not in _OWN_NETWORKS]

    def network(self, identity: str) -> dict[str, Any] | None:
        """One network; None if there is none."""
        found = self._one(f"/networks/{quote(identity, safe='')}")
        return None if found is None else network(found)

    def images(self) -> list[dict[str, Any]]:
        """All images that have a name or no child: ``id``, ``name``, ``names``, ``created``."""
        return [image(row) for row in self.rows("/images/json")]

    def image(self, reference: str) -> dict[str, Any] | None:
        """One image by id or reference; None if there is none."""
        # A reference has slashes, and the engine's router wants them as they are.
        found = self._one(f"/images/{quote(reference, safe='/:@')}/json")
        return None if found is None else image(found)

    def _one(self, route: str, seconds: float | None = None) -> Mapping[str, Any] | None:
        try:
            found = self._get(route, seconds or min(self._patience, self.timeout))
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return found if isinstance(found, dict) else None


def listed_container(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``GET /containers/json``."""
    names = [str(name).removeprefix("/") for name in row.get("Names") or [""]]
    # Links of old give a container more names, with the other's name before a slash.
    own = [name for name in names if "/" not in name] or names
    return {
        "id": str(row["Id"]),
        "name": own[0],
        "state": str(row.get("State") or ""),
        "created": float(row.get("Created") or 0),
        "image": str(row.get("Image") or ""),
        "labels": labels(row.get("Labels") or {}),
        "mounts": binds(row),
        "volumes": volume_names(row),
    }


def seen(found: Mapping[str, Any], kinds: Iterable[str] = VENDOR_KINDS) -> dict[str, Any]:
    """What an inspection shows.

    :param found: the engine's answer to ``GET /containers/{id}/json``.
    :returns: ``facts``: the domain's ``ContainerFacts`` as far as the engine knows them, mounts as
        pairs of source and whether it is read-only; ``started``, ``finished`` (seconds of the wall
        clock, 0: never), ``exit_code``; ``inspection``: the answer.
    """
    state: Mapping[str, Any] = found.get("State") or {}
    host: Mapping[str, Any] = found.get("HostConfig") or {}
    config: Mapping[str, Any] = found.get("Config") or {}
    policy: Mapping[str, Any] = host.get("RestartPolicy") or {}
    facts = {
        "id": str(found["Id"]),
        "name": str(found.get("Name") or "").removeprefix("/"),
        "created": unix_time(str(found.get("Created") or "")),
        "state": str(state.get("Status") or ""),
        "image": str(config.get("Image") or ""),
        "labels": labels(config.get("Labels") or {}),
        "mounts": binds(found),
        "volumes": volume_names(found),
        "cgroup_parent": str(host.get("CgroupParent") or ""),
        "tty": bool(config.get("Tty")),
        "stdin": bool(config.get("OpenStdin")),
        "restart_policy": str(policy.get("Name") or ""),
        "leases": requests(found, kinds)[0],
    }
    return {
        "facts": facts,
        "started": unix_time(str(state.get("StartedAt") or "")),
        "finished": unix_time(str(state.get("FinishedAt") or "")),
        "exit_code": int(state.get("ExitCode") or 0),
        "inspection": found,
    }


def binds(found: Mapping[str, Any]) -> tuple[tuple[str, bool], ...]:
    """Sources of bind mounts, each with whether it is mounted read-only.

    ``HostConfig.Binds`` (``-v``), ``HostConfig.Mounts`` (``--mount``) and what the engine made of
    both, where those of ``--volumes-from`` are too.
    """
    rows: dict[tuple[str, bool], None] = {}
    host: Mapping[str, Any] = found.get("HostConfig") or {}
    for text in host.get("Binds") or ():
        parts = str(text).split(":")
        if parts[0].startswith("/") and len(parts) > 1:
            rows[parts[0], "ro" in ":".join(parts[2:]).split(",")] = None
    for mount in host.get("Mounts") or ():
        if mount.get("Type") == "bind" and mount.get("Source"):
            rows[str(mount["Source"]), bool(mount.get("ReadOnly"))] = None
    for mount in found.get("Mounts") or ():
        if mount.get("Type") == "bind" and mount.get("Source"):
            rows[str(mount["Source"]), mount.get("RW") is False] = None
    return tuple(sorted(rows))[:MOUNTS_MAX]


def volume_names(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the volumes in a container."""
    mounts = [mount for mount in found.get("Mounts") or () if mount.get("Type") == "volume"]
    return tuple(sorted(str(mount.get("Name") or "") for mount in mounts))


def labels(found: Mapping[str, Any]) -> dict[str, str]:
    """Labels, those that tell something of an owner first, long ones cut.

    Anybody writes as many and as long ones as he likes, and they are kept for months.
    """
    telling = sorted(key for key in found if str(key).startswith(_TELLING))
    others = sorted(key for key in found if not str(key).startswith(_TELLING))
    kept: dict[str, str] = {}
    for key in [*telling, *others][:LABELS_MAX]:
        most = TELLING_MAX if str(key).startswith(_TELLING) else LABEL_MAX
        kept[str(key)[:LABEL_MAX]] = str(found[key])[:most]
    return kept


def volume(row: Mapping[str, Any]) -> dict[str, Any]:
    """A volume. ``anonymous``: the engine gave it its name, for a container that it was making."""
    name = str(row.get("Name") or "")
    marked = ANONYMOUS in (row.get("Labels") or {})
    created = unix_time(str(row.get("CreatedAt") or ""))
    return {"id": name, "name": name, "created": created, "anonymous": marked}


def network(row: Mapping[str, Any]) -> dict[str, Any]:
    """A network."""
    created = unix_time(str(row.get("Created") or ""))
    return {"id": str(row["Id"]), "name": str(row.get("Name") or ""), "created": created}


def image(row: Mapping[str, Any]) -> dict[str, Any]:
    """An image; ``created`` is when it was built, wherever that was."""
    made = row.get("Created")
    tags = [str(tag) for tag in row.get("RepoTags") or () if tag != "<none>:<none>"]
    return {
        "id": str(row["Id"]),
        "name": min(tags) if tags else "",
        "names": tuple(sorted(tags)),
        "created": unix_time(made) if isinstance(made, str) else float(made or 0),
    }
