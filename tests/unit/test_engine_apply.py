# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which an engine is brought to new settings, and what happens when it does not come up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from ds01.core import engine_apply
from ds01.core.engine_apply import Apply, ContainersLostError, EngineApplyError
from ds01.core.engine_config import Json, Plan, make_plan
from ds01.core.engine_preflight import EngineFacts, RunningContainer
from ds01.core.engine_settings import EngineOptions, wanted_settings

ALICE = RunningContainer("a" * 64, "alice-train", 100)
BOB = RunningContainer("b" * 64, "bob-notebook", 200)
WANTED = wanted_settings(EngineOptions())


@dataclass
class Host:
    """A host with an engine: takes live-restore on a reload, and loses containers without it.

    :param deaf: a reload changes nothing, as with a file that the engine refuses.
    :param broken: the engine does not start with any file but the old one.
    """

    config: str | None = None
    record: str | None = None
    up: bool = True
    live: bool = False
    deaf: bool = False
    broken: bool = False
    killed_by_restart: bool = False
    containers: list[RunningContainer] = field(default_factory=lambda: [ALICE, BOB])
    log: list[str] = field(default_factory=list)
    records: list[Json] = field(default_factory=list)
    old: str | None = None

    def __post_init__(self) -> None:
        self.old = self.config

    # Files
    def write_config(self, text: str) -> str | None:
        self.log.append("write")
        self.config = text
        return "/etc/docker/daemon.json.bak" if self.old is not None else None

    def write_record(self, text: str) -> None:
        self.record = text
        self.records.append(json.loads(text))

    def restore(self, config: str | None, record: str | None) -> None:
        self.log.append("restore")
        self.config, self.record = config, record

    # Service
    def enable(self) -> bool:
        self.log.append("enable")
        return True

    def active(self) -> bool:
        return self.up

    def start(self) -> bool:
        self.log.append("start")
        self.up = not self.broken or self.config == self.old
        return self.up

    def reload(self) -> bool:
        self.log.append("reload")
        if not self.deaf:
            self.live = bool(json.loads(self.config or "{}").get("live-restore"))
        return True

    def restart(self) -> bool:
        self.log.append("restart")
        if not self.live or self.killed_by_restart:
            self.containers.clear()
        self.live = True
        self.up = not self.broken or self.config == self.old
        return self.up

    def journal(self) -> str:
        return "failed to start daemon: no such thing"

    # Engine
    def live_restore(self) -> bool | None:
        return self.live if self.up else None

    def running(self) -> Sequence[RunningContainer]:
        return list(self.containers)

    def facts(self) -> EngineFacts:
        return EngineFacts(
            version="26.1.5",
            active=self.up,
            cgroup_driver="systemd",
            live_restore=self.live,
            containers=tuple(self.containers),
        )


def plan_for(host: Host, wanted: Json = WANTED) -> Plan:
    return make_plan(host.config, host.record, wanted, ("/etc/docker/daemon.json", "engine.json"))


def run(host: Host, wanted: Json = WANTED, enabled: bool = True) -> engine_apply.Applied:
    ticks = iter(range(100_000))
    apply = Apply(host, host, host, clock=lambda: float(next(ticks)), sleep=lambda _: None)
    return apply.run(plan_for(host, wanted), host.facts(), enabled)


def test_the_engine_is_reloaded_before_it_is_restarted_and_keeps_its_containers() -> None:
    host = Host(config='{"debug": true}')
    applied = run(host)
    assert host.log == ["write", "reload", "restart"]
    assert applied.actions == ("write", "record", "reload", "restart")
    assert applied.backup == "/etc/docker/daemon.json.bak"
    assert host.containers == [ALICE, BOB]


def test_until_the_restart_is_done_the_record_says_that_it_is_due() -> None:
    host = Host()
    run(host)
    assert "cgroup-parent" in host.records[0]["pending_restart"]
    assert host.records[-1]["pending_restart"] == []


