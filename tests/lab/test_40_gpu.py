# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GPU is leased, and the lease is what makes the device exist: on a real kernel and engine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from gpu_lab import LABEL, NODES, GpuLab
from labhost.guest import Lab

NO_SUCH_DEVICE = "No such device or address"  # The device filter let it through; no GPU answers.
REFUSED = "Operation not permitted"  # The device filter did not.


@pytest.fixture(scope="module")
def gpus(lab: Lab) -> Iterator[GpuLab]:
    """The host's GPUs; the last test leaves them as the first one found them."""
    found = GpuLab(lab)
    found.clear()
    yield found
    found.clear()


@pytest.fixture(autouse=True)
def given_back(gpus: GpuLab) -> Iterator[None]:
    yield
    gpus.clear()


def only(number: int) -> dict[str, str]:
    """What opening the four GPUs says when one of them is the container's."""
    return {str(n): NO_SUCH_DEVICE if n == number else REFUSED for n in range(len(NODES))}


def test_site_yml_made_a_daemon_that_knows_the_slots_and_costs_little(gpus: GpuLab) -> None:
    slots = [row["slot"] for row in gpus.asked("gpu", "status", as_user="bob")["slots"]]
    assert slots == ["0", "1", "2:0", "2:2", "2:3", *(f"3:{mig}" for mig in range(7))]
    shown = gpus.lab.run("systemctl show ds01d -p MemoryCurrent -p ActiveState").stdout
    values = dict(line.split("=") for line in shown.splitlines())
    assert values["ActiveState"] == "active"
    assert int(values["MemoryCurrent"]) < 150 * 1024**2
    assert json.loads(gpus.lab.run("cat /etc/ds01/gpu.json").stdout)["admin_group"] == "ds01-admins"


def test_a_lease_opens_its_gpu_and_no_other_and_without_it_no_start_succeeds(gpus: GpuLab) -> None:
    """Released, the container cannot start; with its new lease it has the new GPU."""
    lease = gpus.lease("carol", "--full")["id"]
    gpus.run("carol", "train", lease)
    assert gpus.opened("train") == only(0)
    gpus.until("bound", lambda: gpus.state_of(lease) == "bound")
    refused = gpus.ds01("gpu", "release", as_user="carol", check=False)
    assert refused.rc == 5 and "docker stop train" in refused.stderr

    gpus.lab.run("docker stop -t 0 train", as_user="carol")
    gpus.until("held", lambda: gpus.state_of(lease) == "held")
    gpus.ds01("gpu", "release", as_user="carol")
    gpus.until("ended", lambda: gpus.state_of(lease) == "ended")
    start = gpus.lab.run("docker start train", as_user="carol", check=False)
    assert start.rc and f"ds01.local/lease={lease}" in start.stderr
    assert "--renew" in gpus.ds01("why", "train", as_user="carol", check=False).stdout

    gpus.ds01("gpu", "drain", "0", "--message", "new fan", as_user="dana")
    renewed = gpus.lease("carol", "--full", "--renew", lease)
    assert [slot["slot"] for slot in renewed["slots"]] == ["1"]
    gpus.lab.run("docker start train", as_user="carol")
    assert gpus.opened("train") == only(1)


def test_a_mig_device_opens_with_its_own_capability_nodes_alone(gpus: GpuLab) -> None:
    lease = gpus.lease("alice", "--profile", "2g.10gb")
    gpus.run("alice", "mig", lease["id"])
    assert gpus.opened("mig") == only(2)
    inside = gpus.lab.run("docker exec mig ls /dev/nvidia-caps").stdout.split()
    spec = json.loads(gpus.lab.run(f"cat /run/cdi/ds01-{lease['id']}.json").stdout)
    nodes = [node["path"] for node in spec["devices"][0]["containerEdits"]["deviceNodes"]]
    assert sorted(f"/dev/nvidia-caps/{cap}" for cap in inside) == sorted(
        node for node in nodes if "nvidia-caps" in node
    )
    assert len(inside) == 2


