# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the recording engine can answer, good and bad, by name."""

from __future__ import annotations

import socket
import time

from recording_engine import Answer, Exchange

TEXT = b"".join(b"line %d of an answer\n" % n for n in range(2000))
LARGE = 3_000_000
SMALL = b'{"Id": "0123456789ab"}'


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _chunked(x: Exchange) -> None:
    x.body()
    x.head("200 OK", "Transfer-Encoding: chunked")
    if x.seen.head.method != b"HEAD":
        for at in range(0, len(TEXT), 700):
            x.send(chunk(TEXT[at : at + 700]))
        x.send(b"0\r\n\r\n")


def _trailers(x: Exchange) -> None:
    x.body()
    x.head("200 OK", "Transfer-Encoding: chunked", "Trailer: Digest")
    x.send(chunk(SMALL) + b"0\r\nDigest: 1\r\n\r\n")


def _until_close(x: Exchange) -> None:
    x.body()
    x.close = True
    x.head("200 OK")
    x.send(TEXT)


def _fixed(x: Exchange) -> None:
    x.body()
    x.reply(TEXT)


def _slow(x: Exchange) -> None:
    x.body()
    x.head("200 OK", f"Content-Length: {len(SMALL)}")
    for byte in SMALL:
        time.sleep(0.02)
        x.send(bytes([byte]))


def _late(x: Exchange) -> None:
    x.body()
    time.sleep(0.4)
    x.reply(SMALL)


def _ticking(x: Exchange) -> None:
    """A stream that goes on for two seconds, or until the reader goes."""
    x.body()
    x.close = True
    x.head("200 OK", "Transfer-Encoding: chunked")
    for number in range(100):
        time.sleep(0.02)
        x.send(chunk(b"tick %d\n" % number))
    x.send(b"0\r\n\r\n")


def _empty204(x: Exchange) -> None:
    x.body()
    x.head("204 No Content")


def _empty304(x: Exchange) -> None:
    x.body()
    x.head("304 Not Modified")


def _early_error(x: Exchange) -> None:
    """Answers before the body was read, then reads it."""
    x.reply(b'{"message": "no such thing"}', "404 Not Found")


def _early_close(x: Exchange) -> None:
    """Answers before the body was read, and ends."""
    x.close = True
    x.reply(b'{"message": "no such thing"}', "404 Not Found")
    x.wire.sock.shutdown(socket.SHUT_WR)
    while x.raw():
        pass
    x.seen.after = b""
    raise ConnectionError


def _hang_up(x: Exchange) -> None:
    """Ends without a word."""
    x.body()
    raise ConnectionError


def _cut(x: Exchange) -> None:
    """Ends in the middle of an answer."""
    x.body()
    x.head("200 OK", "Content-Length: 1000")
    x.send(b"only this")
    raise ConnectionError


def _cut_chunk(x: Exchange) -> None:
    """Ends in the middle of a chunk."""
    x.body()
    x.head("200 OK", "Transfer-Encoding: chunked")
    x.send(b"ff\r\nonly this")
    raise ConnectionError


def _garbage(x: Exchange) -> None:
    x.body()
    x.send(b"\x16\x03\x01 what is this\r\n\r\n")
    raise ConnectionError


def _bad_chunk(x: Exchange) -> None:
    x.body()
    x.head("200 OK", "Transfer-Encoding: chunked")
    x.send(b"zz\r\nonly this\r\n0\r\n\r\n")
    raise ConnectionError


def _two_lengths(x: Exchange) -> None:
    x.body()
    x.head("200 OK", "Content-Length: 2", "Content-Length: 4")
    x.send(b"HTTP")
    raise ConnectionError


def _split(x: Exchange) -> None:
    """A bare line feed in a header, by which a client could be told of another answer."""
    x.body()
    x.head("200 OK", "X-A: 1\nX-B: 2", "Content-Length: 2")
    x.send(b"OK")
    raise ConnectionError


def _huge_head(x: Exchange) -> None:
    x.body()
    x.head("200 OK", *(f"X-{n}: {'a' * 1000}" for n in range(2000)), "Content-Length: 2")
    x.send(b"OK")
    raise ConnectionError


def _extra(x: Exchange) -> None:
    """More bytes than the length says: they are an answer to nothing."""
    x.body()
    x.reply(SMALL)
    x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")


def _extra_late(x: Exchange) -> None:
    """The same, a little later."""
    x.body()
    x.reply(SMALL)
    time.sleep(0.03)
    x.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")


def _large(x: Exchange) -> None:
    """Three megabytes of one byte, which the query names."""
    x.body()
    x.reply(x.seen.head.target[-1:] * LARGE)


def _hints(x: Exchange) -> None:
    x.body()
    x.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
    x.reply(SMALL)


def _continue(x: Exchange) -> None:
    x.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    x.body()
    x.reply(SMALL)


def _hijack(x: Exchange) -> None:
    """An upgrade, then everything comes back; ends when the client has ended its side."""
    x.body()
    x.close = x.stream = True
    if x.seen.head.values(b"upgrade"):
        x.send(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n")
        x.send(b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    else:
        x.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
    x.wire.sock.settimeout(None)
    x.send(b"hello\n")
    while data := x.raw():
        x.send(data)
    x.send(b"goodbye\n")


def _upgrade_unasked(x: Exchange) -> None:
    x.body()
    x.close = x.stream = True
    x.send(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    x.wire.sock.settimeout(5)
    while x.raw():
        pass


def _refused(x: Exchange) -> None:
    x.body()
    x.reply(b'{"message": "No such container: x"}', "404 Not Found")


def _held(x: Exchange) -> None:
    """Answers when the test opens the gate."""
    x.body()
    x.engine.gate.wait(20)
    x.reply(SMALL)


def _no_reader(x: Exchange) -> None:
    """Reads nothing for a while, so that what the client sends stands."""
    time.sleep(1.5)
    x.body()
    x.reply(SMALL)


ANSWERS: dict[str, Answer] = {
    "chunked": _chunked,
    "trailers": _trailers,
    "until-close": _until_close,
    "fixed": _fixed,
    "slow": _slow,
    "late": _late,
    "ticking": _ticking,
    "empty204": _empty204,
    "empty304": _empty304,
    "early-error": _early_error,
    "early-close": _early_close,
    "hang-up": _hang_up,
    "cut": _cut,
    "cut-chunk": _cut_chunk,
    "garbage": _garbage,
    "bad-chunk": _bad_chunk,
    "two-lengths": _two_lengths,
    "split": _split,
    "huge-head": _huge_head,
    "extra": _extra,
    "extra-late": _extra_late,
    "large": _large,
    "hints": _hints,
    "continue": _continue,
    "hijack": _hijack,
    "upgrade-unasked": _upgrade_unasked,
    "refused": _refused,
    "held": _held,
    "no-reader": _no_reader,
}
