# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host seen through its engine: run the engine's modules, start containers, try GPU nodes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from labhost.guest import Lab

REPO = Path(__file__).resolve().parents[2]
INVENTORY = REPO / "inventories/lab/hosts.yml"
DEFAULTS = REPO / "roles/docker_engine/defaults/main.yml"
CONFIG = "/etc/docker/daemon.json"
RECORD = "/etc/ds01/engine.json"
IMAGE = "lab/base"
PREFIX = "docker_engine_"


class EngineLab:
    """A lab host whose engine may be taken apart; :meth:`put_back` mends it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        defaults = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
        self.role = {name.removeprefix(PREFIX): value for name, value in defaults.items()}
        self._saved = {path: self.read(path) for path in (CONFIG, RECORD)}

    # -- modules -----------------------------------------------------------------------------

    def module(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Run one module of the collection on the host; returns its result, failed or not."""
        program = str(Path(sys.executable).parent / "ansible")
        words = [program, "ds01-lab", "-i", str(INVENTORY), "-m", f"ds01.infra.{name}"]
        done = subprocess.run(
            [*words, "-a", json.dumps(parameters)] if parameters else words,
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=400,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
        )
        _unused, arrow, result = done.stdout.partition(" => ")
        assert arrow, done.stdout + done.stderr
        # What Ansible has to say about a failure stands around the result.
        answer: dict[str, Any] = json.JSONDecoder().raw_decode(result)[0]
        return answer

    def configure(self, stage: str = "apply", **changed: Any) -> dict[str, Any]:
        """Run the role's one step with the role's defaults."""
        names = "log_driver log_max_size log_max_file build_cache_size address_pools"
        names += " publish_address cgroup_parent settings packages"
        parameters = {name: self.role[name] for name in names.split()}
        return self.module("ds01_engine_config", stage=stage, **{**parameters, **changed})

    # -- the host ----------------------------------------------------------------------------

    def read(self, path: str) -> str:
        return self.lab.run(f"cat {path}").stdout

    def write(self, path: str, text: str) -> None:
        self.lab.run(f"printf %s {shlex.quote(text)} > {path}")

    def daemon_json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read(CONFIG))
        return found

    def by_hand(self, **settings: Any) -> None:
        """Make the engine one that somebody set up by hand: other settings, no record of ours."""
        self.write(CONFIG, json.dumps(settings))
        self.lab.run(f"rm -f {RECORD}; systemctl restart docker", timeout=180)

    def put_back(self) -> None:
        """Remove this module's containers, then make the engine what it was at the start."""
        self.remove_containers()
        self.lab.run("rm -f /etc/default/docker")
        for path, text in self._saved.items():
            self.write(path, text)
        self.lab.run("systemctl reset-failed docker docker.socket; systemctl restart docker")

    def info(self, field: str) -> str:
        return self.lab.run(f"docker info -f '{{{{json .{field}}}}}' 2>/dev/null").stdout.strip()

    # -- containers --------------------------------------------------------------------------

    def start(self, name: str, *options: str) -> int:
        """Start a container that sleeps; returns its first process."""
        words = ["docker", "run", "-d", "--name", name, "--label", "engine-lab", *options]
        self.lab.run(shlex.join([*words, IMAGE, "sleep", "3600"]))
        return self.pid(name)

    def pid(self, name: str) -> int:
        """A container's first process; 0 when it is not running."""
        return int(self.lab.run(f"docker inspect -f '{{{{.State.Pid}}}}' {name}").stdout)

    def remove_containers(self) -> None:
        self.lab.run("docker ps -aq -f label=engine-lab | xargs -r docker rm -f", timeout=180)

    def inject_gpu(self, name: str) -> None:
        """Do to a container what NVIDIA's legacy hook does: nvidia0 and nvidiactl."""
        hook = (Path(__file__).parent / "legacy_hook.py").read_text(encoding="utf-8")
        self.lab.run(f"python3 -c {shlex.quote(hook)} {self.pid(name)}")

    def open_node(self, name: str, node: str, number: str = "") -> str:
        """What the kernel answers when a container opens a device node.

        :param number: ``c 195 1`` makes the node inside the container first.
        """
        make = f"mknod {node} {number} && " if number else ""
        command = f"docker exec {name} sh -c {shlex.quote(f'{make}cat {node}')}"
        return self.lab.run(command, check=False).stderr.strip()
