# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab host with containers that were made in every way, and what ds01 says of each."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from door_lab import DOOR, ENGINE, IMAGE, DoorLab
from engine_lab import INVENTORY, REPO
from labhost.guest import Done, Lab
from owner_judge import Case, Kill, Verdict, judge, truth
from owners_ways import APP, BAKER, COMPOSE, PREFIX, PROJECT, WAYS

TESTS = Path(__file__).resolve().parents[1]
OWNERS = "/var/lib/ds01/opa/container-owners.json"
VIEW = "/var/lib/ds01/containers.json"
_SWEEP = f"""
docker ps -a --format '{{{{.Names}}}}' | grep -E '^{PREFIX}[-_.]' | xargs -r docker rm -fv
docker ps -aq --filter label=life | xargs -r docker rm -f
docker volume ls -q | grep '^{PREFIX}-' | xargs -r docker volume rm
docker network ls --format '{{{{.Name}}}}' | grep '^{PREFIX}-' | xargs -r docker network rm
docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep '^{PREFIX}-' | xargs -r docker rmi -f
true
"""


LIVERS = ("alice", "bob", "carol")
ROOT_SHARE = 6
"""One life of so many is root's."""
UNITS = {"docker.service": "engine", "ds01d.service": "daemon", "ds01-gateway.service": "gateway"}
# systemd starts Debian's engine three times a minute at most.
KILLS = ("docker.service=4,9,1", "ds01d.service=2,5,2", "ds01-gateway.service=2,5,2")
SETTLE_S = 60.0
LIVES_S = 600.0
GRACE_S = 3.0


class Watch:
    """The witness on the host: see witness_on_host.py."""

    def __init__(self, door: DoorLab) -> None:
        script = (TESTS / "witness_on_host.py").read_text(encoding="utf-8")
        words = ["python3", "-c", script, ENGINE, OWNERS]
        self._process = door.popen(shlex.join(words), "root")
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_unused: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def told(self) -> dict[str, Any]:
        """All that it saw; it ends."""
        out, errors = self._process.communicate("", timeout=120)
        assert out, errors
        found: dict[str, Any] = json.loads(out)
        return found


