# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine's daemon.json should say, and what it takes to get there.

daemon.json belongs to the site as well as to this project, and it may not hold a comment or a key
that dockerd does not know. So it is merged, and a file of our own remembers which values are ours:
a setting that is given up is taken out again, a value that somebody else wrote stays.

Source: dockerd(8), and moby's ``daemon/config/config.go`` and ``daemon/reload.go`` for the rules on
lists, flags and reloads.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import Ds01Error

Json = dict[str, Any]
Path = tuple[str, ...]

MARKER = "Managed by ds01.infra - changes are overwritten; edit the inventory instead."
RECORD_SCHEMA = 1

#: Lists of ``name=value`` entries. dockerd reads them as mappings, so they are merged by name.
OPTION_LISTS = frozenset({"exec-opts", "labels", "storage-opts"})

#: Keys that a SIGHUP applies when the file sets them (``Daemon.Reload`` and ``reloadPlatform``).
RELOADABLE = frozenset(
    {
        "authorization-plugins",
        "debug",
        "default-cgroupns-mode",
        "default-ipc-mode",
        "default-runtime",
        "default-shm-size",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)

#: Of those, the keys that a reload sets back to the default when the file no longer has them.
RESET_BY_RELOAD = frozenset(
    {"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"}
)

#: ``features`` is replaced by a reload, but what reads cdi and the image store reads it at the start.
RELOADABLE_FEATURES = frozenset({"buildkit"})

#: Log options each driver understands; an option of another driver keeps the engine from starting.
LOG_OPTIONS: Mapping[str, frozenset[str]] = {
    "json-file": frozenset(
        {
            *("compress", "max-buffer-size", "max-file", "max-size", "mode"),
            *("env", "env-regex", "labels", "labels-regex", "tag"),
        }
    ),
    "local": frozenset({"compress", "max-buffer-size", "max-file", "max-size", "mode"}),
}


class EngineConfigError(Ds01Error):
    """daemon.json, its record or the wanted settings cannot be used."""


def _unique_pairs(pairs: Iterable[tuple[str, Any]]) -> Json:
    found: Json = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key}' is there twice")
        found[key] = value
    return found


def parse_json_object(text: str, where: str) -> Json:
    """Read a JSON object; an empty text is an empty object, as it is for dockerd.

    :param where: path of the file, for the message.
    :raises EngineConfigError: no JSON, no object, or a key given twice (dockerd would take the last one,
        a merge would lose the first one silently).
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        return {}
    remedy = "correct the file by hand or move it away; nothing was changed"
    try:
        value = json.loads(text, object_pairs_hook=_unique_pairs)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}:{error.colno}"
        raise EngineConfigError(f"not valid JSON: {error.msg}", place, remedy) from error
    except ValueError as error:
        raise EngineConfigError(str(error), where, remedy) from error
    if not isinstance(value, dict):
        raise EngineConfigError("a JSON object is expected at the top", where, remedy)
    return value


def render_json(value: Mapping[str, Any]) -> str:
    """The text that is written: two spaces, keys in the order they have, a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# --- merging ------------------------------------------------------------------------------------


def _option_name(entry: Any) -> str:
    return str(entry).partition("=")[0]


def leaves(tree: Mapping[str, Any], prefix: Path = ()) -> dict[Path, Any]:
    """Every single value of a settings tree, by its path.

    Mappings are walked; an option list has one leaf an option; any other list is one value, since
    half an address pool makes no sense.
    """
    found: dict[Path, Any] = {}
    for key, value in tree.items():
        path = (*prefix, key)
        if isinstance(value, Mapping):
            found.update(leaves(value, path))
        elif not prefix and key in OPTION_LISTS and isinstance(value, list):
            found.update({(key, _option_name(entry)): entry for entry in value})
        else:
            found[path] = value
    return found


def _is_option(path: Path) -> bool:
    return len(path) == 2 and path[0] in OPTION_LISTS


_ABSENT = object()


def _get(tree: Json, path: Path) -> Any:
    if _is_option(path):
        entries = tree.get(path[0])
        matching = (
            [e for e in entries if _option_name(e) == path[1]] if isinstance(entries, list) else []
        )
        return matching[-1] if matching else _ABSENT
    node: Any = tree
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return _ABSENT
        node = node[key]
    return node


