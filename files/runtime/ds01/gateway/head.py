# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads of requests and responses: read strictly, written anew.

The parser is llhttp (through httptools) without any of its leniencies. What it still lets pass and a
second reader might read otherwise is refused before: a bare CR or LF, a folded line, a repeated
header that may stand only once, a name in ``Connection`` that frames or routes the message. Nothing
of a request's head goes on as it came: the engine gets a head that is built from what was read.
Source: RFC 9110, RFC 9112; https://llhttp.org.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

HEAD_MAX = 64 * 1024
"""Bytes of a head, its last empty line included."""
HEADERS_MAX = 100
BODY_MAX = 2**62
_TWO_LENGTHS = "both Content-Length and Transfer-Encoding are there"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
#: They are about one connection, and each of ours has its own (RFC 9110, 7.6.1).
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"expect",
        b"http2-settings",
    }
)
#: Two of them are two answers to one question.
_ONCE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"authorization",
        b"range",
        b"user-agent",
        b"x-registry-auth",
        b"x-registry-config",
    }
)
#: What ``Connection`` may name: itself, or headers that no reader needs.
_FIRST = re.compile(rb"[A-Z-]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n")
_CONNECTION = re.compile(rb"(close|keep-alive|upgrade|te|http2-settings)", re.I)
_VALUE = re.compile(rb"[\x20-\x7e\t]*")
_HOST = re.compile(rb"[A-Za-z0-9.:_%\[\]~/-]*")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_RAW_STREAMS = (b"application/vnd.docker.raw-stream", b"application/vnd.docker.multiplexed-stream")


class HttpError(Exception):
    """A message that is not passed on.

    :param status: of the answer.
    :param what: the fault in plain words.
    :param remedy: what to do.
    """

    def __init__(self, status: int, what: str, remedy: str = "") -> None:
        self.status = status
        self.what = what
        self.remedy = remedy
        super().__init__(what)


@dataclass(slots=True)
class RequestHead:
    """What a client asks.

    :param target: as it came, judged by others.
    :param minor: of the HTTP version, 0 or 1.
    :param headers: names as they came, with values; those about the connection left out.
    :param length: bytes of the body; None for a chunked one.
    :param keep_alive: whether the client wants to go on after the answer.
    :param upgrade: the protocol that it asks for, in lower case.
    :param expects: whether it waits for ``100 Continue``.
    """

    method: str
    target: bytes
    minor: int
    headers: list[tuple[bytes, bytes]]
    length: int | None = 0
    keep_alive: bool = True
    upgrade: str = ""
    expects: bool = False


@dataclass(slots=True)
class ResponseHead:
    """What the engine answers.

    :param length: bytes of the body; None for one that is chunked or ends with the connection.
    :param keep_alive: whether the engine goes on after it.
    :param api: the engine's newest API version, as it says.
    :param raw_stream: whether a body without an end is the raw stream of a hijacked connection.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    length: int | None = None
    chunked: bool = False
    keep_alive: bool = True
    api: bytes = b""
    raw_stream: bool = False


class _Head:
    """Gathers what the parser finds."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def find_end(data: bytes, start: int = 0, reply: bool = False) -> int:
    """Where a head ends: the index after its empty line, or -1 when it is not all there.

    :param start: how much was searched before.
    :param reply: it is the engine's.
    :raises HttpError: it is too long, or can no more become a head.
    """
    if data and not 65 <= data[0] <= 90:
        # Another protocol, such as TLS, or an empty line: no need to wait for more of it.
        raise HttpError(502 if reply else 400, "this is no HTTP")
    found = data.find(b"\r\n\r\n", max(0, start - 3))
    if found >= 0 and found + 4 <= HEAD_MAX:
        return found + 4
    if found >= 0 or len(data) >= HEAD_MAX:
        raise HttpError(502 if reply else 431, f"a head is longer than {HEAD_MAX} bytes")
    return -1


def parse_request(raw: bytes) -> RequestHead:
    """Read a whole head.

    :param raw: from its first byte to its empty line.
    :raises HttpError: it is not exactly one request of HTTP/1.0 or 1.1 that all read alike.
    """
    if raw.startswith(b"PRI * HTTP/2"):
        raise HttpError(505, "HTTP/2 is not spoken here")
    _refuse_odd_lines(raw)
    if not _FIRST.match(raw):
        raise HttpError(400, "this is no HTTP request")
    found = _Head()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade as upgrade:
        if upgrade.args[0] != len(raw):
            raise HttpError(400, "the head goes on after its end") from upgrade
    except httptools.HttpParserError as error:
        raise HttpError(400, f"this is no HTTP request: {_words(error)}") from error
    method = parser.get_method().decode("ascii", "replace")
    if method not in METHODS:
        raise HttpError(501, f"the method {method[:20]!r} is not used by Docker")
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise HttpError(505, f"HTTP/{version} is not spoken here")
    return _request(method, found, 1 if version == "1.1" else 0)


def refuse_odd_start(raw: bytes) -> None:
    """Refuse the part of a head that is there when nothing that follows can mend it.

    :raises HttpError: a line of it does not end in CR LF.
    """
    lines = raw.count(b"\r\n")
    if raw.count(b"\n") != lines or raw.count(b"\r", 0, len(raw) - 1) != lines:
        raise HttpError(400, "a line of the head does not end in CR LF")


def _refuse_odd_lines(raw: bytes) -> None:
    lines = raw.count(b"\r\n")
    if lines != raw.count(b"\n") or lines != raw.count(b"\r"):
        raise HttpError(400, "a line of the head does not end in CR LF")
    if b"\r\n " in raw or b"\r\n\t" in raw:
        raise HttpError(400, "a header goes over two lines")
    if lines > HEADERS_MAX + 2:
        raise HttpError(431, f"the request has more than {HEADERS_MAX} headers")


