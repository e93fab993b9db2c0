"""Build the lab's disk image from Debian packages, once for each definition.

The definition is the directory ``image`` beside this package (packages, files laid over the
root, a set-up script) and the fake GPUs of tests/fake_nvml. Its digest names the directory in the
cache, so a changed line gives a new image and an unchanged definition costs nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import fakegpus
from .errors import LabError
from .needs import Mirror, as_root, ensure_packages, environment, find_mirror, local_certificates
from .progress import Step, say
from .settings import DEFINITION, HOST_ALIAS, Settings

RELEASE = "trixie"
DISK_SIZE = "10G"
KEPT_IMAGES = 4
_COMPLETE = "complete"


@dataclass(frozen=True)
class Image:
    """A built image: a raw disk that only overlays write past, its kernel, its login key."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def host_key(self) -> str:
        """The guest's public host key, as in its ssh_host_ed25519_key.pub."""
        return (self.directory / "host_key.pub").read_text()

    @property
    def complete(self) -> bool:
        return (self.directory / _COMPLETE).exists()


def ensure_image(settings: Settings, rebuild: bool = False) -> Image:
    """The image of the present definition, from the cache or built now (about a minute).

    Raises LabError when a step of the build fails.
    """
    ensure_packages()
    mirror = find_mirror()
    settings.prepare()
    name = digest(mirror)
    image = Image(settings.cache / name)
    with _locked(settings.cache / "lock"):
        if rebuild or not image.complete:
            _remove(image.directory)
            image.directory.mkdir()
            try:
                _build(image, mirror)
            except BaseException:
                say(f"lab: what was built so far is in {image.directory}, see build.log there")
                raise
            (image.directory / _COMPLETE).touch()
        os.utime(image.directory / _COMPLETE)
        _forget_old(settings.cache)
    return image


def digest(mirror: Mirror) -> str:
    """Name of the definition: what goes into the image, and the code that puts it there."""
    total = hashlib.sha256()
    for path in sorted(p for p in DEFINITION.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(DEFINITION)}\0{os.access(path, os.X_OK)}\0".encode())
        total.update(path.read_bytes() + b"\0")
    for path in (Path(__file__), Path(fakegpus.__file__), *fakegpus.definition()):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    total.update("\n".join(mirror.sources(RELEASE)).encode())
    for name, content in local_certificates().items():
        total.update(name.encode() + content)
    return total.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two labs that start together build one image."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with Step("waiting for another lab that builds the image"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _names(file: Path) -> list[str]:
    """The names of a package list: one a line, ``#`` starts a comment."""
    lines = (line.split("#", 1)[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def _overlay(source: Path, extra: dict[str, bytes]) -> bytes:
    """A tar of the files below ``source`` and of ``extra``, all owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            _add(archive, str(path.relative_to(source)), path.read_bytes())
        for name, content in extra.items():
            _add(archive, name, content)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755 if content.startswith(b"#!") else 0o644
    archive.addfile(entry, io.BytesIO(content))


def _build(image: Image, mirror: Mirror) -> None:
    home = image.directory
    root = home / "root"
    log = home / "build.log"
    with Step("the fake GPUs' library"):
        gpus = fakegpus.files()
    with Step("login key"):
        _run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", HOST_ALIAS, "-f", str(image.key)],
            log,
        )
    certificates = {
        f"usr/local/share/ca-certificates/{name}": content
        for name, content in local_certificates().items()
    }
    scratch = "tmp/ds01-lab"
    late = {
        **certificates,
        **gpus,
        f"{scratch}/setup": (DEFINITION / "setup").read_bytes(),
        f"{scratch}/id_ed25519.pub": image.key.with_suffix(".pub").read_bytes(),
    }
    (home / "early.tar").write_bytes(_overlay(DEFINITION / "early", {}))
    (home / "late.tar").write_bytes(_overlay(DEFINITION / "files", late))
    with Step(f"root file system from Debian {RELEASE} packages", "50 s"):
        _run(as_root(*_mmdebstrap(home, root, mirror, scratch)), log)
    with Step(f"disk of {DISK_SIZE}, sparse", "10 s"):
        _take_out(image, root, log)
        make = ["mkfs.ext4", "-q", "-F", "-m", "0", "-L", HOST_ALIAS, "-d", str(root)]
        _run(as_root(*make, str(image.disk), DISK_SIZE), log)
        _remove(root)
        _run(as_root("chown", "-R", f"{os.getuid()}:{os.getgid()}", str(home)), log)
    # From here on nothing may write to it: every lab's disk refers to it.
    image.disk.chmod(0o444)


def _mmdebstrap(home: Path, root: Path, mirror: Mirror, scratch: str) -> list[str]:
    """The mmdebstrap(1) command; its hooks see the new root as ``$1``."""
    cached = " ".join(_names(DEFINITION / "cached-packages"))
    apt = "APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --quiet"
    hooks = (
        f"tar-in {shlex.quote(str(home / 'late.tar'))} /",
        f'chroot "$1" /{scratch}/setup /{scratch} && rm -r "$1/{scratch}"',
        # mmdebstrap's own downloads out, the packages of the roles in
        f"{apt} clean && {apt} install --download-only --no-install-recommends {cached}",
    )
    return [
        "mmdebstrap",
        "--variant=important",
        "--include=" + ",".join(_names(DEFINITION / "packages")),
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--skip=cleanup/apt",
        f"--essential-hook=tar-in {shlex.quote(str(home / 'early.tar'))} /",
        *(f"--customize-hook={hook}" for hook in hooks),
        RELEASE,
        str(root),
        *mirror.sources(RELEASE),
    ]


def _take_out(image: Image, root: Path, log: Path) -> None:
    """Copy kernel, initrd and host key out of the root: qemu and ssh need them outside."""
    wanted = {
        "boot/vmlinuz-*": image.kernel,
        "boot/initrd.img-*": image.initrd,
        "etc/ssh/ssh_host_ed25519_key.pub": image.directory / "host_key.pub",
    }
    for pattern, target in wanted.items():
        # Globbed by a root shell: a plain user may not be allowed to look into the root
        script = f"cp {shlex.quote(str(root))}/{pattern} {shlex.quote(str(target))}"
        _run(as_root("sh", "-c", f"{script} && chmod 644 {shlex.quote(str(target))}"), log)


def _run(command: list[str], log: Path) -> None:
    """Run one step of the build; its output goes to the log, the log's end to the error."""
    with log.open("a") as output:
        output.write(f"\n$ {shlex.join(command)}\n")
        output.flush()
        answer = subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if answer.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise LabError(
            f"building the lab's image failed in `{command[0]}`; the end of {log}:\n{tail}"
        )


def _remove(directory: Path) -> None:
    """Remove a tree that may belong to root."""
    if not directory.exists():
        return
    if os.geteuid() == 0:
        shutil.rmtree(directory)
    else:
        subprocess.run(as_root("rm", "-rf", "--one-file-system", str(directory)), check=True)


def _forget_old(cache: Path) -> None:
    """Keep the images used last; the disks of labs that are up may still refer to those."""
    built = sorted(cache.glob(f"*/{_COMPLETE}"), key=lambda path: path.stat().st_mtime)
    for mark in built[:-KEPT_IMAGES]:
        _remove(mark.parent)
