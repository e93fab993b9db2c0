# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine is taken over with its containers running, and refuses what would cost them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from engine_lab import CONFIG, RECORD, EngineLab
from labhost.guest import Lab

NO_SUCH_DEVICE = "No such device or address"  # The device filter let it through; no GPU answers.
REFUSED = "Operation not permitted"  # The device filter did not.


@pytest.fixture(scope="module")
def engine(lab: Lab) -> Iterator[EngineLab]:
    """The host's engine; the last test leaves it as the first one found it."""
    found = EngineLab(lab)
    yield found
    found.put_back()


@pytest.fixture(autouse=True)
def no_leftovers(engine: EngineLab) -> Iterator[None]:
    yield
    engine.remove_containers()


def test_site_yml_made_the_engine_what_the_role_says(engine: EngineLab) -> None:
    assert engine.info("CgroupDriver") == '"systemd"'
    assert engine.info("LiveRestoreEnabled") == "true"
    assert engine.info("CDISpecDirs") == '["/etc/cdi","/var/run/cdi"]'
    assert engine.info("LoggingDriver") == '"json-file"'
    engine.lab.run(f"dockerd --validate --config-file {CONFIG} && systemctl is-enabled docker")
    record = json.loads(engine.lab.run(f"cat {RECORD}", as_user="alice").stdout)
    assert record["_managed"].startswith("Managed by ds01.infra")
    assert record["pending_restart"] == []
    assert engine.daemon_json().items() >= record["applied"].items()


def test_a_container_that_names_no_slice_and_its_ports_stay_inside(engine: EngineLab) -> None:
    engine.lab.run("docker network create engine-lab")
    try:
        pid = engine.start("plain", "-p", "18080:80")
        engine.start("compose-like", "-p", "18081:80", "--network", "engine-lab")
        ports = engine.lab.run("docker port plain; docker port compose-like").stdout.split("\n")
        assert ports == ["80/tcp -> 127.0.0.1:18080", "80/tcp -> 127.0.0.1:18081", ""]
        cgroup = engine.read(f"/proc/{pid}/cgroup")
        assert cgroup.startswith("0::/ds01.slice/ds01-unattributed.slice/docker-")
    finally:
        engine.remove_containers()
        engine.lab.run("docker network rm engine-lab")


def test_a_broken_daemon_json_is_refused_and_left_alone(engine: EngineLab) -> None:
    good = engine.read(CONFIG)
    try:
        engine.write(CONFIG, '{\n  "debug": tru\n}')
        refused = engine.configure()
        assert f"{CONFIG}:2:12: not valid JSON" in refused["msg"]
        assert "nothing was changed" in refused["msg"]
        assert engine.read(CONFIG) == '{\n  "debug": tru\n}'
    finally:
        engine.write(CONFIG, good)


def test_a_flag_in_the_units_environment_is_named_before_anything_changes(
    engine: EngineLab,
) -> None:
    before = engine.read(CONFIG)
    try:
        engine.write("/etc/default/docker", 'DOCKER_OPTS="--exec-opt native.cgroupdriver=cgroupfs"')
        refused = engine.configure(log_max_file=7)
        assert (
            "the flag '--exec-opt native.cgroupdriver=cgroupfs' sets 'exec-opts'" in refused["msg"]
        )
        assert "/etc/default/docker" in refused["msg"]
        assert engine.read(CONFIG) == before
    finally:
        engine.lab.run("rm /etc/default/docker")


def test_settings_that_dockerd_does_not_know_never_reach_the_file(engine: EngineLab) -> None:
    before = engine.read(CONFIG)
    refused = engine.configure(settings={"no-such-key": 1})
    assert "dockerd refuses the new content" in refused["msg"]
    assert "no-such-key" in refused["msg"]
    assert engine.read(CONFIG) == before


def test_an_engine_that_does_not_start_gets_its_old_file_back(engine: EngineLab) -> None:
    before = engine.read(CONFIG), engine.read(RECORD)
    pid = engine.start("survivor")
    # An address that this host does not have: valid to read, impossible to listen on.
    refused = engine.configure(settings={"metrics-addr": "203.0.113.1:9"})
    assert "did not come up after its restart" in refused["msg"]
    assert "203.0.113.1:9: bind: cannot assign requested address" in refused["msg"]
    assert (engine.read(CONFIG), engine.read(RECORD)) == before
    assert engine.pid("survivor") == pid
    assert engine.open_node("survivor", "/dev/null") == ""


