# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which endpoint of the allow-list a request means.

The engine routes with gorilla/mux: a template is anchored at both ends, a variable may contain
slashes, and the last segment decides (``/images/a/json/history`` is the history of ``a/json``). So it
is here, for every variable: ``docker inspect lab/base:1`` asks for a container, a network and a volume
of that name too, and has to hear from the engine that there are none. (A container is reached by a
name with a slash only through the alias that ``--link`` gave it.)
"""

from __future__ import annotations

import re

from .route_table import (
    API_MAX,
    API_MIN,
    CHANGE,
    GROUPS,
    HIJACK,
    KINDS,
    LEFT_OUT,
    OPAQUE,
    READ,
    ROUTES,
    STREAM,
    UPLOAD,
    LeftOut,
    Route,
)

__all__ = [
    "API_MAX",
    "API_MIN",
    "CHANGE",
    "GROUPS",
    "HIJACK",
    "KINDS",
    "LEFT_OUT",
    "OPAQUE",
    "READ",
    "ROUTES",
    "STREAM",
    "UPLOAD",
    "LeftOut",
    "Route",
    "find",
    "left_out",
    "methods_of",
]

# Segments of what parse_target lets through; none is empty.
_NAME = re.compile(r"[!-.0-~]+(?:/[!-.0-~]+)*\Z")
# Rows that end in their variable would take these, which the engine's router finds first.
_TAKEN = {("DELETE", "containers"): re.compile(r"[^/]+/checkpoints/[^/]+\Z")}
# The engine lists networks under both, for clients of long ago.
_ALIASES = {"/networks": "/networks/"}

_Exact = dict[str, dict[str, Route]]
_Shapes = dict[tuple[str, str, str], Route]


def _tables() -> tuple[_Exact, _Shapes]:
    """The list by method and whole path, and by method, first and last segment."""
    exact: _Exact = {}
    shapes: _Shapes = {}
    for route in ROUTES:
        paths = exact.setdefault(route.method, {})
        head, variable, tail = route.template.partition("{")
        if not variable:
            paths[route.template] = route
            if route.template in _ALIASES:
                paths[_ALIASES[route.template]] = route
            continue
        last = tail.partition("}")[2].lstrip("/")
        shapes[route.method, head.strip("/"), last] = route
    return exact, shapes


_EXACT, _SHAPES = _tables()


def find(method: str, path: str) -> Route | None:
    """The endpoint that a request means; None when it is not on the list.

    :param path: decoded, without the version, as :func:`targets.parse_target` gives it.
    """
    paths = _EXACT.get(method)
    route = paths.get(path) if paths is not None else None
    if route is not None:
        return route
    noun, _slash, rest = path[1:].partition("/")
    name, _slash, last = rest.rpartition("/")
    route = _SHAPES.get((method, noun, last)) if last else None
    if route is None:
        name = rest
        route = _SHAPES.get((method, noun, ""))
        if route is None:
            return None
        taken = _TAKEN.get((method, noun))
        if taken is not None and taken.match(name):
            return None
    return route if _NAME.match(name) else None


def methods_of(path: str) -> tuple[str, ...]:
    """The methods with which a path is on the list, in the order of the alphabet.

    A thing that may be called like an endpoint counts only where there is no such endpoint.
    """
    found = [route for method in sorted(_EXACT) if (route := find(method, path)) is not None]
    exact = [route for route in found if not route.template.endswith("}")]
    return tuple(route.method for route in exact or found)


def left_out(method: str, path: str) -> LeftOut | None:
    """Why an endpoint is not on the list, where that was decided on purpose."""
    segments = path.split("/")
    for entry in LEFT_OUT:
        prefix = entry.prefix.split("/")
        if entry.methods and method not in entry.methods:
            continue
        if len(segments) >= len(prefix) and all(
            wanted in ("*", segment) for wanted, segment in zip(prefix, segments, strict=False)
        ):
            return entry
    return None
