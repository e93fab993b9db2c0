# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes for the fuzz target: requests of the corpus, taken apart and put together wrongly."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

CORPUS = Path(__file__).resolve().parent / "gateway_corpus"


def corpus(name: str) -> list[bytes]:
    """The texts of a file of the corpus."""
    lines = (CORPUS / name).read_text(encoding="ascii").splitlines()
    told = [line for line in lines if line and not line.startswith("#")]
    return [ast.literal_eval("b'''" + line.replace("'", "\\'") + "'''") for line in told]


REQUESTS = corpus("requests.txt")
LINES = corpus("lines.txt")
BODIES = corpus("bodies.txt")

ENDS = [b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\r\n\t", b"\x00\r\n", b""]
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"PRI"]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/1.1 ", b""]
TARGETS = [
    b"/containers/x/json",
    b"/v1.45/containers/x/update",
    b"/containers/create?name=x",
    b"/v1.45/containers/x/exec",
    b"/images/load",
    b"/_ping",
    b"*",
    b"http://x/",
]
SPLICES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b"0",
    b"\xff",
    b";",
]


@st.composite
def _made(draw: st.DrawFn) -> bytes:
    """A request put together from lines."""
    first = b" ".join(
        draw(st.sampled_from(words)) for words in (METHODS, TARGETS, VERSIONS)
    ) + draw(st.sampled_from(ENDS))
    lines = draw(st.lists(st.sampled_from(LINES), max_size=5))
    if draw(st.integers(0, 5)):
        lines.insert(draw(st.integers(0, len(lines))), b"Host: docker")
    head = first + b"".join(line + draw(st.sampled_from(ENDS)) for line in lines)
    body = draw(st.one_of(st.just(b""), st.just(b"hello"), st.sampled_from(BODIES)))
    return head + draw(st.sampled_from(ENDS)) + body


@st.composite
def _broken(draw: st.DrawFn, texts: SearchStrategy[bytes]) -> bytes:
    """A text with a few of its bytes changed."""
    data = bytearray(draw(texts))
    for _time in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            data[at:at] = draw(st.sampled_from(SPLICES))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == 2 and at < len(data):
            data[at] = draw(st.integers(0, 255))
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


def requests() -> SearchStrategy[bytes]:
    """One request, good or bad."""
    good = st.sampled_from(REQUESTS)
    return st.one_of(good, _made(), _broken(good), _broken(_made()))


def streams() -> SearchStrategy[bytes]:
    """What a connection may carry: some requests, good or bad."""
    return st.lists(requests(), min_size=1, max_size=4).map(b"".join)


def bodies() -> SearchStrategy[bytes]:
    """A chunked body, good or bad, with anything behind it."""
    good = st.sampled_from(BODIES)
    own = st.lists(st.binary(min_size=1, max_size=40), max_size=5).map(
        lambda parts: b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    )
    behind = st.sampled_from([b"", b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"x"])
    return st.tuples(st.one_of(good, own, _broken(good), _broken(own)), behind).map(b"".join)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """The data in pieces that begin at these places."""
    return [data[a:b] for a, b in pairwise([0, *sorted(at), len(data)])]


def cuts(data: bytes) -> SearchStrategy[list[bytes]]:
    """The data in pieces, as writes or as reads may cut it."""
    return st.lists(st.integers(0, len(data)), max_size=6).map(lambda at: cut(data, at))
