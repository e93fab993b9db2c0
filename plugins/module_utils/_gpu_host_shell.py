# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of the role gpu_host share: reading the host, and keeping leases away from a GPU."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ._core import book_rows
from ._core.book import Book
from ._core.errors import Ds01Error
from ._core.events import EVENTS_PATH, Event, append
from ._core.foreign import FOREIGN
from ._core.gpu_host import NVIDIA_RUNTIME, TOOLKIT_CONFIG, EngineView, HostFacts
from ._core.gpu_settings import GPU_SETTINGS_PATH, read_settings
from ._core.gpus import READY, Inventory, inventory
from ._core.lease_files import DIRECTORY, LeaseFiles
from ._core.store import STATE_PATH, Store, StoreMissing, open_store
from ._host import engine_host, nvml
from ._host.engine import Engine, EngineError
from ._host.nvml_mig import MigError

#: What a module turns into one ``fail_json``.
ERRORS = (Ds01Error, EngineError, engine_host.HostError, MigError)

TOOLKIT_PACKAGES = ("nvidia-container-toolkit", "nvidia-container-toolkit-base")
NO_RUNTIME = (
    "the runtime is not on the host yet, and NVML is read through it. Run the role runtime first"
)


@dataclass(frozen=True)
class Paths:
    """Where the host's state is."""

    store: str = STATE_PATH
    settings: str = GPU_SETTINGS_PATH
    events: str = EVENTS_PATH
    leases: str = DIRECTORY


PATHS = Paths()


def can_look() -> bool:
    """Whether this interpreter has what reading GPUs and specs needs."""
    return all(find_spec(name) is not None for name in ("pynvml", "yaml"))


# --- facts --------------------------------------------------------------------------------------


def toolkit(run: engine_host.Runner) -> dict[str, str]:
    """The toolkit's installed packages with their versions."""
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"]
    _code, out, _err = run([*command, *TOOLKIT_PACKAGES])
    rows = [line.split() for line in out.splitlines()]
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}


def engine_view(run: engine_host.Runner, socket: str | None) -> EngineView | None:
    """The running engine; None while it is down: asking its socket would start it.

    :raises EngineError: it runs and does not answer.
    """
    if engine_host.DockerService(run).show().get("ActiveState") not in ("active", "reloading"):
        return None
    info = Engine(socket).info()
    runtimes = tuple(info.get("Runtimes") or ())
    root = str(info.get("DockerRootDir") or "/var/lib/docker")
    return EngineView(
        default_runtime=str(info.get("DefaultRuntime") or ""),
        runtimes=runtimes,
        cdi_dirs=tuple(info.get("CDISpecDirs") or ()),
        nvidia_containers=() if NVIDIA_RUNTIME in runtimes else nvidia_containers(root),
    )


def nvidia_containers(root: str) -> tuple[str, ...]:
    """Containers created with the runtime nvidia, stopped ones included: one read each, no request.

    :param root: the engine's data directory.
    """
    found = []
    for path in sorted(Path(root, "containers").glob("*/hostconfig.json")):
        try:
            if json.loads(path.read_text(encoding="utf-8")).get("Runtime") == NVIDIA_RUNTIME:
                config = json.loads(path.with_name("config.v2.json").read_text(encoding="utf-8"))
                found.append(str(config.get("Name", path.parent.name)).removeprefix("/"))
        except (OSError, ValueError):
            continue
    return tuple(found)


def group_known(name: str) -> bool:
    """Whether a Unix group is there; no name is fine."""
    try:
        return not name or bool(grp.getgrnam(name))
    except KeyError:
        return False


def facts(
    run: engine_host.Runner, socket: str | None, admin_group: str
) -> tuple[HostFacts, Inventory]:
    """Everything that :func:`._core.gpu_host.check` judges; starts and changes nothing.

    :raises EngineError: the engine runs and does not answer.
    :raises engine_host.HostError: the toolkit's configuration cannot be read.
    """
    reading = nvml.read()
    found = inventory(reading)
    there = found.state == READY
    return (
        HostFacts(
            state=found.state,
            reason=found.reason,
            driver=found.driver,
            gpus=len(reading.get("gpus") or ()),
            toolkit=toolkit(run) if there else {},
            toolkit_config=engine_host.read_text(TOOLKIT_CONFIG) if there else None,
            engine=engine_view(run, socket) if there else None,
            admin_group_known=group_known(admin_group),
        ),
        found,
    )


