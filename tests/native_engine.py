# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker engine of our own, beside any that the machine has, for volume and for benchmarks.

It has its own network, mounts and process ids (unshare(1)), its own cgroup, and its files lie in
memory. So it touches nothing of the machine's, and whatever becomes of the test that started it,
the kernel ends it with all its containers. Needs root and Debian's ``docker.io``.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

IMAGE = "lab/base"
MEMORY = Path("/dev/shm")
CGROUPS = Path("/sys/fs/cgroup")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# dockerd under a parent that reaps what others leave behind, as process 1 must, and passes the
# signal on. Everything ends when it ends (--kill-child), and it ends when the test does.
_HOUSE = [
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "slave", "--net", "--pid", "--mount-proc"),
    *("--fork", "--kill-child"),
    *("sh", "-c"),
]
_FIRST = (
    'trap \'kill -TERM "$child"\' TERM; "$@" & child=$!; '
    'while kill -0 "$child" 2>/dev/null; do wait "$child"; done'
)
# The same, and an engine that ends by itself or is killed is started anew, as systemd would.
_LASTING = (
    "trap 'ended=1; kill -TERM \"$child\"' TERM; "
    'until [ "$ended" ]; do "$@" & child=$!; '
    'while kill -0 "$child" 2>/dev/null; do wait "$child"; done; sleep 0.2; done'
)
_ENGINE = [
    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
    *("--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"),
    *("--group=root", "--exec-opt=native.cgroupdriver=cgroupfs"),
    *("--storage-driver=overlay2", "--log-level=warn"),
]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, with nothing between the caller and the wire.

    :param path: the socket.
    :param timeout: seconds that a step may take.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float = 60.0) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = os.fspath(path)

    def connect(self) -> None:
        """Called by the base class."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(
    path: str | os.PathLike[str], method: str, target: str, body: Any = None, timeout: float = 60.0
) -> tuple[int, Any]:
    """One request on a connection of its own; returns status and answer (JSON where it is some)."""
    connection = UnixConnection(path, timeout)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        text = None if body is None else json.dumps(body)
        connection.request(method, target, text, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.headers.get_content_type() == "application/json" and data:
        return answer.status, json.loads(data)
    return answer.status, data


def docker_program() -> str:
    """The client of the package; else the first one that is found, as it may be the wrapper."""
    found = shutil.which("docker", path=PATH) or shutil.which("docker")
    if found is None:
        raise FileNotFoundError("no docker client; run 'make setup' (Debian package docker.io)")
    return found


def client_environment(
    path: str | os.PathLike[str], home: str | os.PathLike[str]
) -> dict[str, str]:
    """What the docker client shall know, and nothing of the caller's."""
    names = {"PATH": PATH, "HOME": os.fspath(home), "DOCKER_HOST": f"unix://{path}"}
    return {**names, "LC_ALL": "C.UTF-8", "DOCKER_CONFIG": f"{home}/.docker"}


