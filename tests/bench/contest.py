# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contestants of the door's benchmark: nothing, HAProxy in both of its modes, and ds01."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from ds01.core.gateway_settings import GatewaySettings
from ds01.core.store import migrate
from native_engine import PATH, call, wait_until
from soak.house import House

DIRECT = "direct"
HAPROXY = "HAProxy"
HAPROXY_TCP = "HAProxy, tcp"
OURS = "ds01"
_CONFIG = """\
global
  maxconn 4000
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend http
  mode http
  bind unix@{top}/http.sock mode 666
  default_backend http
backend http
  mode http
  http-reuse never
  server engine unix@{engine}
frontend tcp
  mode tcp
  bind unix@{top}/tcp.sock mode 666
  default_backend tcp
backend tcp
  mode tcp
  option splice-auto
  server engine unix@{engine}
"""


class Contest:
    """All of them before one engine.

    :param top: a folder of its own that users may pass through.
    :param engine: the engine's socket.
    :param settings: of ds01's gateway.
    """

    def __init__(self, top: Path, engine: Path, settings: GatewaySettings | None = None) -> None:
        top.mkdir(exist_ok=True)
        top.chmod(0o711)
        self._haproxy = _start_haproxy(top, engine)
        # What it writes down it writes to a disk, as on a server; all else lies in memory.
        self._disk = tempfile.mkdtemp(prefix="ds01-bench-", dir="/var/tmp")
        store = os.path.join(self._disk, "state.db")
        migrate(store)
        self._house = House(top, engine, 0, ["--any-cgroup", "--store", store], settings)
        self._house.socket.chmod(0o666)
        self.sockets = {
            DIRECT: engine,
            HAPROXY: top / "http.sock",
            HAPROXY_TCP: top / "tcp.sock",
            OURS: self._house.socket,
        }
        try:
            self._house.start()
            for name, path in self.sockets.items():
                if not wait_until(lambda path=path: _answers(path), 10.0):  # type: ignore[misc]
                    raise RuntimeError(f"{name} does not answer")
        except BaseException:
            self.stop()
            raise

    @property
    def gateway_pid(self) -> int:
        """Process id of ds01's gateway."""
        return self._house.gateway_pid

    def stop(self) -> None:
        """End them."""
        self._house.stop()
        self._haproxy.send_signal(signal.SIGKILL)
        self._haproxy.wait()
        shutil.rmtree(self._disk, ignore_errors=True)


def _start_haproxy(top: Path, engine: Path) -> subprocess.Popen[bytes]:
    program = shutil.which("haproxy", path=PATH)
    if program is None:
        raise FileNotFoundError("no haproxy; run 'make setup' (Debian package haproxy)")
    config = top / "haproxy.cfg"
    config.write_text(_CONFIG.format(top=top, engine=engine))
    with open(os.devnull, "wb") as sink:
        return subprocess.Popen([program, "-db", "-f", str(config)], stdout=sink, stderr=sink)


def _answers(path: Path) -> bool:
    try:
        return call(path, "GET", "/_ping", timeout=5.0)[0] == 200
    except OSError:
        return False