RACE = """
import http.client, json, socket, threading, time

class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect('/run/docker.sock')

def ask(method, route):
    engine = Engine('engine')
    engine.request(method, route)
    return engine.getresponse().read()

for turn in range(6):
    ask('POST', '/containers/race/stop?t=0')
    start = threading.Thread(target=ask, args=('POST', '/containers/race/start'))
    start.start()
    time.sleep(0.1 + 0.1 * turn)
    begun = time.monotonic()
    state = json.loads(ask('GET', '/containers/race/json'))['State']
    print(json.dumps([time.monotonic() - begun, state['Running'], start.is_alive()]))
    start.join()
"""


def test_the_engine_says_nothing_of_a_container_while_its_start_is_under_way(gpus: GpuLab) -> None:
    """A lease ends only after this answer, so a start that has read its file is not overlooked."""
    words = ["docker", "run", "-d", "--name", "race", "--label", LABEL, "--network", "none"]
    gpus.lab.run(shlex.join([*words, "lab/base", "sleep", "3600"]))
    rows = [json.loads(row) for row in gpus.lab.run(f'python3 -c "{RACE}"').stdout.splitlines()]
    waited = [running for seconds, running, _under_way in rows if seconds > 0.3]
    assert waited and all(waited), rows


def test_limits_and_other_peoples_leases_are_refused_with_the_reason(gpus: GpuLab) -> None:
    lease = gpus.lease("alice")["id"]
    second = gpus.ds01("gpu", "request", as_user="alice", check=False)
    assert second.rc == 5 and "limits.yml:" in second.stderr
    whole = gpus.ds01("gpu", "request", "--full", as_user="bob", check=False)
    assert whole.rc == 5 and "MIG devices only" in whole.stderr
    stolen = gpus.ds01("gpu", "release", lease, as_user="bob", check=False)
    assert stolen.rc != 0 and gpus.state_of(lease) == "reserved"
    drained = gpus.ds01("gpu", "drain", "0", "--message", "mine", as_user="bob", check=False)
    assert drained.rc == 5
    for_alice = gpus.ds01("gpu", "request", "--user", "alice", as_user="bob", check=False)
    assert for_alice.rc == 5
    for words in (["--count", "0"], ["--count", "999999999"], ["--device", "GPU-none"]):
        refused = gpus.ds01("gpu", "request", *words, as_user="carol", check=False)
        assert refused.rc in (3, 5) and "Traceback" not in refused.stderr
    assert lease not in gpus.ds01("gpu", "status", "--json", as_user="bob").stdout


def test_the_published_views_tell_everybody_who_has_what_and_no_secret(gpus: GpuLab) -> None:
    lease = gpus.lease("alice", "--device", "3:1")["id"]

    def view(name: str) -> str:
        return gpus.lab.run(f"cat /var/lib/ds01/{name}", as_user="bob").stdout

    gpus.until("published", lambda: "alice" in view("gpu-allocations.json"))
    assert json.loads(view("gpu-state.json"))["gpu_3.1"]["user"] == "alice"
    assert lease not in view("gpu-allocations.json") + view("gpu-state.json")


def test_a_freed_gpu_goes_to_the_one_who_waits_and_ctrl_c_leaves_the_queue(gpus: GpuLab) -> None:
    leases = [gpus.lease("carol", "--device", index)["id"] for index in ("0", "1")]
    wait = "ds01 gpu request --full --wait --json > dana.json 2> dana.err"
    gpus.lab.run(f"rm -f dana.*; nohup {wait} < /dev/null & echo $! > dana.pid", as_user="dana")
    gpus.until("dana waits", lambda: len(gpus.asked("gpu", "queue")["queue"]) == 1)
    row = gpus.asked("gpu", "queue")["queue"][0]
    assert (row["position"], row["user"]) == (1, "dana") and row["eta"] is not None

    # Ctrl-C once it is in the queue.
    baker = "h.baker@hertie-school.lan"
    given_up = gpus.lab.run("timeout -s INT 15 ds01 gpu request --full", baker, check=False)
    assert "you have left the queue" in given_up.stderr, given_up
    gpus.until("one waits", lambda: len(gpus.asked("gpu", "queue")["queue"]) == 1)

    gpus.ds01("gpu", "release", leases[1], as_user="carol")
    gpus.until("dana has it", lambda: gpus.slot("1")["user"] == "dana")
    gpus.until("and knows", lambda: "granted" in gpus.lab.run("cat ~dana/dana.json").stdout)


