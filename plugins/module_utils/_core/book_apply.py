# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying out, inside one change of the book, what a reconciliation found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from . import book_rows as rows
from .book_change import Change
from .leases import BOUND, FREE, HELD, RESERVED, Ask, Lease
from .reconcile import (
    ADOPT,
    BIND,
    BLOCK,
    END,
    FORGET,
    HOLD,
    LIFT,
    RETAKE,
    STALE,
    UNSTALE,
    Action,
    SeenContainer,
)


def apply(change: Change, actions: Sequence[Action]) -> None:
    """Make the changes of the book, and tell what is only to be told, once."""
    for action in actions:
        handler = _HANDLERS.get(action.kind)
        if handler is not None:
            handler(change, action)
    _tell(change, [action for action in actions if action.is_report])


def rename(change: Change, containers: Sequence[SeenContainer]) -> None:
    """Leases carry the present names of their containers (docker-rename(1))."""
    names = {seen.id: seen.name for seen in containers if seen.leases and seen.name}
    for lease in rows.every_lease(change.connection):
        name = names.get(lease.container, lease.container_name)
        if name != lease.container_name:
            change.put(replace(lease, container_name=name))


def _bind(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    # A revoked one ends; the second step of its end asks the engine who runs with it.
    if lease is not None and lease.holding and lease.revoked is None:
        change.bind(lease, action.container, action.container_name)


def _hold(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    if lease is None or not lease.holding:
        return
    if lease.state == RESERVED:
        change.bind(lease, action.container or lease.container, action.container_name)
        lease = change.lease(action.lease) or lease
    change.hold(lease, action.at or change.now)


def _end(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    if lease is not None and lease.holding:
        change.revoke(lease, action.why)


def _forget(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    if lease is not None and lease.state == FREE:
        change.forget(lease)


def _retake(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    if lease is None or lease.state != FREE or _somebodys(change, lease.slots):
        return
    change.put(replace(lease, state=BOUND, bound_at=change.now, revoked=None))
    change.event("gpu.retaken", lease.user, lease=lease.id, why=action.why)


def _adopt(change: Change, action: Action) -> None:
    known = {slot.uuid for slot in change.board.slots}
    slots = tuple(uuid for uuid in action.slots if uuid in known)
    if change.lease(action.lease) is not None or not slots or _somebodys(change, slots):
        return
    lease = Lease(
        id=action.lease,
        uid=action.uid,
        user=action.user,
        state=BOUND,
        slots=slots,
        created=change.now,
        ask=Ask(len(slots)),
        container=action.container,
        container_name=action.container_name,
        bound_at=change.now,
    )
    change.put(lease)
    change.event(
        "gpu.adopted", action.user or None, lease=lease.id, uuids=list(slots), why=action.why
    )
    if action.state == HELD:
        change.hold(lease, change.now)


def _stale(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    if lease is not None and not lease.stale:
        change.put(replace(lease, stale=True))
        change.event(
            "gpu.stale", lease.user, lease=lease.id, uuids=list(lease.slots), why=action.why
        )


def _unstale(change: Change, action: Action) -> None:
    lease = change.lease(action.lease)
    if lease is not None and lease.stale:
        change.put(replace(lease, stale=False))
        change.event("gpu.unstale", lease.user, lease=lease.id, uuids=list(lease.slots))


def _block(change: Change, action: Action) -> None:
    block = action.block
    if block is None:
        return
    if not any((b.slot, b.why) == (block.slot, block.why) for b in change.board.blocks):
        change.event("gpu.foreign_use", None, slot=block.slot, what=block.text)
    change.put_block(block)


def _lift(change: Change, action: Action) -> None:
    if action.block is not None:
        change.drop_block(action.block)
        change.event("gpu.foreign_use_ended", None, slot=action.block.slot)


_HANDLERS: dict[str, Callable[[Change, Action], None]] = {
    BIND: _bind,
    HOLD: _hold,
    END: _end,
    FORGET: _forget,
    RETAKE: _retake,
    ADOPT: _adopt,
    STALE: _stale,
    UNSTALE: _unstale,
    BLOCK: _block,
    LIFT: _lift,
}


def _somebodys(change: Change, slots: Sequence[str]) -> bool:
    taken = {uuid for lease in change.board.leases for uuid in lease.slots}
    return bool(taken & set(slots))


def _tell(change: Change, reports: Sequence[Action]) -> None:
    """An event for each thing that is new; what goes on is not told again."""
    told = set(json.loads(rows.meta(change.connection, "told") or "[]"))
    keys = {f"{r.kind} {r.lease} {r.container} {' '.join(r.slots)}": r for r in reports}
    for key, report in sorted(keys.items()):
        if key not in told:
            change.event(
                f"gpu.{report.kind}",
                report.user or None,
                lease=report.lease,
                container=report.container_name or report.container[:12],
                uuids=list(report.slots),
                why=report.why,
                **{k: v for k, v in report.details.items() if k not in ("lease", "why")},
            )
    if set(keys) != told:
        rows.put_meta(change.connection, "told", json.dumps(sorted(keys)))
