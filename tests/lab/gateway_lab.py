# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host's door: who listens, whether it answers, and the playbooks that move it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_lab import IMAGE, INVENTORY, REPO, EngineLab
from labhost import ssh
from labhost.guest import Lab

DOOR = "/run/docker.sock"
ENGINE = "/run/ds01/engine.sock"
DROP_IN = "/etc/systemd/system/docker.socket.d/90-ds01-engine.conf"
SERVICE = "ds01-gateway.service"

#: How long callers go on after the last thing that a test did to the door.
KNOCK_ON_SECONDS = 5.0

#: Asks at the door all the time, until some seconds after its input ends; a caller who is refused, cut
#: off or answered wrongly counts.
KNOCK = f"""
import json, select, socket, sys, time
end, failed, asked, worst = time.monotonic() + 300, [], 0, 0.0
watched = [sys.stdin]
while time.monotonic() < end:
    if select.select(watched, [], [], 0)[0]:
        watched, end = [], time.monotonic() + {KNOCK_ON_SECONDS}
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(90)
        try:
            caller.connect({DOOR!r})
            caller.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: d\\r\\nConnection: close\\r\\n\\r\\n")
            if b" 200 " not in caller.recv(4096)[:15]:
                failed.append("no answer")
        except OSError as error:
            failed.append(str(error))
    asked, worst = asked + 1, max(worst, time.monotonic() - begun)
    time.sleep(0.05)
print(json.dumps({{"asked": asked, "failed": failed, "worst": worst}}))
"""


@dataclass(frozen=True)
class Knocked:
    """How callers fared: how many, what went wrong, and the seconds that the slowest one waited."""

    asked: int
    failed: tuple[str, ...]
    worst: float


class GatewayLab:
    """A lab host whose door may be taken apart; :meth:`put_back` mends it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.engine = EngineLab(lab)
        lab.run(
            f"docker image inspect {IMAGE} > /dev/null 2>&1"
            f" || docker import /usr/share/ds01-lab/lab-base.tar {IMAGE}"
        )

    def play(self, playbook: str, *options: str, fails: bool = False) -> str:
        """Run one of the playbooks; what it printed."""
        program = str(Path(sys.executable).parent / "ansible-playbook")
        words = [program, "-i", str(INVENTORY), str(REPO / "playbooks" / playbook), *options]
        done = subprocess.run(
            words,
            cwd=REPO,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=400,
        )
        assert bool(done.returncode) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def move(self, state: str = "behind", **parameters: Any) -> dict[str, Any]:
        """Run the module alone."""
        return self.engine.module("ds01_engine_socket", state=state, **parameters)

    def start(self, name: str, *options: str) -> int:
        """A container that sleeps; its first process."""
        return self.engine.start(name, *options)

    def pids(self, *names: str) -> list[int]:
        return [self.engine.pid(name) for name in names]

    def knock(self) -> subprocess.Popen[str]:
        """Begin to ask at the door; :meth:`knocked` ends it and has the result."""
        words = ssh.command(self.lab.settings, "root", [f"python3 -c {shlex.quote(KNOCK)}"])
        return subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )

    def knocked(self, asking: subprocess.Popen[str]) -> Knocked:
        out, errors = asking.communicate(timeout=300)
        assert out, errors
        found = json.loads(out)
        return Knocked(found["asked"], tuple(found["failed"]), found["worst"])

    def door(self) -> str:
        """Mode and owners of both sockets."""
        return self.lab.run(f"stat -c '%n %a %U:%G' {DOOR} {ENGINE}", check=False).stdout

    def doctor(self) -> dict[str, dict[str, str]]:
        """What the doctor finds wrong with the door, by place."""
        done = self.lab.run("ds01 doctor --json", check=False)
        findings = json.loads(done.stdout)["findings"]
        wrong = (f for f in findings if f["check"] == "door" and f["severity"] != "notice")
        return {f["where"]: f for f in wrong}

    def put_back(self) -> None:
        """Remove the containers, and make the door what site.yml made it."""
        self.lab.run(f"rm -rf /run/systemd/system/{SERVICE}.d && systemctl daemon-reload")
        self.move()
        self.engine.remove_containers()
