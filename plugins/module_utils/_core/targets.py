# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target of a request line: one reading of it, for the gateway and the engine alike."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import Ds01Error

_PLAIN = re.compile(rb"(?:/v(\d{1,3})\.(\d{1,3}))?(/[A-Za-z0-9_.:/-]*)(?:\?([!-~]*))?\Z")


@dataclass(frozen=True)
class Target:
    """What a request asks for.

    :param version: of the API; None when the path has no version prefix.
    :param path: decoded, without the version, beginning with a slash.
    :param query: as it came, without the question mark.
    """

    version: tuple[int, int] | None
    path: str
    query: str


class TargetError(Ds01Error):
    """A target that the gateway does not forward.

    :param status: of the answer; with 301 there is a location.
    :param location: where a client finds what it meant; empty otherwise.
    """

    def __init__(self, what: str, status: int = 400, location: str = "", remedy: str = "") -> None:
        super().__init__(what, "", remedy)
        self.status = status
        self.location = location


def parse_target(raw: bytes, method: str = "GET") -> Target:
    """Read the target of a request line.

    :raises TargetError: it is not a plain path, or one that the engine might read otherwise.
    """
    match = _PLAIN.match(raw)
    if match is None:
        raise TargetError("the path of the request is not one that docker uses")
    major, minor, path, query = match.groups()
    version = (int(major), int(minor)) if major else None
    return Target(version, path.decode("ascii"), (query or b"").decode("ascii"))


def forward_target(target: Target, version: tuple[int, int] | None) -> bytes:
    """What is sent to the engine: the canonical spelling of a target.

    :param version: put before the path; None for none.
    """
    prefix = f"/v{version[0]}.{version[1]}" if version else ""
    query = f"?{target.query}" if target.query else ""
    return f"{prefix}{target.path}{query}".encode("ascii")
