# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ds01_container_owner and ds01_container_owner_info do, for playbooks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import _owner_shell as shell
from ._core.errors import Ds01Error
from ._core.owner_accounts import number
from ._core.owner_find import LEAST_PREFIX
from ._core.owner_publish import CONTAINERS, OWNERS, OWNERS_FOLDER, moment
from ._core.owner_words import clean
from ._core.owners import CONTAINER, KINDS, Record, SetBy
from ._core.store import StoreMissing
from ._host import accounts

TEXT_MAX = 200


# --- what ds01_container_owner does ---------------------------------------------------------------


def change(params: Mapping[str, Any], check_mode: bool) -> tuple[dict[str, Any], list[str]]:
    """Look a container up, take an administrator's word down or back, or compare all.

    :param params: the module's.
    :returns: the module's result, and what it warns of.
    :raises Ds01Error: it cannot be done; no owner was changed then.
    """
    _refuse_strange(params)
    state = params["state"]
    word = _word(params) if state == "set" else None
    try:
        with shell.opened(params, "ds01_container_owner", check_mode or state == "found") as owners:
            before = owners.book.records(CONTAINER, gone=True) if state == "synced" else []
            shown = contents(params["publish_dir"])
            owners.compare(deep=state == "synced")
            if state == "synced":
                return _synced(owners, before, shown), owners.warnings
            return _one(owners, params, word), owners.warnings
    except StoreMissing:
        if not check_mode:
            raise
        nothing: dict[str, Any] = {"changes": []} if state == "synced" else {"container": None}
        changed = state in ("set", "synced")
        return {"changed": changed, **nothing, "current": False}, [shell.NO_STORE]


def _refuse_strange(params: Mapping[str, Any]) -> None:
    """Options of another state, and texts that cannot be shown."""
    state = params["state"]
    known = {
        "found": {"container"},
        "set": {"container", "owner", "allow_missing", "reason", "by"},
        "unset": {"container", "by"},
        "synced": set[str](),
    }
    for option in sorted(set[str]().union(*known.values()) - known[state]):
        if params[option]:
            raise Ds01Error(
                f"{option} says nothing with state={state}", option, "Leave it out, or set state"
            )
    for option in ("reason", "by"):
        text = params[option]
        if text and not (len(text) <= TEXT_MAX and text.isprintable()):
            raise Ds01Error(f"{option} has up to {TEXT_MAX} printable characters", option)


def _word(params: Mapping[str, Any]) -> SetBy:
    """An administrator's word.

    :raises Ds01Error: the host knows no such account.
    """
    wanted = params["owner"]
    uid = number(wanted)
    found = accounts.find(wanted) or (None if uid is None else accounts.by_uid(uid))
    by, reason = params["by"] or who(), params["reason"] or ""
    if found is not None:
        # Of two names for one uid it is the one that the host names for it.
        found = accounts.by_uid(found.uid) or found
        return SetBy(found.uid, found.name, by, time.time(), reason)
    if uid is not None and params["allow_missing"]:
        return SetBy(uid, wanted, by, time.time(), reason)
    remedy = "Name the account as 'getent passwd' does, or its uid"
    if uid is not None:
        remedy = "For somebody who has left, say allow_missing: true"
    raise Ds01Error(f"this host knows no user {clean(wanted, 80)!r}", "owner", remedy)


def who() -> str:
    """Who runs the module: the one who became root, if anybody did (sudo(8))."""
    return os.environ.get("SUDO_USER") or "root"


def _one(owners: shell.Owners, params: Mapping[str, Any], word: SetBy | None) -> dict[str, Any]:
    """What is to be done to one container."""
    wanted, state = params["container"], params["state"]
    record = _meant(owners.book.find(wanted, kind=CONTAINER), wanted)
    if record is None:
        if state == "set":
            raise Ds01Error(
                f"there is no container {clean(wanted, 80)!r}, nor was there one lately",
                "container",
                "See 'docker ps --all', or M(ds01.infra.ds01_container_owner_info) with gone=true",
            )
        return {"changed": False, "container": None, "current": owners.current}
    before = record
    changed = False
    if word is not None:
        changed = owners.book.set_owner(CONTAINER, record.id, word)
    elif state == "unset":
        changed = owners.book.unset_owner(CONTAINER, record.id, params["by"] or who())
    if changed:
        owners.sync.commits_seen()
        owners.sync.publish()
        record = owners.book.get(CONTAINER, record.id) or record
    return {
        "changed": changed,
        "container": shell.row(record),
        "current": owners.current,
        "diff": _diff(shell.line(before), shell.line(record), params["store_path"]),
    }


