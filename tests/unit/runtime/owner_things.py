# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things in the book of owners of a running daemon, and a terminal to ask for them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ds01 import cli
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_decide import decide
from ds01.core.owner_origin import origin
from ds01.core.owners import (
    CONTAINER,
    Account,
    ContainerFacts,
    Made,
    Mount,
    PathFacts,
    Record,
)

from .helper_daemon import UIDS, Helper

DOOR = "Docker-Client/26.1.5 (linux)"


class Accounts:
    """The host's accounts."""

    def by_uid(self, uid: int) -> Account | None:
        for name, number in UIDS.items():
            if number == uid:
                return Account(uid, name, f"/home/{name}")
        return None

    def by_name(self, name: str) -> Account | None:
        return self.by_uid(UIDS[name]) if name in UIDS else None

    def like(self, name: str) -> tuple[Account, ...]:
        return ()


class Things:
    """Puts things into the book of owners, as the tracker and the gateway do."""

    def __init__(self, helper: Helper) -> None:
        self.book = OwnerBook(helper.book().store, helper.events_path, "test")
        self.now = time.time()

    def container(
        self,
        first: str,
        name: str,
        made: str = "",
        mounts: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Record:
        """A container that was looked at."""
        facts = ContainerFacts(
            (first * 64)[:64],
            name,
            created=self.now - 600,
            state=more.pop("state", "running"),
            image="lab/base",
            labels=labels or {},
            mounts=tuple(Mount(source) for source in mounts),
            leases=more.pop("leases", ()),
        )
        maker = Made(UIDS[made], made, self.now - 600, DOOR) if made else None
        paths = {path: PathFacts(path, uid=UIDS[path.split("/")[2]]) for path in mounts}
        if maker:
            self.book.record(CONTAINER, facts.id, maker, name=name)
        record = Record(
            CONTAINER,
            facts.id,
            name,
            decide(facts, maker, None, Accounts(), paths),
            origin(facts, maker),
            facts.state,
            facts.created,
            self.now,
            made=maker,
            facts=facts,
        )
        record = replace(record, **more)
        self.book.apply([record])
        return record


class Terminal:
    """Runs command lines as a user; exit code, output, errors."""

    def __init__(self, helper: Helper, capsys: pytest.CaptureFixture[str]) -> None:
        self._helper = helper
        self._capsys = capsys

    def __call__(self, user: str, *arguments: str) -> tuple[int, str, str]:
        self._helper.comes(user)
        status = cli.main(arguments)
        found = self._capsys.readouterr()
        return status, found.out, found.err

    def json(self, user: str, *arguments: str) -> Any:
        return json.loads(self(user, *arguments, "--json")[1])

    def names(self, user: str, *arguments: str) -> list[str]:
        found = self.json(user, "owners", "list", *arguments)
        return [thing["name"] for thing in found["things"]]
