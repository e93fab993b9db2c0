# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user who asks for all he can get: a thousand connections, on each a request after the other.

Usage: ``python gateway_hog.py SOCKET UID CONNECTIONS PAUSE``; as root, who becomes that user. A
connection that is refused is tried again after a pause in seconds. Ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import socket
import sys
import time

REQUEST = b"GET /containers/x/json HTTP/1.1\r\nHost: docker\r\n\r\n"


def main() -> None:
    """Ask and ask."""
    path, uid, count, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin, selectors.EVENT_READ)
    later: list[float] = [0.0] * count
    answers = 0
    while True:
        now = time.monotonic()
        while later and later[0] <= now:
            later.pop(0)
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            sock.setblocking(False)
            watch.register(sock, selectors.EVENT_READ)
            with contextlib.suppress(BrokenPipeError):
                sock.send(REQUEST)
        for key, _mask in watch.select(pause):
            if key.fileobj is sys.stdin:
                print(answers, flush=True)
                return
            sock = key.fileobj  # type: ignore[assignment]
            try:
                data = sock.recv(65536)
                if data:
                    answers += 1
                    sock.send(REQUEST)
                    continue
            except OSError:
                pass
            watch.unregister(sock)
            sock.close()
            later.append(time.monotonic() + pause)


if __name__ == "__main__":
    main()