class OwnersLab:
    """A lab host whose owners are followed."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.door = DoorLab(lab)
        self.door.prepare()
        self.uids = {
            name: int(lab.run(f"id -u {name}").stdout) for name in ("alice", "bob", "carol", BAKER)
        }
        self.witness: dict[str, Any] = {}

    # -- making --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Folders that are somebody's."""
        self.lab.run(
            f"install -d -o alice {PROJECT} && install -d -o bob {APP} && "
            f"printf %s {shlex.quote(COMPOSE)} > {APP}/compose.yml"
        )

    def make_all(self) -> None:
        """Make a container in each way while a witness watches."""
        with Watch(self.door) as watch, self.door.forwarded("carol") as near:
            # One after the other: it is seen how soon each is listed, not what the guest can bear.
            for who in ("root", "alice", "bob", BAKER):
                _end_of(self.door.popen("; ".join(self._lines(who)), who))
            _end_of(_by_sdk(near, "own-sdk"))
            time.sleep(2)
            self.witness = watch.told()

    def _lines(self, who: str) -> list[str]:
        lines = ["set -e"]
        if who == "root":
            lines.append(f"export DOCKER_HOST=unix://{ENGINE}")
        if who == "bob":
            lines.append(f"cd {APP}; docker compose -p own-c --progress quiet up -d")
            return lines
        return lines + [way.line() for way in WAYS.values() if way.who == who]

    def sweep(self) -> None:
        """Remove what these tests have made."""
        self.door.bare(_SWEEP, check=False)

    # -- asking --------------------------------------------------------------------------------

    def read(self, path: str) -> dict[str, Any]:
        """A published file."""
        found: dict[str, Any] = json.loads(self.lab.run(f"cat {path}").stdout)
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """A container as the engine shows it."""
        found: list[dict[str, Any]] = json.loads(self.door.bare(f"docker inspect {name}"))
        return found[0]

    def ds01(self, *words: str, as_user: str = "root", check: bool = True) -> Done:
        """The command ``ds01`` as one of the lab's users."""
        return self.lab.run(f"ds01 {shlex.join(words)}", as_user=as_user, check=check)

    def asked(self, *words: str, as_user: str = "root") -> Any:
        """The command's JSON document."""
        return json.loads(self.ds01(*words, "--json", as_user=as_user).stdout)

    def events(self, *words: str) -> list[dict[str, Any]]:
        """The event log in all its parts, filtered as ``ds01 events`` does."""
        told = self.ds01("events", "--json", *words).stdout
        return [json.loads(line) for line in told.splitlines()]

    def now(self) -> str:
        """The host's time, as ``ds01 events --since`` takes it."""
        return self.lab.run("date -u +%Y-%m-%dT%H:%M:%S.%3NZ").stdout.strip()

    def lease(self, lease: str) -> dict[str, Any]:
        """A GPU lease as root sees it; empty when it has ended."""
        rows = self.asked("gpu", "status")["leases"]
        return next((row for row in rows if row["id"] == lease and row["state"] != "ended"), {})

    def doctor(self, check: str) -> list[str]:
        """What the doctor finds wrong in one of its fields."""
        done = self.ds01("doctor", "--json", check=False)
        findings = json.loads(done.stdout)["findings"]
        return [f["what"] for f in findings if f["check"] == check and f["severity"] != "notice"]

    def row(self, name: str) -> dict[str, Any]:
        """A container in containers.json; empty where it is not."""
        rows = self.read(VIEW)["containers"]
        return next((row for row in rows if row["name"] == name), {})

    # -- modules -------------------------------------------------------------------------------

    def modules(
        self, folder: Path, module: str, steps: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
    ) -> dict[str, dict[str, Any]]:
        """Run a module several times in one play.

        :param steps: by name the module's parameters, and keywords of the task such as ``check_mode``.
        :return: results by name.
        """
        tasks: list[dict[str, Any]] = []
        for number, (parameters, keywords) in enumerate(steps.values()):
            task = {f"ds01.infra.{module}": parameters, "register": f"step{number}"}
            tasks.append({**task, **keywords})
        answers = folder / "answers.json"
        numbers = ", ".join(f"step{number}" for number in range(len(steps)))
        last = {"content": f"{{{{ [{numbers}] | to_json }}}}", "dest": str(answers)}
        tasks.append(
            {"ansible.builtin.copy": last, "delegate_to": "localhost", "check_mode": False}
        )
        play = [{"hosts": "ds01-lab", "gather_facts": False, "tasks": tasks}]
        (folder / "play.yml").write_text(json.dumps(play))
        program = str(Path(sys.executable).parent / "ansible-playbook")
        done = subprocess.run(
            [program, "-i", str(INVENTORY), str(folder / "play.yml")],
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=300,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(zip(steps, json.loads(answers.read_text()), strict=True))

    # -- lives ---------------------------------------------------------------------------------

    def live(self, lives: int) -> tuple[Verdict, str]:
        """Let users and root live while units are killed; what the judge says, and a summary."""
        since, began = self.now(), time.monotonic()
        watch, killer = Watch(self.door), self._killer()
        of_root = lives // ROOT_SHARE
        crowd = [self._crowd(f"{ENGINE}", "root", "root", of_root)]
        for number, user in enumerate(LIVERS):
            rest = lives - of_root
            share = rest // len(LIVERS) + (number < rest % len(LIVERS))
            crowd.append(self._crowd(DOOR, user, "user", share))
        led = _lives_of(crowd, killer)
        lived = time.monotonic() - began
        kills = [Kill(UNITS[unit], *times) for unit, *times in json.loads(_end_of(killer))]
        settled = self._settle()
        case = Case(
            watch.told(),
            self.events("--since", since),
            self.read(OWNERS),
            self.read(VIEW),
            self._gone(),
            kills,
            grace=GRACE_S,
        )
        verdict = judge(case)
        verdict.faults += [f"{life['life']}: {life['fault']}" for life in led if life["fault"]]
        tries = sum(len(life["tries"]) for life in led)
        counts = Counter(kill.unit for kill in kills)
        return verdict, (
            f"{len(led)} lives in {lived:.0f} s, killed meanwhile: {dict(counts)}; steps taken again: "
            f"{tries}; published as the engine has it {settled:.1f} s after the last"
        )

    def _crowd(self, path: str, user: str, kinds: str, count: int) -> subprocess.Popen[str]:
        script = (TESTS / "lives_on_host.py").read_text(encoding="utf-8")
        words = ["python3", "-c", script, path, user, kinds, str(count), "1"]
        return self.door.popen(shlex.join(words), user)

    def _killer(self) -> subprocess.Popen[str]:
        script = (TESTS / "lab/killer_host.py").read_text(encoding="utf-8")
        return self.door.popen(shlex.join(["python3", "-c", script, "1", *KILLS]), "root")

    def _settle(self) -> float:
        began = time.monotonic()

        def settled() -> bool:
            listed = self.door.bare(
                "docker ps -a --no-trunc --format "
                '\'{"id":"{{.ID}}","name":"{{.Names}}","state":"{{.State}}","labels":{}}\''
            )
            there = [json.loads(line) for line in listed.splitlines()]
            case = Case({"containers": there}, [], self.read(OWNERS), self.read(VIEW))
            return not truth(case)

        self.until("what is published is what the engine has", settled, SETTLE_S)
        took = time.monotonic() - began
        time.sleep(2)  # for the last events
        return took

    def _gone(self) -> dict[str, tuple[str, str]]:
        things = self.asked("owners", "list", "--all")["things"]
        return {row["id"]: (row["owner"] or "", row["method"]) for row in things if row["gone"]}

    # ------------------------------------------------------------------------------------------

    def until(self, what: str, test: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not test():
            journal = self.lab.journal("ds01d") if time.monotonic() > end else ""
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{journal}"
            time.sleep(0.5)

    def forwarded(self, user: str) -> AbstractContextManager[str]:
        """The door's socket here, as that user."""
        return self.door.forwarded(user)


def _lives_of(
    crowd: Sequence[subprocess.Popen[str]], killer: subprocess.Popen[str]
) -> list[dict[str, Any]]:
    """All lives, as they end; the killer is told of each."""
    found: list[dict[str, Any]] = []
    told = threading.Lock()

    def listen(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert killer.stdin is not None
        for line in process.stdout:
            with told:
                found.append(json.loads(line))
                killer.stdin.write("\n")
                killer.stdin.flush()

    ears = [threading.Thread(target=listen, args=(process,)) for process in crowd]
    for ear in ears:
        ear.start()
    for ear, process in zip(ears, crowd, strict=True):
        ear.join(LIVES_S)
        _end_of(process)
    return found


def _end_of(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate("", timeout=400)
    assert process.returncode == 0, out + errors
    return out


def _by_sdk(near: str, name: str) -> subprocess.Popen[str]:
    """A container made with the SDK for Python."""
    program = (
        "import docker, sys\n"
        "client = docker.DockerClient(base_url='unix://' + sys.argv[1], timeout=120)\n"
        f"client.containers.create({IMAGE!r}, 'sleep 3600', name=sys.argv[2], network_mode='none')\n"
        "client.close()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, near, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