def _words(error: Exception) -> str:
    return str(error)[:120].replace("`", "")


def _request(method: str, found: _Head, minor: int) -> RequestHead:
    head = RequestHead(method, found.url, minor, [], keep_alive=minor == 1)
    seen: set[bytes] = set()
    for name, value in found.headers:
        lower = name.lower()
        if lower in _ONCE:
            if lower in seen:
                raise HttpError(400, f"the header {_text(name)} is there twice")
            seen.add(lower)
        if not _VALUE.fullmatch(value):
            raise HttpError(400, f"the header {_text(name)} holds bytes that are no text")
        if lower in _HOP:
            _hop(head, lower, value, b"content-length" in seen)
        else:
            head.headers.append((name, value))
            if lower == b"host" and not _HOST.fullmatch(value):
                raise HttpError(400, "the header Host names no host")
    if minor == 1 and b"host" not in seen:
        raise HttpError(400, "the header Host is missing")
    if minor == 0:
        if head.length is None:
            raise HttpError(400, "HTTP/1.0 knows no chunked body")
        head.keep_alive = False
        # An HTTP/1.0 client does not know what it would wait for (RFC 9110, 10.1.1).
        head.expects = False
    return head


def _hop(head: RequestHead, name: bytes, value: bytes, has_length: bool) -> None:
    """A header about the connection: what it means for this one."""
    if name in (b"content-length", b"transfer-encoding"):
        _frame(head, name, value, has_length)
    elif name == b"connection":
        for token in value.split(b","):
            token = token.strip(b" \t").lower()
            if token and not _CONNECTION.fullmatch(token):
                raise HttpError(400, f"the header Connection names {_text(token)}")
            if token == b"close":
                head.keep_alive = False
    elif name == b"upgrade":
        head.upgrade = _text(value).lower() or "?"
    elif name == b"expect":
        if value.lower() != b"100-continue":
            raise HttpError(417, "no expectation but 100-continue can be met")
        head.expects = True


def _frame(head: RequestHead, name: bytes, value: bytes, has_length: bool) -> None:
    """A header that tells where the body ends: exactly one of them, and one way to read it."""
    if name == b"content-length":
        if not _LENGTH.fullmatch(value) or int(value) > BODY_MAX:
            raise HttpError(400, "the header Content-Length is no length")
        if head.length is None:
            raise HttpError(400, _TWO_LENGTHS)
        head.length = int(value)
    else:
        if value.lower() != b"chunked":
            raise HttpError(501, "no transfer encoding but chunked is spoken here")
        if has_length:
            raise HttpError(400, _TWO_LENGTHS)
        head.length = None


def _text(value: bytes) -> str:
    return value[:60].decode("ascii", "replace")


def build_request(head: RequestHead, target: bytes, close: bool) -> bytes:
    """The head that the engine gets.

    :param target: as judged.
    :param close: whether the engine shall end the connection after its answer.
    """
    lines = [b"%s %s HTTP/1.%d" % (head.method.encode(), target, head.minor)]
    lines += [b"%s: %s" % pair for pair in head.headers]
    if head.length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif head.length or head.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % head.length)
    if head.upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade.encode())
    elif close:
        lines.append(b"Connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def parse_response(raw: bytes, method: str) -> ResponseHead:
    """Read the head of the engine's answer.

    :param raw: from its first byte to its empty line.
    :param method: of the request: the answer to HEAD has no body.
    :raises HttpError: it is none that can be passed on (502).
    """
    found = _Head()
    parser = httptools.HttpResponseParser(found)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HttpError(502, f"the engine's answer is no HTTP: {_words(error)}") from error
    head = ResponseHead(parser.get_status_code(), found.headers)
    head.keep_alive = parser.get_http_version() == "1.1"
    _read_reply_headers(head)
    if head.length == -1 or (head.chunked and head.length is not None):
        raise HttpError(502, "the length of the engine's answer is not clear")
    if method == "HEAD" or head.status in (204, 304) or head.status < 200:
        head.length, head.chunked = 0, False
    elif head.length is None and not head.chunked:
        head.keep_alive = False
    return head


def _read_reply_headers(head: ResponseHead) -> None:
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"content-length":
            head.length = int(value) if _LENGTH.fullmatch(value) else -1
        elif lower == b"transfer-encoding":
            if value.lower() != b"chunked" or head.chunked:
                raise HttpError(502, "the engine's answer has an unknown transfer encoding")
            head.chunked = True
        elif lower == b"connection":
            head.keep_alive = head.keep_alive and b"close" not in value.lower()
        elif lower == b"api-version":
            head.api = value
        elif lower == b"content-type":
            head.raw_stream = value.startswith(_RAW_STREAMS)


def build_response(head: ResponseHead, changed: dict[bytes, bytes]) -> bytes:
    """The engine's head with other values for some of its headers.

    :param changed: lower-case name → value; a header that is not there yet is added, one with an
        empty value is left out.
    """
    reason = REASONS.get(head.status, "Status")
    lines = [b"HTTP/1.1 %d %s" % (head.status, reason.encode())]
    left = dict(changed)
    for name, value in head.headers:
        lower = name.lower()
        if lower in changed:
            value = left.pop(lower, b"")
            if not value:
                continue
        lines.append(b"%s: %s" % (name, value))
    lines += [b"%s: %s" % (name.title(), value) for name, value in left.items() if value]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


REASONS = {
    101: "UPGRADED",
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
