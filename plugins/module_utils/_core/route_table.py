# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's allow-list as data: one row an endpoint of the Docker Engine API.

Source: the API reference of Docker Engine v1.56 (moby/moby, api/docs/v1.56.yaml) read whole, and
the engine's own routers (moby/moby, daemon/server/router) for what the reference leaves out. What
is not here does not pass in mode ``enforce``; for the endpoints that the engine has and this list
leaves out on purpose, :data:`LEFT_OUT` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

# An endpoint of a newer API may do what nobody here has thought about, so clients are told that
# the engine speaks no more than this. To raise it, read the whole list of the newer version.
API_MAX: tuple[int, int] = (1, 56)
# The oldest that any engine from 26.0 on speaks; the engine itself may ask for more.
API_MIN: tuple[int, int] = (1, 24)

READ = "read"
CHANGE = "change"
UPLOAD = "upload"
STREAM = "stream"
HIJACK = "hijack"
OPAQUE = "opaque"

KINDS = {
    READ: "asks and gets an answer",
    CHANGE: "changes something and gets an answer",
    UPLOAD: "sends a body of any size",
    STREAM: "the answer may be large, or stay open for as long as there is something to say",
    HIJACK: "the connection becomes the terminal of a process",
    OPAQUE: "the connection becomes another protocol, which the gateway does not read",
}


@dataclass(frozen=True)
class Route:
    """One endpoint of the Docker Engine API.

    :param name: snake_case, the same in the access log, the counters and the docs.
    :param method: of HTTP.
    :param template: the path without its version as the API reference writes it.
    :param kind: one of :data:`KINDS`.
    :param about: what it is for, with the commands that call it.
    """

    name: str
    method: str
    template: str
    kind: str
    about: str


@dataclass(frozen=True)
class LeftOut:
    """Endpoints that the engine has and the list has not.

    :param prefix: how their paths begin; ``*`` stands for one segment.
    :param what: what they are, in the plural.
    :param why: the reason, without a full stop.
    :param methods: those that are meant; empty for all.
    """

    prefix: str
    what: str
    why: str
    methods: tuple[str, ...] = ()


_SYSTEM = (
    Route("system_ping", "GET", "/_ping", READ, "whether the engine answers, and its API version"),
    Route(
        "system_ping_head",
        "HEAD",
        "/_ping",
        READ,
        "the same without a body: what clients ask first",
    ),
    Route("system_version", "GET", "/version", READ, "`docker version`; SDKs ask it first"),
    Route("system_info", "GET", "/info", READ, "`docker info`; compose asks it too"),
    Route("system_events", "GET", "/events", STREAM, "`docker events`, `docker compose up`"),
    Route("system_df", "GET", "/system/df", READ, "`docker system df`"),
    Route("login", "POST", "/auth", CHANGE, "`docker login`: checks a registry password"),
    Route("distribution_inspect", "GET", "/distribution/{name}/json", READ, "asks a registry"),
)

_CONTAINERS = (
    Route("container_list", "GET", "/containers/json", READ, "`docker ps`"),
    Route("container_create", "POST", "/containers/create", CHANGE, "`docker create`, `run`"),
    Route("container_prune", "POST", "/containers/prune", CHANGE, "`docker container prune`"),
    Route("container_inspect", "GET", "/containers/{id}/json", READ, "`docker inspect`, `port`"),
    Route("container_top", "GET", "/containers/{id}/top", READ, "`docker top`"),
    Route("container_changes", "GET", "/containers/{id}/changes", READ, "`docker diff`"),
    Route("container_logs", "GET", "/containers/{id}/logs", STREAM, "`docker logs`"),
    Route("container_stats", "GET", "/containers/{id}/stats", STREAM, "`docker stats`"),
    Route("container_export", "GET", "/containers/{id}/export", STREAM, "`docker export`"),
    Route("container_archive", "GET", "/containers/{id}/archive", STREAM, "`docker cp` out"),
    Route("container_archive_head", "HEAD", "/containers/{id}/archive", READ, "before `docker cp`"),
    Route("container_archive_put", "PUT", "/containers/{id}/archive", UPLOAD, "`docker cp` in"),
    Route("container_start", "POST", "/containers/{id}/start", CHANGE, "`docker start`, `run`"),
    Route("container_stop", "POST", "/containers/{id}/stop", CHANGE, "`docker stop`"),
    Route("container_restart", "POST", "/containers/{id}/restart", CHANGE, "`docker restart`"),
    Route("container_kill", "POST", "/containers/{id}/kill", CHANGE, "`docker kill`; signals"),
    Route("container_pause", "POST", "/containers/{id}/pause", CHANGE, "`docker pause`"),
    Route("container_unpause", "POST", "/containers/{id}/unpause", CHANGE, "`docker unpause`"),
    Route("container_rename", "POST", "/containers/{id}/rename", CHANGE, "`docker rename`"),
    Route("container_update", "POST", "/containers/{id}/update", CHANGE, "`docker update`"),
    Route("container_resize", "POST", "/containers/{id}/resize", CHANGE, "a terminal's new size"),
    Route("container_wait", "POST", "/containers/{id}/wait", STREAM, "`docker wait`, `run`"),
    Route("container_attach", "POST", "/containers/{id}/attach", HIJACK, "`docker attach`, `run`"),
    Route("container_delete", "DELETE", "/containers/{id}", CHANGE, "`docker rm`"),
    Route("commit", "POST", "/commit", CHANGE, "`docker commit`"),
)