def _set(tree: Json, path: Path, value: Any) -> None:
    if _is_option(path):
        present = tree.get(path[0])
        entries = present if isinstance(present, list) else []
        places = [i for i, entry in enumerate(entries) if _option_name(entry) == path[1]]
        kept = [entry for i, entry in enumerate(entries) if i not in places]
        kept.insert(places[0] if places else len(kept), value)
        tree[path[0]] = kept
        return
    node = tree
    for key in path[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    node[path[-1]] = copy.deepcopy(value)


def _remove(tree: Json, path: Path) -> None:
    if _is_option(path):
        tree[path[0]] = [entry for entry in tree[path[0]] if _option_name(entry) != path[1]]
        if not tree[path[0]]:
            del tree[path[0]]
        return
    parents = [tree]
    for key in path[:-1]:
        parents.append(parents[-1][key])
    del parents[-1][path[-1]]
    for depth in range(len(path) - 2, -1, -1):
        if not parents[depth][path[depth]]:
            del parents[depth][path[depth]]


def _drop_foreign_log_options(tree: Json, wanted: Mapping[str, Any]) -> None:
    """Another driver's options would keep the engine from starting; they go with their driver."""
    driver = wanted.get("log-driver")
    options = tree.get("log-opts")
    known = LOG_OPTIONS.get(str(driver))
    if (
        known is None
        or not isinstance(options, dict)
        or tree.get("log-driver", "json-file") == driver
    ):
        return
    tree["log-opts"] = {name: value for name, value in options.items() if name in known}


def merge(existing: Json, wanted: Json, applied: Json) -> Json:
    """The new content of daemon.json.

    :param existing: what the file says now.
    :param wanted: what the role wants it to say; wins over ``existing``.
    :param applied: what the role put there the last time. What is in it and no longer wanted is taken
        out, unless somebody gave it another value since.
    :return: a new tree; foreign keys and the order of the file are kept.
    """
    result = copy.deepcopy(existing)
    wanted_leaves = leaves(wanted)
    for path, value in leaves(applied).items():
        if path not in wanted_leaves and _get(result, path) == value:
            _remove(result, path)
    _drop_foreign_log_options(result, wanted)
    for path, value in wanted_leaves.items():
        if _get(result, path) != value or _is_option(path):
            _set(result, path, value)
    return result


def dotted(path: Path) -> str:
    return ".".join(path)


@dataclass(frozen=True)
class Difference:
    """One value that is not the same in two versions of daemon.json; None means absent."""

    path: Path
    before: Any
    after: Any

    @property
    def needs_restart(self) -> bool:
        """Whether a running engine takes this change only at its next start."""
        key = self.path[0]
        if key == "features":
            return not (len(self.path) > 1 and self.path[1] in RELOADABLE_FEATURES)
        if key not in RELOADABLE:
            return True
        return self.after is None and key not in RESET_BY_RELOAD


def differences(before: Json, after: Json) -> list[Difference]:
    """Every value that changes, in the order of its path."""
    old, new = leaves(before), leaves(after)
    return [
        Difference(path, old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


# --- the record of what is ours -----------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """Content of /etc/ds01/engine.json.

    :param applied: the settings tree that the role merged into daemon.json.
    :param pending: dotted paths that were written but wait for an engine start; a run that was broken
        off between writing and restarting is finished by the next one.
    """

    applied: Json
    pending: tuple[str, ...] = ()
    daemon_json: str = "/etc/docker/daemon.json"

    def render(self) -> str:
        return render_json(
            {
                "_managed": MARKER,
                "schema_version": RECORD_SCHEMA,
                "daemon_json": self.daemon_json,
                "applied": self.applied,
                "pending_restart": list(self.pending),
            }
        )


def parse_record(text: str | None, where: str) -> Record:
    """Read the record; a host that has none was never configured.

    :raises EngineConfigError: the record is broken or of another version. Guessing here could leave
        a value behind or remove one that is not ours.
    """
    if text is None:
        return Record({})
    tree = parse_json_object(text, where)
    applied, pending = tree.get("applied"), tree.get("pending_restart", [])
    if (
        tree.get("schema_version") != RECORD_SCHEMA
        or not isinstance(applied, dict)
        or not isinstance(pending, list)
    ):
        raise EngineConfigError(
            f"not a record of schema version {RECORD_SCHEMA}",
            where,
            "remove the file; the next run writes it anew and takes the keys of daemon.json as the site's",
        )
    described = Record(applied, tuple(str(name) for name in pending))
    return replace(described, daemon_json=str(tree.get("daemon_json", described.daemon_json)))


# --- the plan -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a run does; made without touching the host.

    :param before_text: daemon.json as it is, None where there is none; ``record_before`` likewise.
    :param restart_for: dotted paths that the running engine only takes by a restart.
    """

    before_text: str | None
    after_text: str
    after: Json
    record_before: str | None
    record_after: Record
    changes: tuple[Difference, ...]
    restart_for: tuple[str, ...]

    @property
    def writes_file(self) -> bool:
        return bool(self.changes)

    @property
    def record_text(self) -> str:
        """The record as it is once the engine runs with the new file."""
        return self.record_after.render()


def make_plan(
    daemon_text: str | None, record_text: str | None, wanted: Json, where: Sequence[str]
) -> Plan:
    """Compare the host's two files with the wanted settings.

    :param daemon_text: daemon.json as it is, None where there is none.
    :param record_text: engine.json as it is, None where there is none.
    :param where: the two paths, for messages.
    :raises EngineConfigError: one of the files cannot be read safely.
    """
    existing = parse_json_object(daemon_text or "", where[0])
    record = parse_record(record_text, where[1])
    after = merge(existing, wanted, record.applied)
    changes = tuple(differences(existing, after))
    fresh = [dotted(change.path) for change in changes if change.needs_restart]
    waiting = tuple(dict.fromkeys([*record.pending, *fresh]))
    return Plan(
        before_text=daemon_text,
        after_text=render_json(after) if changes else daemon_text or "",
        after=after,
        record_before=record_text,
        record_after=Record(copy.deepcopy(wanted), daemon_json=where[0]),
        changes=changes,
        restart_for=waiting,
    )