def test_with_the_daemon_dead_containers_run_on_and_no_lease_is_no_start(gpus: GpuLab) -> None:
    lease = gpus.lease("carol", "--device", "0")["id"]
    gpus.run("carol", "train", lease)
    gpus.until("bound", lambda: gpus.state_of(lease) == "bound")
    gpus.lab.run("systemctl stop ds01d.socket ds01d.service")
    assert gpus.opened("train") == only(0)
    never = gpus.run("alice", "never", "l0123456789abcdef", check=False)
    assert never.rc and "unresolvable" in never.stderr
    told = gpus.ds01("gpu", "request", as_user="alice", check=False)
    assert told.rc == 4 and "Traceback" not in told.stderr
    granted = gpus.engine.module(
        "ds01_gpu_alloc", state="allocated", user="bob", request="lesson-1"
    )
    assert granted.get("changed") is True, granted
    again = gpus.engine.module("ds01_gpu_alloc", state="allocated", user="bob", request="lesson-1")
    assert again.get("changed") is False, again
    assert again["lease"]["id"] == granted["lease"]["id"]
    gpus.lab.run("systemctl start ds01d.socket")
    gpus.until("both known", lambda: {"carol", "bob"} <= {row["user"] for row in gpus.leases()})


def test_a_killed_daemon_comes_back_with_everything(gpus: GpuLab) -> None:
    lease = gpus.lease("alice")["id"]
    gpus.lab.run("systemctl kill -s KILL ds01d.service")
    assert gpus.state_of(lease) == "reserved"
    gpus.agree()


def test_a_gpu_in_use_without_a_lease_is_reported_and_not_handed_out(gpus: GpuLab) -> None:
    pid = gpus.lab.run("nohup sleep 600 > /dev/null 2>&1 & echo $!", as_user="bob").stdout.strip()
    uuid = gpus.slot("0")["uuid"]
    gpus.machine(f"$ a process on={uuid} pid={pid} memory=1GiB follow=yes")
    gpus.ds01("gpu", "reconcile")
    gpus.until("seen", lambda: gpus.slot("0")["state"] == "foreign")
    words = gpus.slot("0")["text"]
    assert pid in words and "bob" in words and "sleep 600" in words
    refused = gpus.ds01("gpu", "request", "--device", uuid, as_user="carol", check=False)
    assert refused.rc == 5 and "without a lease" in refused.stderr
    gpus.lab.run(f"kill {pid}")


def test_gpus_are_split_anew_only_when_nobody_has_them_and_old_leases_say_so(gpus: GpuLab) -> None:
    lease = gpus.lease("alice", "--device", "3:0")["id"]
    gpus.run("alice", "mig", lease)
    layout = {"profiles": {"halves": ["3g.20gb", "3g.20gb"]}, "layout": {"3": "halves"}}
    refused = gpus.engine.module("ds01_mig_layout", **layout)
    assert refused["changed"] is False and "alice leases it" in refused["msg"], refused
    gpus.lab.run("docker stop -t 0 mig")
    gpus.until("held", lambda: gpus.state_of(lease) == "held")
    # Somebody splits the GPU by hand all the same.
    gpus.machine("s/MIG-4f6f2d1c-0300-/MIG-11111111-0300-/")
    gpus.ds01("gpu", "reconcile")
    start = gpus.lab.run("docker start mig", check=False)
    assert start.rc and "unresolvable" in start.stderr
    why = gpus.ds01("why", "mig", as_user="alice", check=False).stdout
    assert "gone" in why or "stale" in why, why


