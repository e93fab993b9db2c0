# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said on the daemon's socket: one JSON object a line, one request a connection.

The client keeps its end open until it has read the last line. ``{"waiting": …}`` lines come before the
end of a request that waits; ``{"error": …}`` is always the last line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ds01.core.errors import Ds01Error
from ds01.core.leases import Refused
from ds01.core.owners import KINDS
from ds01.core.store import StoreError

SOCKET_PATH = "/run/ds01/ds01d.sock"
REQUEST_MAX_BYTES = 64 * 1024
HEADER_SECONDS = 10.0
WAITING_SECONDS = 10.0
"""A waiting line comes at least this often."""

_NAME_MAX = 256
_NOTE_MAX = 200
_DEVICES_MAX = 64
_TOKEN = re.compile(r"l?[0-9a-f]{16,48}")

BAD_REQUEST = "bad_request"
NOT_ALLOWED = "not_allowed"
REFUSED = "refused"
NO_GPU = "no_gpu"
NOT_FOUND = "not_found"
BUSY = "busy"
HOST = "host"
STORE = "store"
FAULT = "fault"

# Rules of refusals that another time or a longer wait may change.
_NOTHING_FREE = frozenset({"busy", "driver", "gpu_wait_timeout", "left"})


class RequestError(Ds01Error):
    """A request that is answered with an error.

    :param code: for programs; one of this module's constants.
    :param rule: the limit or rule that says so; empty where none does.
    """

    def __init__(
        self, code: str, what: str, where: str = "", remedy: str = "", rule: str = ""
    ) -> None:
        super().__init__(what, where, remedy)
        self.code = code
        self.rule = rule


def error_line(error: Ds01Error) -> dict[str, Any]:
    """An error as it is sent."""
    parts = {"rule": "", **error.as_dict()}
    rule = getattr(error, "rule", parts["rule"])
    return {"error": {"code": _code(error), **parts, "rule": str(rule)}}


def ended_line(parts: Mapping[str, str]) -> dict[str, Any]:
    """A wait that came to nothing, as it is sent; the parts are the book's."""
    named = {key: str(parts.get(key, "")) for key in ("what", "where", "remedy", "rule")}
    return {"error": {"code": NO_GPU if named["rule"] in _NOTHING_FREE else REFUSED, **named}}


def _code(error: Ds01Error) -> str:
    if isinstance(error, RequestError):
        return error.code
    if isinstance(error, Refused):
        return NO_GPU if error.rule in _NOTHING_FREE else REFUSED
    return STORE if isinstance(error, StoreError) else HOST


@dataclass(frozen=True)
class Request:
    """A request whose form is right.

    :param fields: those of the verb; each has been looked at.
    """

    verb: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or the default where it was left out."""
        return self.fields.get(name, default)


def _text(most: int) -> Callable[[Any], bool]:
    def is_text(value: Any) -> bool:
        return isinstance(value, str) and len(value) <= most and (value.isprintable())

    return is_text


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    # How many are sensible is for the book to say; this is what a number of things looks like.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _token(value: Any) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def _devices(value: Any) -> bool:
    name = _text(_NAME_MAX)
    return isinstance(value, list) and len(value) <= _DEVICES_MAX and all(map(name, value))


def _kind(value: Any) -> bool:
    return value in KINDS


def _kind_or_all(value: Any) -> bool:
    return value == "all" or _kind(value)


_name, _note = _text(_NAME_MAX), _text(_NOTE_MAX)
VERBS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "ping": {},
    "status": {"user": _name},
    "queue": {},
    "request": {
        "count": _count,
        "kind": _name,
        "devices": _devices,
        "note": _note,
        "wait": _truth,
        "user": _name,
        "lease": _name,
        "ticket": _token,
    },
    "poll": {"ticket": _token},
    "cancel": {"ticket": _token},
    "release": {"lease": _name},
    "drain": {"slot": _name, "message": _note},
    "undrain": {"slot": _name},
    "why": {"subject": _name},
    "reconcile": {},
    "owners": {"user": _name, "kind": _kind_or_all, "unknown": _truth, "gone": _truth},
    "owner": {"ref": _name, "kind": _kind},
    "owner_set": {"ref": _name, "kind": _kind, "user": _name, "reason": _note},
    "owner_unset": {"ref": _name, "kind": _kind},
    "owners_sync": {},
}
REQUIRED: Mapping[str, frozenset[str]] = {
    "poll": frozenset({"ticket"}),
    "cancel": frozenset({"ticket"}),
    "drain": frozenset({"slot"}),
    "undrain": frozenset({"slot"}),
    "owner": frozenset({"ref"}),
    "owner_set": frozenset({"ref", "user"}),
    "owner_unset": frozenset({"ref"}),
}


def _bad(what: str, remedy: str = "") -> RequestError:
    return RequestError(BAD_REQUEST, what, "request", remedy or "See ds01(1), or use ds01 gpu")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("a key occurs twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise _bad(f"{name} is no JSON value")


def parse_request(line: bytes) -> Request:
    """A request from its line.

    :param line: without regard to its newline.
    :raises RequestError: it is too long, no single JSON object, ambiguous, or not of a known form.
    """
    if len(line) > REQUEST_MAX_BYTES:
        raise _bad(f"the request is longer than {REQUEST_MAX_BYTES} bytes")
    try:
        found = json.loads(
            line.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise _bad("the request is no JSON object on one line") from error
    if not isinstance(found, dict):
        raise _bad("the request is no JSON object on one line")
    verb = found.pop("verb", None)
    if not isinstance(verb, str) or verb not in VERBS:
        raise _bad(f"the verb is not known; there are {', '.join(VERBS)}")
    for name, value in found.items():
        check = VERBS[verb].get(name)
        if check is None:
            raise _bad(f"{verb} takes no field {name[:40]!a}")
        if not check(value):
            raise _bad(f"the field {name} of {verb} has no usable value")
    missing = REQUIRED.get(verb, frozenset()) - found.keys()
    if missing:
        raise _bad(f"{verb} needs the field {min(missing)}")
    return Request(verb, found)


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, ensure_ascii=True, default=str).encode() + b"\n"
