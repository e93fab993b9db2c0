# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile request lines, headers and targets; see :mod:`hostile_http`."""

from __future__ import annotations

from collections.abc import Sequence

from hostile_http import CLOSE, HOST, SMUGGLED, Case, get, passes, post, refused


def line(first: bytes, end: bytes = SMUGGLED) -> bytes:
    """A request with this first line."""
    return first + b"\r\n" + HOST + b"\r\n" + end


def at(target: bytes, *lines: bytes) -> bytes:
    """A request for this target; a refusal of the target alone leaves the next request one."""
    return get(CLOSE, *lines, path=target)


def named(name: bytes) -> bytes:
    """A request with a header of this name."""
    return get(name + b": 1")


TLS = bytes.fromhex("16030100c4010000c00303") + bytes(range(180))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)

LINES: Sequence[Case] = (
    *(
        refused(f"request line {first!r}", line(first), 400, 405, 501, 505)
        for first in (
            b"GET  /containers/x/json HTTP/1.1",
            b"GET\t/containers/x/json\tHTTP/1.1",
            b"GET /containers/x/json  HTTP/1.1",
            b"GET /containers/x/json HTTP/1.1 ",
            b"GET /containers/x/json HTTP/1.1\t",
            b" GET /containers/x/json HTTP/1.1",
            b"\tGET /containers/x/json HTTP/1.1",
            b"GET /containers/x /json HTTP/1.1",
            b"GET /containers/x/json\x00 HTTP/1.1",
            b"GET /containers/x/json HTTP/1.1\x00",
            b"GET /containers/x/json\x0bHTTP/1.1",
            b"GET\xa0/containers/x/json HTTP/1.1",
            b"GET /containers/x/json HTTP/1.1\r",
            b"GET /containers/x/json HTTP/1.1\nX: 1",
            b"GET /containers/x/json\r HTTP/1.1",
            b"GET /containers/x/json",
            b"GET",
            b"GET /containers/x/json HTTP/0.9",
            b"GET /containers/x/json HTTP/1.2",
            b"GET /containers/x/json HTTP/1.10",
            b"GET /containers/x/json HTTP/01.1",
            b"GET /containers/x/json HTTP/1",
            b"GET /containers/x/json HTTP/1.",
            b"GET /containers/x/json HTTP/2.0",
            b"GET /containers/x/json HTTP/3.0",
            b"GET /containers/x/json HTTP/1,1",
            b"GET /containers/x/json HTTP/+1.1",
            b"GET /containers/x/json HTTP /1.1",
            b"GET /containers/x/json http/1.1",
            b"GET /containers/x/json HTTPS/1.1",
            b"GET /containers/x/json ICE/1.1",
            b"GET /containers/x/json RTSP/1.0",
            b"get /containers/x/json HTTP/1.1",
            b"Get /containers/x/json HTTP/1.1",
            b"GE T /containers/x/json HTTP/1.1",
            b"G\x00ET /containers/x/json HTTP/1.1",
            b"GETT /containers/x/json HTTP/1.1",
            b"SOURCE /containers/x/json HTTP/1.1",
            b"M-SEARCH * HTTP/1.1",
            b"FOO /containers/x/json HTTP/1.1",
            b"CONNECT docker:80 HTTP/1.1",
            b"CONNECT /containers/x/json HTTP/1.1",
            b"TRACE /containers/x/json HTTP/1.1",
            b"TRACK /containers/x/json HTTP/1.1",
            b"PURGE /containers/x/json HTTP/1.1",
            b"PROPFIND /containers/x/json HTTP/1.1",
            b"OPTIONS * HTTP/1.1\r\nConnection: close",
            b"GET * HTTP/1.1\r\nConnection: close",
        )
    ),
    refused("HTTP/0.9", b"GET /containers/x/json\r\n\r\n" + SMUGGLED, 400, 505),
    refused("the preface of HTTP/2", PREFACE, 400, 505),
    refused("the greeting of TLS", TLS),
    refused("the greeting of ssh", b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n" + SMUGGLED),
    refused("zeros", bytes(2000)),
    refused("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + SMUGGLED),
    refused("a JSON text", b'{"GET": "/containers/x/json HTTP/1.1"}\r\n\r\n' + SMUGGLED),
    refused("an empty line before", b"\r\n" + get()),
    refused("many empty lines before", b"\r\n" * 50 + get()),
    refused("a bare LF before", b"\n" + get()),
    refused("all lines with LF alone", get().replace(b"\r\n", b"\n"), 400, 408),
    refused("all lines with CR alone", get().replace(b"\r\n", b"\r"), 400, 408),
    refused(
        "the empty line with LF alone", get(end=b"").replace(b"\r\n\r\n", b"\r\n\n") + SMUGGLED
    ),
)

NAMES: Sequence[Case] = (
    *(
        refused(f"header name {name!r}", named(name))
        for name in (
            b"",
            b" X",
            b"\tX",
            b"X ",
            b"X\t",
            b"X Y",
            b"X\x00",
            b"X\x7f",
            b"X(",
            b"X/Y",
            b"X[",
            b'"X"',
            b"X@",
            b"X;",
            b"X=",
            b"X\\",
            b"{X}",
            b"X\xc3\xa9",
            b"\xef\xbc\xb8",
            b"X\r",
            b"\rX",
            b"X\n",
        )
    ),
    refused("a header without a colon", get(b"X")),
    refused("a line of blanks", get(b"   ")),
    refused("a folded header", get(b"X: a", b" b")),
    refused("a header folded with a tab", get(b"X: a", b"\tb")),
    refused("a header with a NUL", get(b"X: a\x00b")),
    refused("a header with a DEL", get(b"X: a\x7fb")),
    refused("a header with an escape", get(b"X: \x1b[2J")),
    refused("a header with a bare CR", get(b"X: a\rb")),
    refused("a header with a bare LF", get(b"X: a\nb")),
    refused("1000 headers", get(*(b"X-%d: 1" % n for n in range(1000))), 431),
    refused("a header of 100 KB", get(b"X: " + b"a" * 100_000), 431),
    refused("a header name of 100 KB", get(b"X" * 100_000 + b": 1"), 431),
    refused("a target of 100 KB", at(b"/containers/x/json?a=" + b"a" * 100_000), 414, 431),
    refused("a head without end", b"GET / HTTP/1.1\r\n" + b"X: aaaaaaaa\r\n" * 200_000, 431),
    refused("a line without end", b"GET /" + b"a" * 2_000_000, 431),
    passes("a header with an underscore", get(b"X_Y: 1", CLOSE)),
    passes("a header of 8 KB", get(b"X: " + b"a" * 8000, CLOSE)),
    passes("60 headers", get(*(b"X-%d: 1" % n for n in range(60)), CLOSE)),
    passes("an empty header", get(b"X:", CLOSE)),
)

MEANINGS: Sequence[Case] = (
    refused("no Host", b"GET /containers/x/json HTTP/1.1\r\n\r\n" + SMUGGLED),
    refused("two Hosts", get(b"Host: other")),
    refused("two equal Hosts", get(b"Host: docker")),
    *(
        refused(
            f"Host {value!r}",
            b"GET /containers/x/json HTTP/1.1\r\nHost: " + value + b"\r\n\r\n" + SMUGGLED,
        )
        for value in (b"a b", b"a, b", b"a@b", b"a\x00", b"\xc3\xa9", b"a?b", b"a#b", b"<a>", b'"')
    ),
    refused(
        "Host folded", b"GET /containers/x/json HTTP/1.1\r\nHost:\r\n docker\r\n\r\n" + SMUGGLED
    ),
    passes("an empty Host", b"GET /containers/x/json HTTP/1.1\r\nHost:\r\n" + CLOSE + b"\r\n\r\n"),
    *(
        refused(f"Connection {value!r}", get(b"Connection: " + value))
        for value in (
            b"content-length",
            b"close, content-length",
            b"transfer-encoding",
            b"host",
            b"keep-alive, Host",
            b"authorization",
            b"x-registry-auth",
            b"close x",
            b"connection\x00",
        )
    ),
    passes("Connection close in capitals", get(b"Connection: CLOSE")),
    passes("Connection keep-alive and close", get(b"Connection: keep-alive, close")),
    passes("two Connections", get(b"Connection: keep-alive", b"Connection: close")),
    *(
        refused(f"Expect {value!r}", post(b"Expect: " + value, b"Content-Length: 0"), 400, 417)
        for value in (b"200-ok", b"100-continue, 100-continue", b"100-continue;q=1", b"", b"x")
    ),
    refused(
        "two Expects",
        post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 0"),
    ),
    *(
        refused(f"Upgrade {value!r}", get(b"Connection: Upgrade", b"Upgrade: " + value), 400, 403)
        for value in (b"websocket", b"h2c", b"HTTP/2.0", b"TLS/1.2", b"tcp, h2c", b"x", b"")
    ),
    refused(
        "Upgrade to h2c with its settings",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        400,
        403,
    ),
    refused(
        "Upgrade of an attach to h2c",
        b"POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"
        b"Upgrade: h2c\r\nContent-Length: 0\r\n\r\n" + PREFACE,
        400,
        403,
    ),
    refused(
        "two Upgrades", get(b"Connection: Upgrade", b"Upgrade: tcp", b"Upgrade: h2c"), 400, 403
    ),
)

TARGETS: Sequence[Case] = tuple(
    refused(f"target {target!r}", at(target), 400, 403, 404, 301)
    for target in (
        b"http://docker/containers/x/json",
        b"HTTP://docker/containers/x/json",
        b"unix:///containers/x/json",
        b"docker:80",
        b"docker",
        b"containers/x/json",
        b"*",
        b"?a=b",
        b"#",
        b"//docker/containers/x/json",
        b"//containers/x/json",
        b"/containers//x/json",
        b"/containers/x//json",
        b"/containers/../containers/x/json",
        b"/containers/x/../../json",
        b"/../containers/x/json",
        b"/./containers/x/json",
        b"/containers/./x/json",
        b"/containers/x/json/.",
        b"/containers/x/json/..",
        b"/containers/x/json/../smuggled/json",
        b"/containers/%2e%2e/json",
        b"/containers/%2E%2E/x/json",
        b"/containers/%2e/x/json",
        b"/containers/.%2e/x/json",
        b"/containers/%252e%252e/json",
        b"/containers/x%252fjson",
        b"/containers/x%00/json",
        b"/containers/x%0a/json",
        b"/containers/x%0d%0aX:1/json",
        b"/containers/x%20HTTP/1.1/json",
        b"/containers/x%7f/json",
        b"/containers/x%/json",
        b"/containers/x%zz/json",
        b"/containers/x%2/json",
        b"/containers/x%u002e/json",
        b"/containers/%c0%ae%c0%ae/json",
        b"/containers/%ff/json",
        b"/containers/x\\json",
        b"/containers/x%5cjson",
        b"/containers/\xc3\xa9/json",
        b"/containers/x/json#fragment",
        b"/containers/x/json?a=b#fragment",
        b"/containers/x/json?a=\x01",
        b"/containers/x/json?a=\xff",
        b"/v1.45//containers/x/json",
        b"/v1.45/../containers/x/json",
        b"/v1.45",
        b"/v1.99/containers/x/json",
        b"/v1.1/containers/x/json",
        b"/v99999999999999999999.1/containers/x/json",
    )
)

# What is decoded once, and sent on in the one spelling.
DECODED: Sequence[Case] = tuple(
    Case(f"target {target!r} is spelled out", at(target), ((200,),), (("GET", spelled, b""),))
    for target, spelled in (
        (b"/containers%2fx/json", "/containers/x/json"),
        (b"/containers/x%2Fjson", "/containers/x/json"),
        (b"/%63ontainers/%78/json", "/containers/x/json"),
        (b"/v1%2e45/containers/x/json", "/v1.45/containers/x/json"),
        (b"/containers/x%3Ay/json", "/containers/x:y/json"),
        (b"/containers/x/json?", "/containers/x/json"),
        (b"/containers/x/json?a=%2e%2e%2f&b=//", "/containers/x/json?a=%2e%2e%2f&b=//"),
    )
)

HEADS: Sequence[Case] = (*LINES, *NAMES, *MEANINGS, *TARGETS, *DECODED)
