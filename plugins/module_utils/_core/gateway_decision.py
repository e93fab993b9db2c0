# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a request may pass the gateway, by its endpoint and its version alone. Pure.

====================  ===============================================  =========  =========  ======
rule                  what it is about                                 observe    enforce    admins
====================  ===============================================  =========  =========  ======
``upgrade.refused``   a switch to another protocol that has no place   denied     denied     denied
``api.too_new``       a version above the engine's or the list's       denied     denied     denied
``api.too_old``       a version below the list's                       denied     denied     denied
``endpoint.unknown``  an endpoint that is not on the list              recorded   denied     passes
``endpoint.method``   one that is, with another method                 recorded   denied     passes
``build.opaque``      BuildKit's connections, which nobody can read    recorded   denied     passes
``owner.record``      something is made, and by whom cannot be         recorded   denied     passes
                      written down at the moment
====================  ===============================================  =========  =========  ======

What passes for an admin only because he is one is ``allow`` with the rule's name, so it can be seen.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .routes import API_MAX, API_MIN, HIJACK, OPAQUE, Route, left_out, methods_of
from .targets import Target

ALLOW = "allow"
WOULD_DENY = "would_deny"
DENY = "deny"

ENFORCE = "enforce"
MODE_LIMIT = "gateway_mode"

UPGRADE_REFUSED = "upgrade.refused"
API_TOO_NEW = "api.too_new"
API_TOO_OLD = "api.too_old"
ENDPOINT_UNKNOWN = "endpoint.unknown"
ENDPOINT_METHOD = "endpoint.method"
BUILD_OPAQUE = "build.opaque"
OWNER_RECORD = "owner.record"
RULES = (
    UPGRADE_REFUSED,
    API_TOO_NEW,
    API_TOO_OLD,
    ENDPOINT_UNKNOWN,
    ENDPOINT_METHOD,
    BUILD_OPAQUE,
    OWNER_RECORD,
)

# The engine's own words, which clients know; nothing is added to them.
_VERBATIM = frozenset({API_TOO_NEW, API_TOO_OLD})
# The protocols that an endpoint of a kind may switch to.
_UPGRADES = {HIJACK: "tcp", OPAQUE: "h2c"}
_SHOWN_MAX = 200
_API = re.compile(rb"\s*([0-9]{1,3})\.([0-9]{1,3})\s*\Z")

Api = tuple[int, int]


class Who(Protocol):
    """What is looked at of a caller (:class:`callers.Caller`)."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def admin(self) -> bool: ...


@dataclass(frozen=True)
class Verdict:
    """The decision on a request.

    :param decision: ALLOW, WOULD_DENY (passes and is recorded) or DENY.
    :param rule: its stable name; empty when there is nothing to say.
    :param message: what was asked and why it does not pass, without a full stop.
    :param remedy: what to do, without a full stop.
    :param status: of the answer when denied.
    """

    decision: str
    rule: str
    message: str
    remedy: str
    status: int


_ALLOWED = Verdict(ALLOW, "", "", "", 200)


def judge(
    caller: Who,
    method: str,
    target: Target,
    route: Route | None,
    upgrade: str = "",
    engine_api: Api | None = None,
) -> Verdict:
    """Decide on a request.

    :param route: of :func:`routes.find`; None when it is not on the list.
    :param upgrade: the value of its header Upgrade in lower case; empty for none.
    :param engine_api: the newest version of the API that the engine speaks, once that is known.
    """
    if upgrade and (route is None or _UPGRADES.get(route.kind) != upgrade):
        return _upgrade_refused(method, target, route, upgrade)
    version = target.version
    if version is not None:
        newest = API_MAX if engine_api is None or engine_api > API_MAX else engine_api
        if version > newest:
            return _too_new(version, newest)
        if version < API_MIN:
            return _too_old(version)
    if route is None:
        return _unknown(caller, method, target)
    if route.kind == OPAQUE:
        return _opaque(caller, method, target)
    return _ALLOWED


def _upgrade_refused(method: str, target: Target, route: Route | None, upgrade: str) -> Verdict:
    message = f"{_shown(method, target)} asks to switch to the protocol {upgrade[:40]!a}"
    wanted = _UPGRADES.get(route.kind) if route is not None else None
    if wanted is None:
        message += ", and this endpoint switches to none"
    else:
        message += f", and this endpoint switches to {wanted} only"
    remedy = "Send it without the header Upgrade"
    return Verdict(DENY, UPGRADE_REFUSED, message, remedy, 400)


def _too_new(version: Api, newest: Api) -> Verdict:
    message = (
        f"client version {_dotted(version)} is too new. "
        f"Maximum supported API version is {_dotted(newest)}"
    )
    return Verdict(DENY, API_TOO_NEW, message, "", 400)


def _too_old(version: Api) -> Verdict:
    message = (
        f"client version {_dotted(version)} is too old. Minimum supported API version is "
        f"{_dotted(API_MIN)}, please upgrade your client to a newer version"
    )
    return Verdict(DENY, API_TOO_OLD, message, "", 400)


def _unknown(caller: Who, method: str, target: Target) -> Verdict:
    """The verdict on what is not on the list."""
    asked = _shown(method, target)
    rule = ENDPOINT_UNKNOWN
    message = f"{asked} is not on the list of what docker is used for here"
    remedy = "Ask an admin of the machine if you need it"
    if reason := left_out(method, target.path):
        message += f": {reason.what} are left out, since {reason.why}"
    elif methods := methods_of(target.path):
        rule = ENDPOINT_METHOD
        message = f"{asked} is not on the list: that path is used with {' or '.join(methods)}"
        remedy = "Use one of these methods"
    return _by_mode(caller, rule, message, remedy)


def _opaque(caller: Who, method: str, target: Target) -> Verdict:
    """The verdict on BuildKit's connections."""
    message = (
        f"{_shown(method, target)} opens a connection of BuildKit (docker build, docker buildx), "
        "which cannot be checked"
    )
    remedy = "Build with DOCKER_BUILDKIT=0 docker build, or ask an admin of the machine"
    return _by_mode(caller, BUILD_OPAQUE, message, remedy)


