# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine API as its reference and its source have it, written down by hand.

:data:`REFERENCE` is every operation of the API reference v1.56 (moby/moby, api/docs/v1.56.yaml).
:data:`ROUTER` is what the engine registers (moby/moby, daemon/server/router and
daemon/command/daemon.go), in the order in which gorilla/mux tries it, and :func:`engine_route` finds
a path in it as gorilla/mux does. Both are independent of the gateway's table on purpose.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote_to_bytes

REFERENCE = """
GET    /containers/json
POST   /containers/create
GET    /containers/{id}/json
GET    /containers/{id}/top
GET    /containers/{id}/logs
GET    /containers/{id}/changes
GET    /containers/{id}/export
GET    /containers/{id}/stats
POST   /containers/{id}/resize
POST   /containers/{id}/start
POST   /containers/{id}/stop
POST   /containers/{id}/restart
POST   /containers/{id}/kill
POST   /containers/{id}/update
POST   /containers/{id}/rename
POST   /containers/{id}/pause
POST   /containers/{id}/unpause
POST   /containers/{id}/attach
GET    /containers/{id}/attach/ws
POST   /containers/{id}/wait
DELETE /containers/{id}
HEAD   /containers/{id}/archive
GET    /containers/{id}/archive
PUT    /containers/{id}/archive
POST   /containers/prune
GET    /images/json
POST   /build
POST   /build/prune
POST   /images/create
GET    /images/{name}/json
GET    /images/{name}/attestations
GET    /images/{name}/history
POST   /images/{name}/push
POST   /images/{name}/tag
DELETE /images/{name}
GET    /images/search
POST   /images/prune
POST   /auth
GET    /info
GET    /version
GET    /_ping
HEAD   /_ping
POST   /commit
GET    /events
GET    /system/df
GET    /images/{name}/get
GET    /images/get
POST   /images/load
POST   /containers/{id}/exec
POST   /exec/{id}/start
POST   /exec/{id}/resize
GET    /exec/{id}/json
GET    /volumes
POST   /volumes/create
GET    /volumes/{name}
PUT    /volumes/{name}
DELETE /volumes/{name}
POST   /volumes/prune
GET    /networks
GET    /networks/{id}
DELETE /networks/{id}
POST   /networks/create
POST   /networks/{id}/connect
POST   /networks/{id}/disconnect
POST   /networks/prune
GET    /plugins
GET    /plugins/privileges
POST   /plugins/pull
GET    /plugins/{name}/json
DELETE /plugins/{name}
POST   /plugins/{name}/enable
POST   /plugins/{name}/disable
POST   /plugins/{name}/upgrade
POST   /plugins/create
POST   /plugins/{name}/push
POST   /plugins/{name}/set
GET    /nodes
GET    /nodes/{id}
DELETE /nodes/{id}
POST   /nodes/{id}/update
GET    /swarm
POST   /swarm/init
POST   /swarm/join
POST   /swarm/leave
POST   /swarm/update
GET    /swarm/unlockkey
POST   /swarm/unlock
GET    /services
POST   /services/create
GET    /services/{id}
DELETE /services/{id}
POST   /services/{id}/update
GET    /services/{id}/logs
GET    /tasks
GET    /tasks/{id}
GET    /tasks/{id}/logs
GET    /secrets
POST   /secrets/create
GET    /secrets/{id}
DELETE /secrets/{id}
POST   /secrets/{id}/update
GET    /configs
POST   /configs/create
GET    /configs/{id}
DELETE /configs/{id}
POST   /configs/{id}/update
GET    /distribution/{name}/json
POST   /session
"""

