# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each user's last refusal at the door, from the gateway to whoever answers ``ds01 why`` (ds01d).

A file of root's alone under /run: one user's requests are nobody else's business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ds01.core.durable import replace_file

REFUSALS_PATH = "/run/ds01/gateway-refusals.json"
SCHEMA = 1
KEPT = 1000
_PARTS = ("what", "where", "remedy", "timestamp")

Refusals = dict[int, dict[str, str]]


def write_refusals(refusals: Mapping[int, Mapping[str, str]], path: str = REFUSALS_PATH) -> None:
    """Replace the file.

    :param refusals: by uid: what was refused, where (the rule), the remedy, and when.
    :raises OSError: it cannot be written.
    """
    record = {"schema": SCHEMA, "refusals": {str(uid): row for uid, row in refusals.items()}}
    replace_file(path, json.dumps(record, separators=(",", ":")) + "\n", 0o600)


def read_refusals(path: str = REFUSALS_PATH) -> Refusals:
    """What the file says; nothing where it is missing, damaged or may not be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            record: Any = json.load(stream)
        if record["schema"] != SCHEMA:
            return {}
        return {
            int(uid): {part: str(row[part]) for part in _PARTS}
            for uid, row in record["refusals"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


class DoorRefusals:
    """The file as it is now, read anew when it changes."""

    def __init__(self, path: str = REFUSALS_PATH) -> None:
        self._path = path
        self._mark: tuple[int, int] | None = None
        self._refusals: Refusals = {}

    def of(self, uid: int) -> dict[str, str] | None:
        """The last refusal of a user; None when there was none."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        mark = (found.st_ino, found.st_mtime_ns)
        if mark != self._mark:
            self._refusals, self._mark = read_refusals(self._path), mark
        return self._refusals.get(uid)