def _meant(records: Sequence[Record], wanted: str) -> Record | None:
    """The one container that is meant; None where there is none.

    :raises Ds01Error: it could be several.
    """
    if len(records) > 1:
        several = "; ".join(f"{record.id} ({_when(record)})" for record in records[:10])
        more = f" and {len(records) - 10} more" if len(records) > 10 else ""
        raise Ds01Error(
            f"{clean(wanted, 80)!r} could be any of {len(records)} containers: {several}{more}",
            "container",
            "Name one by its id",
        )
    return records[0] if records else None


def _when(record: Record) -> str:
    made = f"{record.name}, made {moment(record.created) or 'some time'}"
    return made if record.gone is None else f"{made}, gone {moment(record.gone)}"


def _synced(owners: shell.Owners, before: list[Record], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Everything was compared; what differed.

    :param before: the containers as they were recorded.
    :param shown: what was published.
    :raises Ds01Error: the engine does not answer.
    """
    if not owners.current:
        raise Ds01Error(owners.warnings[-1], "engine", "Look at it: systemctl status docker")
    owners.sync.publish(full=True)
    after = owners.book.records(CONTAINER, gone=True)
    was = {record.id: shell.line(record) for record in before}
    now = {record.id: shell.line(record) for record in after}
    changes = [
        text.rstrip() + (f"; before: {_after_name(was[key])}" if key in was else "")
        for key, text in now.items()
        if was.get(key) != text
    ]
    publisher = owners.sync.publisher
    published = {} if publisher is None else contents(publisher.folder)
    return {
        "changed": bool(changes) or published != shown,
        "changes": changes,
        "current": True,
        "diff": _diff(_text(was.values()), _text(now.values()), "owners"),
    }


def _after_name(text: str) -> str:
    """A line without the container that it begins with."""
    return text.rstrip().partition(": ")[2]


def contents(folder: str) -> dict[str, Any]:
    """What the published files say, whenever they were written; nothing of one that says nothing."""
    found: dict[str, Any] = {}
    for name in (os.path.join(OWNERS_FOLDER, OWNERS), CONTAINERS):
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                content = json.load(stream)
            content.pop("updated_at", None)
            found[name] = content
    return found


def _diff(before: str, after: str, where: str) -> dict[str, str]:
    return {"before": before, "after": after, "before_header": where, "after_header": where}


def _text(lines: Iterable[str]) -> str:
    return "".join(sorted(lines))


# --- what ds01_container_owner_info does ----------------------------------------------------------


def read(params: Mapping[str, Any], check_mode: bool) -> tuple[dict[str, Any], list[str]]:
    """Whose everything is, narrowed down.

    :param params: the module's.
    :returns: the module's result, and what it warns of.
    :raises Ds01Error: the store is missing, damaged or of another version.
    """
    try:
        with shell.opened(params, "ds01_container_owner_info", trial=True) as owners:
            owners.compare()
            records = [
                one for one in owners.book.records(gone=params["gone"]) if _wanted(one, params)
            ]
    except StoreMissing:
        if not check_mode:
            raise
        return {"things": [], "users": [], "current": False}, [shell.NO_STORE]
    records.sort(key=lambda record: (KINDS.index(record.kind), record.created, record.id))
    result = {
        "things": [shell.row(record) for record in records],
        "users": users(records),
        "current": owners.current,
    }
    return result, owners.warnings


def _wanted(record: Record, params: Mapping[str, Any]) -> bool:
    owner, user = record.owner, params["user"]
    return (
        record.kind in params["kinds"]
        and (not params["name"] or _is_called(record, params["name"]))
        and not (params["unknown"] and owner.known)
        and not (params["contradicted"] and not owner.contradictions)
        and (not user or (owner.known and user in (owner.user, str(owner.uid))))
    )


def _is_called(record: Record, wanted: str) -> bool:
    if wanted in (record.name, record.id):
        return True
    return len(wanted) >= LEAST_PREFIX and record.id.removeprefix("sha256:").startswith(wanted)


def users(records: Iterable[Record]) -> list[dict[str, Any]]:
    """How much belongs to whom; the unknown last."""
    counts: dict[tuple[str | None, int | None], int] = {}
    for record in records:
        owner = record.owner
        key = (owner.user or None, owner.uid) if owner.known else (None, None)
        counts[key] = counts.get(key, 0) + 1
    order = sorted(counts, key=lambda key: (key[0] is None, key[0] or "", key[1] or 0))
    return [{"user": user, "uid": uid, "things": counts[user, uid]} for user, uid in order]
