# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: a list of commands one after the other, their outputs as one JSON object.

One log-in for the whole list: each would cost an emulated second. The argument is a JSON object:
``host`` (DOCKER_HOST, "" for the client's own choice; its socket is $S in the commands), ``name`` ($N)
and ``steps``, pairs of a label and a bash command line.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

STEP_SECONDS = 90.0


def run_step(command: str, environment: dict[str, str], folder: str) -> dict[str, object]:
    """Run one command line; a command that hangs is told as exit code 124, as timeout(1) does."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        rc, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        rc, out, err = 124, error.stdout or b"", error.stderr or b""
    return {
        "rc": rc,
        "out": out.decode(errors="replace"),
        "err": err.decode(errors="replace"),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Run the steps in a folder of their own, which goes at the end."""
    order = json.loads(sys.argv[1])
    at = (order["host"] or "unix:///run/docker.sock").removeprefix("unix://")
    environment = {**os.environ, "N": order["name"], "S": at, "LC_ALL": "C.UTF-8"}
    if order["host"]:
        environment["DOCKER_HOST"] = order["host"]
    folder = tempfile.mkdtemp(prefix="ds01-day-")
    try:
        done = {label: run_step(line, environment, folder) for label, line in order["steps"]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main()
