# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The docker command that people type: a GPU comes with a lease, and all else is the client's own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from gpu_lab import LABEL, NODES, GpuLab
from labhost.guest import Lab

NO_SUCH_DEVICE = "No such device or address"  # The device filter let it through; no GPU answers.
REFUSED = "Operation not permitted"  # The device filter did not.
RUN = f"docker run -d --network none --label {LABEL}"


@pytest.fixture(scope="module")
def gpus(lab: Lab) -> Iterator[GpuLab]:
    """The host's GPUs, all given back before and after."""
    found = GpuLab(lab)
    found.clear()
    yield found
    found.clear()


def test_a_plain_command_is_the_clients_own(gpus: GpuLab) -> None:
    commands = (
        "docker version; docker no-such-command; docker compose version; "
        "echo in | docker run -i --rm --network none lab/base sh -c 'cat; exit 42'; echo $?"
    )
    assert gpus.lab.run("command -v docker", as_user="alice").stdout == "/usr/local/bin/docker\n"
    wrapped = gpus.lab.run(commands, as_user="alice", timeout=180)
    bare = gpus.lab.run(f"PATH=/usr/bin:/bin; {commands}", as_user="alice", timeout=180)
    assert (wrapped.stdout, wrapped.stderr) == (bare.stdout, bare.stderr)
    assert "no-such-command" in wrapped.stderr
    assert wrapped.stdout.endswith("in\n42\n")


def test_run_with_gpus_gets_a_lease_and_that_gpu_alone(gpus: GpuLab) -> None:
    done = gpus.lab.run(f"{RUN} --name wrapped --gpus 1 lab/base sleep 3600", as_user="alice")
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)
    said = re.fullmatch(r"ds01: GPU (\d):\d+ \(.*\) is yours: lease (l[0-9a-f]+)\n", done.stderr)
    assert said, done.stderr
    expected = {str(n): NO_SUCH_DEVICE if str(n) == said[1] else REFUSED for n in range(len(NODES))}
    assert gpus.opened("wrapped") == expected
    gpus.until("bound", lambda: gpus.state_of(said[2]) == "bound")

    # It is all that alice may have; the second one is told so, and by which limit.
    second = gpus.lab.run(f"{RUN} --gpus all lab/base true", as_user="alice", check=False)
    assert second.rc == 125 and "limits.yml:" in second.stderr, second
    assert "nothing was started" in second.stderr and second.stdout == ""


def test_a_container_that_does_not_start_gives_its_gpu_back(gpus: GpuLab) -> None:
    done = gpus.lab.run(f"{RUN} --gpus 1 --pull never no/such/image", as_user="bob", check=False)
    assert done.rc == 125 and "no container was started" in done.stderr, done
    gpus.until("given back", lambda: not [x for x in gpus.leases() if x["user"] == "bob"])


def test_without_the_helper_daemon_docker_works_as_before(gpus: GpuLab) -> None:
    gpus.lab.run("systemctl stop ds01d.socket ds01d.service")
    try:
        done = gpus.lab.run(f"{RUN} --rm --gpus 1 lab/base true", as_user="bob", check=False)
    finally:
        gpus.lab.run("systemctl start ds01d.socket ds01d.service")
    assert "docker is called as it is" in done.stderr, done