# In the order of registration; .* and .+ cross slashes, a bare variable does not.
ROUTER = r"""
GET     /containers/(.*)/checkpoints
POST    /containers/(.*)/checkpoints
DELETE  /containers/([^/]+)/checkpoints/([^/]+)
HEAD    /containers/(.*)/archive
GET     /containers/json
GET     /containers/(.*)/export
GET     /containers/(.*)/changes
GET     /containers/(.*)/json
GET     /containers/(.*)/top
GET     /containers/(.*)/logs
GET     /containers/(.*)/stats
GET     /containers/(.*)/attach/ws
GET     /exec/(.*)/json
GET     /containers/(.*)/archive
POST    /containers/create
POST    /containers/(.*)/kill
POST    /containers/(.*)/pause
POST    /containers/(.*)/unpause
POST    /containers/(.*)/restart
POST    /containers/(.*)/start
POST    /containers/(.*)/stop
POST    /containers/(.*)/wait
POST    /containers/(.*)/resize
POST    /containers/(.*)/attach
POST    /containers/(.*)/exec
POST    /exec/(.*)/start
POST    /exec/(.*)/resize
POST    /containers/(.*)/rename
POST    /containers/(.*)/update
POST    /containers/prune
POST    /commit
PUT     /containers/(.*)/archive
DELETE  /containers/(.*)
GET     /images/json
GET     /images/search
GET     /images/get
GET     /images/(.*)/get
GET     /images/(.*)/history
GET     /images/(.*)/json
GET     /images/(.*)/attestations
POST    /images/load
POST    /images/create
POST    /images/(.*)/push
POST    /images/(.*)/tag
POST    /images/prune
DELETE  /images/(.*)
OPTIONS /(.*)
GET     /_ping
HEAD    /_ping
GET     /events
GET     /info
GET     /version
GET     /system/df
POST    /auth
GET     /volumes
GET     /volumes/(.*)
POST    /volumes/create
POST    /volumes/prune
PUT     /volumes/(.*)
DELETE  /volumes/(.*)
POST    /build
POST    /build/prune
POST    /build/cancel
POST    /session
GET     /plugins
GET     /plugins/(.*)/json
GET     /plugins/privileges
DELETE  /plugins/(.*)
POST    /plugins/(.*)/enable
POST    /plugins/(.*)/disable
POST    /plugins/pull
POST    /plugins/(.*)/push
POST    /plugins/(.*)/upgrade
POST    /plugins/(.*)/set
POST    /plugins/create
GET     /distribution/(.*)/json
POST    /grpc
GET     /networks
GET     /networks/
GET     /networks/(.+)
POST    /networks/create
POST    /networks/(.*)/connect
POST    /networks/(.*)/disconnect
POST    /networks/prune
DELETE  /networks/(.*)
"""


def lines(table: str) -> list[tuple[str, str]]:
    """The method and template of every line of a table."""
    return [(line.split()[0], line.split()[1]) for line in table.strip().splitlines()]


_COMPILED = [(m, template, re.compile(rf"{template}\Z", re.S)) for m, template in lines(ROUTER)]
_VERSION = re.compile(r"/v([0-9.]+)(/.*)\Z", re.S)


def engine_route(method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The template that the engine takes a path for, with its variables; None for 404."""
    for wanted, template, pattern in _COMPILED:
        match = pattern.match(path)
        if wanted == method and match:
            return template, match.groups()
    return None


def engine_reads(raw: bytes) -> tuple[str, bytes] | None:
    """The version and decoded path of a target as Go and gorilla/mux see them.

    None where the engine answers 400 or redirects to another path.
    """
    encoded = raw.partition(b"?")[0]
    if not raw.startswith(b"/") or re.search(rb"%(?![0-9A-Fa-f]{2})|[\x00-\x20\x7f]", encoded):
        return None
    path = unquote_to_bytes(encoded)
    text = path.decode("latin-1")
    if _cleaned(text) != text:
        return None
    match = _VERSION.match(text)
    return (match[1], match[2].encode("latin-1")) if match else ("", path)


def _cleaned(path: str) -> str:
    """gorilla/mux's cleanPath."""
    cleaned = posixpath.normpath(path)
    if cleaned.startswith("//"):
        cleaned = cleaned[1:]
    return f"{cleaned}/" if path.endswith("/") and cleaned != "/" else cleaned
