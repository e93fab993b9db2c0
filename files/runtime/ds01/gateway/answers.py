# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that the gateway gives itself."""

from __future__ import annotations

from ds01.core.gateway_decision import Verdict
from ds01.gateway.head import REASONS


def answer(
    verdict: Verdict,
    body: bytes,
    api: bytes,
    close: bool,
    bodyless: bool = False,
    location: str = "",
) -> bytes:
    """A whole answer, as the engine would shape it.

    :param verdict: whose status it has.
    :param body: JSON.
    :param api: newest API version, for clients that look for it in every answer.
    :param close: whether the connection ends after it.
    :param bodyless: the answer to HEAD.
    :param location: where to ask instead (301).
    """
    lines = [
        b"HTTP/1.1 %d %s" % (verdict.status, REASONS.get(verdict.status, "Error").encode()),
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
