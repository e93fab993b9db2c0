# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes that somebody hostile, old or broken sends, and what must come of each.

Behind most of them stands a request for ``/containers/smuggled/json``: it may never arrive.
Source: RFC 9112 (11.2, request smuggling); the requests of h2o, Go net/http and llhttp's tests that
proxies were caught by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOST = b"Host: docker\r\n"
SMUGGLED = b"GET /containers/smuggled/json HTTP/1.1\r\n" + HOST + b"\r\n"
Asked = tuple[str, str, bytes]


@dataclass(frozen=True)
class Case:
    """Bytes, and what must come of them.

    :param answers: the status codes that each answer may have, in order; then the door closes.
        Without any the door closes without a word.
    :param reach: the requests that the engine gets, whole, in order.
    :param partial: the one request whose beginning the engine may get, never its end.
    """

    name: str
    raw: bytes
    answers: tuple[tuple[int, ...], ...] = ((400,),)
    reach: tuple[Asked, ...] = ()
    partial: str = ""


def get(*lines: bytes, path: bytes = b"/containers/x/json", end: bytes = SMUGGLED) -> bytes:
    """A GET with header lines; what comes behind it would be the smuggled request."""
    head = [b"GET " + path + b" HTTP/1.1", b"Host: docker", *lines, b"", b""]
    return b"\r\n".join(head) + end


def post(*lines: bytes, body: bytes = b"", end: bytes = SMUGGLED) -> bytes:
    """A POST with header lines and a body."""
    head = [b"POST /containers/x/update HTTP/1.1", b"Host: docker", *lines, b"", b""]
    return b"\r\n".join(head) + body + end


def chunked(body: bytes, end: bytes = SMUGGLED) -> bytes:
    """A POST whose chunked body is as given."""
    return post(b"Transfer-Encoding: chunked", body=body, end=end)


def refused(name: str, raw: bytes, *status: int) -> Case:
    """Nothing reaches the engine."""
    return Case(name, raw, (status or (400,),))


def broken(name: str, raw: bytes, *status: int) -> Case:
    """The head is proper, what follows is not: the engine never gets the end of it."""
    return Case(name, raw, (status or (400,),), partial="/containers/x/update")


CLOSE = b"Connection: close"


def passes(name: str, raw: bytes, body: bytes = b"") -> Case:
    """A proper request; it says itself that nothing follows, so what follows is not looked at."""
    method, target = raw.split(b" ", 2)[:2]
    return Case(name, raw, ((200,),), ((method.decode(), target.decode(), body),))


HELLO = b"5\r\nhello\r\n0\r\n\r\n"

