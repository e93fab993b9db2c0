# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target of a request line: one reading of it, for the gateway and the engine alike.

The engine decodes the path once (Go's net/url), cleans it and redirects when that changed anything,
then routes the decoded path (gorilla/mux). Here a path is decoded once as well, and refused when it
holds anything that cleaning would change or that no name in docker has. What is left is sent to the
engine in one spelling only (:func:`forward_target`), so both judge the same text.

RFC 9112 section 3.2 (forms of a target), RFC 3986 section 2 (percent-encoding).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from .errors import Ds01Error

# Bytes of a whole target. Filters and build arguments make long queries; Go's own limit is 1 MiB.
TARGET_MAX = 64 * 1024

_CHARACTERS = r"A-Za-z0-9._:@+~=,-"
_NUMBER = r"(?:0|[1-9][0-9]{0,2})"
_LOOKS_VERSIONED = r"/v[0-9.]+(?:[/?]|\Z)"
# What nearly every request is: a version, clean segments, a query without rarities.
_PLAIN = re.compile(
    rb"(?:/v(%(n)b)\.(%(n)b)(?=/))?(?!%(v)b)((?:/(?!\.{1,2}(?:[/?]|\Z))[%(c)b]+)+/?|/)(?:\?([!$-;=?-\[\]-~]*))?\Z"
    % {
        b"n": _NUMBER.encode(),
        b"v": _LOOKS_VERSIONED.encode(),
        b"c": _CHARACTERS.encode(),
    }
)
_VERSION = re.compile(rf"/v({_NUMBER})\.({_NUMBER})(?=/)")
_VERSIONED = re.compile(_LOOKS_VERSIONED)
_PATH = re.compile(rf"[{_CHARACTERS}/\[\]]*\Z")
_QUERY = re.compile(r"[!-~]*\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Legal in no URI, yet curl sends them as they are typed; encoded they mean the same to the engine.
_ENCODED = {'"': "%22", "<": "%3C", ">": "%3E", "\\": "%5C"}


@dataclass(frozen=True)
class Target:
    """What a request asks for.

    :param version: of the API; None when the path has no version prefix.
    :param path: decoded, without the version; it begins with a slash and has no empty, ``.`` or
        ``..`` segment (one slash may end it).
    :param query: as it came, without the question mark; printable ASCII.
    """

    version: tuple[int, int] | None
    path: str
    query: str


class TargetError(Ds01Error):
    """A target that is not forwarded, for nobody and in no mode.

    :param what: the fault, free of what the client sent except harmless characters.
    :param status: of the answer: 400, 414, or 301 when there is a location.
    :param location: the path and query to ask for instead; empty otherwise.
    """

    def __init__(self, what: str, status: int = 400, location: str = "", remedy: str = "") -> None:
        super().__init__(what, "", remedy)
        self.status = status
        self.location = location


def parse_target(raw: bytes, method: str = "") -> Target:
    """Read the target of a request line.

    :param raw: as it came.
    :param method: GET and HEAD are redirected to the path without its doubled slashes, as by the
        engine; everything else is refused then.
    :raises TargetError: it is not the path of an endpoint, or one that could be read otherwise.
    """
    match = _PLAIN.match(raw)
    if match is None or len(raw) > TARGET_MAX:
        return _parse_rare(raw, method)
    major, minor, path, query = match.groups()
    return Target(
        (int(major), int(minor)) if major is not None else None,
        path.decode("ascii"),
        query.decode("ascii") if query is not None else "",
    )


def forward_target(target: Target, version: tuple[int, int] | None) -> bytes:
    """The spelling of a target that is sent to the engine.

    :param target: as :func:`parse_target` gave it.
    :param version: put before the path; None for none.
    """
    path = target.path
    if "[" in path or "]" in path:
        path = path.replace("[", "%5B").replace("]", "%5D")
    prefix = f"/v{version[0]}.{version[1]}" if version is not None else ""
    query = f"?{target.query}" if target.query else ""
    return f"{prefix}{path}{query}".encode("ascii")


def _parse_rare(raw: bytes, method: str) -> Target:
    """Read what is not plain: step by step, with the reason of a refusal."""
    if len(raw) > TARGET_MAX:
        raise TargetError(f"the path and query of the request exceed {TARGET_MAX} bytes", 414)
    if not raw.startswith(b"/"):
        raise TargetError(
            "the request names something else than a path on this socket",
            remedy="Send the path alone, beginning with a slash",
        )
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise TargetError("the path or query holds bytes outside ASCII") from None
    encoded, _mark, query = text.partition("?")
    query = _clean_query(query)
    path = _clean_path(encoded)
    if "//" in path:
        raise _doubled(encoded, query, method)
    if any(segment in (".", "..") for segment in path.split("/")):
        raise TargetError("the path has a segment . or ..")
    version = None
    if found := _VERSION.match(path):
        version = (int(found[1]), int(found[2]))
        path = path[found.end() :]
    if _VERSIONED.match(path):
        raise TargetError(
            "the version of the API in the path is not one number, a dot and another",
            remedy="Write it as in /v1.45/containers/json, once",
        )
    return Target(version, path, query)


def _clean_query(query: str) -> str:
    """A query as it is kept.

    :raises TargetError: it holds something that is no part of a query.
    """
    if not _QUERY.match(query):
        raise TargetError("the query holds a space or a control character")
    if "#" in query:
        raise TargetError("the query holds a #, which begins a fragment", remedy="Write it as %23")
    for character, escape in _ENCODED.items():
        query = query.replace(character, escape)
    return query


def _clean_path(encoded: str) -> str:
    """The path, decoded once.

    :raises TargetError: it holds something that no path of docker has.
    """
    if "#" in encoded:
        raise TargetError("the path holds a #, which begins a fragment")
    if _ESCAPE.search(encoded):
        raise TargetError("the path holds a % that begins no escape of two hexadecimal digits")
    try:
        path = unquote_to_bytes(encoded).decode("ascii")
    except UnicodeDecodeError:
        raise TargetError(
            "the path holds a character outside ASCII, which no name in docker has",
            remedy="Use the id of what you mean",
        ) from None
    if "%" in path:
        raise TargetError("the path is encoded twice")
    if not _PATH.match(path):
        raise TargetError(
            "the path holds a character that no name in docker has",
            remedy="Use letters, digits and _.-:@/+ or the id of what you mean",
        )
    return path


def _doubled(encoded: str, query: str, method: str) -> TargetError:
    """The answer to a path with doubled slashes."""
    what = "the path has doubled slashes"
    cleaned = re.sub("//+", "/", encoded)
    if method not in ("GET", "HEAD") or "%" in encoded:
        return TargetError(what, remedy="Write single ones")
    location = f"{cleaned}?{query}" if query else cleaned
    try:
        parse_target(location.encode("ascii"))
    except TargetError as error:
        return error
    return TargetError(what, 301, location)
