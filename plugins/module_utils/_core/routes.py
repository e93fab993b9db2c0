# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoints that the gateway lets through, and which of them a request means."""

from __future__ import annotations

from dataclasses import dataclass

API_MIN: tuple[int, int] = (1, 24)
API_MAX: tuple[int, int] = (1, 45)

READ = "read"
CHANGE = "change"
UPLOAD = "upload"
STREAM = "stream"
HIJACK = "hijack"
OPAQUE = "opaque"


@dataclass(frozen=True)
class Route:
    """One endpoint of the Docker Engine API.

    :param name: snake_case, the same in the access log, the counters and the docs.
    :param method: of HTTP.
    :param template: the path without its version, variables in braces.
    :param kind: one of the constants above.
    :param about: what it does, for the docs.
    """

    name: str
    method: str
    template: str
    kind: str
    about: str


_PING = Route("ping", "GET", "/_ping", READ, "whether the engine answers")
_LIST = Route("container_list", "GET", "/containers/json", READ, "list containers")


def find(method: str, path: str) -> Route | None:
    """The route of a request; None when it is not on the list.

    :param path: decoded, without the version prefix.
    """
    return next((r for r in (_PING, _LIST) if (r.method, r.template) == (method, path)), None)


def methods_of(path: str) -> tuple[str, ...]:
    """The methods with which a path is on the list."""
    return tuple(r.method for r in (_PING, _LIST) if r.template == path)
