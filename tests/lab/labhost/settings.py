"""Where the lab keeps its things."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

LAB_TESTS = Path(__file__).resolve().parent.parent
REPOSITORY = LAB_TESTS.parent.parent
DEFINITION = LAB_TESTS / "image"
HOST_ALIAS = "ds01-lab"


@dataclass(frozen=True)
class Settings:
    """Directories of one lab; several labs live side by side through ``DS01_LAB_DIR``.

    ``state`` holds the disk and console log of this lab, ``cache`` the images all labs
    share, ``runtime`` the sockets (outside ``state``: a socket's path may not pass 107 bytes).
    """

    state: Path
    cache: Path
    runtime: Path

    @classmethod
    def from_environment(cls) -> Settings:
        """Read DS01_LAB_DIR and DS01_LAB_CACHE; without them .cache/lab and ~/.cache/ds01-lab."""
        state = Path(os.environ.get("DS01_LAB_DIR") or REPOSITORY / ".cache" / "lab").absolute()
        cache = Path(os.environ.get("DS01_LAB_CACHE") or Path.home() / ".cache" / "ds01-lab")
        short = hashlib.sha256(str(state).encode()).hexdigest()[:10]
        runtime = Path("/tmp") / f"ds01-lab-{os.getuid()}" / short
        return cls(state, cache.absolute(), runtime)

    def prepare(self) -> None:
        """Make the directories.

        The sockets live below /tmp, so the parent must be a real directory of ours that
        nobody else can write.

        Raises LabError when somebody else owns it.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        parent = self.runtime.parent
        parent.mkdir(mode=0o700, exist_ok=True)
        found = parent.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise LabError(f"{parent} is not a private directory of yours: remove it")
        self.runtime.mkdir(exist_ok=True)

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"

    @property
    def console(self) -> Path:
        return self.state / "console.log"

    @property
    def disk(self) -> Path:
        return self.state / "disk.qcow2"

    @property
    def record(self) -> Path:
        return self.state / "lab.json"

    @property
    def monitor(self) -> Path:
        return self.runtime / "qmp"
