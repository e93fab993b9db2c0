# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stops a run before anything changes, and what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ds01.core import engine_preflight as preflight
from ds01.core.engine_config import EngineConfigError, Json, make_plan
from ds01.core.engine_flags import expand_arguments, parse_environment_file, parse_flags
from ds01.core.engine_preflight import EngineFacts, RunningContainer
from ds01.core.engine_settings import EngineOptions, wanted_settings

PATH = "/etc/docker/daemon.json"
PACKAGES = ["docker.io", "docker-cli"]
ALICE = RunningContainer("a" * 64, "alice-train", 100)
BOB = RunningContainer("b" * 64, "bob-notebook", 200)
HEALTHY = EngineFacts(
    version="26.1.5+dfsg1",
    active=True,
    cgroup_driver="systemd",
    live_restore=True,
    engine_package="docker.io",
    argv=("-H", "fd://", "--containerd=/run/containerd/containerd.sock"),
    unit_files=("/usr/lib/systemd/system/docker.service",),
    bridge_binding="127.0.0.1",
)


def refusals(facts: EngineFacts, before: Json | None = None, **options: Any) -> list[str]:
    present = before or {}
    wanted = wanted_settings(EngineOptions(**options))
    plan = make_plan(json.dumps(present), None, wanted, (PATH, "/etc/ds01/engine.json"))
    return [str(problem) for problem in preflight.check(facts, plan, present, PACKAGES, PATH)]


def test_a_healthy_engine_is_not_refused() -> None:
    assert refusals(replace(HEALTHY, containers=(ALICE, BOB))) == []


def test_a_host_without_an_engine_is_not_refused() -> None:
    assert refusals(EngineFacts(missing_packages=tuple(PACKAGES))) == []
    assert refusals(EngineFacts(candidates={"docker.io": "26.1.5+dfsg1-9"})) == []


def test_an_old_engine_is_refused() -> None:
    (message,) = refusals(replace(HEALTHY, version="20.10.24+dfsg1"))
    assert "Docker 20.10.24+dfsg1 is older than 26.0" in message
    assert "docker_engine_package_source" in message


def test_an_installation_that_would_bring_an_old_engine_is_refused() -> None:
    (message,) = refusals(EngineFacts(candidates={"docker.io": "20.10.24+dfsg1-1"}))
    assert message.startswith("package docker.io: Docker 20.10.24")


@pytest.mark.parametrize(("package", "origin"), [("docker-ce", "docker-ce"), (None, "no package")])
def test_another_engine_is_not_replaced_silently(package: str | None, origin: str) -> None:
    (message,) = refusals(replace(HEALTHY, engine_package=package))
    assert f"the engine comes from {origin}, and installing docker.io would replace it" in message
    assert message.startswith("docker_engine_packages:")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("26.1.5+dfsg1", (26, 1)),
        ("5:28.0.4-1~debian.13~trixie", (28, 0)),
        ("v29", (29, 0)),
        ("26.0.0-rc1", (26, 0)),
    ],
)
def test_versions_are_read_with_epoch_and_suffix(text: str, version: tuple[int, int]) -> None:
    assert preflight.parse_version(text) == version


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(EngineConfigError, match="'dev' is not a version"):
        preflight.parse_version("dev")


@pytest.mark.parametrize("driver", ["cgroupfs", "none"])
def test_the_cgroup_driver_is_never_switched_under_running_containers(driver: str) -> None:
    facts = replace(HEALTHY, cgroup_driver=driver, containers=(ALICE, BOB))
    (message,) = refusals(facts, {"exec-opts": [f"native.cgroupdriver={driver}"]})
    assert f"cgroup driver {driver}" in message
    assert "alice-train (aaaaaaaaaaaa), bob-notebook (bbbbbbbbbbbb)" in message


def test_the_cgroup_driver_of_a_stopped_engine_is_known_from_its_file() -> None:
    down = replace(HEALTHY, active=False, cgroup_driver=None, containers=(ALICE,))
    before = {"exec-opts": ["native.cgroupdriver=cgroupfs"]}
    assert "cgroup driver cgroupfs" in refusals(down, before)[0]
    assert refusals(down) == []


def test_the_cgroup_driver_is_switched_when_nothing_runs() -> None:
    assert refusals(replace(HEALTHY, cgroup_driver="cgroupfs")) == []


def test_containers_are_not_cut_off_from_their_data() -> None:
    facts = replace(HEALTHY, containers=(ALICE,))
    (message,) = refusals(facts, settings={"data-root": "/data/docker"})
    assert "data-root cannot change while containers run: alice-train" in message
    assert refusals(facts, {"data-root": "/data"}, settings={"data-root": "/data"}) == []
    (message,) = refusals(facts, settings={"features": {"containerd-snapshotter": True}})
    assert "features.containerd-snapshotter" in message


