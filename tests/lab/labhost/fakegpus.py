"""The lab's GPUs: the fake NVML library and the machine it plays, from tests/fake_nvml."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from .errors import LabError
from .needs import environment
from .settings import REPOSITORY

HOME = REPOSITORY / "tests" / "fake_nvml"
LIBRARY = "libnvidia-ml.so.1"


def definition() -> list[Path]:
    """The files that the image's GPUs are made from."""
    return [HOME / "Makefile", HOME / "four-a100.conf", *sorted((HOME / "src").iterdir())]


def files() -> dict[str, bytes]:
    """Path in the image → content: the library, built now, and its machine.

    Raises LabError when the compiler fails.
    """
    with tempfile.TemporaryDirectory() as out:
        answer = subprocess.run(
            ["make", "--silent", "-C", str(HOME), f"OUT={out}"],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise LabError(f"building the fake NVML in {HOME} failed:\n{answer.stderr[-2000:]}")
        library = (Path(out) / LIBRARY).read_bytes()
    return {
        f"usr/local/lib/ds01-lab/{LIBRARY}": library,
        "etc/fake-nvml.conf": (HOME / "four-a100.conf").read_bytes(),
    }
