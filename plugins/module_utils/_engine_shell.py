# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wires the engine's adapters to the domain, for the modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from ._core.engine_flags import expand_arguments, parse_environment_file
from ._core.engine_preflight import EngineFacts, RunningContainer
from ._core.errors import Ds01Error, Problem
from ._core.events import EVENTS_PATH, Event, append
from ._host import engine_host
from ._host.engine import Container, Engine, EngineError, orphans
from ._host.gpuguard import scopes


class Module(Protocol):
    """What is used of AnsibleModule."""

    params: dict[str, Any]
    check_mode: bool

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn: ...


@dataclass(frozen=True)
class Host:
    """The engine's host as found.

    :param containers: details of the running containers; empty while the engine is down.
    """

    facts: EngineFacts
    service: engine_host.DockerService
    engine: Engine
    dockerd: str | None
    enabled: bool
    info: Mapping[str, Any]
    containers: tuple[Container, ...]


class DomainEngine:
    """The engine as :mod:`._core.engine_apply` wants to see it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def live_restore(self) -> bool | None:
        return self._engine.live_restore()

    def running(self) -> Sequence[RunningContainer]:
        return [to_domain(container) for container in self._engine.running()]


def to_domain(container: Container) -> RunningContainer:
    return RunningContainer(
        container.id, container.name, container.pid, container.cgroup_parent, container.sockets
    )


def _arguments(shown: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """dockerd's arguments with variables replaced, and the files they come from."""
    files = engine_host.environment_files(shown.get("EnvironmentFiles", ""))
    environment = dict(
        word.split("=", 1) for word in shown.get("Environment", "").split() if "=" in word
    )
    for path in files:
        environment.update(parse_environment_file(engine_host.read_text(path) or ""))
    words = engine_host.exec_start_words(shown.get("ExecStart", ""))
    unit = [shown.get("FragmentPath", ""), *shown.get("DropInPaths", "").split(), *files]
    return expand_arguments(words[1:], environment), [path for path in unit if path]


def _without_engine(dockerd: str | None) -> tuple[RunningContainer, ...]:
    """Containers that live on although their engine is down."""
    if dockerd is None:
        return ()
    pids = dict(scopes())
    return tuple(
        RunningContainer(container_id, container_id[:12], pids.get(container_id, 0))
        for container_id in orphans(engine_host.process_arguments())
    )


def look(run: engine_host.Runner, socket: str | None, packages: Sequence[str]) -> Host:
    """Read everything about the engine; starts nothing (its socket would, so it is asked last).

    :param packages: wanted packages; the first one is the engine itself.
    :raises EngineError: the engine runs and does not answer.
    :raises engine_host.HostError: dockerd does not tell its version, or a file cannot be read.
    """
    service = engine_host.DockerService(run)
    shown = service.show()
    active = shown.get("ActiveState") in ("active", "reloading")
    dockerd = engine_host.find_dockerd()
    engine = Engine(socket)
    apt = engine_host.Packages(run)
    arguments, unit_files = _arguments(shown)
    info: Mapping[str, Any] = engine.info() if active else {}
    containers = tuple(engine.running()) if active else ()
    facts = EngineFacts(
        version=engine_host.dockerd_version(run, dockerd) if dockerd else None,
        active=active,
        cgroup_driver=info.get("CgroupDriver"),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        swarm=str((info.get("Swarm") or {}).get("LocalNodeState") or "inactive"),
        containers=tuple(map(to_domain, containers)) if active else _without_engine(dockerd),
        argv=tuple(arguments),
        unit_files=tuple(unit_files),
        missing_packages=tuple(apt.missing(packages)),
        candidates=apt.candidates(packages[:1]) if dockerd is None else {},
        engine_package=apt.owner(dockerd) if dockerd and packages else None,
        bridge_binding=engine.bridge_binding() if active else None,
    )
    enabled = shown.get("UnitFileState") in ("enabled", "enabled-runtime", "static", "alias")
    return Host(facts, service, engine, dockerd, enabled, info, containers)


def record(event_type: str, source: str, details: Mapping[str, Any]) -> None:
    """Append an event to the host's event log."""
    append(EVENTS_PATH, Event(event_type, source, details=details))


def fail(module: Module, error: Exception, **result: Any) -> NoReturn:
    """One ``fail_json`` for the errors that know what, where and remedy."""
    module.fail_json(msg=str(error), **result)


def refuse(module: Module, problems: Sequence[Problem], **result: Any) -> NoReturn:
    """Stop with every refusal in the message, the first one first."""
    module.fail_json(
        msg="\n".join(str(problem) for problem in problems),
        refusals=[problem.as_dict() for problem in problems],
        **result,
    )


#: What a module turns into one ``fail_json``.
ERRORS = (Ds01Error, EngineError, engine_host.HostError)
