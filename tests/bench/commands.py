# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker commands, timed from start to exit: the client at the engine, and by wrapper and door.

The wrapper takes its courtesies for due at /run/docker.sock only. So a part of this runs in a mount
namespace of its own (unshare(1)), where /run is an empty folder with that socket in it:
``commands.py TOP TIMES ENGINE DOOR``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from contest import DIRECT, OURS
from native_engine import client_environment, docker_program, environment

COMMANDS = ("version", "ps")
PLAIN, DOOR, WHOLE = "client, engine", "client, door", "wrapper, client, door"
WAYS = (PLAIN, DOOR, WHOLE)
WRAPPER = Path(__file__).resolve().parents[2] / "files/runtime/wrapper/docker"


def run(path: Path, home: Path, image: str) -> float:
    """Seconds of ``docker run --rm``."""
    return _timed([docker_program(), "run", "--rm", image, "true"], client_environment(path, home))


def measure(
    add: Callable[[str, str, Sequence[float]], None],
    sockets: Mapping[str, Path],
    top: Path,
    times: int,
) -> None:
    """Each command each way, in turns; ``add`` takes command, way and seconds."""
    words = ["unshare", "--mount", sys.executable, __file__, str(top), str(times)]
    words += [str(sockets[DIRECT]), str(sockets[OURS])]
    done = subprocess.run(words, env=environment(), stdout=subprocess.PIPE, check=True)
    for command, way, seconds in json.loads(done.stdout):
        add(command, way, [seconds])


def _timed(words: Sequence[str], names: Mapping[str, str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        words, env=names, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.decode(errors='replace')}")
    return seconds


def _measure_here(top: Path, times: int, engine: str, door: str) -> list[tuple[str, str, float]]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run"], check=True)
    os.symlink(door, "/run/docker.sock")
    place = top / "bin"
    place.mkdir()
    wrapper = place / "docker"
    wrapper.write_text(WRAPPER.read_text())
    wrapper.chmod(0o755)
    plain = client_environment(engine, top)
    whole = client_environment("/run/docker.sock", top)
    del whole["DOCKER_HOST"]
    whole["PATH"] = f"{place}:{whole['PATH']}"
    ways = {
        PLAIN: (docker_program(), plain),
        DOOR: (docker_program(), client_environment("/run/docker.sock", top)),
        WHOLE: (str(wrapper), whole),
    }
    order = list(ways)
    found = []
    for _time in range(times):
        order.append(order.pop(0))  # nobody always comes after the same other
        for command in COMMANDS:
            for way in order:
                program, names = ways[way]
                found.append((command, way, _timed([program, command], names)))
    return found


if __name__ == "__main__":
    TOP, TIMES, ENGINE, SOCKET = sys.argv[1:]
    json.dump(_measure_here(Path(TOP), int(TIMES), ENGINE, SOCKET), sys.stdout)
