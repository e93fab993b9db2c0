# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of owners, as the daemon's clients get it. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ds01.core.owner_origin import managed
from ds01.core.owner_words import clean, summary
from ds01.core.owners import CONTAINER, Record

_REASON_MAX = 200


def shown_id(record: Record) -> str:
    """An id as people see it: of a container 12 digits, as docker shows them."""
    if record.kind == CONTAINER:
        return record.id[:12]
    return record.id.removeprefix("sha256:")[:12] if record.id.startswith("sha256:") else record.id


def named(record: Record) -> dict[str, Any]:
    """Which thing it is."""
    return {
        "kind": record.kind,
        "id": record.id,
        "short_id": shown_id(record),
        "name": record.name,
    }


def candidate(record: Record) -> dict[str, Any]:
    """What tells a thing from others that could be meant."""
    owner = record.owner
    return {
        **named(record),
        "owner": owner.user if owner.known else None,
        "gone": record.gone,
    }


def short(record: Record) -> dict[str, Any]:
    """A row of a list. Leases are counted and not named: who knows one's id could use it."""
    owner, facts = record.owner, record.facts
    return {
        **candidate(record),
        "owner_uid": owner.uid,
        "method": owner.method,
        "confidence": owner.confidence,
        "contradictions": list(owner.contradictions),
        "incomplete": owner.incomplete,
        "state": record.state,
        "image": facts.image if facts else "",
        "interface": record.origin.interface,
        "type": record.origin.container_type,
        "managed": managed(record),
        "leases": len(facts.leases) if facts else 0,
        "parent": record.parent,
        "created": record.created,
    }


def whole(record: Record) -> dict[str, Any]:
    """All that there is to say."""
    origin, made, said = record.origin, record.made, record.set_by
    return {
        **short(record),
        "summary": summary(record.owner),
        "evidence": [asdict(one) for one in record.owner.evidence],
        "interface_words": origin.interface_words,
        "type_words": origin.type_words,
        "made": {**asdict(made), "agent": clean(made.agent)} if made else None,
        "set_by": {**asdict(said), "reason": clean(said.reason, _REASON_MAX)} if said else None,
        "updated": record.updated,
    }