def test_a_gpu_that_is_split_anew_is_described_and_leased_anew(gpus: GpuLab) -> None:
    """By the modules that the role runs."""
    lease = gpus.lease("alice", "--device", "3:6")["id"]
    gpus.ds01("gpu", "release", as_user="alice")
    gpus.until("ended", lambda: gpus.state_of(lease) in ("", "ended"))
    layout = {"profiles": {"halves": ["3g.20gb", "3g.20gb"]}, "layout": {"3": "halves"}}
    done = gpus.engine.module("ds01_mig_layout", **layout)
    assert done["changed"] is True, done
    assert gpus.engine.module("ds01_mig_layout", **layout)["changed"] is False
    command = ["/usr/local/sbin/ds01-lab-cdi", "cdi", "generate"]
    assert gpus.engine.module("ds01_gpu_cdi", command=command)["changed"] is True
    rows = [row for row in gpus.asked("gpu", "status")["slots"] if row["slot"].startswith("3")]
    assert [row["profile"] for row in rows] == ["3g.20gb", "3g.20gb"]
    new = gpus.lease("alice", "--profile", "3g.20gb")
    gpus.run("alice", "half", new["id"])
    assert gpus.opened("half") == only(3)


def test_every_lease_change_is_an_event(gpus: GpuLab) -> None:
    lease = gpus.lease("alice")["id"]
    gpus.ds01("gpu", "release", as_user="alice")

    def kinds() -> list[str]:
        found = gpus.ds01("events", "--type", "gpu", "--user", "alice", "--json").stdout
        mine = [json.loads(line) for line in found.splitlines() if lease in line]
        return [row["event_type"] for row in mine]

    gpus.until("logged", lambda: "gpu.released" in kinds())
    assert kinds() == ["gpu.reserved", "gpu.revoked", "gpu.released"]


def test_root_in_a_container_is_not_root_for_the_daemon(gpus: GpuLab) -> None:
    """The container has the host's root directory, so it can use the host's Python and socket."""
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/ds01/ds01d.sock'); "
        's.sendall(b\'{"verb": "status"}\\n\'); print(s.recv(65536).decode())'
    )
    words = ["docker", "run", "--rm", "--label", LABEL, "--network", "none", "-v", "/:/host"]
    words += ["lab/base", "chroot", "/host", "python3", "-c", script]
    answer = json.loads(gpus.lab.run(shlex.join(words), as_user="bob").stdout.splitlines()[0])
    assert "container" in answer["error"]["what"], answer


def test_after_a_power_cut_book_files_and_engine_agree_and_containers_come_back(
    gpus: GpuLab,
) -> None:
    always = gpus.lease("carol", "--device", "0")["id"]
    gpus.run("carol", "always", always, "--restart", "unless-stopped")
    once = gpus.lease("alice", "--profile", "1g.5gb")["id"]
    gpus.run("alice", "once", once)
    gpus.until("bound", lambda: gpus.state_of(once) == "bound")
    loop = "while :; do ds01 gpu request --no-wait --json; ds01 gpu release; done"
    for who in ("bob", "h.baker@hertie-school.lan"):
        gpus.lab.run(f"nohup sh -c {shlex.quote(loop)} > /dev/null 2>&1 < /dev/null &", as_user=who)
    before = len(gpus.ds01("events", "--type", "gpu.reserved", "--json").stdout.splitlines())
    gpus.until(
        "allocations go on",
        lambda: (
            len(gpus.ds01("events", "--type", "gpu.reserved", "--json").stdout.splitlines())
            > before
        ),
    )
    gpus.lab.power_cut()
    gpus.until(
        "the container is back",
        lambda: "always" in gpus.lab.run("docker ps --format '{{.Names}}'").stdout.split(),
        180,
    )
    assert gpus.opened("always") == only(0)
    gpus.until("held", lambda: gpus.state_of(once) == "held")
    assert "once" not in gpus.lab.run("docker ps --format '{{.Names}}'").stdout.split()
    gpus.until("bound", lambda: gpus.state_of(always) == "bound")
    gpus.agree()
