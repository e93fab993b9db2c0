# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: install a release below a trial root, and die at a given step.

``python3 release_driver.py ROOT PAYLOAD.json [STEP]``. With a step the process gets SIGKILL before
that step: no handler runs, as at a power cut. PYTHONPATH names a copy of the runtime.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ds01.core.errors import Ds01Error
from ds01.core.release import release_name
from ds01.core.release_build import Payload, Tools
from ds01.core.release_files import install


def run(command: Sequence[str]) -> tuple[int, str]:
    """A command's status and both its outputs."""
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


def main(root: str, payload_file: str, stop_at: str = "") -> int:
    """Install; prints the name of the release."""

    def step(name: str) -> None:
        if name == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)

    given = json.loads(Path(payload_file).read_text(encoding="utf-8"))
    payload = Payload(given["version"], base64.b64decode(given["content"]), given["sha256"])
    name = release_name(payload.version, payload.sha256, sys.version_info[:2])
    links = {f"{root}-bin/ds01": f"{root}/current/bin/ds01"}
    try:
        install(root, name, links, 3, payload, Tools(run, "/usr/bin/python3", step))
    except Ds01Error as error:
        print(error, file=sys.stderr)
        return 1
    print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