_EXEC = (
    Route("exec_create", "POST", "/containers/{id}/exec", CHANGE, "`docker exec`"),
    Route("exec_start", "POST", "/exec/{id}/start", HIJACK, "`docker exec`"),
    Route("exec_resize", "POST", "/exec/{id}/resize", CHANGE, "a terminal's new size"),
    Route("exec_inspect", "GET", "/exec/{id}/json", READ, "the exit code of an exec"),
)

_IMAGES = (
    Route("image_list", "GET", "/images/json", READ, "`docker images`"),
    Route("image_search", "GET", "/images/search", READ, "`docker search`"),
    Route("image_save_many", "GET", "/images/get", STREAM, "`docker save`"),
    Route("image_save", "GET", "/images/{name}/get", STREAM, "`docker save`, from SDKs"),
    Route("image_history", "GET", "/images/{name}/history", READ, "`docker history`"),
    Route("image_inspect", "GET", "/images/{name}/json", READ, "`docker image inspect`, `run`"),
    Route("image_attestations", "GET", "/images/{name}/attestations", READ, "from API 1.55 on"),
    Route("image_load", "POST", "/images/load", STREAM, "`docker load`: takes a body of any size"),
    Route(
        "image_pull",
        "POST",
        "/images/create",
        STREAM,
        "`docker pull`; `docker import`: with a body",
    ),
    Route("image_push", "POST", "/images/{name}/push", STREAM, "`docker push`"),
    Route("image_tag", "POST", "/images/{name}/tag", CHANGE, "`docker tag`"),
    Route("image_prune", "POST", "/images/prune", CHANGE, "`docker image prune`"),
    Route("image_delete", "DELETE", "/images/{name}", CHANGE, "`docker rmi`"),
)

_BUILD = (
    Route(
        "build", "POST", "/build", STREAM, "`DOCKER_BUILDKIT=0 docker build`, SDKs: takes a body"
    ),
    Route("build_prune", "POST", "/build/prune", CHANGE, "`docker builder prune`"),
    Route("build_cancel", "POST", "/build/cancel", CHANGE, "ends a build"),
    Route("session", "POST", "/session", OPAQUE, "BuildKit: the client's half of a build"),
    Route("grpc", "POST", "/grpc", OPAQUE, "BuildKit: `docker build`, `docker buildx`"),
)

_NETWORKS = (
    Route("network_list", "GET", "/networks", READ, "`docker network ls`"),
    Route("network_inspect", "GET", "/networks/{id}", READ, "`docker network inspect`"),
    Route("network_create", "POST", "/networks/create", CHANGE, "`docker network create`"),
    Route("network_prune", "POST", "/networks/prune", CHANGE, "`docker network prune`"),
    Route("network_connect", "POST", "/networks/{id}/connect", CHANGE, "`docker network connect`"),
    Route(
        "network_disconnect",
        "POST",
        "/networks/{id}/disconnect",
        CHANGE,
        "`docker network disconnect`",
    ),
    Route("network_delete", "DELETE", "/networks/{id}", CHANGE, "`docker network rm`"),
)

_VOLUMES = (
    Route("volume_list", "GET", "/volumes", READ, "`docker volume ls`"),
    Route("volume_inspect", "GET", "/volumes/{name}", READ, "`docker volume inspect`"),
    Route("volume_create", "POST", "/volumes/create", CHANGE, "`docker volume create`"),
    Route("volume_prune", "POST", "/volumes/prune", CHANGE, "`docker volume prune`"),
    Route("volume_delete", "DELETE", "/volumes/{name}", CHANGE, "`docker volume rm`"),
)

# Reading only: `docker inspect` of a name that is nothing ends here, and must hear "not found".
_PLUGINS = (
    Route("plugin_list", "GET", "/plugins", READ, "`docker plugin ls`"),
    Route(
        "plugin_inspect", "GET", "/plugins/{name}/json", READ, "the last try of `docker inspect`"
    ),
)

GROUPS: tuple[tuple[str, tuple[Route, ...]], ...] = (
    ("The engine", _SYSTEM),
    ("Containers", _CONTAINERS),
    ("Commands in containers", _EXEC),
    ("Images", _IMAGES),
    ("Builds", _BUILD),
    ("Networks", _NETWORKS),
    ("Volumes", _VOLUMES),
    ("Plugins", _PLUGINS),
)
ROUTES: tuple[Route, ...] = tuple(route for _title, routes in GROUPS for route in routes)

_SWARM = "the machine is no swarm; joining or leading one is for its admins"
_PLUGIN = "a plugin of the engine runs as root on the machine, so only its admins handle them"
LEFT_OUT: tuple[LeftOut, ...] = (
    LeftOut("/swarm", "swarm endpoints", _SWARM),
    LeftOut("/nodes", "nodes of a swarm", _SWARM),
    LeftOut("/services", "services of a swarm", _SWARM),
    LeftOut("/tasks", "tasks of a swarm", _SWARM),
    LeftOut("/secrets", "secrets of a swarm", _SWARM),
    LeftOut("/configs", "configs of a swarm", _SWARM),
    LeftOut("/plugins/privileges", "questions about plugins to install", _PLUGIN),
    LeftOut("/plugins", "changes of plugins", _PLUGIN, ("POST", "DELETE")),
    LeftOut(
        "/containers/*/attach/ws",
        "WebSocket terminals",
        "no docker client uses them, and a web page could; attach without /ws does the same",
    ),
    LeftOut(
        "/containers/*/checkpoints",
        "checkpoints",
        "the engine writes them as root into any folder that the caller names",
    ),
    LeftOut("/volumes/*", "updates of volumes", f"only a swarm has them; {_SWARM}", ("PUT",)),
    LeftOut(
        "/debug", "the engine's debugging pages", "they show the engine's memory and arguments"
    ),
)