class NativeEngine:
    """One engine; a context manager.

    :param folder: where it keeps everything; the default is one in memory that goes with it.
    :param lasting: it is started anew when it is killed; its containers live on meanwhile.
    """

    def __init__(self, folder: Path | None = None, lasting: bool = False) -> None:
        self._own = folder is None
        self._first = _LASTING if lasting else _FIRST
        base = MEMORY if MEMORY.is_dir() else None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ds01-engine-", dir=base))
        self.folder.chmod(0o711)
        self.socket = self.folder / "engine.sock"
        self.log = self.folder / "log"
        self.cgroup = f"/{self.folder.name}"
        self._house: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NativeEngine:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, seconds: float = 60.0) -> None:
        """Start it with the image ``lab/base``.

        :param seconds: how long it may take to answer.
        :raises RuntimeError: it cannot be started; its log is in the message.
        """
        if os.geteuid() != 0:
            raise RuntimeError("an engine can be started by root only; run this with sudo")
        config = self.folder / "daemon.json"
        config.write_text("{}")
        places = {"--config-file": config, "--host": f"unix://{self.socket}"}
        places |= {
            f"--{name}": self.folder / name for name in ("data-root", "exec-root", "pidfile")
        }
        places["--cgroup-parent"] = self.cgroup
        words = [*_HOUSE, self._first, "engine", "dockerd", *_ENGINE]
        words += [f"{name}={value}" for name, value in places.items()]
        with self.log.open("wb") as sink:
            self._house = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": PATH},
                start_new_session=True,
            )
        try:
            if not wait_until(self._answers, seconds):
                raise RuntimeError(f"dockerd does not answer: {self.log.read_text()[-3000:]}")
            self._import_image()
        except BaseException:
            self.stop()
            raise

    def stop(self, seconds: float = 30.0) -> None:
        """End it with all its containers, and remove what it kept.

        :param seconds: how long it may take to end by itself.
        """
        if self._house is not None:
            try:
                for pid in _children(self._house.pid):
                    os.kill(pid, signal.SIGTERM)
                self._house.wait(seconds)
            except subprocess.TimeoutExpired:
                self._house.kill()  # and with it all others
                self._house.wait()
            self._house = None
        # The kernel takes a moment to empty the groups of killed processes.
        wait_until(lambda: _remove_groups(self.cgroup), 5.0)
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __call__(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """One request past everything, to the engine itself."""
        return call(self.socket, method, target, body)

    def containers(self) -> list[str]:
        """Names of all containers that it knows."""
        _status, found = self("GET", "/containers/json?all=1")
        return sorted(box["Names"][0].lstrip("/") for box in found)

    @property
    def pid(self) -> int:
        """Process id of dockerd, as this machine counts."""
        assert self._house is not None
        (first,) = _children(self._house.pid)
        # Beside it there may be what a former engine has left to the one that reaps.
        return next(pid for pid in _children(first) if _command(pid) == "dockerd")

    def kill(self, seconds: float = 60.0) -> None:
        """End a lasting one by SIGKILL, and wait for the next.

        :param seconds: how long that one may take to answer.
        :raises RuntimeError: it does not answer.
        """
        os.kill(self.pid, signal.SIGKILL)
        if not wait_until(lambda: not self._answers(), 5.0, pause=0.005):
            raise RuntimeError("a killed dockerd answers")
        if not wait_until(self._answers, seconds):
            raise RuntimeError(f"dockerd does not come again: {self.log.read_text()[-3000:]}")

    def _answers(self) -> bool:
        if self._house is not None and self._house.poll() is not None:
            raise RuntimeError(f"dockerd ended: {self.log.read_text()[-3000:]}")
        try:
            return self("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def _import_image(self) -> None:
        connection = UnixConnection(self.socket)
        path = f"/images/create?fromSrc=-&repo={IMAGE}&tag=latest"
        connection.request("POST", path, image(), {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status != 200 or b"errorDetail" in text:
            raise RuntimeError(f"the image cannot be imported: {text.decode(errors='replace')}")


def image() -> bytes:
    """A root of busybox and what it is linked with, as a tar archive."""
    program = shutil.which("busybox", path=PATH)
    if program is None:
        raise FileNotFoundError("no busybox; run 'make setup' (Debian package busybox-static)")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "home", "mnt", "proc", "root", "sys", "tmp"):
            mode = 0o1777 if folder == "tmp" else 0o755
            tar.addfile(_entry(folder, type=tarfile.DIRTYPE, mode=mode))
        _add(tar, "bin/busybox", Path(program).read_bytes())
        for name in names.split():
            if name != "busybox":
                tar.addfile(_entry(f"bin/{name}", type=tarfile.SYMTYPE, linkname="busybox"))
        for word in linked.split():
            if word.startswith("/"):
                _add(tar, word.lstrip("/"), Path(word).read_bytes())
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(tar, "etc/group", b"root:x:0:\n")
    return out.getvalue()


def _entry(name: str, **facts: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for key, value in {"mode": 0o755, **facts}.items():
        setattr(entry, key, value)
    return entry


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_entry(name, size=len(data)), io.BytesIO(data))


def wait_until(asked: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Ask until it is so, at most this long; returns what it was at last."""
    deadline = time.monotonic() + seconds
    while not asked():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def _children(pid: int) -> list[int]:
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(word) for word in words]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def _remove_groups(name: str) -> bool:
    """Remove the engine's cgroups in every hierarchy (one, or v1's many); False while one is busy."""
    tops = [CGROUPS, *(top for top in CGROUPS.iterdir() if top.is_dir())]
    for top in tops:
        group = top / name.lstrip("/")
        for path, _folders, _files in os.walk(group, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                return False
    return True


def environment(**more: str) -> Mapping[str, str]:
    """Of a program of this repository that a test starts."""
    repo = Path(__file__).resolve().parents[1]
    search = f"{repo / 'files/runtime'}:{repo / 'tests'}"
    return {**os.environ, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1", **more}