# --- leases -------------------------------------------------------------------------------------


def slots_by_gpu(reading: Mapping[str, Any]) -> dict[str, set[str]]:
    """UUID of each GPU → UUIDs of the slots on it, its own included."""
    return {
        gpu["uuid"]: {gpu["uuid"], *(mig["uuid"] for mig in gpu.get("mig") or ())}
        for gpu in reading.get("gpus") or ()
        if gpu.get("uuid")
    }


def users(reading: Mapping[str, Any], store: Store | None) -> dict[str, list[str]]:
    """UUID of each GPU → who leases a slot of it and what runs on it, in words.

    :raises Ds01Error: the store cannot be read.
    """
    found: dict[str, list[str]] = {uuid: [] for uuid in slots_by_gpu(reading)}
    for uuid, slots in slots_by_gpu(reading).items():
        found[uuid] += _lease_words(store, slots) if store else []
    for gpu in reading.get("gpus") or ():
        if gpu.get("uuid"):
            found[gpu["uuid"]] += [process_words(row["pid"]) for row in gpu.get("processes") or ()]
    return found


def _lease_words(store: Store, slots: set[str]) -> list[str]:
    """Who leases one of the slots, and which container has one without a lease."""
    with store.reading() as connection:
        leases = [lease for lease in book_rows.holding(connection) if slots & set(lease.slots)]
        blocks = [block for block in book_rows.blocks(connection) if block.slot in slots]
    words = []
    for lease in leases:
        name = lease.container_name or lease.container[:12]
        container = f", container {name}" if name else ""
        words.append(f"{lease.user} leases it ({lease.state}{container})")
    return words + [block.text for block in blocks if block.why == FOREIGN]


def process_words(pid: int, proc: str = "/proc") -> str:
    """A process for people: ``process 4242 (python3, alice) runs on it``."""
    try:
        command = Path(proc, str(pid), "comm").read_text(encoding="utf-8").strip()
        uid = os.stat(os.path.join(proc, str(pid))).st_uid
    except OSError:
        return f"process {pid} runs on it"
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return f"process {pid} ({command}, {user}) runs on it"


def the_store() -> Store | None:
    """The store; None where there is none yet, so that nothing can be leased.

    :raises Ds01Error: it is of another version, or damaged.
    """
    try:
        return open_store(PATHS.store)
    except StoreMissing:
        return None


@contextmanager
def no_new_leases(store: Store | None) -> Iterator[None]:
    """While a GPU is split anew nobody is granted a slot of it."""
    if store is None:
        yield
        return
    with store.locked():
        yield


def tell_the_book(store: Store | None, spec_path: str, source: str) -> None:
    """Let the book see the slots as they are now, so that no gone one is granted.

    :param spec_path: the vendor's CDI spec; a slot that is not in it is not granted yet.
    :raises Ds01Error: the store cannot be written.
    """
    if store is None:
        return

    def vendor() -> Mapping[str, Any] | None:
        text = engine_host.read_text(spec_path)
        try:
            spec = None if text is None else decode(text)
        except ValueError:
            return None
        return spec if isinstance(spec, Mapping) else None

    book = Book(
        store,
        LeaseFiles(vendor, PATHS.leases),
        settings=read_settings(PATHS.settings),
        events_path=PATHS.events,
        source=source,
    )
    book.look(inventory(nvml.read()))


def record(event_type: str, details: Mapping[str, Any]) -> None:
    """Append an event to the host's event log."""
    append(PATHS.events, Event(event_type, "ds01_mig_layout", details=details))


# --- texts --------------------------------------------------------------------------------------


def lines(rows: Iterable[str]) -> str:
    """A text with one line for each row."""
    return "".join(f"{row}\n" for row in rows)


def decode(text: str) -> Any:
    """The content of a YAML or JSON text.

    :raises ValueError: it is neither.
    """
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
