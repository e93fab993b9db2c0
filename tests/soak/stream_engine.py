# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine for large streams: takes and gives the pattern as fast as it can, and tells the sums.

Usage: ``python -m soak.stream_engine SOCKET``. A word of the target says what to do: ``sink``,
``chunks``, ``close``, ``length``, ``both``; ``bytes=N`` how much. Anything else is answered shortly.
"""

from __future__ import annotations

import io
import json
import re
import socket
import sys
import threading

from soak.stream_pattern import Sum, reader, send_chunked, send_plain

_BYTES = re.compile(r"bytes=(\d+)")
_API = b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\n"


def serve(sock: socket.socket) -> None:
    """Requests of one connection."""
    with sock, reader(sock) as stream:
        try:
            while first := stream.readline():
                headers = {}
                while (line := stream.readline()) not in (b"\r\n", b""):
                    name, _colon, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                answer(sock, stream, first.decode().split(" ")[1], headers)
                if headers.get(b"connection", b"").lower() in (b"close", b"upgrade"):
                    return
        except (OSError, EOFError):
            return


def answer(
    sock: socket.socket, stream: io.BufferedReader, target: str, headers: dict[bytes, bytes]
) -> None:
    """Answer one request."""
    got = Sum()
    if headers.get(b"transfer-encoding"):
        got.chunked(stream)
    else:
        got.counted(stream, int(headers.get(b"content-length", b"0")))
    found = _BYTES.search(target)
    size = int(found[1]) if found else 0
    if "both" in target:
        both(sock, stream, size)
    elif "chunks" in target:
        sock.sendall(_API + b"Transfer-Encoding: chunked\r\n\r\n")
        send_chunked(sock, size)
    elif "length" in target:
        sock.sendall(_API + b"Content-Length: %d\r\n\r\n" % size)
        send_plain(sock, size)
    elif "close" in target:
        sock.sendall(_API + b"Connection: close\r\n\r\n")
        send_plain(sock, size)
        raise EOFError
    else:
        body = json.dumps([got.size, got.crc]).encode()
        sock.sendall(_API + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def both(sock: socket.socket, stream: io.BufferedReader, size: int) -> None:
    """A hijacked stream: the pattern down, while what comes up is summed; the sum is said last."""
    sock.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
    down = threading.Thread(target=send_plain, args=(sock, size))
    down.start()
    got = Sum()
    got.rest(stream)
    down.join()
    sock.sendall(json.dumps([got.size, got.crc]).encode())


def main() -> None:
    """Listen until killed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(1024)
        while True:
            sock, _address = listener.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
