# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks look at: this host, or a fake of it in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ds01 import limits_source
from ds01.core.enforce import Outcome, Paths, look
from ds01.core.gather import Gathered, HostPort, IoSettings, gather
from ds01.core.limits import Limits

if TYPE_CHECKING:
    from ds01.doctor.gateway import GatewayFacts
    from ds01.doctor.gpu import GpuFacts
    from ds01.doctor.owners import OwnerFacts


@dataclass(frozen=True)
class Places:
    """Paths that the checks read, beside those of the limits."""

    release_root: str = "/opt/ds01"
    command: str = "/usr/local/bin/ds01"
    engine_record: str = "/etc/ds01/engine.json"
    logrotate: str = "/etc/logrotate.d/ds01"
    # Where systemd looks for drop-ins, by rising precedence (systemd.unit(5)).
    unit_dirs: tuple[str, ...] = (
        "/usr/lib/systemd/system",
        "/usr/local/lib/systemd/system",
        "/run/systemd/system",
        "/etc/systemd/system",
        "/run/systemd/system.control",
        "/etc/systemd/system.control",
    )


@dataclass
class Machine:
    """One host.

    :param host: cgroups, systemd, accounts, disks.
    :param engine_info: the engine's ``GET /info``; raises what ``engine_errors`` names.
    :param unit_state: ActiveState of a unit, as ``systemctl is-active`` says it.
    :param gpu: of GPU leases; None where they are not looked at. So with ``gateway``, the door, and with
        ``owners``.
    """

    host: HostPort
    engine_info: Callable[[], Mapping[str, Any]]
    unit_state: Callable[[str], str]
    now: datetime
    paths: Paths = field(default_factory=Paths)
    places: Places = field(default_factory=Places)
    engine_errors: tuple[type[Exception], ...] = ()
    gpu: GpuFacts | None = None
    gateway: GatewayFacts | None = None
    owners: OwnerFacts | None = None

    @cached_property
    def applied(self) -> tuple[Limits, IoSettings]:
        """The limits applied last.

        :raises Ds01Error: there are none, or they cannot be read.
        """
        return limits_source.applied(self.paths.limits)

    @cached_property
    def gathered(self) -> Gathered:
        """The applied limits with what the host says to them.

        :raises Ds01Error: as :attr:`applied`.
        """
        limits, io = self.applied
        return gather(limits, io, self.host, self.now)

    @cached_property
    def outcome(self) -> Outcome:
        """What an apply of the same limits would have to change.

        :raises Ds01Error: as :attr:`applied`, or a file with one of our names is not ours.
        """
        return look(self.gathered, self.applied[1], self.host, self.paths)


def this_machine() -> Machine:
    """The host that this runs on."""
    from ds01.doctor.gateway import this_host as this_door
    from ds01.doctor.gpu import this_host
    from ds01.doctor.owners import this_host as these_owners
    from ds01.host.engine import Engine, EngineError
    from ds01.host.host import Host
    from ds01.host.systemd import run_command

    def unit_state(unit: str) -> str:
        return run_command(["systemctl", "is-active", unit]).stdout.strip() or "unknown"

    return Machine(
        host=Host(),
        engine_info=lambda: Engine().info(),
        unit_state=unit_state,
        now=limits_source.now(),
        engine_errors=(EngineError,),
        gpu=this_host(),
        gateway=this_door(),
        owners=these_owners(),
    )
