# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake NVML for tests: build the library, write its machine, run clients on it.

Clients run as processes of their own, since a process keeps the library that it loaded first.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
RUNTIME = HOME.parents[1] / "files" / "runtime"
LIBRARY = "libnvidia-ml.so.1"

# UUIDs of four-a100.conf: two whole GPUs, one in three, one in seven.
GPU = tuple(f"GPU-6c1f6e0a-000{i}-4b5e-9a51-a100a100000{i}" for i in range(4))
MIG2 = tuple(f"MIG-4f6f2d1c-020{i}-5c22-8a10-2a100000000{i}" for i in (0, 2, 3))
MIG3 = tuple(f"MIG-4f6f2d1c-030{i}-5c22-8a10-1a100000000{i}" for i in range(7))


def build(directory: Path) -> Path:
    """Compile the library into a directory; returns the library.

    Raises subprocess.CalledProcessError when the compiler refuses.
    """
    command = ["make", "--silent", "-C", str(HOME), f"OUT={directory}"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return directory / LIBRARY


class Machine:
    """A machine in a directory: the library, and the file that says what it plays.

    :param directory: is filled with a copy of the library and of ``four-a100.conf``.
    :param library: what :func:`build` gave.
    """

    def __init__(self, directory: Path, library: Path) -> None:
        self.path = directory / "machine.conf"
        self.library = directory / "lib" / LIBRARY
        self.library.parent.mkdir()
        self.install(library)
        self.write((HOME / "four-a100.conf").read_text())

    def install(self, library: Path) -> None:
        """Put a library in place as a package manager does: a new file under the old name."""
        fresh = self.library.with_suffix(".new")
        shutil.copy(library, fresh)
        fresh.rename(self.library)

    def write(self, text: str) -> None:
        """Replace the machine's file at once."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.path)

    @contextmanager
    def _lines(self) -> Iterator[list[str]]:
        with Path(f"{self.path}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = self.path.read_text().splitlines()
            yield lines
            self.write("\n".join(lines) + "\n")

    def add(self, *lines: str) -> None:
        """Add lines."""
        with self._lines() as all_lines:
            all_lines += lines

    def drop(self, what: str) -> None:
        """Leave out the lines that have all words of ``what``."""
        with self._lines() as lines:
            lines[:] = [line for line in lines if not set(what.split()) <= set(line.split())]

    def set(self, what: str, **values: object) -> None:
        """Set keys in the lines that have all words of ``what``: ``driver``, ``gpu index=0``."""
        with self._lines() as lines:
            for at, line in enumerate(lines):
                if not set(what.split()) <= set(line.split()):
                    continue
                kept = [w for w in line.split(" ") if w.split("=")[0] not in values]
                lines[at] = " ".join([*kept, *(f"{k}={v}" for k, v in values.items())])

    def environment(self) -> dict[str, str]:
        """The environment of a client."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.library.parent),
            "FAKE_NVML_MACHINE": str(self.path),
            "FAKE_NVML_DEBUG": "1",
            "PYTHONPATH": str(RUNTIME),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A client, which must succeed."""
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def python(self, code: str, *, plain_user: bool = False) -> Any:
        """Run Python code with ``nvml`` (nvidia-ml-py, connected); what it puts into ``out``.

        :param plain_user: without the right to write the machine's file, which makes NVML's root.
        """
        lines = ["import json, pynvml as nvml", "from ctypes import *", _HELPERS, code]
        command = [sys.executable, "-c", "\n".join([*lines, "print(json.dumps(out))"])]
        if plain_user:
            self.path.chmod(0o444)
            if os.geteuid() == 0:
                # Root without capabilities is held to the file's mode as everybody is.
                command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        return json.loads(self.run(*command).stdout)


_HELPERS = """
def error(call, *arguments):
    # The name of the error that a call of nvidia-ml-py ends with, "" without one.
    try:
        call(*arguments)
    except nvml.NVMLError as failure:
        return type(failure).__name__.removeprefix("NVMLError_")
    return ""

def gpu(index):
    return nvml.nvmlDeviceGetHandleByIndex(index)

def mig(index, place):
    return nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu(index), place)

nvml.nvmlInit()
"""


class Client:
    """A long-lived client that looks through the project's adapter whenever it is asked to."""

    def __init__(self, machine: Machine) -> None:
        code = (
            "import json, sys\nfrom ds01.host import nvml\n"
            "for _line in sys.stdin:\n    print(json.dumps(nvml.read()), flush=True)\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=machine.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        """One look."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        reading: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reading

    def close(self) -> None:
        """End the client."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
