# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of GPU leases, ``/etc/ds01/gpu.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .errors import Ds01Error
from .leases import PACK, SPREAD

GPU_SETTINGS_PATH = "/etc/ds01/gpu.json"
SCHEMA = 1
REMEDY = "Run site.yml again"


@dataclass(frozen=True)
class GpuSettings:
    """How GPUs are leased on this host.

    :param placement: ``spread`` (the GPU with the least leased first) or ``pack`` (whole GPUs are
        kept free).
    :param reservation_seconds: how long a reservation waits for its container.
    :param reconcile_seconds: how often the book is compared with the engine and NVML at least.
    :param admin_group: Unix group whose members act for everybody; empty: root alone.
    :param vendor_kind: kind of the CDI devices that the leases' edits are taken from.
    :param watchers: names of containers that may have GPUs open without using them, such as an
        exporter of metrics: their GPUs are handed out. What they run on a GPU counts all the same.
    """

    placement: str = SPREAD
    reservation_seconds: float = 120.0
    reconcile_seconds: float = 60.0
    admin_group: str = ""
    vendor_kind: str = "nvidia.com/gpu"
    watchers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {"schema": SCHEMA, **asdict(self)}


def settings_from(data: Any, where: str = GPU_SETTINGS_PATH) -> GpuSettings:
    """Settings from the file's content.

    :raises Ds01Error: another schema, an unknown key, or a value that cannot be one.
    """
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        raise Ds01Error(f"this is no GPU settings file of schema {SCHEMA}", where, REMEDY)
    values = {key: value for key, value in data.items() if key not in ("_managed", "schema")}
    unknown = sorted(set(values) - set(asdict(GpuSettings())))
    if unknown:
        raise Ds01Error(f"unknown setting {unknown[0]!r}", where, REMEDY)
    if values.get("placement", SPREAD) not in (SPREAD, PACK):
        raise Ds01Error("placement is neither spread nor pack", where, REMEDY)
    for key in ("reservation_seconds", "reconcile_seconds"):
        value = values.get(key, 60)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
            raise Ds01Error(f"{key} is no number of seconds from 1 on", where, REMEDY)
    for key in ("admin_group", "vendor_kind"):
        if not isinstance(values.get(key, ""), str):
            raise Ds01Error(f"{key} is no text", where, REMEDY)
    watchers = values.get("watchers", ())
    if not isinstance(watchers, (list, tuple)) or not all(isinstance(w, str) for w in watchers):
        raise Ds01Error("watchers is no list of container names", where, REMEDY)
    return GpuSettings(**{**values, "watchers": tuple(watchers)})


def read_settings(path: str = GPU_SETTINGS_PATH) -> GpuSettings:
    """The host's settings; the defaults where there is no file.

    :raises Ds01Error: the file cannot be read or is damaged.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return settings_from(json.load(stream), path)
    except FileNotFoundError:
        return GpuSettings()
    except (OSError, ValueError) as error:
        raise Ds01Error(f"the GPU settings cannot be read: {error}", path, REMEDY) from error
