# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a plan onto the host without losing a container.

The order is the point. A restart without live-restore kills every container, and live-restore takes
effect on a reload: so write, reload, look whether the engine really keeps its containers, and only
then restart, and only for keys that a reload does not apply. Whatever fails puts the old files back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from .engine_config import Plan
from .engine_preflight import EngineFacts, RunningContainer, names
from .errors import Ds01Error

RELOAD_SECONDS = 20.0
START_SECONDS = 120.0
_POLL_SECONDS = 0.25


class Files(Protocol):
    """Where the two files are kept."""

    def write_config(self, text: str) -> str | None:
        """Validate daemon.json and replace it in one step; returns the backup's path."""

    def write_record(self, text: str) -> None:
        """Replace engine.json in one step."""

    def restore(self, config: str | None, record: str | None) -> None:
        """Put both files back as they were; None means that there was none."""


class Service(Protocol):
    """docker.service. Each verb says whether it succeeded."""

    def enable(self) -> bool: ...

    def active(self) -> bool: ...

    def start(self) -> bool: ...

    def reload(self) -> bool: ...

    def restart(self) -> bool: ...

    def journal(self) -> str:
        """The last lines of the service's log."""


class Engine(Protocol):
    """The engine's API."""

    def live_restore(self) -> bool | None:
        """Whether live-restore is in effect; None while the engine does not answer."""

    def running(self) -> Sequence[RunningContainer]: ...


class EngineApplyError(Ds01Error):
    """The engine could not be brought to the wanted state; the old files are back."""


class ContainersLostError(Ds01Error):
    """The engine runs with the new settings, but containers ended while it restarted."""


@dataclass(frozen=True)
class Applied:
    """What was done: the actions in order, and where the old daemon.json is kept."""

    actions: tuple[str, ...] = ()
    backup: str | None = None


def actions(plan: Plan, facts: EngineFacts, enabled: bool) -> tuple[str, ...]:
    """What a run does, in order: ``write``, ``record``, ``reload``, ``restart``, ``start``, ``enable``.

    :param facts: the engine before anything is written.
    :param enabled: whether docker.service starts at boot already.
    """
    found = []
    if plan.writes_file:
        found.append("write")
    if plan.record_text != plan.record_before:
        found.append("record")
    if not facts.active:
        found.append("start")
    else:
        if plan.writes_file or not facts.live_restore:
            found.append("reload")
        if plan.restart_for:
            found.append("restart")
    if not enabled:
        found.append("enable")
    return tuple(found)


@dataclass
class Apply:
    """One run of a plan.

    :param daemon_json: path of daemon.json, for messages.
    :param clock: seconds, monotonic; with ``sleep`` it is replaced in unit tests.
    """

    files: Files
    service: Service
    engine: Engine
    daemon_json: str = "/etc/docker/daemon.json"
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, plan: Plan, facts: EngineFacts, enabled: bool) -> Applied:
        """Apply the plan; parameters as for :func:`actions`.

        :raises EngineApplyError: the engine did not take the settings and has its old file again.
        :raises ContainersLostError: it took them, but not all containers lived through the restart.
        """
        todo = actions(plan, facts, enabled)
        backup = self.files.write_config(plan.after_text) if "write" in todo else None
        lost: list[RunningContainer] = []
        try:
            self._record(plan, waiting="restart" in todo)
            if "start" in todo:
                self._require(self.service.start() and self._answers(), "did not start")
            if "reload" in todo:
                self._reload(facts)
            if "restart" in todo:
                lost = self._restart()
        except Exception:
            self._put_back(plan)
            raise
        if "restart" in todo:
            self._record(plan, waiting=False)
        if "enable" in todo and not self.service.enable():
            raise EngineApplyError(
                "docker.service could not be enabled",
                "docker.service",
                "see systemctl status docker",
            )
        if lost:
            raise ContainersLostError(
                f"containers ended while the engine restarted: {names(lost)}",
                "docker.service",
                f"start them again if they should run; the log ends with:\n{self.service.journal()}",
            )
        return Applied(todo, backup)

    def _record(self, plan: Plan, waiting: bool) -> None:
        """Until the engine runs with the file, the record says what it still waits for."""
        pending = plan.restart_for if waiting else ()
        text = replace(plan.record_after, pending=pending).render()
        if waiting or text != plan.record_before or plan.restart_for:
            self.files.write_record(text)

    def _reload(self, facts: EngineFacts) -> None:
        in_effect = self.service.reload() and self._wait(
            lambda: self.engine.live_restore() is True, RELOAD_SECONDS
        )
        if in_effect or not facts.containers:
            return
        raise EngineApplyError(
            "the engine did not take live-restore on a reload, so a restart would kill the running "
            f"containers: {names(facts.containers)}. It was not restarted and its old file is back",
            self.daemon_json,
            f"its log ends with:\n{self.service.journal()}",
        )

    def _restart(self) -> list[RunningContainer]:
        before = self.engine.running()
        if before and self.engine.live_restore() is not True:
            raise EngineApplyError(
                f"live-restore is not in effect and containers run: {names(before)}. "
                "The engine was not restarted and its old file is back",
                self.daemon_json,
                "see docker info and the log of docker.service",
            )
        up = self.service.restart() and self._answers()
        self._require(up, "did not come up after its restart")
        after = {container.id: container.pid for container in self.engine.running()}
        return [container for container in before if after.get(container.id) != container.pid]

    def _require(self, up: bool, what: str) -> None:
        if not up:
            raise EngineApplyError(
                f"the engine {what} with the new settings; its old file is back",
                self.daemon_json,
                f"its log ends with:\n{self.service.journal()}",
            )

    def _put_back(self, plan: Plan) -> None:
        """Old files, and an engine that runs with them."""
        self.files.restore(plan.before_text, plan.record_before)
        if self.service.active():
            self.service.reload()
        elif self.service.start():
            self._answers()

    def _answers(self) -> bool:
        return self._wait(lambda: self.engine.live_restore() is not None, START_SECONDS)

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = self.clock() + seconds
        while not condition():
            if self.clock() >= end:
                return False
            self.sleep(_POLL_SECONDS)
        return True
