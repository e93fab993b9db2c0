# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of the engine that the gateway changes: never a newer API than it knows is shown."""

from __future__ import annotations

from ds01.core.gateway_decision import cap_version_body, capped_api
from ds01.core.routes import API_MAX, Route
from ds01.gateway.head import HttpError, ResponseHead, build_response

BODY_MAX = 1024 * 1024


class Rewrite:
    """Gathers a whole answer and gives it back changed."""

    def __init__(self) -> None:
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def begin(self, head: ResponseHead) -> None:
        """The answer's head is there."""
        self._head = head

    def take(self, parts: list[bytes | memoryview], done: bool) -> bytes:
        """Content that came; the whole answer once it is all there.

        :raises HttpError: it is longer than such an answer can be.
        """
        for part in parts:
            self._size += len(part)
            if self._size > BODY_MAX:
                raise HttpError(502, "the engine's answer is too long")
            self._parts.append(bytes(part))
        if not done or self._head is None:
            return b""
        body = b"".join(self._parts)
        if self._head.status == 200:
            body = cap_version_body(body)
        changed = {
            b"api-version": capped_api(self._head.api) if self._head.api else b"",
            b"content-length": b"%d" % len(body),
            b"transfer-encoding": b"",
        }
        return build_response(self._head, changed) + body


def rewrite_for(route: Route | None, engine_api: tuple[int, int] | None) -> Rewrite | None:
    """How the answer to a route is changed; None for one that goes through as it is."""
    if route is None or route.name != "system_version" or engine_api is None:
        return None
    return Rewrite() if engine_api > API_MAX else None


def with_capped_api(head: ResponseHead) -> bytes:
    """The engine's head, with the API version that is known here."""
    return build_response(head, {b"api-version": capped_api(head.api)})