LENGTHS: Sequence[Case] = (
    refused(
        "length and chunked",
        post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    refused(
        "chunked and length",
        post(b"Transfer-Encoding: chunked", b"Content-Length: 6", body=b"0\r\n\r\n"),
    ),
    refused(
        "length 0 and chunked",
        post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    refused(
        "chunked and length 0",
        post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"),
    ),
    refused("two lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello")),
    refused("two equal lengths", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    refused("two lengths, cases", post(b"content-length: 5", b"CONTENT-LENGTH: 0", body=b"hello")),
    *(
        refused(f"length {value!r}", post(b"Content-Length: " + value, body=b"hello"))
        for value in (
            b"5, 5",
            b"5,5",
            b"5 5",
            b"+5",
            b"-5",
            b"-0",
            b"0x5",
            b"5;",
            b"5.0",
            b"1_0",
            b"1e1",
            b"",
            b"five",
            b"\xd9\xa5",
            b"\xef\xbc\x95",
            b"5\x00",
            b"5\x0b",
            b"\x0c5",
            b"5\xa0",
            b"9" * 30,
            b"18446744073709551616",
            b"18446744073709551621",
            b'"5"',
        )
    ),
    refused("length folded", post(b"Content-Length:", b" 5", body=b"hello")),
    refused("length on the next line", post(b"Content-Length: ", b"\t5", body=b"hello")),
    refused("length, space before the colon", post(b"Content-Length : 5", body=b"hello")),
    passes("length with zeros", post(b"Content-Length: 0005", CLOSE, body=b"hello"), b"hello"),
    refused("length in tabs", post(b"Content-Length:\t5\t", CLOSE, body=b"hello")),
    passes("no length", post(CLOSE)),
    passes("GET with a body", get(b"Content-Length: 5", CLOSE, end=b"hello" + SMUGGLED), b"hello"),
)

CODINGS: Sequence[Case] = (
    *(
        refused(f"coding {value!r}", post(b"Transfer-Encoding: " + value, body=HELLO), 400, 501)
        for value in (
            b"xchunked",
            b"chunkedx",
            b"chunked, chunked",
            b"chunked,",
            b", chunked",
            b"identity",
            b"identity, chunked",
            b"chunked, identity",
            b"gzip, chunked",
            b"gzip",
            b"",
            b'"chunked"',
            b"'chunked'",
            b"chunked;q=1",
            b"chunked\x0b",
            b"\x0bchunked",
            b"chunked\x00",
            b"chun ked",
            b"\xc4\x8dhunked",
        )
    ),
    refused(
        "two codings",
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=HELLO),
        400,
        501,
    ),
    refused(
        "two codings, one unknown",
        post(b"Transfer-Encoding: chunked", b"Transfer-encoding: cow", body=HELLO),
        400,
        501,
    ),
    refused("coding folded", post(b"Transfer-Encoding:", b" chunked", body=HELLO)),
    refused(
        "coding, folded value", post(b"Transfer-Encoding: x,", b" chunked", body=HELLO), 400, 501
    ),
    refused("coding, space before the colon", post(b"Transfer-Encoding : chunked", body=HELLO)),
    refused("coding, tab before the colon", post(b"Transfer-Encoding\t: chunked", body=HELLO)),
    refused("coding, space before the name", post(b" Transfer-Encoding: chunked", body=HELLO)),
    refused("coding behind a bare CR", post(b"X: a\rTransfer-Encoding: chunked", body=HELLO)),
    refused("coding behind a bare LF", post(b"X: a\nTransfer-Encoding: chunked", body=HELLO)),
    refused("coding behind a NUL", post(b"X: a\x00Transfer-Encoding: chunked", body=HELLO)),
    refused("coding with a NUL in its name", post(b"Transfer-Encoding\x00: chunked", body=HELLO)),
    refused("coding with a bare CR", post(b"Transfer-Encoding: chunked\r", body=HELLO)),
    refused(
        "coding in HTTP/1.0",
        b"POST /containers/x/update HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + SMUGGLED,
    ),
    passes("coding in capitals", post(b"TRANSFER-ENCODING: CHUNKED", CLOSE, body=HELLO), b"hello"),
    refused("coding in tabs", post(b"Transfer-Encoding:\tchunked\t", CLOSE, body=HELLO), 400, 501),
    Case(
        "coding with an underscore is no coding",
        post(b"Transfer_Encoding: chunked", body=b"0\r\n\r\n"),
        ((200,), (400,)),
        (("POST", "/containers/x/update", b""),),
    ),
)

CHUNKS: Sequence[Case] = (
    *(
        broken(f"chunk size {size!r}", chunked(size + b"\r\nhello\r\n0\r\n\r\n"))
        for size in (
            b"0x5",
            b"+5",
            b"-5",
            b" 5",
            b"5 ",
            b"5\t",
            b"\t5",
            b"",
            b"g",
            b"5g",
            b"5,",
            b"5\x00",
            b"5.0",
            b"1" * 17,
            b"0" * 17 + b"5",
            b"10000000000000005",
            b"\xef\xbc\x95",
            b"5\r",
            b"5\n",
        )
    ),
    broken("chunk longer than told", chunked(b"4\r\nhello\r\n0\r\n\r\n")),
    broken("chunk shorter than told", chunked(b"6\r\nhello\r\n0\r\n\r\n")),
    broken("chunk without its line end", chunked(b"5\r\nhello0\r\n\r\n")),
    broken("chunk with LF alone", chunked(b"5\nhello\n0\n\n")),
    broken("chunk with LF behind its data", chunked(b"5\r\nhello\n0\r\n\r\n")),
    broken("chunk with CR alone", chunked(b"5\rhello\r0\r\r")),
    broken("chunk with CR LF LF", chunked(b"5\r\nhello\r\n\n0\r\n\r\n")),
    broken("last chunk with LF alone", chunked(b"5\r\nhello\r\n0\n\n")),
    broken("extension with a bare CR", chunked(b"5;a=\rb\r\nhello\r\n0\r\n\r\n")),
    broken("extension with a bare LF", chunked(b"5;a=b\nc\r\nhello\r\n0\r\n\r\n")),
    broken("extension with a quoted line end", chunked(b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n')),
    broken("extension with a NUL", chunked(b"5;a=\x00\r\nhello\r\n0\r\n\r\n")),
    broken("extension without end", chunked(b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n")),
    broken("extensions without content", chunked(b"0" * 15 + b"5;" + b"a" * 9000 + b"\r\nhello")),
    broken("a request for a trailer", chunked(b"5\r\nhello\r\n0\r\n")),
    broken("trailer with a space in its name", chunked(b"5\r\nhello\r\n0\r\nA B: c\r\n\r\n")),
    broken("trailer with LF alone", chunked(b"5\r\nhello\r\n0\r\nA: b\n\r\n")),
    broken("trailer with a NUL", chunked(b"5\r\nhello\r\n0\r\nA: \x00\r\n\r\n")),
    broken(
        "trailer without end", chunked(b"5\r\nhello\r\n0\r\nA: " + b"a" * 200_000 + b"\r\n\r\n")
    ),
    broken(
        "trailers without end", chunked(b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 40_000 + b"\r\n")
    ),
    passes("chunks", post(b"Transfer-Encoding: chunked", CLOSE, body=HELLO), b"hello"),
    passes(
        "chunk sizes in either case, with zeros",
        post(
            b"Transfer-Encoding: chunked",
            CLOSE,
            body=b"00A\r\n0123456789\r\n0b\r\n0123456789a\r\n000\r\n\r\n",
        ),
        b"01234567890123456789a",
    ),
    passes(
        "extensions are dropped",
        post(
            b"Transfer-Encoding: chunked",
            CLOSE,
            body=b'5;a=b;c="d"\r\nhello\r\n0;last\r\n\r\n',
        ),
        b"hello",
    ),
    *(
        passes(
            f"trailer {line!r} is dropped",
            post(
                b"Transfer-Encoding: chunked",
                CLOSE,
                body=b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n",
            ),
            b"hello",
        )
        for line in (b"Digest: 1", b"Host: other", b"Authorization: Basic eA==")
    ),
    passes(
        "very small chunks in one piece",
        post(
            b"Transfer-Encoding: chunked",
            CLOSE,
            body=b"1\r\na\r\n" * 30_000 + b"0\r\n\r\n",
        ),
        b"a" * 30_000,
    ),
)
