# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which endpoint of the allow-list a request means.

The engine routes with gorilla/mux: a template of the table is anchored at both ends, a variable of
an image may contain slashes, and the last segment decides (``/images/a/json/history`` is the
history of ``a/json``). Names of other things are one segment here: the engine would take slashes in
them too, but has nothing that is called so.
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

# RestrictedNameChars of moby (daemon/names); ids are such names too.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
# A network's name is free text.
_SEGMENT = re.compile(r"[^/]+\Z")
# References, digests and ids; a registry can be an IPv6 address in brackets.
_REFERENCE = re.compile(r"[^/]+(?:/[^/]+)*\Z")
_VARIABLES = {
    "containers": _NAME,
    "exec": _NAME,
    "volumes": _NAME,
    "networks": _SEGMENT,
    "images": _REFERENCE,
    "distribution": _REFERENCE,
    "plugins": _REFERENCE,
}
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
    noun, slash, rest = path[1:].partition("/")
    variable = _VARIABLES.get(noun)
    if not slash or variable is None:
        return None
    name, _slash, last = rest.rpartition("/")
    route = _SHAPES.get((method, noun, last)) if last else None
    if route is None:
        name = rest
        route = _SHAPES.get((method, noun, ""))
    return route if route is not None and variable.match(name) else None


def methods_of(path: str) -> tuple[str, ...]:
    """The methods with which a path is on the list, in the order of the alphabet."""
    return tuple(method for method in sorted(_EXACT) if find(method, path) is not None)


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
