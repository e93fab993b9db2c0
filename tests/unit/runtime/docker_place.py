# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wrapper of a release in a temporary directory, and a docker client that tells how it was called."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]

# Told by the file that FAKE_REPORT names; FAKE_EXIT, FAKE_KILL and FAKE_STAY say what it does then.
CLIENT = """\
import json, os, signal, sys, time
row = lambda name: next(r for r in open("/proc/self/status") if r.startswith(name)).split()[1]
told = {
    "argv": sys.argv[1:],
    "environ": open("/proc/self/environ", "rb").read().decode("latin-1"),
    "cwd": os.getcwd(),
    "terminals": [os.isatty(n) for n in range(3)],
    "descriptors": sorted(os.listdir("/proc/self/fd")),
    "blocked": row("SigBlk:"),
    "pid": os.getpid(),
    "group": os.getpgrp(),
    "stdin": sys.stdin.read() if os.environ.get("FAKE_READ") else "",
}
work = os.environ["FAKE_REPORT"] + ".new"
with open(work, "w") as out:
    json.dump(told, out)
os.rename(work, os.environ["FAKE_REPORT"])
print("output of the client", flush=True)
if "FAKE_STAY" in os.environ:
    def ended(number, frame):
        print(f"client met {signal.Signals(number).name}", flush=True)
        sys.exit(int(os.environ["FAKE_STAY"]))
    signal.signal(signal.SIGINT, ended)
    signal.signal(signal.SIGTERM, ended)
    time.sleep(60)
if "FAKE_KILL" in os.environ:
    os.kill(os.getpid(), int(os.environ["FAKE_KILL"]))
sys.exit(int(os.environ.get("FAKE_EXIT", "0")))
"""

# Stands for the release's interpreter: the real one, with another socket and a user who is not root.
DRIVER = """\
import os, runpy, sys
sys.path.insert(0, {lib!r})
from ds01.daemon import allowances, protocol
protocol.SOCKET_PATH = {socket!r}
allowances.LimitsFile.__init__.__defaults__ = ({limits!r},)
from ds01.host import accounts
accounts.by_uid = lambda uid: accounts.HostAccount({user!r}, {uid}, ({user!r},))
os.geteuid = lambda: {uid}
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Place:
    """``wrapper/docker`` in front of ``real/docker`` in PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wrapper = self.lay(root / "wrapper")
        self.real = root / "real/docker"
        self.real.parent.mkdir()
        self.real.write_text(f"#!{sys.executable} -I\n{CLIENT}")
        self.real.chmod(0o755)
        self.report = root / "report.json"
        self.home = root / "home"
        self.home.mkdir()
        self.path = f"{self.wrapper.parent}:{self.real.parent}:/usr/bin:/bin"

    def lay(self, directory: Path) -> Path:
        """Lay the wrapper into a directory."""
        text = (REPOSITORY / "files/runtime/wrapper/docker").read_text()
        text = text.replace("@RELEASE@", str(self.root / "release"))
        # What the machine that runs this has installed must not matter.
        text = text.replace("/usr/bin/docker", str(self.root / "usr-bin/docker"))
        directory.mkdir(exist_ok=True)
        (directory / "docker").write_text(text)
        (directory / "docker").chmod(0o755)
        return directory / "docker"

    def runtime(self, socket: str, user: str = "alice", uid: int = 1001) -> None:
        """Lay the release that the wrapper calls."""
        release = self.root / "release"
        (release / "venv/bin").mkdir(parents=True)
        (release / "lib").mkdir()
        (release / "lib/ds01").symlink_to(REPOSITORY / "files/runtime/ds01")
        limits = str(self.root / "etc/limits.json")
        driver = release / "driver.py"
        driver.write_text(
            DRIVER.format(
                lib=str(release / "lib"), socket=socket, user=user, uid=uid, limits=limits
            )
        )
        python = release / "venv/bin/python3"
        python.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -IB {driver} "$@"\n')
        python.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        """What every call is given; PWD is what a shell would set it to."""
        return {
            "PATH": self.path,
            "HOME": str(self.home),
            "PWD": str(self.root),
            "FAKE_REPORT": str(self.report),
            **more,
        }

    def start(
        self,
        *words: str,
        command: str = "docker",
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start the command in the temporary directory."""
        self.report.unlink(missing_ok=True)
        environment = self.environment(**(env or {}))
        found = command if "/" in command else str(self.wrapper)
        return subprocess.Popen(
            [found, *words],
            env=environment,
            cwd=self.root,
            text=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )

    def __call__(self, *words: str, **options: Any) -> tuple[int, str, str]:
        """Run it; exit code, output, errors."""
        given = options.pop("given", None)
        if given is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*words, **options)
        out, err = process.communicate(given, timeout=60)
        return process.returncode, out, err

    def told(self) -> dict[str, Any]:
        """What the client tells of its last call."""
        found: dict[str, Any] = json.loads(self.report.read_text())
        rows = [row.partition("=") for row in found["environ"].split("\0") if row]
        found["environ"] = {name: value for name, _equals, value in rows}
        return found

    @property
    def called(self) -> bool:
        """Whether the client was called at all."""
        return os.path.exists(self.report)
