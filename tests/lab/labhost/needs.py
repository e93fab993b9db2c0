"""What the lab needs of the machine it runs on: Debian packages, a mirror, trusted CAs."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .progress import Step

PACKAGES = (
    "qemu-system-x86",
    "qemu-utils",
    "mmdebstrap",
    "e2fsprogs",
    "gcc",
    "libc6-dev",
    "make",
    "openssh-client",
    "debian-archive-keyring",
    "python3-venv",
)
LOCAL_CAS = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True)
class Mirror:
    """The archives this machine installs from, as base URIs; ``security`` may be empty."""

    main: str
    security: str

    def sources(self, release: str) -> list[str]:
        """The lines of a sources.list for a Debian release such as ``trixie``."""
        lines = [f"deb {self.main} {release} main", f"deb {self.main} {release}-updates main"]
        if self.security:
            lines.append(f"deb {self.security} {release}-security main")
        return lines


def environment() -> dict[str, str]:
    """The caller's environment with sbin on PATH (a plain user's PATH lacks mkfs)."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {**os.environ, "PATH": f"{path}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def as_root(*command: str) -> list[str]:
    """The command itself for root, with sudo for everybody else.

    Raises LabError when root is needed and sudo is missing.
    """
    if os.geteuid() == 0:
        return list(command)
    if shutil.which("sudo") is None:
        raise LabError("the lab needs root once, to build its image: install sudo or run as root")
    return ["sudo", "--", *command]


def missing_packages() -> list[str]:
    """Those of PACKAGES that dpkg does not have installed."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *PACKAGES]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError("no dpkg here: the lab is built on Debian or a relative of it") from None
    present = {
        line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")
    }
    return [name for name in PACKAGES if name not in present]


def ensure_packages() -> None:
    """Install what is missing with apt.

    Raises LabError when apt fails.
    """
    missing = missing_packages()
    if not missing:
        return
    quiet = {**environment(), "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    with Step(f"installing {' '.join(missing)}", "a minute"):
        for command in (["apt-get", "update", "--quiet"], install):
            answer = subprocess.run(
                as_root(*command), env=quiet, capture_output=True, text=True, check=False
            )
            if answer.returncode:
                tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-15:])
                raise LabError(f"`{' '.join(command)}` failed; mend apt and try again:\n{tail}")


def find_mirror() -> Mirror:
    """The mirror of this machine's own apt (apt-get(8), indextargets), or DS01_LAB_MIRROR.

    Raises LabError when apt knows no Debian archive.
    """
    given = os.environ.get("DS01_LAB_MIRROR", "")
    if given:
        return Mirror(given.rstrip("/"), os.environ.get("DS01_LAB_SECURITY_MIRROR", ""))
    found = _archives()
    if "Debian" not in found:
        # apt lists targets only once it has read the archives' Release files
        subprocess.run(as_root("apt-get", "update"), capture_output=True, check=False)
        found = _archives()
    if "Debian" not in found:
        raise LabError(
            "apt on this machine knows no Debian archive: "
            "set DS01_LAB_MIRROR to the URI of one (and DS01_LAB_SECURITY_MIRROR)"
        )
    return Mirror(found["Debian"], found.get("Debian-Security", ""))


def _archives() -> dict[str, str]:
    """Label of each archive of Debian -> its URI."""
    line = "$(LABEL)|$(REPO_URI)"
    command = ["apt-get", "indextargets", "--format", line, "Created-By: Packages"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for row in answer.stdout.splitlines():
        label, _unused, uri = row.partition("|")
        if uri.startswith(("http://", "https://")):
            found.setdefault(label, uri.rstrip("/"))
    return found


def local_certificates() -> dict[str, bytes]:
    """CAs this machine trusts beyond Debian's own; behind a company's proxy the guest needs them."""
    return {path.name: path.read_bytes() for path in sorted(LOCAL_CAS.glob("*.crt"))}
