# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that the gateway gives itself."""

from __future__ import annotations

import json

from ds01.gateway.head import REASONS


def answer(
    status: int, body: bytes, api: bytes, close: bool, bodyless: bool = False, location: str = ""
) -> bytes:
    """A whole answer, as the engine would shape it.

    :param body: JSON.
    :param api: newest API version, for clients that look for it in every answer.
    :param close: whether the connection ends after it.
    :param bodyless: the answer to HEAD.
    :param location: where to ask instead (301).
    """
    lines = [
        b"HTTP/1.1 %d %s" % (status, REASONS.get(status, "Error").encode()),
        b"Content-Type: application/json",
        b"Server: ds01-gateway",
        b"Content-Length: %d" % len(body),
    ]
    if api:
        lines.append(b"Api-Version: " + api)
    if location:
        lines.append(b"Location: " + location.encode("ascii", "replace"))
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if bodyless else body)


def refusal_body(what: str) -> bytes:
    """The body of a refusal, in the engine's form (``ErrorResponse`` of the API)."""
    return json.dumps({"message": f"ds01: {what}"}).encode() + b"\n"
