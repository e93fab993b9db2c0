# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pump refuses: messages that are not as they must be, in every way they can be wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ds01.pump import stream as stream_module
from ds01.pump.control import Peer
from ds01.pump.keep import SLOTS, Row, Table, name_of, slot_of
from ds01.pump.stream import Pipe, Way
from ds01.pump.wire import BOTH, INITIAL_MAX, BadMessage, HandOver, decode, encode, stream_socket
from hypothesis import given
from hypothesis import strategies as st
from pump_service import RUNTIME, Gateway, StandIn, descriptors_of, until

KEY = "0123456789abcdef"
GOOD: dict[str, object] = {"key": KEY, "tag": "t", "mode": "both", "uid": 1, "up": 0, "down": 0}


def datagram(fields: object, owed: bytes = b"") -> bytes:
    header = json.dumps(fields).encode()
    return struct.pack("!H", len(header)) + header + owed


WRONG_FIELDS: list[dict[str, object]] = [
    {"key": None},
    {"key": "x" * 16},
    {"key": KEY + "0"},
    {"tag": ""},
    {"tag": "a:b"},
    {"tag": "x" * 65},
    {"mode": "up"},
    {"mode": ["both"]},
    {"uid": -1},
    {"uid": 2**32},
    {"uid": True},
    {"uid": "1"},
    {"up": 1},
    {"down": INITIAL_MAX + 1},
    {"up": -1, "down": 1},
]
WRONG = [
    b"",
    b"\0",
    b"\0\0",
    b"\xff\xff{}",
    b"\0\2[]",
    b"\0\4\xff\xfe\xfd\xfc",
    struct.pack("!H", 40_000) + b"[" * 40_000,
    *(datagram(GOOD | change) for change in WRONG_FIELDS),
    datagram(GOOD, b"more"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_message_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(wrong)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_it_fail_otherwise(data: bytes) -> None:
    with contextlib.suppress(BadMessage):
        decode(data)


@given(
    st.sampled_from(["both", "down"]),
    st.integers(0, 2**32 - 1),
    st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    st.binary(max_size=200),
    st.binary(max_size=200),
)
def test_what_is_sent_arrives(mode: str, uid: int, tag: str, up: bytes, down: bytes) -> None:
    order = HandOver(KEY, tag, mode, uid, up, down)
    assert decode(encode(order)) == order


def test_a_hand_over_that_is_wrong_is_not_even_sent() -> None:
    with pytest.raises(BadMessage):
        encode(HandOver(KEY, "t", BOTH, 1, b"x" * (INITIAL_MAX + 1)))
    with pytest.raises(BadMessage):
        encode(HandOver(KEY, "a tag", BOTH, 1))


def test_only_connected_stream_sockets_are_taken(tmp_path: Path) -> None:
    with pytest.raises(BadMessage):
        stream_socket(os.open(tmp_path, os.O_RDONLY))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(BadMessage):
            stream_socket(os.dup(listener.fileno()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, pytest.raises(BadMessage):
        stream_socket(os.dup(other.fileno()))


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    stand_in.start()
    yield stand_in
    stand_in.close()


def test_a_pump_that_hears_nonsense_goes_on_and_keeps_no_descriptor(systemd: StandIn) -> None:
    assert systemd.process is not None
    gateway = Gateway(systemd.path)
    gateway.next()
    before = descriptors_of(systemd.process.pid)
    one, other = socket.socketpair()
    reader, writer = os.pipe()
    good = datagram(GOOD)
    for wrong in WRONG[1:]:
        gateway.send(wrong, one.fileno(), other.fileno())
        gateway.send(wrong)
    gateway.send(good)
    gateway.send(good, one.fileno())
    gateway.send(good, one.fileno(), other.fileno(), reader)
    gateway.send(good, *([one.fileno()] * 30))
    gateway.send(good, one.fileno(), one.fileno())
    gateway.send(good, reader, one.fileno())
    gateway.send(good, one.fileno(), writer)
    gateway.send(good[:-1], one.fileno(), other.fileno())
    gateway.send(b"\0\1" + b"x" * 300_000, one.fileno(), other.fileno())
    client, engine = gateway.stream()
    assert "taken" in gateway.next()
    client.sendall(b"all is well")
    assert engine.recv(20) == b"all is well"
    one.sendall(b"nobody shut us")
    assert other.recv(20) == b"nobody shut us"
    client.close()
    engine.close()
    assert "ended" in gateway.next()
    until(lambda: set(systemd.store) == {"table"})
    assert descriptors_of(systemd.process.pid) == before
    for end in (one, other):
        end.close()
    os.close(reader)
    os.close(writer)
    gateway.close()


def test_a_hand_over_that_comes_twice_is_taken_once(systemd: StandIn) -> None:
    gateway = Gateway(systemd.path)
    gateway.next()
    (client, client_far), (engine, engine_far) = socket.socketpair(), socket.socketpair()
    order = encode(HandOver(KEY, "t", BOTH, 5, up=b"owed"))
    gateway.send(order, client.fileno(), engine.fileno())
    gateway.send(order, client.fileno(), engine.fileno())
    assert gateway.next() == {"taken": KEY, "uid": 5, "now": 1}
    assert gateway.next() == {"taken": KEY, "uid": 5, "now": 1}
    client_far.sendall(b" and more")
    client_far.shutdown(socket.SHUT_WR)
    client.close()
    engine.close()
    engine_far.settimeout(5)
    got = b""
    while part := engine_far.recv(100):
        got += part
    assert got == b"owed and more"
    client_far.close()
    engine_far.close()
    gateway.close()


def test_a_hand_over_stored_but_never_in_force_is_the_gateways_again(systemd: StandIn) -> None:
    """Killed between storing and taking: the sockets are left as they were."""
    systemd.kill()
    client, client_far = socket.socketpair()
    engine, engine_far = socket.socketpair()
    reader, writer = os.pipe()
    pairs = [("9.c", client), ("9.e", engine)]
    systemd.store.update({name: [os.dup(end.fileno())] for name, end in pairs})
    systemd.store["9.u"] = [reader]
    systemd.start()
    until(lambda: "table" in systemd.store and "9.c" not in systemd.store)
    gateway = Gateway(systemd.path)
    assert gateway.next() == {"streams": {}}
    gateway.send(encode(HandOver(KEY, "t", BOTH, 5)), client.fileno(), engine.fileno())
    assert "taken" in gateway.next()
    client_far.sendall(b"x")
    engine_far.settimeout(5)
    assert engine_far.recv(5) == b"x"
    for end in (client, client_far, engine, engine_far):
        end.close()
    os.close(writer)
    gateway.close()


# --- parts ----------------------------------------------------------------------------------------


def test_the_command_does_not_pay_for_the_parsers() -> None:
    code = "import sys; from ds01.__main__ import main; print(main(), 'argparse' in sys.modules)"
    command = [sys.executable, "-c", code, "pump"]
    environment = {"PYTHONPATH": RUNTIME, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert "systemctl start ds01-pump.socket" in done.stderr


def test_names_say_slot_and_role() -> None:
    assert slot_of(name_of(SLOTS, "u")) == (SLOTS, "u")
    for other in ("control", "table", "stored", "0.c", f"{SLOTS + 1}.c", "1.x", "1.ce", "1.", ".c"):
        assert slot_of(other) is None
    # All names in one environment string (execve(2), MAX_ARG_STRLEN).
    names = [name_of(slot, role) for slot in range(1, SLOTS + 1) for role in "ceud"]
    assert len("LISTEN_FDNAMES=" + ":".join(["control", "table", *names])) < 128 * 1024


def test_a_table_is_read_by_the_next_process() -> None:
    table = Table()
    row = Row("down", 4_000_000_000, 12.5, KEY, "x" * 64, 1, 2)
    table.put(1, row)
    table.put(SLOTS, row)
    table.count(SLOTS, 2**40, 7)
    after = dict(Table(os.dup(table.descriptor)).rows())
    assert after == {1: row, SLOTS: Row("down", 4_000_000_000, 12.5, KEY, "x" * 64, 2**40, 7)}
    table.clear(1)
    assert [slot for slot, _unused in Table(os.dup(table.descriptor)).rows()] == [SLOTS]
    os.close(table.descriptor)


def test_a_table_of_another_kind_is_refused() -> None:
    descriptor = os.memfd_create("x")
    with pytest.raises(ValueError, match="size"):
        Table(descriptor)
    os.ftruncate(descriptor, (SLOTS + 1) * 128)
    with pytest.raises(ValueError, match="kind"):
        Table(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("pieces", [1, 7])
def test_where_the_kernel_does_not_splice_bytes_are_copied(
    monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    real = os.splice
    refused: list[int] = []

    def splice(source: int, sink: int, count: int, flags: int) -> int:
        if sink == way.pipe.writer:
            refused.append(source)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(source, sink, count, flags=flags)

    monkeypatch.setattr(stream_module.os, "splice", splice)
    near, source = socket.socketpair()
    sink, far = socket.socketpair()
    for end in (source, sink):
        end.setblocking(False)
    way = Way(source, sink, Pipe.make(b"owed"), reads=True)
    data = random.randbytes(100_000)
    got = b""
    size = len(data) // pieces + 1
    for start in range(0, len(data), size):
        near.sendall(data[start : start + size])
        assert not way.move()
        got += far.recv(1 << 20)
    near.close()
    way.move()
    while part := far.recv(1 << 20):
        got += part
    assert got == b"owed" + data and way.done and not way.broken
    assert len(refused) == 1
    for end in (source, sink, far):
        end.close()
    way.pipe.close()


def test_one_turn_is_bounded() -> None:
    near, source = socket.socketpair()
    sink, far = socket.socketpair()
    for end in (near, source, sink):
        end.setblocking(False)
    way = Way(source, sink, Pipe.make(b""), reads=True)
    near.send(b"x" * 100_000)
    assert way.move(turn=10_000)
    assert 0 < way.moved < 100_000
    for end in (near, source, sink, far):
        end.close()
    way.pipe.close()


def test_a_peer_that_leaves_too_much_unread_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds01.pump.control.UNREAD_MAX", 50)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer = Peer(ours)
    for _unused in range(10_000):
        peer.tell({"ended": {"tag": "x" * 60}})
        if not peer.flush():
            break
    else:
        pytest.fail("it was never dropped")
    peer.close()
    theirs.close()


def test_what_a_peer_did_not_read_in_time_it_reads_later() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer = Peer(ours)
    for number in range(2_000):
        peer.tell({"n": number})
        assert peer.flush()
    theirs.settimeout(0)
    seen: list[int] = []
    while len(seen) < 2_000:
        try:
            seen.append(json.loads(theirs.recv(1000))["n"])
        except BlockingIOError:
            assert peer.flush()
    assert seen == list(range(2_000))
    peer.close()
    theirs.close()
