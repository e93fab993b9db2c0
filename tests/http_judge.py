# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict reading of HTTP/1.1 requests, in the plainest way, to judge the gateway's by.

It shares no code with the gateway and knows one spelling of everything: lines end in CR LF, a
length is given once and in digits, ``chunked`` is the one transfer coding, a chunk has no
extension. h11 reads the same bytes and must agree on what they mean.
Source: RFC 9112 (messages, chunked), RFC 9110 (tokens, field values).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import h11

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/(1\.[01])")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*)?[ \t]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})")
# With what a recipient has to understand though a sender need not use it (RFC 9112, 7.1.1).
_CHUNK_EXTENDED = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")

HEAD_MAX = 1 << 20


class NotStrictError(Exception):
    """The bytes are no request under the strict reading; the text says why."""


class ShortError(Exception):
    """The bytes end before the request does."""


@dataclass(frozen=True)
class Head:
    """A request's head.

    :param headers: names in lower case, in the order sent.
    :param length: bytes of the body; None when it is chunked.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, by its name in lower case."""
        return [value for known, value in self.headers if known == name]

    @property
    def closes(self) -> bool:
        """Whether the connection ends after the answer."""
        words = b",".join(self.values(b"connection")).lower().replace(b" ", b"").split(b",")
        return b"close" in words or (self.version == b"1.0" and b"keep-alive" not in words)


def read_head(raw: bytes) -> Head:
    """The head that ends where ``raw`` ends.

    :raises NotStrictError: any rule is broken.
    """
    if not raw.endswith(b"\r\n\r\n"):
        raise NotStrictError("the head does not end in an empty line")
    lines = raw[:-4].split(b"\r\n")
    found = _LINE.fullmatch(lines[0])
    if found is None:
        raise NotStrictError(f"request line {lines[0][:80]!r}")
    fields = [_FIELD.fullmatch(line) for line in lines[1:]]
    headers = []
    for field, line in zip(fields, lines[1:], strict=True):
        if field is None:
            raise NotStrictError(f"header line {line[:80]!r}")
        headers.append((field[1].lower(), field[2] or b""))
    head = Head(found[1], found[2], found[3], tuple(headers), None)
    return Head(head.method, head.target, head.version, head.headers, _framing(head))


def _framing(head: Head) -> int | None:
    """Length of the body, None for chunked."""
    hosts = len(head.values(b"host"))
    if hosts > 1 or (hosts == 0 and head.version == b"1.1"):
        raise NotStrictError(f"{hosts} Host headers")
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise NotStrictError("the body's length is told more than once")
    if codings:
        if codings[0].lower() != b"chunked" or head.version == b"1.0":
            raise NotStrictError(f"transfer coding {codings[0]!r} in HTTP/{head.version.decode()}")
        return None
    if not lengths:
        return 0
    if _DIGITS.fullmatch(lengths[0]) is None:
        raise NotStrictError(f"Content-Length {lengths[0][:40]!r}")
    return int(lengths[0])


def read_chunks(
    line: Callable[[], bytes], data: Callable[[int], bytes], extras: bool = False
) -> list[bytes]:
    """The chunks of a body.

    :param line: reads up to and with the next CR LF.
    :param data: reads so many bytes.
    :param extras: extensions and trailers may be there.
    :raises NotStrictError: any rule is broken.
    """
    chunks = []
    while True:
        size = (_CHUNK_EXTENDED if extras else _CHUNK).fullmatch(line()[:-2])
        if size is None:
            raise NotStrictError("a chunk's size")
        if length := int(size[1], 16):
            chunks.append(data(length))
            if data(2) != b"\r\n":
                raise NotStrictError("bytes after a chunk")
            continue
        while trailer := line()[:-2]:
            if not extras or _FIELD.fullmatch(trailer) is None:
                raise NotStrictError(f"trailer {trailer[:40]!r}")
        return chunks


class Bytes:
    """A place in bytes that are all there."""

    def __init__(self, raw: bytes, at: int = 0) -> None:
        self.raw = raw
        self.at = at

    def until(self, mark: bytes) -> bytes:
        """Up to and with a mark."""
        end = self.raw.find(mark, self.at)
        if end < 0:
            raise ShortError
        return self.take(end + len(mark) - self.at)

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if self.at + size > len(self.raw):
            raise ShortError
        self.at += size
        return self.raw[self.at - size : self.at]


def read_all(raw: bytes, extras: bool = True) -> tuple[list[tuple[Head, bytes]], str]:
    """The requests with which ``raw`` begins, and why reading ended.

    :param extras: chunked bodies may have extensions and trailers.

    A reason is empty when everything was read, ``"short"`` when the last one is not complete.
    """
    place = Bytes(raw)
    found: list[tuple[Head, bytes]] = []
    while place.at < len(raw):
        try:
            head = read_head(place.until(b"\r\n\r\n"))
            if head.length is None:
                body = b"".join(read_chunks(lambda: place.until(b"\r\n"), place.take, extras))
            else:
                body = place.take(head.length)
        except ShortError:
            return found, "short"
        except NotStrictError as error:
            return found, str(error)
        found.append((head, body))
    return found, ""


def second_opinion(raw: bytes, head: Head, body: bytes) -> str:
    """What h11 reads differently in the bytes of one request; empty when it agrees."""
    judge = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
    got: list[bytes] = []
    try:
        judge.receive_data(raw)
        first = judge.next_event()
        if not isinstance(first, h11.Request):
            return f"h11 reads {type(first).__name__}, not a request"
        while isinstance(event := judge.next_event(), h11.Data):
            got.append(bytes(event.data))
    except h11.RemoteProtocolError as error:
        return f"h11 refuses it: {error}"
    if not isinstance(event, h11.EndOfMessage):
        return "h11 waits for more"
    if list(event.headers):
        return f"h11 reads trailers: {list(event.headers)}"
    if judge.trailing_data[0]:
        return f"h11 reads bytes behind it: {judge.trailing_data[0][:80]!r}"
    if (first.method, first.target, first.http_version) != (head.method, head.target, head.version):
        return f"h11 reads {first.method!r} {first.target!r}"
    if list(first.headers) != [(name, _value(name, value)) for name, value in head.headers]:
        return f"h11 reads the headers {list(first.headers)}"
    return "" if b"".join(got) == body else "h11 reads another body"


def _value(name: bytes, value: bytes) -> bytes:
    return value.lower() if name == b"transfer-encoding" else value
