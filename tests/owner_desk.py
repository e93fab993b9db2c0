# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A book of owners beside a lease book, in one store that a test has to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ds01.core.owner_book import OwnerBook
from ds01.core.owner_intents import Intent
from ds01.core.owners import CONTAINER, GATEWAY, WEAK, ContainerFacts, Evidence, Made, Owner, Record
from ds01.core.store import open_store
from lease_book import Desk

WALL = 1_800_000_000.0
ONE = "1" * 64
TWO = "2" * 64


class OwnerDesk(Desk):
    """Both books on one store."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.owners = self.opened_owners()

    def opened_owners(self, **more: Any) -> OwnerBook:
        """The book as another process would open it."""
        return OwnerBook(open_store(self.path), str(self.log), clock=self.hands, **more)

    def one(self, thing_id: str = ONE, kind: str = CONTAINER) -> Record:
        """A record that has to be there."""
        found = self.owners.get(kind, thing_id)
        assert found is not None
        return found


def intent(token: str = "t1", uid: int = 1001, user: str = "alice", **more: Any) -> Intent:
    """What alice is about to make."""
    more = {"kind": CONTAINER, "at": WALL, "gateway": "g1", **more}
    return Intent(token=token, uid=uid, user=user, **more)


def made(uid: int = 1001, user: str = "alice", at: float = WALL, **more: Any) -> Made:
    """The gateway's record."""
    return Made(uid, user, at, **more)


def weak(user: str = "bob", uid: int = 1002) -> Owner:
    """Who is named by a label."""
    words = f"its label ds01.user says {user}"
    return Owner(uid, user, "ds01_label", WEAK, (Evidence("ds01_label", uid, user, WEAK, words),))


def seen(thing_id: str = ONE, **more: Any) -> Record:
    """A container as somebody looked at it."""
    facts = ContainerFacts(
        thing_id, "web", created=WALL, state="running", labels={"ds01.user": "bob"}
    )
    more = {
        "kind": CONTAINER,
        "name": "web",
        "state": "running",
        "created": WALL,
        "facts": facts,
        **more,
    }
    return Record(id=thing_id, **more)


__all__ = ["GATEWAY", "ONE", "TWO", "WALL", "OwnerDesk", "intent", "made", "seen", "weak"]
