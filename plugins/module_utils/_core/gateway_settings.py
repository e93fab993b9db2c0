# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the gateway, ``/etc/ds01/gateway.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import Ds01Error

GATEWAY_SETTINGS_PATH = "/etc/ds01/gateway.json"
SCHEMA = 1
REMEDY = "Correct it in the inventory and run site.yml again"
# A unix socket's address holds this many bytes, the last one a NUL (unix(7)).
_SOCKET_PATH_MAX = 107


@dataclass(frozen=True)
class GatewaySettings:
    """How the door is kept on this host.

    :param admin_group: Unix group whose members pass as root does; empty: root alone. Never the
        group that may open the socket.
    :param engine_socket: where the engine listens.
    :param pump_socket: where the pump listens.
    :param connections_per_user: connections of one user that are open at a time.
    :param connections_total: of all users together, root's not counted.
    :param requests_per_user: requests of one user that are at the engine at a time, streams left out.
    :param streams_per_user: streams of one user that are open at a time: attach, exec, logs, events.
    :param head_seconds: in which a request's head has to arrive.
    :param stall_seconds: after which a request's body that does not move ends the connection.
    :param idle_seconds: after which a connection without a request is closed.
    """

    admin_group: str = ""
    engine_socket: str = "/run/ds01/engine.sock"
    pump_socket: str = "/run/ds01/pump.sock"
    connections_per_user: int = 256
    connections_total: int = 4096
    requests_per_user: int = 16
    streams_per_user: int = 256
    head_seconds: float = 10.0
    stall_seconds: float = 300.0
    idle_seconds: float = 600.0

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {"schema": SCHEMA, **asdict(self)}


_COUNTS = {
    "connections_per_user": (4, 65536),
    "connections_total": (16, 262144),
    "requests_per_user": (1, 4096),
    "streams_per_user": (1, 65536),
}
_SECONDS = {"head_seconds": (1, 300), "stall_seconds": (10, 86400), "idle_seconds": (1, 86400)}


def settings_from(data: Any, where: str = GATEWAY_SETTINGS_PATH) -> GatewaySettings:
    """Settings from the file's content.

    :raises Ds01Error: another schema, an unknown key, or a value that cannot be one.
    """
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        raise Ds01Error(f"this is no gateway settings file of schema {SCHEMA}", where, REMEDY)
    values = {key: value for key, value in data.items() if key not in ("_managed", "schema")}
    unknown = sorted(set(values) - {field.name for field in fields(GatewaySettings)}, key=str)
    if unknown:
        raise Ds01Error(f"unknown setting {unknown[0]!r}", where, REMEDY)
    for key, value in values.items():
        fault = _fault(key, value)
        if fault:
            raise Ds01Error(f"{key} is {_shown(value)}, {fault}", where, REMEDY)
    settings = GatewaySettings(**values)
    if settings.connections_total < settings.connections_per_user:
        what = (
            "connections_total is less than connections_per_user, so that one user could take all"
        )
        raise Ds01Error(what, where, REMEDY)
    if settings.engine_socket == settings.pump_socket:
        raise Ds01Error("engine_socket and pump_socket are one path", where, REMEDY)
    return settings


def read_settings(path: str = GATEWAY_SETTINGS_PATH) -> GatewaySettings:
    """The host's settings; the defaults where there is no file.

    :raises Ds01Error: the file cannot be read or is damaged.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return settings_from(json.load(stream), path)
    except FileNotFoundError:
        return GatewaySettings()
    except (OSError, ValueError, RecursionError) as error:
        raise Ds01Error(f"the gateway's settings cannot be read: {error}", path, REMEDY) from error


def _fault(key: str, value: Any) -> str:
    """Why a value cannot be one of its key; empty when it can."""
    if key == "admin_group":
        good = isinstance(value, str) and (
            not value or (value.isprintable() and value == value.strip() and ":" not in value)
        )
        return "" if good else "not the name of a Unix group"
    if key in _COUNTS:
        low, high = _COUNTS[key]
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"not a whole number from {low} to {high}"
    if key in _SECONDS:
        low, high = _SECONDS[key]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        good = is_number and math.isfinite(value) and low <= value <= high
        return "" if good else f"not a number of seconds from {low} to {high}"
    good = (
        isinstance(value, str)
        and value.startswith("/")
        and value.isprintable()
        and ".." not in value.split("/")
        and len(value.encode()) <= _SOCKET_PATH_MAX
    )
    return "" if good else f"not an absolute path of at most {_SOCKET_PATH_MAX} bytes"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