def test_a_second_run_touches_nothing() -> None:
    host = Host()
    run(host)
    host.log.clear()
    host.records.clear()
    assert run(host).actions == ()
    assert host.log == []
    assert host.records == []


def test_what_a_reload_applies_needs_no_restart() -> None:
    host = Host()
    run(host)
    host.log.clear()
    applied = run(host, {**WANTED, "shutdown-timeout": 60})
    assert applied.actions == ("write", "record", "reload")
    assert host.log == ["write", "reload"]


def test_a_stopped_engine_is_started_and_enabled() -> None:
    host = Host(up=False, containers=[])
    assert run(host, enabled=False).actions == ("write", "record", "start", "enable")
    assert host.records == [json.loads(host.record or "")]
    assert host.records[0]["pending_restart"] == []


def test_without_live_restore_nothing_is_restarted_and_the_old_file_is_back() -> None:
    host = Host(config='{"debug": true}', deaf=True)
    with pytest.raises(EngineApplyError) as error:
        run(host)
    assert host.log == ["write", "reload", "restore", "reload"]
    assert host.config == '{"debug": true}'
    assert host.record is None
    assert host.containers == [ALICE, BOB]
    assert "alice-train" in str(error.value)
    assert "failed to start daemon" in str(error.value)


def test_an_idle_engine_that_ignores_a_reload_is_restarted() -> None:
    host = Host(deaf=True, containers=[])
    assert run(host).actions[-1] == "restart"


def test_a_container_that_appeared_meanwhile_is_safe_from_the_restart() -> None:
    host = Host(deaf=True, containers=[])
    plan, facts = plan_for(host), host.facts()
    host.containers.append(ALICE)
    ticks = iter(range(100_000))
    apply = Apply(host, host, host, clock=lambda: float(next(ticks)), sleep=lambda _: None)
    with pytest.raises(EngineApplyError, match="live-restore is not in effect"):
        apply.run(plan, facts, enabled=True)
    assert host.containers == [ALICE]


def test_an_engine_that_does_not_come_up_gets_its_old_file_back() -> None:
    host = Host(config='{"debug": true}', broken=True)
    with pytest.raises(EngineApplyError) as error:
        run(host)
    assert host.log == ["write", "reload", "restart", "restore", "start"]
    assert host.up
    assert host.config == '{"debug": true}'
    assert host.record is None
    assert "did not come up after its restart" in str(error.value)
    assert "its log ends with:\nfailed to start daemon: no such thing" in str(error.value)


def test_a_first_start_that_fails_leaves_no_file_behind() -> None:
    host = Host(up=False, broken=True, containers=[])
    with pytest.raises(EngineApplyError, match="did not start"):
        run(host)
    assert host.config is None
    assert host.record is None


def test_any_fault_on_the_way_puts_the_old_file_back() -> None:
    class Silent(Host):
        def running(self) -> Sequence[RunningContainer]:
            raise TimeoutError("the engine does not answer")

    host = Silent(config="{}")
    with pytest.raises(TimeoutError):
        run(host)
    assert host.config == "{}"


def test_a_restart_that_was_broken_off_is_made_up_for() -> None:
    host = Host()
    run(host)
    broken_off = json.loads(host.record or "")
    broken_off["pending_restart"] = ["cgroup-parent"]
    host.record = json.dumps(broken_off)
    host.log.clear()
    assert run(host).actions == ("record", "restart")
    assert json.loads(host.record)["pending_restart"] == []


def test_live_restore_that_the_engine_lost_is_put_into_effect_again() -> None:
    host = Host()
    run(host)
    host.live = False
    assert run(host).actions == ("reload",)
    assert host.live


def test_lost_containers_are_named_and_the_settings_stay() -> None:
    host = Host(killed_by_restart=True)
    with pytest.raises(ContainersLostError) as error:
        run(host)
    assert "alice-train (aaaaaaaaaaaa), bob-notebook (bbbbbbbbbbbb)" in str(error.value)
    assert "restore" not in host.log
    assert json.loads(host.record or "")["pending_restart"] == []
