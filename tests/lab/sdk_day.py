# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program does with the Docker SDK for Python on an ordinary day; says what it saw.

A program of its own (socket's URL, name), since the SDK leaves sockets open until its process ends.
"""

from __future__ import annotations

import io
import socket
import sys
import tarfile
import threading
from collections.abc import Callable
from typing import Any

import docker
from docker.errors import APIError, BuildError, ContainerError, NotFound
from docker.models.containers import Container
from requests.exceptions import ReadTimeout

IMAGE = "lab/base"
# Says a line, then one for each line that it hears, until it hears "end".
ECHO = "echo ready; while read x; do [ $x = end ] && exit 5; echo heard $x; done"
CLIENT_SECONDS = 120


def day(url: str, name: str) -> dict[str, Any]:
    """Spend a day at the socket ``url``; ``name`` begins every container's name.

    :return: by label what was seen; equal for two sockets that serve alike.
    """
    client = docker.DockerClient(base_url=url, version="auto", timeout=CLIENT_SECONDS)
    try:
        seen: dict[str, Any] = {"ping": client.ping(), "api": client.version()["ApiVersion"]}
        _runs(client, seen)
        main = client.containers.run(
            IMAGE,
            ["sh", "-c", ECHO],
            name=f"{name}-sdk",
            detach=True,
            stdin_open=True,
            labels={"day": name},
        )
        try:
            _inside(client, main, seen)
            _watched(client, main, seen)
        finally:
            main.remove(force=True, v=True)
        _build(client, name, seen)
        return seen
    finally:
        client.close()


def _refused(action: Callable[[], object]) -> tuple[str, int]:
    """What an engine's refusal says, without the identifiers in it."""
    try:
        action()
    except APIError as error:
        return type(error).__name__, error.status_code or 0
    return "no error", 0


def _runs(client: docker.DockerClient, seen: dict[str, Any]) -> None:
    seen["run"] = client.containers.run(IMAGE, "echo hello", remove=True)
    try:
        client.containers.run(IMAGE, ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    except ContainerError as error:
        seen["run, fails"] = (error.exit_status, error.stderr)
    seen["no image"] = _refused(lambda: client.api.create_container("no/such/image", "true"))
    seen["no container"] = _refused(lambda: client.containers.get("no-such-container"))


def _inside(client: docker.DockerClient, main: Container, seen: dict[str, Any]) -> None:
    """Execs of each kind, and archives both ways."""
    done = main.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    seen["exec"] = (done.exit_code, done.output)
    stream = main.exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; done"], stream=True)
    seen["exec stream"] = b"".join(stream.output)
    made = client.api.exec_create(main.id, "cat", stdin=True, tty=True)
    raw = client.api.exec_start(made["Id"], tty=True, socket=True)
    plain = _socket_of(raw)
    client.api.exec_resize(made["Id"], height=40, width=120)
    plain.sendall(b"through\n\x04")
    seen["exec socket"] = _read_to_end(plain)
    raw.close()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("f")
        member.size = 300_000
        tar.addfile(member, io.BytesIO(b"0123456789" * 30_000))
    seen["put"] = main.put_archive("/tmp", packed.getvalue())
    chunks, about = main.get_archive("/tmp/f")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        inner = tar.extractfile("f")
        seen["get"] = (about["size"], inner is not None and inner.read() == b"0123456789" * 30_000)
    seen["get, none"] = _refused(lambda: main.get_archive("/nothing"))


def _watched(client: docker.DockerClient, main: Container, seen: dict[str, Any]) -> None:
    """Everything that follows a container until it ends: attach, logs, events, stats, wait."""
    stats = main.stats(stream=True, decode=True)
    seen["stats"] = [sorted(next(stats)) for _unused in range(2)]
    stats.close()
    events = client.events(decode=True, filters={"container": main.id, "event": "die"})
    logs: list[bytes] = []
    follower = threading.Thread(target=lambda: logs.extend(main.logs(stream=True, follow=True)))
    follower.start()
    try:
        client.api._result(  # a wait with a time-out of its own: nothing ends here yet
            client.api._post(client.api._url("/containers/{0}/wait", main.id), timeout=2)
        )
    except (ReadTimeout, ConnectionError, OSError) as error:
        seen["wait, timed out"] = isinstance(error, OSError)
    raw = main.attach_socket(params={"stdin": 1, "stream": 1})
    plain = _socket_of(raw)
    for line in (b"one\n", b"two\n", b"end\n"):
        plain.sendall(line)
    raw.close()
    seen["wait"] = main.wait()
    follower.join(60)
    seen["logs followed"] = b"".join(logs)
    seen["logs"] = main.logs(tail=1)
    died = next(events)
    seen["event"] = (died["Action"], died["Actor"]["Attributes"]["exitCode"])
    events.close()


def _build(client: docker.DockerClient, name: str, seen: dict[str, Any]) -> None:
    """A classic build, its context a body of unknown length, and one that fails."""
    text = f"FROM {IMAGE}\nLABEL day={name}\nENV WHO=sdk\n"
    image, said = client.images.build(fileobj=io.BytesIO(text.encode()), tag=f"{name}/sdk", rm=True)
    seen["build"] = (image.attrs["Config"]["Env"], sum("Step" in str(line) for line in said))
    client.images.remove(f"{name}/sdk", force=True)
    try:
        client.images.build(fileobj=io.BytesIO(b"FROM lab/base\nNONSENSE\n"), rm=True)
    except (BuildError, APIError) as error:
        seen["build, fails"] = type(error).__name__
    seen["image gone"] = _refused(lambda: client.images.get(f"{name}/sdk"))
    try:
        client.images.get(f"{name}/sdk")
    except NotFound:
        seen["image gone, its error"] = True


def _socket_of(raw: Any) -> socket.socket:
    """The socket below what docker-py gives for a hijacked connection."""
    found: socket.socket = getattr(raw, "_sock", raw)
    found.settimeout(CLIENT_SECONDS)
    return found


def _read_to_end(plain: socket.socket) -> bytes:
    taken = b""
    while data := plain.recv(65536):
        taken += data
    return taken


if __name__ == "__main__":
    print(repr(day(sys.argv[1], sys.argv[2])))
