# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host's GPUs: leases by the real daemon, containers by the real engine, nodes by the kernel."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from engine_lab import IMAGE, EngineLab
from labhost.guest import Done, Lab

LABEL = "gpu-lab"
MACHINE = "/etc/fake-nvml.conf"
MACHINE_SAVED = "/var/tmp/fake-nvml.saved"
CDI_SAVED = "/var/tmp/nvidia-cdi.saved"
NODES = ("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidia3")


class GpuLab:
    """A lab host whose GPUs are leased; :meth:`clear` gives everything back."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.engine = EngineLab(lab)
        lab.run(
            f"docker image inspect {IMAGE} > /dev/null 2>&1"
            f" || docker import /usr/share/ds01-lab/lab-base.tar {IMAGE}"
        )
        lab.run(f"cp {MACHINE} {MACHINE_SAVED}; cp /etc/cdi/nvidia.yaml {CDI_SAVED}")

    # -- asking ------------------------------------------------------------------------------

    def ds01(self, *words: str, as_user: str = "root", check: bool = True) -> Done:
        """The command ``ds01`` as one of the lab's users."""
        return self.lab.run(f"ds01 {shlex.join(words)}", as_user=as_user, check=check)

    def asked(self, *words: str, as_user: str = "root") -> dict[str, Any]:
        """The command's JSON document."""
        found: dict[str, Any] = json.loads(self.ds01(*words, "--json", as_user=as_user).stdout)
        return found

    def lease(self, who: str, *options: str) -> dict[str, Any]:
        """A lease for somebody, at once or not at all."""
        words = ("gpu", "request", "--no-wait", *options)
        granted: dict[str, Any] = self.asked(*words, as_user=who)["granted"]
        return granted

    def leases(self) -> list[dict[str, Any]]:
        """Every lease, as root sees them."""
        found: list[dict[str, Any]] = self.asked("gpu", "status")["leases"]
        return found

    def state_of(self, lease: str) -> str:
        """A lease's state; empty when there is none."""
        return next((str(row["state"]) for row in self.leases() if row["id"] == lease), "")

    def slot(self, index: str) -> dict[str, Any]:
        """One slot, as root sees it."""
        rows = self.asked("gpu", "status")["slots"]
        found: dict[str, Any] = next(row for row in rows if row["slot"] == index)
        return found

    def until(self, what: str, test: Any, seconds: float = 90.0) -> None:
        """Wait until something is so; the lab is slow, and the daemon works on its own."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if test():
                return
            time.sleep(1)
        raise AssertionError(f"not so after {seconds:.0f} s: {what}\n{self.lab.journal('ds01d')}")

    # -- containers --------------------------------------------------------------------------

    def run(self, who: str, name: str, lease: str, *options: str, check: bool = True) -> Done:
        """Start a container that sleeps, with a lease."""
        words = ["docker", "run", "-d", "--name", name, "--label", LABEL, "--network", "none"]
        words += ["--device", f"ds01.local/lease={lease}", *options, IMAGE, "sleep", "3600"]
        return self.lab.run(shlex.join(words), as_user=who, check=check)

    def opened(self, name: str) -> dict[str, str]:
        """What the kernel says when a container opens each GPU node, made inside where it is not."""
        script = "; ".join(
            f"[ -e {node} ] || mknod {node} c 195 {number}; "
            f"echo {number} $(cat {node} 2>&1 | sed 's/.*: //')"
            for number, node in enumerate(NODES)
        )
        done = self.lab.run(f"docker exec {name} sh -c {shlex.quote(script)}", check=False)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    # -- files -------------------------------------------------------------------------------

    def files(self) -> list[str]:
        """Ids of the leases that have a file."""
        names = self.lab.run("ls /run/cdi").stdout.split()
        return sorted(n[5:-5] for n in names if n.startswith("ds01-") and n.endswith(".json"))

    def agree(self) -> None:
        """Book, files and engine say the same."""
        leases = self.leases()
        holding = [row for row in leases if row["state"] != "ended"]
        assert self.files() == sorted(row["id"] for row in holding), self.lab.journal("ds01d")
        slots = [slot["uuid"] for row in holding for slot in row["slots"]]
        assert len(slots) == len(set(slots))
        running = self.lab.run("docker ps --format '{{.Names}}'").stdout.split()
        for row in holding:
            assert (row["state"] == "bound") == (row["container"] in running), row

    def machine(self, script: str) -> None:
        """Change the fake driver's machine by a sed(1) script, in one step."""
        work = f"{MACHINE}.new"
        self.lab.run(f"sed {shlex.quote(script)} {MACHINE} > {work} && mv {work} {MACHINE}")

    # -- clearing up -------------------------------------------------------------------------

    def containers_gone(self) -> None:
        """Remove this file's containers."""
        self.lab.run(f"docker ps -aq -f label={LABEL} | xargs -r docker rm -f", timeout=180)

    def clear(self) -> None:
        """All containers gone, all leases given back, all slots in their first state."""
        self.lab.run("systemctl start ds01d.socket ds01d.service docker.service")
        self.containers_gone()
        restore = (
            f"cmp -s {MACHINE} {MACHINE_SAVED} && cmp -s /etc/cdi/nvidia.yaml {CDI_SAVED} || "
            f"{{ cp {MACHINE_SAVED} {MACHINE}.new && mv {MACHINE}.new {MACHINE} && "
            f"cp {CDI_SAVED} /etc/cdi/nvidia.yaml && ds01 gpu reconcile; }}"
        )
        self.lab.run(restore)
        for row in self.asked("gpu", "status")["slots"]:
            if row["state"] == "drained":
                self.ds01("gpu", "undrain", row["slot"])
        for row in self.leases():
            if row["state"] != "ended":
                self.ds01("gpu", "release", row["id"], check=False)
        self.until("all is given back", lambda: not self.files())
