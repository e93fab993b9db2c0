# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door on a real host: taken over with containers running, restarted under callers, given back."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from gateway_lab import DOOR, DROP_IN, ENGINE, SERVICE, GatewayLab
from labhost.guest import Lab

BACK_SECONDS = 10.0  # Five times the budget of a restart; the figure itself is a benchmark's.
TAGS = ("--tags", "gateway")


@pytest.fixture(scope="module")
def gateway(lab: Lab) -> Iterator[GatewayLab]:
    """The host's door; the last test leaves it as site.yml made it."""
    found = GatewayLab(lab)
    yield found
    found.put_back()


def test_site_yml_put_the_door_before_the_engine(gateway: GatewayLab) -> None:
    assert gateway.door().splitlines() == [f"{DOOR} 660 root:docker", f"{ENGINE} 600 root:root"]
    assert gateway.lab.run("docker version -f '{{.Server.Version}}'", as_user="alice").stdout
    past = gateway.lab.run(f"docker -H unix://{ENGINE} ps", as_user="alice", check=False)
    assert past.rc != 0
    assert "permission denied" in past.stderr
    assert gateway.doctor() == {}


RESTARTS = f"""
sleep 2
systemctl kill -s KILL {SERVICE}
until systemctl is-active --quiet {SERVICE}; do sleep 0.2; done
begun=$(date +%s%N)
systemctl restart {SERVICE}
echo $(( ($(date +%s%N) - begun) / 1000000 ))
"""


def test_a_gateway_that_is_killed_is_back_before_a_caller_notices(gateway: GatewayLab) -> None:
    asking = gateway.knock()
    # What a start costs here by itself: an emulated guest on a busy machine needs seconds for it.
    start_seconds = int(gateway.lab.run(RESTARTS).stdout) / 1000
    knocked = gateway.knocked(asking)
    assert knocked.asked > 5
    # A request that was at the gateway when it died may have no answer: it is the caller's to repeat.
    assert len(knocked.failed) <= 2, knocked
    assert not any("refused" in what for what in knocked.failed)
    assert knocked.worst < BACK_SECONDS + 2 * start_seconds


def test_with_the_gateway_dead_root_gets_in_and_the_doctor_says_how(gateway: GatewayLab) -> None:
    gateway.lab.run("systemctl stop ds01-gateway.socket")
    try:
        found = gateway.doctor()
        assert "inactive" in found[SERVICE]["what"]
        assert f"DOCKER_HOST=unix://{ENGINE}" in found[DOOR]["remedy"]
        gateway.lab.run(f"DOCKER_HOST=unix://{ENGINE} docker ps")
    finally:
        again = gateway.move()
    assert again["actions"] == ["open", "serve"]
    assert gateway.doctor() == {}


def test_the_runtime_is_not_taken_away_from_behind_the_door(gateway: GatewayLab) -> None:
    refused = gateway.play("undo_runtime.yml", fails=True)
    assert "Run playbooks/undo_gateway.yml first" in refused
    assert gateway.lab.run("systemctl is-active ds01d.socket").stdout.strip() == "active"


def test_undo_and_take_over_with_running_containers_and_callers(gateway: GatewayLab) -> None:
    names = ("keeps", "has-socket")
    before = [gateway.start(names[0]), gateway.start(names[1], "-v", f"{DOOR}:/engine.sock")]

    assert "changed=2" in gateway.play("undo_gateway.yml")
    assert gateway.pids(*names) == before
    assert gateway.door().splitlines() == [f"{DOOR} 660 root:docker"]
    assert gateway.lab.run("docker ps -q", as_user="alice").stdout.split()
    units = gateway.lab.run(
        "ls /etc/systemd/system | grep -e ds01-gateway -e ds01-pump", check=False
    )
    assert units.stdout == ""
    assert "changed=0" in gateway.play("undo_gateway.yml")

    _a_run_that_was_killed(gateway.lab)
    asking = gateway.knock()
    told = gateway.play("site.yml", *TAGS)
    assert "has-socket" in told
    assert gateway.pids(*names) == before
    assert gateway.knocked(asking).asked > 20
    found = gateway.doctor()
    assert list(found) == ["container has-socket"]
    gateway.lab.run("docker restart -t 0 has-socket")
    assert gateway.doctor() == {}
    assert "changed=0" in gateway.play("site.yml", *TAGS)
    event = json.loads(gateway.lab.run("ds01 events --type gateway --json | tail -1").stdout)
    assert event["event_type"] == "gateway.adopted"


def _a_run_that_was_killed(lab: Lab) -> None:
    """As after a SIGKILL at the worst moment: systemd has dropped the socket, the engine still has it."""
    text = "[Socket]\\nListenStream=\\nListenStream=/run/ds01/engine.sock\\n"
    lab.run(f"mkdir -p $(dirname {DROP_IN}); printf '{text}' > {DROP_IN}; systemctl daemon-reload")


def test_a_door_that_does_not_serve_is_taken_back(gateway: GatewayLab) -> None:
    before = gateway.start("stays")
    gateway.move("plain")
    broken = f"/run/systemd/system/{SERVICE}.d"
    gateway.lab.run(
        f"mkdir -p {broken}; printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > {broken}/x.conf"
    )
    try:
        failed = gateway.move()
    finally:
        gateway.lab.run(f"rm -r {broken}; systemctl daemon-reload")
    assert "plain socket again" in failed["msg"]
    assert gateway.door().splitlines() == [f"{DOOR} 660 root:docker"]
    assert gateway.pids("stays") == [before]
    assert gateway.move()["changed"]
    assert gateway.pids("stays") == [before]
