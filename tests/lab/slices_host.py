# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host seen through its slices: start containers, change the limits, read the kernel."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from labhost.guest import Lab

REPO = Path(__file__).resolve().parents[2]
INVENTORY = REPO / "inventories/lab/hosts.yml"
LIMITS = REPO / "inventories/lab/limits.yml"
BAKER = "h.baker@hertie-school.lan"
# What the kernel says of a slice's limits; io.weight has no effect on the lab's disk but is kept.
NUMBERS = (
    "cpu.max",
    "cpu.weight",
    "memory.max",
    "memory.high",
    "memory.swap.max",
    "pids.max",
    "io.max",
)
# busybox has no daemon of its own: every container is a shell or a sleep.
IMAGE = "lab/base"
# A bridge costs the emulated machine seconds a container, and no slice limits one.
RUN = ("docker", "run", "--network", "none")


class Slices:
    """A lab host that site.yml can be run on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.names: set[str] = set()
        self.limits: dict[str, Any] = yaml.safe_load(LIMITS.read_text(encoding="utf-8"))
        tar = "/usr/share/ds01-lab/lab-base.tar"
        lab.run(f"docker image inspect {IMAGE} >/dev/null 2>&1 || docker import {tar} {IMAGE}")

    # -- the playbook ------------------------------------------------------------------------

    def play(self, *options: str, limits: Path = LIMITS, fails: bool = False) -> str:
        """Run site.yml's slices role; returns what it printed."""
        playbook = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(INVENTORY)]
        # The preflight asks the host what the next task asks again: once is enough here.
        playbook += [
            str(REPO / "playbooks/site.yml"),
            "--tags",
            "slices",
            "--skip-tags",
            "preflight",
        ]
        done = subprocess.run(
            [*playbook, "-e", f"slices_limits_file={limits}", *options],
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=600,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return " ".join(output.split())

    def play_text(self, limits: dict[str, Any], *options: str, fails: bool = False) -> str:
        """Run it with other limits than the worked example's."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "limits.yml")
            path.write_text(yaml.safe_dump(limits, sort_keys=False), encoding="utf-8")
            return self.play(*options, limits=path, fails=fails)

    def play_changed(
        self, overrides: dict[str, dict[str, str]], *options: str, fails: bool = False
    ) -> str:
        """Run it with overrides beside the worked example's."""
        limits = copy.deepcopy(self.limits)
        for user, values in overrides.items():
            limits["user_overrides"].setdefault(user, {}).update(values)
        return self.play_text(limits, *options, fails=fails)

    def limits_without_admins_and_student_cpu_quota(self) -> dict[str, Any]:
        """The worked example less one group, one key and nothing else."""
        limits = copy.deepcopy(self.limits)
        del limits["groups"]["admin"]
        del limits["groups"]["student"]["cpu_quota"]
        return limits

    # -- containers --------------------------------------------------------------------------

    def start(self, name: str, unit: str, *command: str) -> int:
        """Start a container in a slice, as root at the engine; returns its first process."""
        self.names.add(name)
        run = shlex.join(
            [*RUN, "--detach", "--name", name, "--cgroup-parent", unit, IMAGE, *command]
        )
        inspect = f"docker inspect -f '{{{{.State.Pid}}}}' {name}"
        return int(self.lab.run(f"{run} >/dev/null && {inspect}", timeout=120).stdout)

    def wake(self, *units: str) -> None:
        """Start slices as the engine does for a container, without paying for one."""
        self.lab.run(f"systemctl start {shlex.join(units)}")

    def pid(self, name: str) -> int:
        """A container's first process; 0 when it is not running."""
        return int(self.lab.run(f"docker inspect -f '{{{{.State.Pid}}}}' {name}").stdout)

    def remove_containers(self) -> None:
        """Remove what this test started."""
        if self.names:
            self.lab.run(f"docker rm -f {shlex.join(sorted(self.names))}", check=False, timeout=180)
            self.names.clear()

    # -- the kernel and systemd --------------------------------------------------------------

    @staticmethod
    def path(unit: str) -> str:
        """A slice's cgroup directory."""
        parts = unit.removesuffix(".slice").split("-")
        if parts[0] == "user":
            return f"/sys/fs/cgroup/user.slice/{unit}"
        steps = ["-".join(parts[: n + 1]) + ".slice" for n in range(len(parts))]
        return "/sys/fs/cgroup/" + "/".join(steps)

    def cgroup(self, unit: str, name: str) -> str:
        """One file of a slice's cgroup."""
        return self.lab.run(f"cat {shlex.quote(self.path(unit) + '/' + name)}").stdout.strip()

    def numbers(self, unit: str) -> dict[str, str]:
        """All limits of a slice as the kernel has them."""
        folder = shlex.quote(self.path(unit))
        text = self.lab.run(
            f"cd {folder} && grep -H . {' '.join(NUMBERS)} 2>/dev/null", check=False
        ).stdout
        return dict(line.split(":", 1) for line in text.splitlines())

    def numbers_of_group(self, group: str) -> dict[str, str]:
        """What a user of a group must have, from a slice that exists for this question only."""
        unit = f"ds01-{group}-witness.slice"
        self.wake(unit)
        return self.numbers(unit)

    def cgroup_tree_pids(self, unit: str) -> list[int]:
        """Every process below a slice."""
        folder = shlex.quote(self.path(unit))
        return [
            int(pid)
            for pid in self.lab.run(f"cat $(find {folder} -name cgroup.procs)").stdout.split()
        ]

    def drop_ins(self) -> str:
        """Names and contents of every drop-in of ours, and of the record."""
        find = "find /etc/systemd/system -path '*.slice.d/*' -type f -print0 | sort -z"
        return self.lab.run(f"{find} | xargs -0 sha256sum; sha256sum /etc/ds01/limits.json").stdout

    def reloads(self) -> int:
        """How often systemd has been told to reload since boot."""
        text = self.lab.run(
            "journalctl -b --no-pager -o cat _PID=1 | grep -c -i '^reloading' || true"
        ).stdout
        return int(text)

    def cpu_share(self, unit: str, seconds: int) -> float:
        """CPUs that a slice used over some seconds."""
        read = f"grep usage_usec {shlex.quote(self.path(unit) + '/cpu.stat')}; cut -d' ' -f1 /proc/uptime"
        lines = self.lab.run(
            f"{read}; sleep {seconds}; {read}", timeout=seconds + 60
        ).stdout.split()
        used, elapsed = int(lines[4]) - int(lines[1]), float(lines[5]) - float(lines[2])
        return used / 1e6 / elapsed

    def write_rate(self, unit: str, mebibytes: int) -> float:
        """Bytes per second of a container that writes past the page cache."""
        dd = f"time -p dd if=/dev/zero of=/out bs=1M count={mebibytes} oflag=direct"
        self.names.add("writer")
        run = [*RUN, "--name", "writer", "--cgroup-parent", unit, IMAGE, "sh", "-c", dd]
        lines = self.lab.run(f"{shlex.join(run)} 2>&1", timeout=300).stdout.split()
        seconds = float(lines[lines.index("real") + 1])
        return mebibytes * 1024**2 / seconds

    # -- time --------------------------------------------------------------------------------

    def watch(self, unit: str, name: str) -> str:
        """Have the guest note when a cgroup file changes; returns where it will be noted."""
        file, note = (
            shlex.quote(f"{self.path(unit)}/{name}"),
            f"/run/lab-watch-{time.monotonic_ns()}",
        )
        loop = f'old=$(cat {file}); while [ "$(cat {file})" = "$old" ]; do sleep 0.05; done; '
        loop += f"date +%s.%N > {note}"
        self.lab.run(f"systemd-run --quiet --collect timeout 300 sh -c {shlex.quote(loop)}")
        return note

    def delay(self, note: str, drop_in: str) -> float:
        """Seconds from a drop-in's writing to what ``watch`` noted."""
        self.wait_for(
            lambda: self.lab.run(f"test -s {note}", check=False).rc == 0, "the change was seen"
        )
        seen, written = self.lab.run(
            f"cat {note}; stat -c %.9Y {shlex.quote(drop_in)}"
        ).stdout.split()
        return float(seen) - float(written)

    @staticmethod
    def wait_for(condition: Callable[[], bool], what: str, seconds: int = 60) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.5)
