# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the engine: daemon.json, and what the running engine says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ds01.core.engine_config import Record, dotted, leaves, parse_json_object, parse_record
from ds01.core.errors import Ds01Error
from ds01.doctor.finding import Finding, Severity
from ds01.doctor.machine import Machine

AGAIN = "Run playbooks/site.yml --tags docker_engine"


def check_daemon_json(machine: Machine) -> Iterator[Finding]:
    """Whether the settings that were merged into daemon.json are still in it."""
    where = machine.places.engine_record
    record = _record(where)
    if record is None:
        what = "no engine was configured here yet"
        yield Finding(Severity.NOTICE, "daemon.json", what, where, AGAIN)
        return
    path = record.daemon_json
    present = leaves(parse_json_object(_read(path) or "", path))
    for key, value in leaves(record.applied).items():
        if key not in present:
            what = f"{dotted(key)} is no longer set, applied was {value!r}"
        elif present[key] != value:
            what = f"{dotted(key)} is {present[key]!r}, applied was {value!r}"
        else:
            continue
        yield Finding(Severity.ERROR, "daemon.json", what, path, AGAIN)
    for name in record.pending:
        what = f"{name} is written, but the running engine has not taken it yet"
        yield Finding(Severity.WARNING, "daemon.json", what, path, AGAIN)


def check_engine(machine: Machine) -> Iterator[Finding]:
    """Whether the running engine is as it was configured."""
    record = _record(machine.places.engine_record)
    if record is None:
        return
    try:
        info = machine.engine_info()
    except machine.engine_errors as error:
        what = f"the engine cannot be asked: {error}"
        remedy = "Run as root; if you did, read journalctl -u docker.service"
        yield Finding(Severity.ERROR, "engine", what, "docker.service", remedy)
        return
    yield from _differs(info, "CgroupDriver", "systemd", "slices do not hold containers")
    yield from _differs(info, "CgroupVersion", "2", "the kernel does not enforce slices")
    if record.applied.get("live-restore"):
        loss = "containers end when the engine restarts"
        yield from _differs(info, "LiveRestoreEnabled", True, loss)


def _differs(info: Mapping[str, Any], name: str, wanted: Any, loss: str) -> Iterator[Finding]:
    if info.get(name) != wanted:
        what = f"the engine says {name} {info.get(name)!r}, not {wanted!r}: {loss}"
        yield Finding(Severity.ERROR, "engine", what, "GET /info", AGAIN)


def _record(path: str) -> Record | None:
    text = _read(path)
    if text is None:
        return None
    record = parse_record(text, path)
    daemon_json = parse_json_object(text, path).get("daemon_json", record.daemon_json)
    return Record(record.applied, record.pending, str(daemon_json))


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Ds01Error(f"cannot be read: {error}", path, "Run as root; mend the file") from error
