# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a request may pass the gateway, by its endpoint and its version alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

from .routes import Route
from .targets import Target

ALLOW = "allow"
WOULD_DENY = "would_deny"
DENY = "deny"


class Who(Protocol):
    """What is looked at of a caller (callers.Caller)."""

    @property
    def group(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def admin(self) -> bool: ...


@dataclass(frozen=True)
class Verdict:
    """The decision on a request.

    :param decision: ALLOW, WOULD_DENY (passes, recorded) or DENY.
    :param rule: its stable name; empty when nothing was to be said.
    :param message: what was asked and why it does not pass.
    :param remedy: what to do.
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
    engine_api: tuple[int, int] | None = None,
) -> Verdict:
    """Decide on a request.

    :param upgrade: the value of its Upgrade header, lower case; empty for none.
    :param engine_api: the newest version of the API that the engine speaks, when known.
    """
    return _ALLOWED


def error_body(verdict: Verdict) -> bytes:
    """The JSON of a refusal, as the engine words its own."""
    text = f"{verdict.message} (rule {verdict.rule}). {verdict.remedy}"
    return json.dumps({"message": text}).encode("ascii") + b"\n"


def version_to_send(target: Target, engine_api: tuple[int, int] | None) -> tuple[int, int] | None:
    """The version to put before the path towards the engine."""
    return target.version


def capped_api(value: bytes) -> bytes:
    """The header Api-Version of an answer, no higher than the versions that the list knows."""
    return value


def cap_version_body(body: bytes) -> bytes:
    """The JSON of ``GET /version`` with no version above those that the list knows."""
    return body
