# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers, starts and events of an engine behind a real socket."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ds01.core.reconcile import SeenContainer
from ds01.host import engine_gpu, procs
from ds01.host.engine import EngineError
from ds01.host.engine_events import DROPPED, Chunks, events
from ds01.host.engine_gpu import GpuEngine, engine_since, seen_container, unix_time

HELLO = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(status: int, value: Any = None) -> bytes:
    body = b"" if value is None else json.dumps(value).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def serving(path: Path, play: Callable[[socket.socket, bytes], None]) -> Iterator[list[str]]:
    """An engine that plays one connection after the other; gives the first lines of requests."""
    asked: list[str] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            connection, _unused = server.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(4096)
                    if not part:
                        return  # the test is over
                    head += part
                asked.append(head.split(b"\r\n")[0].decode().removesuffix(" HTTP/1.1"))
                try:
                    play(connection, head)
                except OSError:
                    continue  # the client has left

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(path))
        thread.join()
        server.close()


class FakeEngine:
    """Routes and their answers."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.hanging: set[str] = set()

    def __call__(self, connection: socket.socket, head: bytes) -> None:
        method, target = head.split(b" ")[:2]
        key = f"{method.decode()} {target.decode().partition('?')[0]}"
        if key in self.hanging:
            connection.recv(1)  # until the client gives up
            return
        connection.sendall(self.answers.get(key, answer(404, {"message": f"no {key}"})))

    def add(self, *containers: dict[str, Any]) -> None:
        rows = [
            {
                "Id": one["Id"],
                "Names": [one["Name"]],
                "State": one["State"]["Status"],
                "Created": 1_800_000_000,
                "Labels": {"a": "b"},
            }
            for one in containers
        ]
        self.answers["GET /containers/json"] = answer(200, rows)
        for one in containers:
            self.answers[f"GET /containers/{one['Id']}/json"] = answer(200, one)


def inspected(name: str, state: str = "running", **host: Any) -> dict[str, Any]:
    return {
        "Id": name * 4,
        "Name": f"/{name}",
        "Created": "2027-01-15T08:00:00.5Z",
        "State": {
            "Status": state,
            "Running": state in ("running", "paused", "restarting"),
            "Pid": 4711 if state == "running" else 0,
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "HostConfig": {"RestartPolicy": {"Name": "always"}, **host},
        "Config": {"Labels": {"ds01.user": "alice"}, "Env": None},
    }


def cdi(lease: str) -> dict[str, Any]:
    return {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": [f"ds01.local/lease={lease}"]}]}


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def client(tmp_path: Path, fake: FakeEngine) -> Iterator[tuple[GpuEngine, list[str]]]:
    path = tmp_path / "engine.sock"
    with serving(path, fake) as asked:
        yield GpuEngine(str(path), timeout=5, proc=str(tmp_path)), asked


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("2027-01-15T08:00:00.5Z", 1_800_000_000.5),
        ("2027-01-15T09:00:00.250000123+01:00", 1_800_000_000.25),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
    ],
)
def test_the_engines_times_are_read(text: str, seconds: float) -> None:
    assert unix_time(text) == seconds


def test_an_inspection_has_the_fields_that_reconciliation_wants() -> None:
    found = inspected("train", **cdi("L1"), Privileged=True)
    found["State"]["FinishedAt"] = "2027-01-15T08:00:01Z"
    assert SeenContainer(**seen_container(found)) == SeenContainer(
        "traintraintraintrain",
        "train",
        "running",
        4711,
        1_800_000_000.5,
        1_800_000_001.0,
        ("L1",),
        "always",
        ("all",),
        (),
        {"ds01.user": "alice"},
    )


def test_a_bare_inspection_is_no_fault() -> None:
    assert SeenContainer(**seen_container({"Id": "x"})).state == ""


def test_all_containers_are_listed_and_plain_ones_inspected_once(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, asked = client
    monkeypatch.setattr(procs, "gpu_nodes", lambda pid, proc: (pid,))
    train, web = inspected("train", **cdi("L1")), inspected("web", "exited")
    old = inspected("old", Privileged=True)
    fake.add(train, web, old)
    first = [SeenContainer(**seen) for seen in engine.containers()]
    assert [(seen.name, seen.leases, seen.gpus, seen.nodes) for seen in first] == [
        ("train", ("L1",), (), (4711,)),
        ("web", (), (), ()),
        ("old", (), ("all",), ()),
    ]
    assert asked.pop(0) == "GET /containers/json?all=1"
    assert len(asked) == 3
    asked.clear()
    second = [SeenContainer(**seen) for seen in engine.containers()]
    assert [seen.name for seen in second] == ["train", "web", "old"]
    assert (second[1].state, second[1].created) == ("exited", 1_800_000_000.0)
    assert [line for line in asked if "web" in line] == []
    assert len(asked) == 3
    # An id that comes back is another container for all we know.
    fake.add(train)
    engine.containers()
    asked.clear()
    fake.add(train, web)
    engine.containers()
    assert [line for line in asked if "web" in line] == ["GET /containers/webwebwebweb/json"]


def test_a_container_that_is_removed_meanwhile_is_left_out(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine
) -> None:
    fake.add(inspected("train"), inspected("web"))
    del fake.answers["GET /containers/webwebwebweb/json"]
    assert [seen["name"] for seen in client[0].containers()] == ["train"]


def test_a_container_whose_start_hangs_holds_up_no_other(tmp_path: Path, fake: FakeEngine) -> None:
    train, web, new = inspected("train", **cdi("L1")), inspected("web"), inspected("new")
    fake.add(train, web)
    with serving(tmp_path / "s", fake):
        engine = GpuEngine(str(tmp_path / "s"), 5, proc=str(tmp_path), patience=0.1)
        engine.containers()
        fake.add(train, web, new)
        fake.hanging |= {f"GET /containers/{one['Id']}/json" for one in (train, web, new)}
        for _unused in range(2):
            found = [SeenContainer(**seen) for seen in engine.containers()]
            assert [(seen.name, seen.state, seen.leases) for seen in found] == [
                ("train", "busy", ("L1",)),
                ("web", "running", ()),
                ("new", "busy", ()),
            ]
        fake.hanging.clear()
        assert [seen["state"] for seen in engine.containers()] == ["running"] * 3
        # Whoever asks for one lease waits for the answer, or has none.
        fake.hanging.add("GET /containers/traintraintraintrain/json")
        engine.timeout = 0.1
        with pytest.raises(EngineError, match="timed out"):
            engine.containers_of("L1")


def test_the_containers_of_a_lease_are_asked_for_one_by_one(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine
) -> None:
    engine, asked = client
    train, other = inspected("train", **cdi("L1")), inspected("other", **cdi("L2"))
    fake.add(train, other, inspected("web"))
    assert [seen["name"] for seen in engine.containers_of("L1")] == ["train"]
    assert len(asked) == 4
    engine.containers()
    asked.clear()
    # What is known of the others need not be asked again; what is new must be.
    fake.add(train, other, inspected("web"), inspected("new", **cdi("L1")))
    assert [seen["name"] for seen in engine.containers_of("L1")] == ["train", "new"]
    assert asked == [
        "GET /containers/json?all=1",
        "GET /containers/traintraintraintrain/json",
        "GET /containers/newnewnewnew/json",
    ]


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        ("running", True),
        ("paused", True),
        ("restarting", True),
        ("created", False),
        ("exited", False),
        ("dead", False),
    ],
)
def test_whether_a_container_has_its_devices(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine, state: str, runs: bool
) -> None:
    fake.add(inspected("train", state))
    assert client[0].is_running("traintraintraintrain") is runs


def test_a_container_that_does_not_exist_is_none(client: tuple[GpuEngine, list[str]]) -> None:
    engine, asked = client
    assert engine.one("a/b?c") is None
    assert engine.is_running("x") is None
    assert asked[0] == "GET /containers/a%2Fb%3Fc/json"


def test_an_engine_out_of_order_is_an_error_and_not_an_empty_list(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine
) -> None:
    fake.add(inspected("train"))
    fake.answers["GET /containers/traintraintraintrain/json"] = answer(500, {"message": "no"})
    with pytest.raises(EngineError, match="the engine says 500: no"):
        client[0].containers()
    with pytest.raises(EngineError, match="the engine says 500: no"):
        client[0].is_running("traintraintraintrain")


@pytest.mark.parametrize(("status", "started"), [(204, True), (304, False)])
def test_a_container_is_started(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine, status: int, started: bool
) -> None:
    fake.answers["POST /containers/c1/start"] = answer(status)
    assert client[0].start("c1") is started
    assert client[1] == ["POST /containers/c1/start"]


@pytest.mark.parametrize(
    ("status", "value", "message"),
    [
        (500, {"message": "unresolvable CDI devices ds01.local/lease=L1"}, "500: unresolvable CDI"),
        (404, {"message": "No such container: c1"}, "404: No such container: c1"),
        (503, None, "503: Service Unavailable"),
        (599, ["?"], "599: an error"),
    ],
)
def test_a_start_that_fails_says_why_in_the_engines_words(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine, status: int, value: Any, message: str
) -> None:
    fake.answers["POST /containers/c1/start"] = answer(status, value)
    with pytest.raises(EngineError, match=re.escape(message)) as caught:
        client[0].start("c1")
    assert caught.value.status == status
    assert "POST /containers/c1/start" in caught.value.where


def test_a_refusal_that_is_no_json_is_still_one_clear_error(
    client: tuple[GpuEngine, list[str]], fake: FakeEngine
) -> None:
    fake.answers["POST /containers/c1/start"] = b"HTTP/1.1 502 X\r\nContent-Length: 6\r\n\r\n<html>"
    with pytest.raises(EngineError, match="the engine says 502: Bad Gateway"):
        client[0].start("c1")


def test_the_engines_age_is_that_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "docker.pid"
    assert engine_since(str(pid_file)) is None
    pid_file.write_text("no number")
    assert engine_since(str(pid_file)) is None
    pid_file.write_text("4711\n")
    monkeypatch.setattr(engine_gpu.procs, "started", lambda pid, proc: float(pid))
    assert engine_since(str(pid_file)) == 4711.0


START = {"Type": "container", "Action": "start", "Actor": {"ID": "c1"}}
DIE = {"Type": "container", "Action": "die", "Actor": {"ID": "ü"}}


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(
    "parts",
    [
        [line(START), line(DIE)],
        [line(START) + line(DIE)],
        [line(START)[:9], line(START)[9:] + line(DIE)[:40], line(DIE)[40:], b"\n"],
    ],
)
def test_events_come_whole_however_they_are_cut(
    tmp_path: Path, parts: Sequence[bytes], size: int
) -> None:
    def play(connection: socket.socket, _unused: bytes) -> None:
        data = HELLO + b"".join(chunked(part) for part in parts) + b"0\r\n\r\n"
        for at in range(0, len(data), size):
            connection.sendall(data[at : at + size])

    path = tmp_path / "s"
    with serving(path, play) as asked:
        found = list(events(str(path), since=1_800_000_000.25, idle=5, event=["start", "die"]))
    assert found == [None, START, DIE]
    assert asked == [
        "GET /events?filters=%7B%22type%22%3A+%5B%22container%22%5D%2C+%22event%22%3A+%5B%22start"
        "%22%2C+%22die%22%5D%7D&since=1800000000.250000000"
    ]


def test_events_without_chunks_come_too(tmp_path: Path) -> None:
    def play(connection: socket.socket, _unused: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + line(START))

    with serving(tmp_path / "s", play):
        assert list(events(str(tmp_path / "s"), idle=5)) == [None, START]


def test_a_silent_stream_lets_its_reader_go(tmp_path: Path) -> None:
    release = threading.Event()

    def play(connection: socket.socket, _unused: bytes) -> None:
        connection.sendall(HELLO + chunked(line(START)[:5]))
        release.wait()
        connection.sendall(chunked(line(START)[5:]))
        connection.recv(1)  # until the client leaves

    with serving(tmp_path / "s", play):
        stream = events(str(tmp_path / "s"), idle=0.01)
        assert [next(stream) for _unused in range(3)] == [None, None, None]
        release.set()
        # Half an event before the pause and half after it are one event.
        assert next(event for event in stream if event) == START
        stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (answer(500, {"message": "no"}), "the engine says 500"),
        (b"SSH-2.0-x\r\n\r\n", "the answer is no HTTP"),
        (b"", "the answer is no HTTP"),
        (HELLO + b"zz\r\n", "the stream is broken"),
        (HELLO + b"1\r\n{}}", "the stream is broken"),
        (HELLO + b"x" * 2000, "the stream is broken"),
        (HELLO + chunked(b"<html>\n"), "an event is no JSON"),
        (HELLO + chunked(b"[1]\n"), "an event is no object"),
    ],
)
def test_what_is_no_stream_of_events_is_one_clear_error(
    tmp_path: Path, data: bytes, message: str
) -> None:
    def play(connection: socket.socket, _unused: bytes) -> None:
        connection.sendall(data)

    path = str(tmp_path / "s")
    with (
        serving(tmp_path / "s", play),
        pytest.raises(EngineError, match=re.escape("GET /events?")) as caught,
    ):
        list(events(path, idle=5))
    assert message in caught.value.what


def test_an_event_that_is_too_long_is_dropped_and_the_next_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ds01.host.engine_events._LINE_MAX", 100)
    label = b'{"Action": "start", "label": "' + b"x" * 500

    def play(connection: socket.socket, _unused: bytes) -> None:
        for part in (label, b"y" * 500, b'"}\n{"Action": ', b'"die"}\n'):
            connection.sendall((HELLO if part is label else b"") + chunked(part))
        connection.sendall(b"0\r\n\r\n")

    with serving(tmp_path / "s", play):
        found = [one for one in events(str(tmp_path / "s"), idle=5) if one is not None]
    assert [one["Action"] for one in found] == [DROPPED, "die"]


def test_an_engine_that_is_down_or_hangs_has_no_events(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the engine does not answer"):
        list(events(str(tmp_path / "no")))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with pytest.raises(EngineError, match="timed out"):
            list(events(str(tmp_path / "s"), timeout=0.05))


def test_chunks_have_extensions_and_an_end() -> None:
    chunks = Chunks()
    assert chunks.feed(b"3;name=x\r\nabc\r\n") == b"abc"
    assert not chunks.ended
    assert chunks.feed(b"0\r\n\r\nmore") == b""
    assert chunks.ended
