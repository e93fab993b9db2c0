# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the containers are for certain, all of them in one look."""

from __future__ import annotations

import json

from .owners import CONTAINER
from .store import Store, StoreCorrupt

_CERTAIN = (
    "SELECT id, made, set_by FROM things WHERE kind = ? AND gone IS NULL "
    "AND (made IS NOT NULL OR set_by IS NOT NULL)"
)
_LEFT = (
    "SELECT uid, at FROM intents WHERE kind = ? AND uid != 0 AND (gateway != ? OR ended NOT NULL)"
)


Left = list[tuple[int, float]]
"""Who asked for containers of which nobody knows what came of it, and when (seconds of the wall clock)."""


def certain_owners(store: Store, gateway: str) -> tuple[dict[str, int], dict[str, int], Left]:
    """Uids by the ids of containers: an administrator's word, else the gateway's.

    :param gateway: the one that is there.
    :returns: those that are certain, and apart from them those that were asked for from within
        containers whose owners are not.
    :raises StoreError: the store cannot be read.
    """
    with store.reading() as connection:
        rows = connection.execute(_CERTAIN, (CONTAINER,)).fetchall()
        left = connection.execute(_LEFT, (CONTAINER, gateway)).fetchall()
    certain: dict[str, int] = {}
    inside: dict[str, tuple[int, str]] = {}
    for container, made, set_by in rows:
        try:
            word = json.loads(set_by or made)
            if set_by is None and word["container"]:
                inside[container] = int(word["uid"]), str(word["container"])
            else:
                certain[container] = int(word["uid"])
        except (ValueError, TypeError, KeyError) as error:
            raise StoreCorrupt(
                f"the record of container {str(container)[:12]} cannot be read",
                store.path,
                "Restart ds01d.service: it puts the file aside and builds the store anew",
            ) from error
    return certain, _told_inside(certain, inside), left


def _told_inside(certain: dict[str, int], inside: dict[str, tuple[int, str]]) -> dict[str, int]:
    """Make those certain that were asked for from containers that are; the uids of the others."""
    found = True
    while found:
        found = False
        for container, (uid, outer) in list(inside.items()):
            if certain.get(outer) == uid:
                certain[container] = uid
                del inside[container]
                found = True
    return {container: uid for container, (uid, _outer) in inside.items()}