def unrecorded(caller: Who, method: str, target: Target, why: str) -> Verdict:
    """The verdict on a request that makes something, when it cannot be written down for whom.

    :param why: what keeps it from being written down, without a full stop.
    """
    message = f"{_shown(method, target)} makes something, and by whom cannot be recorded now: {why}"
    remedy = "Try again in a moment; administrators: ds01 doctor"
    verdict = _by_mode(caller, OWNER_RECORD, message, remedy)
    return replace(verdict, status=503) if verdict.decision == DENY else verdict


def _by_mode(caller: Who, rule: str, message: str, remedy: str) -> Verdict:
    """A refusal in mode enforce, a record in mode observe, and neither for admins."""
    if caller.admin:
        return Verdict(ALLOW, rule, f"{message}; it passes for an admin", "", 200)
    if caller.mode != ENFORCE:
        return Verdict(WOULD_DENY, rule, f"{message}; it passes in mode observe", remedy, 200)
    limit = f"limit {MODE_LIMIT}: {ENFORCE} for {_plain(caller.name)}, group {_plain(caller.group)}"
    return Verdict(DENY, rule, f"{message} ({limit})", remedy, 403)


def _shown(method: str, target: Target) -> str:
    """A request as messages name it."""
    path = _plain(target.path)
    if len(path) > _SHOWN_MAX:
        path = f"{path[:_SHOWN_MAX]}…"
    return f"{_plain(method[:20])} {path}"


def _plain(text: str) -> str:
    """Text in one line, with nothing that a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _dotted(version: Api) -> str:
    return f"{version[0]}.{version[1]}"


def error_body(verdict: Verdict) -> bytes:
    """The body of a refusal (``ErrorResponse`` of the API), in one line.

    The docker client shows it after ``Error response from daemon: ``.
    """
    text = _plain(verdict.message)
    if verdict.rule not in _VERBATIM:
        remedy = f". {_plain(verdict.remedy)}" if verdict.remedy else ""
        rule = f" (rule {verdict.rule})" if verdict.rule else ""
        text = f"ds01: {text}{remedy}{rule}"
    # Without spaces, as the engine writes it: some read it with a pattern.
    return json.dumps({"message": text}, separators=(",", ":")).encode("ascii") + b"\n"


def version_to_send(target: Target, engine_api: Api | None) -> Api | None:
    """The version to put before the path towards the engine.

    An engine that is newer than the list takes a path without one for its own newest; it is told the
    newest of the list instead.

    :param engine_api: the newest that the engine speaks, once that is known.
    """
    if target.version is None and engine_api is not None and engine_api > API_MAX:
        return API_MAX
    return target.version


def capped_api(value: bytes) -> bytes:
    """The header Api-Version of an answer, no higher than what the list knows.

    :param value: as the engine sent it; what is no version stays as it is.
    """
    return _dotted(API_MAX).encode("ascii") if _exceeds(value) else value


def cap_version_body(body: bytes) -> bytes:
    """The JSON of ``GET /version`` with no API version above what the list knows.

    :param body: as the engine sent it; the same bytes come back when nothing exceeds the list or
        it is not that JSON.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(answer, dict):
        return body
    components = answer.get("Components")
    changed = _cap(answer)
    for component in components if isinstance(components, list) else []:
        if isinstance(component, dict) and component.get("Name") == "Engine":
            changed = _cap(component.get("Details")) or changed
    return json.dumps(answer, separators=(",", ":")).encode("ascii") + b"\n" if changed else body


def _cap(part: Any) -> bool:
    """Lower the ApiVersion of a part in place; whether that was needed."""
    value = part.get("ApiVersion") if isinstance(part, dict) else None
    if not isinstance(value, str) or not _exceeds(value.encode("ascii", "replace")):
        return False
    part["ApiVersion"] = _dotted(API_MAX)
    return True


def _exceeds(value: bytes) -> bool:
    """Whether a version is above what the list knows."""
    match = _API.match(value)
    return match is not None and (int(match[1]), int(match[2])) > API_MAX
