# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the records of owners to the host's adapters, for the modules."""

from __future__ import annotations

import grp
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from ._core.errors import Ds01Error
from ._core.events import EVENTS_PATH
from ._core.owner_book import OwnerBook
from ._core.owner_compare import differences
from ._core.owner_lookout import OwnerLookout
from ._core.owner_origin import managed
from ._core.owner_publish import CONTAINERS, FOLDER, Publisher, moment
from ._core.owner_restore import restore
from ._core.owner_settings import OWNER_SETTINGS_PATH, read_settings
from ._core.owner_sync import OwnerSync
from ._core.owner_words import clean, summary
from ._core.owners import CONTAINER, Record
from ._core.store import STATE_PATH, Store, open_store
from ._host.container_cgroup import ContainerCgroups
from ._host.engine import EngineError
from ._host.engine_things import ThingsEngine
from ._host.owner_accounts import OwnerAccounts
from ._host.paths import Paths

#: Options of the documentation fragment ``owner_book``.
ARGUMENTS: dict[str, Any] = {
    "store_path": {"type": "path", "default": STATE_PATH},
    "settings_path": {"type": "path", "default": OWNER_SETTINGS_PATH},
    "publish_dir": {"type": "path", "default": FOLDER},
    "engine_socket": {"type": "path"},
}
DAEMON_SECONDS = 1.0
POLL_SECONDS = 0.1
NO_STORE = (
    "there is no state store on this host yet, so nobody can say whose its containers are; "
    "site.yml makes it"
)


class EngineAway(Exception):
    """The engine does not answer."""


@dataclass
class Owners:
    """The records of this host, or a copy of them.

    :param trial: it is a copy.
    :param warnings: what the admin should know of.
    :param current: whether they were compared with the engine.
    """

    book: OwnerBook
    sync: OwnerSync
    trial: bool
    warnings: list[str] = field(default_factory=list)
    current: bool = True

    def compare(self, deep: bool = False) -> None:
        """Make the records agree with the engine, as far as it answers.

        :param deep: inspect all containers, not only those of which too little is known.
        :raises Ds01Error: the store cannot be written.
        """
        try:
            self._await_daemon()
            self.sync.sync(deep=deep)
        except EngineAway as error:
            self.current = False
            away = f"the engine does not answer, so this is as it was last seen: {error}"
            self.warnings.append(away)
            return
        self.warnings += [f"{what}: {words}" for what, words in sorted(self.sync.faults.items())]

    def _await_daemon(self) -> None:
        """Let the daemon, if it runs, write what it is just hearing of: it tells of it more exactly.

        :raises EngineAway: the engine does not answer.
        """
        until = time.monotonic() + (0.0 if self.trial else DAEMON_SECONDS)
        while True:
            known = {one.id: one for one in self.book.records(CONTAINER)}
            try:
                listed = self.sync.world.listed()
            except Ds01Error as error:
                raise EngineAway(str(error)) from error
            if not differences(known, listed) or time.monotonic() >= until:
                return
            time.sleep(POLL_SECONDS)


@contextmanager
def opened(params: Mapping[str, Any], source: str, trial: bool) -> Iterator[Owners]:
    """The records of this host.

    :param params: the module's; one that only reads has fewer.
    :param source: the module's name, for events.
    :param trial: open a copy in a directory of its own, to see what is, or what would come of a change.
    :raises Ds01Error: the store is missing, damaged or of another version; the settings are wrong.
    """
    settings = read_settings(params["settings_path"])
    world = lookout(params["engine_socket"])
    with closing(open_store(params["store_path"])) as store:
        if not trial:
            book = OwnerBook(store, params.get("event_log", EVENTS_PATH), source)
            publisher = Publisher(params["publish_dir"])
            yield _restored(
                Owners(book, OwnerSync(book, world, publisher, settings), trial), params
            )
            return
        with tempfile.TemporaryDirectory(prefix="ds01-trial-") as folder:
            copy = os.path.join(folder, "state.db")
            duplicate(store, copy)
            with closing(open_store(copy)) as trial_store:
                book = OwnerBook(trial_store, os.path.join(folder, "events.jsonl"), source)
                publisher = Publisher(os.path.join(folder, "published"))
                yield _restored(
                    Owners(book, OwnerSync(book, world, publisher, settings), trial), params
                )


def _restored(owners: Owners, params: Mapping[str, Any]) -> Owners:
    """The records, with what was published before a store was lost: this run would publish less."""
    try:
        restore(owners.book, os.path.join(params["publish_dir"], CONTAINERS))
    except Ds01Error as error:
        owners.warnings.append(str(error))
    return owners


def duplicate(store: Store, target: str) -> None:
    """Copy a store as it is at one moment (VACUUM INTO reads in one transaction).

    :raises Ds01Error: there is no room for it.
    """
    try:
        store.connection().execute("VACUUM INTO ?", (target,))
    except sqlite3.Error as error:
        raise Ds01Error(
            f"the store cannot be copied for a trial: {error}",
            target,
            "Look at the free space there (df); nothing was changed",
        ) from error


def lookout(socket: str | None) -> OwnerLookout:
    """This host through its adapters.

    :param socket: the engine's; the usual one if not given.
    """
    return OwnerLookout(
        lambda: ThingsEngine(socket),
        ContainerCgroups(),
        OwnerAccounts(),
        Paths(),
        EngineError,
        members,
    )


def members(group: str) -> tuple[str, ...]:
    """Names of the members of a Unix group (getgrnam(3)); nobody where there is none."""
    try:
        return tuple(sorted(grp.getgrnam(group).gr_mem))
    except KeyError:
        return ()


# --- records for people and playbooks -------------------------------------------------------------


def row(record: Record) -> dict[str, Any]:
    """A record as the modules return it."""
    owner, origin, made, said = record.owner, record.origin, record.made, record.set_by
    return {
        "kind": record.kind,
        "id": record.id,
        "name": record.name,
        "image": record.facts.image if record.facts else "",
        "state": record.state if record.gone is None else "gone",
        "owner": owner.user or None if owner.known else None,
        "owner_uid": owner.uid if owner.known else None,
        "method": owner.method,
        "confidence": owner.confidence,
        "summary": summary(owner),
        "evidence": [asdict(item) for item in owner.evidence],
        "contradictions": list(owner.contradictions),
        "interface": origin.interface,
        "interface_words": origin.interface_words,
        "container_type": origin.container_type,
        "type_words": origin.type_words,
        "managed": managed(record),
        "created_at": moment(record.created),
        "gone_at": None if record.gone is None else moment(record.gone),
        "made": {**asdict(made), "at": moment(made.at), "agent": clean(made.agent)}
        if made
        else None,
        "set_by": {**asdict(said), "at": moment(said.at)} if said else None,
    }


def line(record: Record) -> str:
    """A record as a line, for diffs: nothing in it changes with time alone."""
    owner = record.owner
    whose = (
        f"{clean(owner.user)} ({owner.method}, {owner.confidence})" if owner.known else "unknown"
    )
    said = f", said by {clean(record.set_by.by)}" if record.set_by else ""
    why = f": {clean(record.set_by.reason)}" if record.set_by and record.set_by.reason else ""
    gone = "" if record.gone is None else ", gone"
    against = "".join(f"; but {words}" for words in owner.contradictions)
    return f"{record.id[:12]} {clean(record.name)}: {whose}{said}{why}{gone}{against}\n"