def test_an_injected_gpu_outlives_what_systemd_does_and_nobody_gains_one(
    engine: EngineLab,
) -> None:
    engine.start("training")
    engine.inject_gpu("training")
    # Has the node mounted, but never the permission.
    engine.start("hopeful", "-v", "/dev/nvidia1:/dev/nvidia1")
    assert engine.open_node("training", "/dev/nvidia0").endswith(NO_SUCH_DEVICE)

    stopped = engine.module("ds01_gpu_guard", policy="stop")
    assert "training (" in stopped["msg"]
    assert "hopeful" not in stopped["msg"]
    (protected,) = engine.module("ds01_gpu_guard")["protected"]
    assert protected["nodes"] == ["/dev/nvidia0", "/dev/nvidiactl"]
    # Started after the guard: shows what happens without it.
    engine.start("unguarded")
    engine.inject_gpu("unguarded")
    assert engine.open_node("unguarded", "/dev/nvidia0").endswith(NO_SUCH_DEVICE)

    # systemd 257 installs its own device filter again when a scope is touched, older ones on a
    # mere reload.
    engine.lab.run(
        "systemctl daemon-reload && docker update --pids-limit 500 training unguarded hopeful"
    )
    assert engine.open_node("training", "/dev/nvidia0").endswith(NO_SUCH_DEVICE)
    assert engine.open_node("training", "/dev/nvidiactl").endswith(NO_SUCH_DEVICE)
    assert engine.open_node("training", "/dev/made", "c 195 1").endswith(REFUSED)
    assert engine.open_node("hopeful", "/dev/nvidia1").endswith(REFUSED)
    assert engine.open_node("unguarded", "/dev/nvidia0").endswith(REFUSED)


def test_a_frozen_container_with_a_gpu_stops_the_guard(engine: EngineLab) -> None:
    engine.start("paused")
    engine.inject_gpu("paused")
    engine.lab.run("docker pause paused")
    stopped = engine.module("ds01_gpu_guard")
    assert "the kernel cannot be asked about them: paused (" in stopped["msg"]


def test_the_cgroup_driver_is_not_switched_under_a_running_container(engine: EngineLab) -> None:
    engine.by_hand(**{"exec-opts": ["native.cgroupdriver=cgroupfs"], "live-restore": True})
    pid = engine.start("old-timer", "--cgroup-parent", "/")
    refused = engine.configure()
    assert "uses the cgroup driver cgroupfs and containers run: old-timer (" in refused["msg"]
    assert engine.pid("old-timer") == pid
    assert engine.info("CgroupDriver") == '"cgroupfs"'


def test_an_engine_set_up_by_hand_is_taken_over_with_its_containers(engine: EngineLab) -> None:
    engine.by_hand(
        **{"registry-mirrors": ["https://mirror.example.org"], "log-opts": {"tag": "{{.Name}}"}}
    )
    assert engine.info("LiveRestoreEnabled") == "false"
    pids = {name: engine.start(name) for name in ("alices", "bobs")}
    first = engine.configure()
    assert first["actions"] == ["write", "record", "reload", "restart"]
    assert {name: engine.pid(name) for name in pids} == pids
    assert engine.info("LiveRestoreEnabled") == "true"
    after = engine.daemon_json()
    assert after["registry-mirrors"] == ["https://mirror.example.org"]
    assert after["log-opts"] == {"tag": "{{.Name}}", "max-size": "20m", "max-file": "5"}
    assert json.loads(engine.read(first["backup"]))["log-opts"] == {"tag": "{{.Name}}"}
    event = json.loads(engine.lab.run("tail -n 1 /var/log/ds01/events.jsonl").stdout)
    assert event["event_type"] == "engine.configured"
    assert "cgroup-parent" in event["details"]["changed_keys"]
    assert not engine.configure()["changed"]
