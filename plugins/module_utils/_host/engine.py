# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine API over its unix socket.

Only what this project asks the engine; no SDK, since a module runs with the host's own Python.
Source: Docker Engine API 1.45, https://docs.docker.com/reference/api/engine/version/v1.45/
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from .engine_rows import rows

#: Where the engine listens: behind the gateway on a host that has one, else where Docker puts it.
SOCKETS = ("/run/ds01/engine.sock", "/run/docker.sock")
TIMEOUT_SECONDS = 15.0
#: No answer this project asks for comes near it; more is a fault, not a host with many containers.
_ANSWER_MAX = 64 * 1024 * 1024
_ERROR_MAX = 64 * 1024
_PART = 1024 * 1024

_ACCEPTS = 0x10000  # __SO_ACCEPTCON of include/linux/net.h

#: Sockets (and the directories above them) that give a container the engine or the project's daemon.
_SOCKET_PATHS = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/ds01/engine.sock",
    "/run/ds01/ds01d.sock",
    "/run/podman/podman.sock",
)


class EngineError(Exception):
    """The engine did not answer, or answered with an error.

    :param what: the fault in plain words.
    :param where: socket and request.
    :param remedy: what the reader can do.
    :param status: HTTP status of the engine's answer, 0 where there was none.
    """

    def __init__(self, what: str, where: str, remedy: str = "", status: int = 0) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        self.status = status
        super().__init__(f"{where}: {what}. {remedy}" if remedy else f"{where}: {what}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


@dataclass(frozen=True)
class Container:
    """A running container.

    :param pid: of its first process in the host's pid namespace, 0 if it ended meanwhile.
    :param cgroup_parent: as given at its creation; empty for the engine's default.
    :param mounts: host paths that are bind-mounted into it.
    :param devices: host device nodes given with ``--device``.
    :param runtime: name of the OCI runtime it was created with.
    :param gpu_request: whether it was created with ``--gpus``.
    """

    id: str
    name: str
    pid: int = 0
    paused: bool = False
    cgroup_parent: str = ""
    mounts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    runtime: str = ""
    gpu_request: bool = False

    @property
    def sockets(self) -> tuple[str, ...]:
        """Mounts that hand it a socket of the engine or of this project."""
        return tuple(path for path in self.mounts if gives_socket(path))


def gives_socket(source: str) -> bool:
    """Whether a bind mount's source is one of the sockets, or a directory that contains one."""
    path = os.path.normpath(source)
    if path == "/var/run" or path.startswith("/var/run/"):
        path = path.removeprefix("/var")
    if path in ("/", "/run"):
        return True
    return any(known == path or known.startswith(path + "/") for known in _SOCKET_PATHS)


def parse_container(found: Mapping[str, Any]) -> Container:
    """Read the engine's answer to ``GET /containers/{id}/json``."""
    host: Mapping[str, Any] = found.get("HostConfig") or {}
    state: Mapping[str, Any] = found.get("State") or {}
    return Container(
        id=str(found["Id"]),
        name=str(found.get("Name", "")).removeprefix("/"),
        pid=int(state.get("Pid") or 0),
        paused=bool(state.get("Paused")),
        cgroup_parent=str(host.get("CgroupParent") or ""),
        mounts=tuple(
            str(mount.get("Source"))
            for mount in found.get("Mounts") or ()
            if mount.get("Type") == "bind"
        ),
        devices=tuple(str(device.get("PathOnHost")) for device in host.get("Devices") or ()),
        runtime=str(host.get("Runtime") or ""),
        gpu_request=any(
            request.get("Driver") != "cdi" for request in host.get("DeviceRequests") or ()
        ),
    )


class Engine:
    """The engine behind one socket. A new connection for every request: no state to go stale.

    :param path: the socket; the first of :data:`SOCKETS` that exists if not given.
    :param timeout: seconds for connecting and for every read.
    """

    def __init__(self, path: str | None = None, timeout: float = TIMEOUT_SECONDS) -> None:
        self.path = path or find_socket()
        self.timeout = timeout

    def get(self, route: str, **query: Any) -> Any:
        """``GET`` a route and decode its JSON.

        :param route: path without a version (``/info``): the engine then speaks its newest one.
        :raises EngineError: no answer, no JSON, too long an answer, or a status other than 200.
        """
        return self._get(f"{route}?{urlencode(query)}" if query else route, self.timeout)

    def _get(self, target: str, timeout: float) -> Any:
        where = f"{self.path} GET {target}"
        status, body = self._ask("GET", target, timeout)
        try:
            value = json.loads(body or b"null")
        except ValueError as error:
            raise EngineError("the answer is no JSON", where, "is this a Docker engine?") from error
        if status != 200:
            raise EngineError(_fault(status, value), where, status=status)
        return value

    def rows(self, route: str, level: int = 2, **query: Any) -> Iterator[dict[str, Any]]:
        """``GET`` a list of any length and decode its rows one by one.

        :param level: see :func:`.engine_rows.rows`.
        :raises EngineError: as :meth:`get`.
        """
        target = f"{route}?{urlencode(query)}" if query else route
        where = f"{self.path} GET {target}"
        connection = _UnixConnection(self.path, self.timeout)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            if response.status != 200:
                value = json.loads(response.read(_ERROR_MAX) or b"null")
                raise EngineError(_fault(response.status, value), where, status=response.status)
            yield from rows(iter(lambda: response.read(_PART), b""), level)
        except (OSError, http.client.HTTPException) as error:
            what = f"the engine does not answer ({error or type(error).__name__})"
            raise EngineError(what, where, "see systemctl status docker") from error
        except ValueError as error:
            raise EngineError("the answer is no JSON", where, "is this a Docker engine?") from error
        finally:
            connection.close()

    def post(self, route: str, timeout: float | None = None) -> int:
        """``POST`` a route without a body.

        :param timeout: seconds, if not the usual ones.
        :returns: the status, 2xx or 304 (it is so already).
        :raises EngineError: no answer, or another status: in the engine's words.
        """
        status, body = self._ask("POST", route, timeout or self.timeout)
        if 200 <= status < 300 or status == 304:
            return status
        try:
            value = json.loads(body or b"null")
        except ValueError:
            value = None
        raise EngineError(_fault(status, value), f"{self.path} POST {route}", status=status)

    def _ask(self, method: str, target: str, timeout: float) -> tuple[int, bytes]:
        where = f"{self.path} {method} {target}"
        connection = _UnixConnection(self.path, timeout)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            body = response.read(_ANSWER_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            what = f"the engine does not answer ({error or type(error).__name__})"
            raise EngineError(what, where, "see systemctl status docker") from error
        finally:
            connection.close()
        if len(body) > _ANSWER_MAX:
            raise EngineError("the answer is too long", where)
        return response.status, body

    def ping(self) -> bool:
        """``GET /_ping``: whether an engine answers, which it does as soon as it takes requests.

        :raises EngineError: nobody answers.
        """
        return self._ask("GET", "/_ping", self.timeout) == (200, b"OK")

    def info(self) -> dict[str, Any]:
        """``GET /info``: drivers, live-restore, swarm, number of containers."""
        found = self.get("/info")
        if not isinstance(found, dict):
            raise EngineError("an object was expected", f"{self.path} GET /info")
        return found

    def version(self) -> str:
        """The running engine's version, such as ``26.1.5+dfsg1``."""
        return str(self.get("/version").get("Version", ""))

    def live_restore(self) -> bool | None:
        """Whether live-restore is in effect; None while the engine does not answer."""
        try:
            return bool(self.info().get("LiveRestoreEnabled"))
        except EngineError:
            return None

    def running(self) -> list[Container]:
        """All running containers, paused ones included.

        One that ends between the list and its details is left out.
        """
        filters = json.dumps({"status": ["running", "paused", "restarting"]})
        found = []
        for one in [str(row["Id"]) for row in self.rows("/containers/json", filters=filters)]:
            try:
                found.append(self.container(one))
            except EngineError as error:
                if error.status != 404:
                    raise
        return [container for container in found if container.pid]

    def container(self, container_id: str) -> Container:
        """One container by id or name."""
        return parse_container(self.get(f"/containers/{quote(container_id, safe='')}/json"))

    def bridge_binding(self) -> str | None:
        """The address on which the default bridge publishes ports; None without that bridge."""
        try:
            options = self.get("/networks/bridge").get("Options") or {}
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return str(options.get("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"))


def _fault(status: int, value: Any) -> str:
    message = value.get("message") if isinstance(value, dict) else None
    return f"the engine says {status}: {message or http.client.responses.get(status, 'an error')}"


def unix_listeners(proc: str = "/proc") -> Iterator[tuple[str, str]]:
    """Path and inode of every listening unix socket that has a path.

    A path may come twice: a socket keeps its path's name when another one is bound in its place.
    """
    for line in Path(proc, "net/unix").read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split(None, 7)
        if len(words) == 8 and words[7].startswith("/") and int(words[3], 16) & _ACCEPTS:
            yield words[7], words[6]


def find_socket(candidates: Sequence[str] = SOCKETS, proc: str = "/proc") -> str:
    """The first of the paths that is a socket on which somebody listens.

    systemd leaves the file of a socket that it closes, so that one where nobody listens may stand
    before the one in use. Where none is listened on, it is the first socket, or the last path.
    """
    sockets = [path for path in candidates if _is_socket(path)]
    try:
        listened = {path for path, _inode in unix_listeners(proc)}
    except OSError:
        listened = set()
    return next((p for p in sockets if p in listened), (*sockets, *candidates[-1:])[0])


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def orphans(cmdlines: Iterable[Sequence[str]]) -> list[str]:
    """Ids of containers whose engine may be down, from the arguments of their containerd shims.

    :param cmdlines: arguments of all processes of the host.
    """
    found = []
    for words in cmdlines:
        if words and os.path.basename(words[0]).startswith("containerd-shim") and "moby" in words:
            index = list(words).index("-id") if "-id" in words else -1
            if 0 <= index < len(words) - 1:
                found.append(words[index + 1])
    return found
