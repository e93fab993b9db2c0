# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flows through the door: it outlives the gateway and the pump, and costs no memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from door_lab import DOOR_NAME, IMAGE, DoorLab, Terminals, until
from labhost.guest import Lab

GATEWAY = "ds01-gateway.service"
PUMP = "ds01-pump.service"
# What kills or replaces the services under open streams; a stop of the pump is none of these.
BLOWS = (
    f"systemctl restart {GATEWAY}",
    f"systemctl kill -s KILL {GATEWAY}",
    f"systemctl restart {PUMP}",
    f"systemctl kill -s KILL {PUMP}",
)
MEGABYTE = 1 << 20
LARGE_MB = 256
# What a process may grow while hundreds of megabytes pass: far less than a buffer of them.
GROWTH_MB = 24


@pytest.fixture(scope="module")
def door(lab: Lab) -> Iterator[DoorLab]:
    """The door that site.yml made, with the image at hand."""
    found = DoorLab(lab)
    found.prepare()
    found.sweep()
    yield found
    lab.run(f"rm -f /var/tmp/{DOOR_NAME}-*")
    found.sweep()


def _blow(door: DoorLab, command: str) -> None:
    """Strike and wait until the service that was struck runs again, as another process."""
    unit = command.split()[-1]
    before = door.pid(unit)
    assert before
    door.lab.run(command)
    until(lambda: door.pid(unit) not in (0, before), 30, f"{unit} runs again")


def test_open_streams_outlive_gateway_and_pump(door: DoorLab) -> None:
    script = "echo up; while read x; do [ $x = end ] && exit 8; echo heard $x; done"
    with Terminals(door, "alice") as screen:
        screen.start(
            "run",
            f"docker run -i --network none --name {DOOR_NAME}-r {IMAGE} sh -c '{script}'",
            False,
        )
        screen.expect("run", "up")
        screen.start("exec", f"docker exec -it {DOOR_NAME}-r sh")
        screen.expect("exec", "# ")
        screen.start("logs", f"docker logs -f {DOOR_NAME}-r", False)
        screen.expect("logs", "up")
        screen.start(
            "events", f"docker events --filter container={DOOR_NAME}-r --filter event=die", False
        )
        screen.start("wait", f"docker wait {DOOR_NAME}-r", False)
        for number, command in enumerate(BLOWS):
            _blow(door, command)
            screen.send("run", f"{number}\n")
            screen.expect("run", f"heard {number}")
            screen.expect("logs", f"heard {number}")
            screen.send("exec", f"echo said-$(({number}+40))\n")
            screen.expect("exec", f"\nsaid-{number + 40}")
        # A stream that began before the blows is still a whole terminal.
        screen.resize("exec", 50, 132)
        screen.send("exec", "sleep 1; stty size\n")
        screen.expect("exec", "\n50 132\r\n")
        screen.send("exec", "exit 7\n")
        assert screen.wait("exec")[0] == 7
        screen.send("run", "end\n")
        assert screen.wait("run")[0] == 8
        assert screen.wait("logs")[0] == 0
        assert screen.wait("wait") == (0, "8\n")
        assert "die" in screen.expect("events", "container die")
    kept = door.lab.run(f"systemctl show -P NFileDescriptorStore {PUMP}").stdout
    until(lambda: _kept(door) <= int(kept), 10, "the descriptors of ended streams are gone")


def _kept(door: DoorLab) -> int:
    """Descriptors that systemd keeps for the pump."""
    return int(door.lab.run(f"systemctl show -P NFileDescriptorStore {PUMP}").stdout)


def test_large_copies_both_ways_are_identical_and_cost_no_memory(door: DoorLab) -> None:
    at = f"/var/tmp/{DOOR_NAME}"
    door.lab.run(f"head -c {LARGE_MB * MEGABYTE} /dev/urandom > {at}-large && chmod 644 {at}-large")
    pids = [door.pid(unit) for unit in (GATEWAY, PUMP)]
    before = [_memory(door, pid) for pid in pids]
    steps = f"""set -e
docker run -d --network none --name {DOOR_NAME}-l {IMAGE} sleep 1000 >/dev/null
docker cp -q {at}-large {DOOR_NAME}-l:/large
docker cp -q {DOOR_NAME}-l:/large - | tar xO | cmp - {at}-large
docker exec -i {DOOR_NAME}-l cat < {at}-large | cmp - {at}-large
docker rm -f {DOOR_NAME}-l >/dev/null"""
    door.lab.run(steps, as_user="alice", timeout=400)
    assert [door.pid(unit) for unit in (GATEWAY, PUMP)] == pids
    grown = [(_memory(door, pid) - kept) / 1024 for pid, kept in zip(pids, before, strict=True)]
    assert max(grown) < GROWTH_MB, f"MB that gateway and pump grew at their peak: {grown}"


def _memory(door: DoorLab, pid: int) -> int:
    """The most that a process held in memory since it was last asked, in KiB (proc(5), clear_refs)."""
    peak = door.lab.run(f"grep VmHWM /proc/{pid}/status; echo 5 > /proc/{pid}/clear_refs").stdout
    return int(peak.split()[1])
