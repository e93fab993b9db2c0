# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers and their GPUs as the engine shows them; starting a container; the engine's events.

Source: Docker Engine API 1.45, https://docs.docker.com/reference/api/engine/version/v1.45/
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import procs
from .engine import TIMEOUT_SECONDS, Engine, EngineError
from .gpu_requests import VENDOR_KINDS, requests

START_SECONDS = 120.0
BUSY = "busy"
"""In place of a container's state, while the engine does not tell it."""
PATIENCE_SECONDS = 5.0
"""For one container of many: its start can hang, and the others must not wait for it."""
LABELS_MAX = 256
LABEL_MAX = 4096
LOOK_SECONDS = 20.0
"""For all that hang together."""
PID_FILE = "/run/docker.pid"

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)")


def unix_time(text: str) -> float:
    """Seconds since the epoch of one of the engine's times (RFC 3339 with nanoseconds).

    0 for the zero time of Go, which stands for never, and for what is no time.
    """
    parts = _TIME.fullmatch(text)
    if parts is None or text.startswith("0001-"):
        return 0.0
    zone = "+00:00" if parts[3] == "Z" else parts[3]
    whole = datetime.fromisoformat(parts[1] + zone).astimezone(timezone.utc).timestamp()
    return whole + float(parts[2] or 0)


def seen_container(found: Mapping[str, Any], kinds: Iterable[str] = VENDOR_KINDS) -> dict[str, Any]:
    """The fields of the domain's ``SeenContainer`` from ``GET /containers/{id}/json``.

    :param kinds: CDI kinds of the vendor's devices.
    """
    state: Mapping[str, Any] = found.get("State") or {}
    host: Mapping[str, Any] = found.get("HostConfig") or {}
    policy: Mapping[str, Any] = host.get("RestartPolicy") or {}
    labels = (found.get("Config") or {}).get("Labels") or {}
    leases, gpus = requests(found, kinds)
    return {
        "id": str(found["Id"]),
        "name": str(found.get("Name") or "").removeprefix("/"),
        "state": str(state.get("Status") or ""),
        "pid": int(state.get("Pid") or 0),
        "created": unix_time(str(found.get("Created") or "")),
        "finished": unix_time(str(state.get("FinishedAt") or "")),
        "leases": leases,
        "gpus": gpus,
        "nodes": (),
        "restart_policy": str(policy.get("Name") or ""),
        "labels": {str(key): str(value) for key, value in labels.items()},
    }


class GpuEngine(Engine):
    """The engine, for whoever watches containers and their GPUs.

    A container's requests never change, so one without any is inspected once.

    :param kinds: CDI kinds of the vendor's devices.
    :param proc: the proc file system.
    :param patience: seconds that one container of many is waited for.
    """

    def __init__(
        self,
        path: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        kinds: Iterable[str] = VENDOR_KINDS,
        proc: str = "/proc",
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(path, timeout)
        self._patience = patience
        self._kinds = tuple(kinds)
        self._proc = proc
        self._plain: frozenset[str] = frozenset()
        self._seen: dict[str, dict[str, Any]] = {}

    def containers(self) -> list[dict[str, Any]]:
        """All containers, stopped ones included, as fields of ``SeenContainer``.

        One that is removed meanwhile is left out. One whose start or stop hangs has the state
        :data:`BUSY` and what was last known of it. Nodes are looked at only where a running
        container names a lease.

        :raises EngineError: the engine does not answer.
        """
        began = time.monotonic()
        rows = [_listed(row) for row in self.rows("/containers/json", all=1)]
        ids = {row["id"] for row in rows}
        plain = set(self._plain & ids)
        kept: dict[str, dict[str, Any]] = {}
        found = []
        for row in rows:
            if row["id"] in plain:
                found.append(row)
                continue
            left = max(LOOK_SECONDS - (time.monotonic() - began), self._patience / 10)
            seen = self._one_of_many(row, min(self._patience, left))
            if seen is None:
                continue
            if seen["state"] != BUSY and not seen["leases"] and not seen["gpus"]:
                plain.add(seen["id"])
            elif seen["state"] != BUSY or seen["id"] in self._seen:
                kept[seen["id"]] = seen
            found.append(seen)
        self._plain, self._seen = frozenset(plain), kept
        return found

    def _one_of_many(self, row: Mapping[str, Any], patience: float) -> dict[str, Any] | None:
        name = row["id"]
        try:
            return self.one(name, patience)
        except EngineError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            return {
                **row,
                "gpus": (),
                "leases": (),
                **self._seen.get(name, {}),
                "state": BUSY,
            }

    def one(self, container: str, timeout: float | None = None) -> dict[str, Any] | None:
        """One container by id or name; None if there is none.

        The engine answers when no start of that container is under way any more: both take its
        lock (moby daemon/start.go, daemon/inspect.go).

        :param timeout: seconds, if not the usual ones.
        """
        found = self._inspect(container, timeout)
        if found is None:
            return None
        seen = seen_container(found, self._kinds)
        if seen["leases"] and seen["pid"]:
            seen["nodes"] = procs.gpu_nodes(seen["pid"], self._proc)
        return seen

    def containers_of(self, lease: str) -> list[dict[str, Any]]:
        """The containers that name a lease, each inspected by itself.

        :raises EngineError: the engine does not answer.
        """
        found = []
        for name in [str(row["Id"]) for row in self.rows("/containers/json", all=1)]:
            known = self._seen.get(name)
            if name in self._plain or (known is not None and lease not in known["leases"]):
                continue
            seen = self.one(name)
            if seen is not None and lease in seen["leases"]:
                found.append(seen)
        return found

    def is_running(self, container: str) -> bool | None:
        """Whether a container has its devices; None if there is no such container.

        Paused and restarting ones have them. Waits for a start that is under way.
        """
        found = self._inspect(container)
        if found is None:
            return None
        state: Mapping[str, Any] = found.get("State") or {}
        return any(state.get(key) for key in ("Running", "Paused", "Restarting"))

    def start(self, container: str, timeout: float = START_SECONDS) -> bool:
        """Start a container.

        :param timeout: seconds; starting can take long.
        :returns: whether it was started now; False: it runs already.
        :raises EngineError: in the engine's words, such as ``unresolvable CDI devices``.
        """
        route = f"/containers/{quote(container, safe='')}/start"
        return self.post(route, timeout) != 304

    def _inspect(self, container: str, timeout: float | None = None) -> Mapping[str, Any] | None:
        route = f"/containers/{quote(container, safe='')}/json"
        try:
            found = self._get(route, timeout or self.timeout)
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return found if isinstance(found, dict) else None


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A container without GPUs, from the list alone."""
    names = row.get("Names") or [""]
    return {
        "id": str(row["Id"]),
        "name": str(names[0]).removeprefix("/"),
        "state": str(row.get("State") or ""),
        "created": float(row.get("Created") or 0),
        "labels": _labels(row.get("Labels") or {}),
    }


def _labels(found: Mapping[str, Any]) -> dict[str, str]:
    """Labels: this project's, and a few others, since of all containers there may be too many."""
    ordered = sorted(found, key=lambda key: not key.startswith("ds01."))[:LABELS_MAX]
    return {key[:LABEL_MAX]: str(found[key])[:LABEL_MAX] for key in ordered}


def engine_since(pid_file: str = PID_FILE, proc: str = "/proc") -> float | None:
    """When the engine's process started, seconds since the epoch; None if it does not run."""
    try:
        text = Path(pid_file).read_text(encoding="ascii")
        pid = int(text)
    except (OSError, ValueError):
        return None
    return procs.started(pid, proc)