def test_swarm_mode_is_refused() -> None:
    (message,) = refusals(replace(HEALTHY, swarm="active"))
    assert "swarm mode is active" in message


def test_a_long_list_of_containers_is_cut() -> None:
    many = tuple(RunningContainer(f"{i:064d}", f"c{i}") for i in range(50))
    assert preflight.names(many).endswith("and 30 more")


@pytest.mark.parametrize(
    ("flag", "key"),
    [
        ("--exec-opt native.cgroupdriver=cgroupfs", "exec-opts"),
        ("--exec-opt=native.cgroupdriver=cgroupfs", "exec-opts"),
        ("--live-restore", "live-restore"),
        ("--live-restore=false", "live-restore"),
        ("--log-opt max-size=1m", "log-opts"),
        ("--cgroup-parent x.slice", "cgroup-parent"),
        ("--ip 0.0.0.0", "ip"),
        ("--default-address-pool base=10.0.0.0/8,size=24", "default-address-pools"),
        ("--feature cdi=true", "features"),
    ],
)
def test_a_flag_that_contradicts_the_file_is_named(flag: str, key: str) -> None:
    facts = replace(HEALTHY, argv=(*HEALTHY.argv, *flag.split()))
    (message,) = refusals(facts, address_pools=[{"base": "172.20.0.0/14", "size": 24}])
    assert f"the flag '{flag}' sets '{key}'" in message
    assert message.startswith("/usr/lib/systemd/system/docker.service:")


@pytest.mark.parametrize("flag", ["-Hfd://", "-H=fd://", "--host=fd://", "-H fd://"])
def test_a_foreign_hosts_key_beside_the_units_flag_is_named(flag: str) -> None:
    facts = replace(HEALTHY, argv=tuple(flag.split()))
    assert "'hosts'" in refusals(facts, {"hosts": ["tcp://127.0.0.1:2375"]})[0]


def test_another_configuration_file_is_named() -> None:
    (message,) = refusals(replace(HEALTHY, argv=("--config-file", "/etc/docker/other.json")))
    assert f"the engine reads /etc/docker/other.json, not {PATH}" in message
    assert refusals(replace(HEALTHY, argv=(f"--config-file={PATH}",))) == []


def test_what_dockerd_merges_is_no_conflict() -> None:
    argv = ("--add-runtime", "nvidia=/usr/bin/nvidia-container-runtime", "-D", "-l", "warn")
    assert refusals(replace(HEALTHY, argv=argv), {"runtimes": {"x": {"path": "/x"}}}) == []


def test_flags_are_read_as_dockerd_reads_them() -> None:
    flags = parse_flags(["-D", "--tls=false", "-g", "/data", "--", "--ip=1.2.3.4"])
    assert [(flag.key, flag.value) for flag in flags] == [
        ("debug", "true"),
        ("tls", "false"),
        ("data-root", "/data"),
    ]


def test_variables_of_the_unit_are_replaced() -> None:
    environment = parse_environment_file("# old\nDOCKER_OPTS=\"--ip 0.0.0.0 -D\"\nX='a b'\n\nbad\n")
    assert environment == {"DOCKER_OPTS": "--ip 0.0.0.0 -D", "X": "a b"}
    words = expand_arguments(["-H", "fd://", "$DOCKER_OPTS", "--label=${X}", "$NONE"], environment)
    assert words == ["-H", "fd://", "--ip", "0.0.0.0", "-D", "--label=a b"]


def test_the_default_bridge_is_reported_while_containers_hold_it() -> None:
    plan = make_plan(None, None, wanted_settings(EngineOptions()), (PATH, "r"))
    waiting = replace(HEALTHY, bridge_binding="0.0.0.0", containers=(ALICE,))
    (notice,) = preflight.notices(waiting, plan)
    assert "docker0 publishes ports on 0.0.0.0, not yet on 127.0.0.1" in notice
    assert preflight.notices(HEALTHY, plan) == []


def test_the_default_bridge_is_renewed_when_nothing_runs() -> None:
    first = make_plan(None, None, wanted_settings(EngineOptions()), (PATH, "r"))
    again = make_plan(
        first.after_text, first.record_text, wanted_settings(EngineOptions()), (PATH, "r")
    )
    stale = replace(HEALTHY, bridge_binding="0.0.0.0")
    assert preflight.with_engine(again, stale).restart_for == ("ip",)
    assert preflight.with_engine(again, replace(stale, containers=(ALICE,))).restart_for == ()
    assert preflight.with_engine(again, HEALTHY).restart_for == ()
