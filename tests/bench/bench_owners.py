# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon an owner is published and what following the engine costs, beside a pass of ``docker inspect``.

Usage: ``PYTHONPATH=files/runtime:tests python tests/bench/bench_owners.py [--write]``, as root.

An engine of its own (tests/native_engine.py); the tracker, as ds01d runs it, in a process of its own. The
reference is what the replaced system did, and what a script would: list, and inspect each container.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ds01.core.errors import Ds01Error
from ds01.core.owner_book import OwnerBook
from ds01.core.owner_lookout import OwnerLookout
from ds01.core.owner_publish import Publisher
from ds01.core.owner_settings import OwnerSettings
from ds01.core.owner_sync import OwnerSync
from ds01.core.store import migrate, open_store
from ds01.daemon.ear import Ear
from ds01.daemon.rounds import World
from ds01.daemon.tracker import Tracker
from ds01.host.container_cgroup import ContainerCgroups
from ds01.host.engine import EngineError
from ds01.host.engine_events import events
from ds01.host.engine_things import EVENT_ACTIONS, EVENT_TYPES, ThingsEngine
from ds01.host.owner_accounts import OwnerAccounts
from ds01.host.paths import Paths
from native_engine import (
    IMAGE,
    NativeEngine,
    call,
    client_environment,
    docker_program,
    wait_until,
)
from pump_service import cpu_seconds, resident
from report import machine, table, write_section

STANDING = 200
RUNNING = 20
HEALTH_SECONDS = 5
LIVES = 200
PARALLEL = 4
IDLE_SECONDS = 40.0
PASSES = 5
PASS_EVERY = 10.0
NICE = -10
"""Weighs 9.3 times what nice 0 does."""
CGROUPS = next(p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.isdir(p))


class Counted(ThingsEngine):
    """Counts what it asks of the engine, in a file that another process reads."""

    asked = 0
    place = ""

    def _ask(self, method: str, target: str, timeout: float) -> tuple[int, bytes]:
        Counted.asked += 1
        Path(Counted.place).write_text(str(Counted.asked))
        return super()._ask(method, target, timeout)


