# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true before anything on the engine's host changes.

Pure: facts and plan in, refusals out. Every refusal names the running containers or the file that it
is about, because the admin who reads it has to talk to somebody or open something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .engine_config import Difference, EngineConfigError, Plan, dotted
from .engine_flags import conflicts, parse_flags
from .errors import Problem

MINIMUM = (26, 0)
SYSTEMD_DRIVER = "systemd"

#: Keys that take the running containers away from the engine, or their files, when they change.
_UNSAFE_UNDER_CONTAINERS = frozenset(
    {
        "bip",
        "bridge",
        "containerd",
        "containerd-namespace",
        "data-root",
        "exec-root",
        "fixed-cidr",
        "storage-driver",
        "storage-opts",
        "userns-remap",
    }
)
_UNSAFE_FEATURES = frozenset({"containerd-snapshotter"})
_NAMES_SHOWN = 20


@dataclass(frozen=True)
class RunningContainer:
    """A container that runs now.

    :param pid: of its first process, 0 where the engine that knows it is down.
    :param cgroup_parent: as the container was created with, empty for the engine's default.
    """

    id: str
    name: str
    pid: int = 0
    cgroup_parent: str = ""
    sockets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:12]})"


@dataclass(frozen=True)
class EngineFacts:
    """The engine as it is.

    :param version: of the installed dockerd, None where there is none.
    :param active: whether docker.service runs.
    :param cgroup_driver: what the running engine uses; None while it is down.
    :param argv: dockerd's arguments in the unit, variables replaced, without the program.
    :param unit_files: the unit, its drop-ins and environment files: where a flag may come from.
    :param candidates: package → version that an installation would bring; None where apt knows none.
    :param missing_packages: those of the wanted packages that are not installed.
    :param engine_package: the installed package that owns dockerd, None where no package does.
    :param bridge_binding: where docker0 publishes ports now; None where there is no docker0.
    """

    version: str | None = None
    active: bool = False
    cgroup_driver: str | None = None
    live_restore: bool = False
    swarm: str = "inactive"
    containers: tuple[RunningContainer, ...] = ()
    argv: tuple[str, ...] = ()
    unit_files: tuple[str, ...] = ()
    candidates: Mapping[str, str | None] = field(default_factory=dict)
    missing_packages: tuple[str, ...] = ()
    engine_package: str | None = None
    bridge_binding: str | None = None


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor of an engine or package version (``26.1.5+dfsg1``, ``5:28.0.4-1~debian.13``).

    :raises EngineConfigError: the text starts with no number.
    """
    match = re.match(r"(?:\d+:)?v?(\d+)(?:\.(\d+))?", text.strip())
    if not match:
        raise EngineConfigError(f"'{text}' is not a version", "docker", "look at dockerd --version")
    return int(match[1]), int(match[2] or 0)


def names(containers: Sequence[RunningContainer]) -> str:
    shown = ", ".join(str(container) for container in containers[:_NAMES_SHOWN])
    rest = len(containers) - _NAMES_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _error(what: str, where: str, remedy: str) -> Problem:
    return Problem("error", what, where, remedy)


_SOURCE_REMEDY = (
    "give the site's package source in docker_engine_package_source and its package names in "
    "docker_engine_packages"
)


def _too_old(version: str) -> str | None:
    if parse_version(version) >= MINIMUM:
        return None
    return f"Docker {version} is older than {MINIMUM[0]}.{MINIMUM[1]}, the first one with CDI"


def check_packages(facts: EngineFacts, packages: Sequence[str]) -> list[Problem]:
    """Refuse an engine that is too old, and an installation that would replace the present engine.

    :param packages: wanted packages; the first one is the engine itself.
    """
    if facts.version is not None:
        if old := _too_old(facts.version):
            return [
                _error(
                    old,
                    "dockerd",
                    f"upgrade the engine in a maintenance window, or {_SOURCE_REMEDY}",
                )
            ]
        if packages and facts.engine_package not in packages:
            origin = facts.engine_package or "no package"
            return [
                _error(
                    f"the engine comes from {origin}, and installing {packages[0]} would replace it",
                    "docker_engine_packages",
                    "name the package that it comes from and its companions there, "
                    "or leave the list empty",
                )
            ]
        return []
    if not packages:
        return [
            _error(
                "no engine is installed and no package is named",
                "docker_engine_packages",
                "name one",
            )
        ]
    candidate = facts.candidates.get(packages[0])
    if candidate and (old := _too_old(candidate)):
        return [_error(old, f"package {packages[0]}", _SOURCE_REMEDY)]
    return []


def check_flags(facts: EngineFacts, plan: Plan, path: str) -> list[Problem]:
    """Refuse flags in the unit that dockerd would not accept beside the new file."""
    flags = parse_flags(facts.argv)
    where = ", ".join(facts.unit_files) or "docker.service"
    problems = [
        _error(
            f"the flag '{flag.text}' sets '{flag.key}', which {path} sets too; dockerd refuses to start so",
            where,
            "take the flag out of the unit; a setting that has to stay goes into docker_engine_settings",
        )
        for flag in conflicts(flags, plan.after)
    ]
    for flag in flags:
        if flag.key == "config-file" and flag.value != path:
            problems.append(
                _error(
                    f"the engine reads {flag.value}, not {path}",
                    where,
                    "move that file's content there and take the flag out of the unit",
                )
            )
    return problems


def _unsafe(change: Difference) -> bool:
    key = change.path[0]
    if key == "features":
        return len(change.path) > 1 and change.path[1] in _UNSAFE_FEATURES
    return key in _UNSAFE_UNDER_CONTAINERS


def _driver(entries: object) -> str | None:
    for entry in entries if isinstance(entries, list) else []:
        name, _unused, value = str(entry).partition("=")
        if name == "native.cgroupdriver":
            return value
    return None


def check_running(
    facts: EngineFacts, plan: Plan, before: Mapping[str, object], path: str
) -> list[Problem]:
    """Refuse what would cost a running container its life or the engine its hold on it.

    :param before: daemon.json as it is; tells the driver of an engine that is down.
    """
    if facts.swarm not in ("", "inactive"):
        return [
            _error(
                f"swarm mode is {facts.swarm}, and the engine cannot keep containers through a restart in "
                "swarm mode (live-restore)",
                "docker info: Swarm",
                "leave the swarm (docker swarm leave) before this host is managed",
            )
        ]
    if not facts.containers:
        return []
    problems = []
    present = facts.cgroup_driver or _driver(before.get("exec-opts")) or SYSTEMD_DRIVER
    if present != SYSTEMD_DRIVER:
        problems.append(
            _error(
                f"the engine uses the cgroup driver {present} and containers run: {names(facts.containers)}. "
                "Switching it now would make the engine lose them",
                f"{path}: exec-opts",
                "stop these containers in a maintenance window and run again",
            )
        )
    unsafe = [dotted(change.path) for change in plan.changes if _unsafe(change)]
    if unsafe:
        problems.append(
            _error(
                f"{', '.join(unsafe)} cannot change while containers run: {names(facts.containers)}",
                path,
                "stop these containers in a maintenance window and run again, or leave the setting as it is",
            )
        )
    return problems


def check(
    facts: EngineFacts, plan: Plan, before: Mapping[str, object], packages: Sequence[str], path: str
) -> list[Problem]:
    """Every reason not to touch this host's engine; empty where there is none."""
    return [
        *check_packages(facts, packages),
        *check_flags(facts, plan, path),
        *check_running(facts, plan, before, path),
    ]


def _bridge_differs(facts: EngineFacts, plan: Plan) -> bool:
    wanted = str(plan.after.get("ip", "0.0.0.0"))
    return facts.active and facts.bridge_binding not in (None, wanted)


def with_engine(plan: Plan, facts: EngineFacts) -> Plan:
    """Add to the plan what the file says already and the running engine does not do yet."""
    behind = list(plan.restart_for)
    if facts.active and facts.cgroup_driver not in (None, SYSTEMD_DRIVER):
        behind.append("exec-opts.native.cgroupdriver")
    if _bridge_differs(facts, plan) and not facts.containers:
        behind.append("ip")
    return replace(plan, restart_for=tuple(dict.fromkeys(behind)))


def notices(facts: EngineFacts, plan: Plan) -> list[str]:
    """What the admin should know although the run goes on."""
    if not (_bridge_differs(facts, plan) and facts.containers):
        return []
    wanted = plan.after.get("ip", "0.0.0.0")
    return [
        f"docker0 publishes ports on {facts.bridge_binding}, not yet on {wanted}: dockerd leaves "
        "the default bridge alone while containers run. It changes at the first engine start "
        "without any; networks created from now on use the new address"
    ]
