# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases, what is asked for, and who may have how much. Data alone; decisions are in allot.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import Ds01Error
from .limits import Settings

RESERVED = "reserved"
BOUND = "bound"
HELD = "held"
FREE = "free"
"""An ended lease whose container still exists: it holds nothing, its name can be renewed."""

HOLDING = frozenset({RESERVED, BOUND, HELD})
"""States in which a lease's slots belong to nobody else."""

SPREAD = "spread"
PACK = "pack"

ANY = "any"
FULL = "full"
MIG = "mig"


@dataclass(frozen=True)
class Ask:
    """A request for GPUs, as it was made.

    :param count: slots.
    :param kind: :data:`ANY`, :data:`FULL`, :data:`MIG`, or a MIG profile such as ``2g.10gb``.
    :param devices: explicit slots by UUID or index; then count is their number.
    :param note: what it is for, in the asker's words; shown in lists.
    :param name: the asker's own name for the request, by which he finds its lease again.
    """

    count: int = 1
    kind: str = ANY
    devices: tuple[str, ...] = ()
    note: str = ""
    name: str = ""


@dataclass(frozen=True)
class Allowance:
    """What one user may lease, from the effective limits.

    :param max_gpu_equivalents: None is unlimited, as with the other counts.
    :param hold: seconds that a stopped container keeps its GPU; None: for ever.
    :param wait: seconds that a request waits; None: for ever.
    :param max_runtime: seconds after which a container is stopped; None: never. For estimates.
    :param origins: where each limit comes from, by key: ``groups.student.… (limits.yml:12)``.
    """

    uid: int
    user: str
    group: str = ""
    max_gpus_per_container: int | None = None
    max_mig_instances: int | None = None
    max_gpu_equivalents: float | None = None
    allow_full_gpu: bool = False
    priority: int = 10
    hold: float | None = 900.0
    wait: float | None = 1800.0
    max_runtime: float | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def allowance(uid: int, user: str, group: str, settings: Settings) -> Allowance:
    """A user's allowance from the effective limits (:func:`.limits.of_user`)."""
    value = {key: setting.value for key, setting in settings.items()}
    return Allowance(
        uid=uid,
        user=user,
        group=group,
        max_gpus_per_container=value["max_gpus_per_container"],
        max_mig_instances=value["max_mig_instances"],
        max_gpu_equivalents=value["max_gpu_equivalents"],
        allow_full_gpu=value["allow_full_gpu"],
        priority=value["priority"],
        hold=value["gpu_hold_after_stop"],
        wait=value["gpu_wait_timeout"],
        max_runtime=value["max_runtime"],
        origins={
            key: settings[key].origin
            for key in (
                "max_gpus_per_container",
                "max_mig_instances",
                "max_gpu_equivalents",
                "allow_full_gpu",
                "priority",
                "gpu_hold_after_stop",
                "gpu_wait_timeout",
            )
        },
    )


@dataclass(frozen=True)
class Lease:
    """A lease. Times are seconds of the book's clock (:mod:`.book_clock`), not of the wall.

    :param id: its name in the CDI device ``ds01.local/lease=<id>``; unguessable.
    :param slots: UUIDs, in the order of their indices.
    :param container: id of the container it is bound to; empty while reserved.
    :param expires: when a reservation that nobody binds ends.
    :param hold_until: when a held lease ends; None while not held, or for ever.
    :param hold: seconds of hold after a stop, None for ever; as allowed when it was granted.
    :param revoked: when its file was removed on the way to free; None otherwise.
    :param stale: a slot of it is lost or gone: no start, and never another slot in its place.
    """

    id: str
    uid: int
    user: str
    state: str
    slots: tuple[str, ...]
    created: float
    ask: Ask = field(default_factory=Ask)
    container: str = ""
    container_name: str = ""
    bound_at: float | None = None
    held_at: float | None = None
    expires: float | None = None
    hold_until: float | None = None
    hold: float | None = 900.0
    max_runtime: float | None = None
    revoked: float | None = None
    stale: bool = False

    @property
    def holding(self) -> bool:
        """Whether its slots are taken."""
        return self.state in HOLDING


@dataclass(frozen=True)
class Waiter:
    """A request in the queue.

    :param ticket: unguessable; the lease that comes of it has the same id.
    :param seen: when the one who waits was last there.
    :param deadline: when it is given up; None: never.
    :param lease: id of a lease to renew with the slots; empty for a new one.
    """

    ticket: str
    asked: float
    seen: float
    deadline: float | None
    ask: Ask
    allowance: Allowance
    lease: str = ""


@dataclass(frozen=True)
class Block:
    """Why a slot is not handed out although nobody leases it.

    :param why: ``drained`` or ``foreign`` (in use without a lease).
    :param text: the admin's message, or what is known of the process or container.
    :param by: who drained it; empty for foreign use.
    """

    slot: str
    why: str
    text: str
    by: str = ""
    since: float = 0.0


class Refused(Ds01Error):
    """A request that no waiting can fulfil.

    :param rule: the limit or rule that says so: a key of the limits, or ``devices``, ``slots``,
        ``count``, ``stale``, ``driver``, ``owner``.
    """

    def __init__(self, rule: str, what: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.rule = rule

    def as_dict(self) -> dict[str, str]:
        """The parts, for ``--json``."""
        return {**super().as_dict(), "rule": self.rule}
