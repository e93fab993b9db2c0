# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies: how many of the bytes that came belong to one, and where it ends.

Chunked bodies have two readers. llhttp judges every byte and gives the content; it does not say
where in its input a message ended, so a small reader of our own follows the chunk sizes to find that
place. Where the two do not agree, the body is refused.
Source: RFC 9112, 6 and 7; https://llhttp.org.
"""

from __future__ import annotations

import re
from typing import Protocol

import httptools

from ds01.gateway.head import HttpError

SILENT_MAX = 64 * 1024
"""Bytes of chunk extensions or trailers that may come without one byte of the body."""
LINE_MAX = 8 * 1024
_PRIMER = (
    b"POST / HTTP/1.1\r\nHost: ds01\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[^\r\n]*)?\r\n")


class Body(Protocol):
    """A body that is being read.

    ``done``: its last byte was there.
    """

    done: bool

    def feed(self, data: memoryview) -> tuple[int, list[bytes | memoryview]]:
        """Take bytes that came.

        :returns: how many belong to it, framing included, and the content among them.
        :raises HttpError: they cannot belong to it.
        """


class Counted:
    """A body of a known length.

    :param length: bytes.
    """

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: memoryview) -> tuple[int, list[bytes | memoryview]]:
        taken = min(self.left, len(data))
        self.left -= taken
        self.done = self.left == 0
        return taken, [data[:taken]] if taken else []


class _Frames:
    """Follows the chunks of a body to its end; content is only counted."""

    __slots__ = ("_line", "_skip", "_trailers", "done")

    def __init__(self) -> None:
        self._skip = 0
        self._line = b""
        self._trailers = False
        self.done = False

    def feed(self, data: bytes) -> int:
        """How many of these bytes belong to the body."""
        at = 0
        while at < len(data) and not self.done:
            if self._skip:
                taken = min(self._skip, len(data) - at)
                self._skip -= taken
                at += taken
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or len(data)]
            at = end or len(data)
            if len(self._line) > LINE_MAX:
                raise HttpError(400, "the chunked body is broken: a line without an end")
            if end:
                self._take(self._line)
                self._line = b""
        return at

    def _take(self, line: bytes) -> None:
        if self._trailers:
            self.done = line == b"\r\n"
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise HttpError(400, "the chunked body is broken: this is no chunk size")
        length = int(size[1], 16)
        self._trailers = length == 0
        # The content's own line end counts to it.
        self._skip = length + 2 if length else 0


class Chunked:
    """A chunked body; extensions and trailers are read and dropped."""

    __slots__ = ("_ended", "_frames", "_parser", "_pieces", "_silent", "done")

    def __init__(self) -> None:
        self.done = False
        self._ended = False
        self._silent = 0
        self._pieces: list[bytes | memoryview] = []
        self._frames = _Frames()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_PRIMER)

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._ended = True

    def feed(self, data: memoryview) -> tuple[int, list[bytes | memoryview]]:
        raw = bytes(data)
        self._pieces = []
        taken = self._frames.feed(raw)
        try:
            self._parser.feed_data(raw if taken == len(raw) else raw[:taken])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise HttpError(400, f"the chunked body is broken: {str(error)[:120]}") from error
        if self._ended != self._frames.done:
            raise HttpError(400, "the chunked body is broken: its end is not clear")
        self.done = self._ended
        self._silent = 0 if self._pieces else self._silent + taken
        if self._silent > SILENT_MAX:
            raise HttpError(400, "the chunked body holds too much that is no content")
        return taken, self._pieces


class UntilClose:
    """A body that ends with its connection; only the engine's may."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: memoryview) -> tuple[int, list[bytes | memoryview]]:
        return len(data), [data]


def request_body(length: int | None) -> Body:
    """The reader of a request's body.

    :param length: bytes; None for a chunked one.
    """
    return Chunked() if length is None else Counted(length)


def response_body(length: int | None, chunked: bool) -> Body:
    """The reader of a response's body."""
    if chunked:
        return Chunked()
    return UntilClose() if length is None else Counted(length)


def chunk(pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Content as one chunk; nothing for no content, since an empty chunk would be the end."""
    size = sum(len(piece) for piece in pieces)
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


LAST_CHUNK = b"0\r\n\r\n"