class Told(Publisher):
    """Notes when each container was in the published file for the first time."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, 0.5)
        self._seen: set[str] = set()

    def publish(self, records: Any, *rest: Any, **named: Any) -> bool:
        records = list(records)
        done = super().publish(records, *rest, **named)
        now = time.time_ns()
        news = [one.id for one in records if one.id not in self._seen]
        self._seen.update(news)
        if news and done:
            with open(f"{self.folder}/published", "a", encoding="ascii") as sink:
                sink.write("".join(f"{one} {now}\n" for one in news))
        return done


class Listening:
    """The part of a world that the ear asks."""

    def __init__(self, path: str) -> None:
        self._path = path

    def events(self, since: str | None = None) -> Iterator[Mapping[str, Any] | None]:
        try:
            yield from events(self._path, since, idle=60.0, type=EVENT_TYPES, event=EVENT_ACTIONS)
        except EngineError as error:
            raise Ds01Error(error.what, error.where) from error


def track(path: str, folder: str) -> None:
    """Follow the engine until killed."""
    Counted.place = f"{folder}/asked"
    store = f"{folder}/state.db"
    migrate(store)
    lookout = OwnerLookout(
        lambda: Counted(path),
        ContainerCgroups(CGROUPS),
        OwnerAccounts(),
        Paths(),
        EngineError,
    )
    book = OwnerBook(open_store(store), f"{folder}/events.jsonl")
    settings = OwnerSettings(sync_seconds=86400.0)
    tracker = Tracker(OwnerSync(book, lookout, Told(folder), settings), lambda: settings)
    tracker.begin(lambda error: os._exit(1))
    world: World = Listening(path)  # type: ignore[assignment]
    Ear(world, lambda _event: True, recorder=tracker).begin()
    while True:
        if os.path.exists(f"{folder}/sync"):
            before = time.process_time()
            tracker.sync_now()
            Path(folder, "sync_cost").write_text(str(time.process_time() - before))
            os.unlink(f"{folder}/sync")
        time.sleep(1.0)


def weigh() -> None:
    """Have of the processors what ``CPUWeight=1000`` of ds01d.service gives: ten times what others have.

    By the session's own group of the scheduler, where there is one (sched(7)), else by nice.
    """
    os.setsid()
    try:
        Path("/proc/self/autogroup").write_text(str(NICE))
    except OSError:
        os.nice(NICE)


@contextmanager
def tracking(engine: NativeEngine, folder: str) -> Iterator[int]:
    """The tracker in a process of its own."""
    pid = os.fork()
    if not pid:
        try:
            weigh()
            track(str(engine.socket), folder)
        finally:
            os._exit(1)
    try:
        yield pid
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def must(answer: tuple[int, Any]) -> Any:
    status, value = answer
    assert status < 400, value
    return value


def create(engine: NativeEngine, name: str, healthy: bool = False) -> str:
    body: dict[str, Any] = {
        "Image": IMAGE,
        "Cmd": ["sleep", "3600"],
        "Labels": {"ds01.user": "alice"},
        "HostConfig": {"NetworkMode": "none", "Binds": ["/tmp:/mnt:ro"]},
    }
    if healthy:
        seconds = HEALTH_SECONDS * 10**9
        body["Healthcheck"] = {"Test": ["CMD", "true"], "Interval": seconds}
    return str(must(call(engine.socket, "POST", f"/containers/create?name={name}", body))["Id"])


def listen(engine: NativeEngine, made: dict[str, int]) -> None:
    """When the engine says that each container was made."""
    from native_engine import UnixConnection

    connection = UnixConnection(engine.socket, 3600)
    wanted = quote(json.dumps({"type": ["container"], "event": ["create"]}))
    connection.request("GET", f"/events?filters={wanted}")
    answer = connection.getresponse()
    while line := answer.readline():
        event = json.loads(line)
        made[event["Actor"]["ID"]] = event["timeNano"]


def lives(engine: NativeEngine, number: int, count: int) -> None:
    """Containers that come, run and go, one after the other."""
    for life in range(count):
        one = create(engine, f"life-{number}-{life}")
        must(call(engine.socket, "POST", f"/containers/{one}/start"))
        must(call(engine.socket, "DELETE", f"/containers/{one}?force=1"))


def churn(engine: NativeEngine, folder: str) -> list[float]:
    """Milliseconds from the engine's event to the published file, sorted."""
    made: dict[str, int] = {}
    threading.Thread(target=listen, args=(engine, made), daemon=True).start()
    time.sleep(0.5)
    each = LIVES // PARALLEL
    threads = [
        threading.Thread(target=lives, args=(engine, number, each)) for number in range(PARALLEL)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def published() -> dict[str, int]:
        lines = Path(folder, "published").read_text().splitlines()
        return {one: int(nano) for one, nano in (line.split() for line in lines)}

    assert wait_until(lambda: set(made) <= set(published()), 30), "not all were published"
    found = published()
    return sorted((found[one] - nano) / 1e6 for one, nano in made.items())


def naive(engine: NativeEngine, folder: str) -> tuple[float, float]:
    """Seconds of wall time and of CPU that a pass takes: list, inspect each, write the file."""
    environment = client_environment(engine.socket, folder)
    docker = docker_program()

    def said(*words: str) -> str:
        return subprocess.run(
            [docker, *words], env=environment, capture_output=True, text=True, check=True
        ).stdout

    walls, costs = [], []
    for _pass in range(PASSES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began, own = time.monotonic(), time.process_time()
        rows = {}
        for one in said("ps", "-aq", "--no-trunc").split():
            found = json.loads(said("inspect", one))[0]
            rows[one[:12]] = {"owner": found["Config"]["Labels"].get("ds01.user")}
        Path(folder, "naive.json").write_text(json.dumps({"containers": rows}))
        walls.append(time.monotonic() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        costs.append(spent + time.process_time() - own)
    return statistics.median(walls), statistics.median(costs)


def sync_cost(folder: str) -> float:
    """Seconds of CPU that a full look takes, of the tracker alone."""
    Path(folder, "sync").write_text("")
    assert wait_until(lambda: not os.path.exists(f"{folder}/sync"), 60)
    return float(Path(folder, "sync_cost").read_text())


def measured() -> dict[str, Any]:
    """All figures."""
    with NativeEngine() as engine, tempfile.TemporaryDirectory() as folder:
        for number in range(STANDING):
            one = create(engine, f"standing-{number}", healthy=number < RUNNING)
            if number < RUNNING:
                must(call(engine.socket, "POST", f"/containers/{one}/start"))
        with tracking(engine, folder) as pid:
            path = Path(folder, "opa/container-owners.json")
            ready = wait_until(
                lambda: path.exists() and path.read_text().count('"owner"') >= STANDING, 60
            )
            assert ready, "the tracker does not publish"
            time.sleep(3)
            asked, spent = Path(folder, "asked").read_text(), cpu_seconds(pid)
            began = time.monotonic()
            time.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(pid) - spent) / (time.monotonic() - began)
            calls = int(Path(folder, "asked").read_text()) - int(asked)
            cost = sync_cost(folder)
            late = churn(engine, folder)
            memory = resident(pid)
            wall, cpu = naive(engine, folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, exist_ok=True)
    return {
        "idle": idle,
        "calls": calls,
        "sync": cost,
        "late": late,
        "memory": memory,
        "wall": wall,
        "cpu": cpu,
    }


def at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def main() -> None:
    """Measure, print, and with ``--write`` put the table into docs/benchmarks.md."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    chosen = options.parse_args()
    found = measured()
    late, every = found["late"], OwnerSettings().sync_seconds
    following = found["idle"] + found["sync"] / every
    rows = [
        (
            "from the engine's event to the published file, p50",
            f"{at(late, 0.5):.0f} ms",
            f"{(PASS_EVERY / 2 + found['wall']) * 1000:,.0f} ms",
        ),
        (
            "p99",
            f"{at(late, 0.99):.0f} ms",
            f"{(PASS_EVERY + found['wall']) * 1000:,.0f} ms",
        ),
        (
            "of a core, while nothing comes or goes",
            f"{following * 100:.2f} %",
            f"{found['cpu'] / PASS_EVERY * 100:.1f} %",
        ),
        (
            f"requests to the engine in {IDLE_SECONDS:.0f} s",
            str(found["calls"]),
            f"{(STANDING + 1) * IDLE_SECONDS / PASS_EVERY:,.0f}",
        ),
        (
            "CPU time of one full look",
            f"{found['sync'] * 1000:.0f} ms",
            f"{found['cpu'] * 1000:,.0f} ms",
        ),
    ]
    text = "\n".join(
        [
            "## Whose a container is",
            "",
            f"On the controller: {machine()}. {STANDING} containers, {RUNNING} of them running with a "
            f"health check each {HEALTH_SECONDS} s; then {LIVES} lives (create, start, remove) of "
            f"{PARALLEL} at a time. The store on disk, fsync included. The reference lists and inspects "
            f"every container by the docker client, one pass each {PASS_EVERY:.0f} s: what it costs is "
            "measured, how late it is follows from its pass and that pause. A full look of ours comes "
            f"each {every:.0f} s and is counted in. The tracker weighs ten times what others do, as its "
            "unit has it (`CPUWeight=`): the lives keep all processors busy.",
            "",
            table(("", "the tracker", "docker inspect of each"), rows),
            "",
            f"The budgets are 100 ms at p99 and 0.2 % of a core. The tracker's process has "
            f"{found['memory'] / 2**20:.0f} MiB resident.",
        ]
    )
    print(text)
    if chosen.write:
        write_section("owners", text)


if __name__ == "__main__":
    main()
