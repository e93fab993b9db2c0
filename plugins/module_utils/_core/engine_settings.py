# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the role's variables to the keys of daemon.json.

Source: dockerd(8); the default sizes are explained in the role's README.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .engine_config import EngineConfigError, Json, dotted, leaves, merge
from .names import UNATTRIBUTED

HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
EVERY_ADDRESS = "0.0.0.0"
_SIZE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?\s*([kmgtKMGT]([iI]?[bB])?|[bB])?")
LOG_DRIVERS = ("json-file", "local")


@dataclass(frozen=True)
class EngineOptions:
    """The role's variables, named as there without the prefix ``docker_engine_``.

    :param log_max_size: size at which a container's log file is rotated (``20m``).
    :param log_max_file: files kept for one container, the current one included.
    :param build_cache_size: what the build cache may keep (``20GB``).
    :param address_pools: ``{"base": "172.20.0.0/14", "size": 24}`` entries; every network takes one
        block of ``size`` from a ``base``.
    :param publish_address: where a published port listens unless the request names an address.
    :param settings: further keys of daemon.json.
    """

    log_driver: str = "json-file"
    log_max_size: str = "20m"
    log_max_file: int = 5
    build_cache_size: str = "20GB"
    address_pools: Sequence[Mapping[str, Any]] = ()
    publish_address: str = "127.0.0.1"
    cgroup_parent: str = UNATTRIBUTED
    settings: Mapping[str, Any] = field(default_factory=dict)


def _refuse(what: str, name: str, remedy: str) -> EngineConfigError:
    return EngineConfigError(what, f"docker_engine_{name}", remedy)


def _size(value: str, name: str) -> str:
    if not _SIZE.fullmatch(value):
        raise _refuse(
            f"'{value}' is not a size", name, "write a number and a unit, such as 20m or 20GB"
        )
    return value


def _pool(entry: Mapping[str, Any], place: str) -> Json:
    try:
        base = ipaddress.ip_network(str(entry["base"]))
        size = int(entry["size"])
    except KeyError as error:
        raise _refuse(f"{error} is missing", place, "every pool has a base and a size") from error
    except ValueError as error:
        raise _refuse(str(error), place, "write base: 172.20.0.0/14 and size: 24") from error
    if unknown := sorted(set(entry) - {"base", "size"}):
        raise _refuse(f"unknown key '{unknown[0]}'", place, "a pool has a base and a size only")
    longest = base.max_prefixlen - 2
    if not base.prefixlen <= size <= longest:
        raise _refuse(
            f"size {size} does not fit into {base}",
            place,
            f"choose a size between {base.prefixlen} and {longest}",
        )
    return {"base": str(base), "size": size}


def _pools(entries: Sequence[Mapping[str, Any]]) -> list[Json]:
    pools = [_pool(entry, f"address_pools[{i}]") for i, entry in enumerate(entries)]
    seen: list[Any] = []
    for i, pool in enumerate(pools):
        network = ipaddress.ip_network(pool["base"])
        for other in seen:
            if network.version == other.version and network.overlaps(other):
                raise _refuse(
                    f"{network} overlaps {other}",
                    f"address_pools[{i}]",
                    "give every network one pool",
                )
        seen.append(network)
    return pools


def _published(address: str) -> Json:
    try:
        parsed = ipaddress.IPv4Address(address)
    except ValueError as error:
        raise _refuse(
            f"'{address}' is not an IPv4 address",
            "publish_address",
            f"use 127.0.0.1, an address of the host, or {EVERY_ADDRESS} for all",
        ) from error
    if str(parsed) == EVERY_ADDRESS:
        return {}
    # `ip` is for docker0 alone; networks that users create take theirs from the network options.
    return {
        "ip": str(parsed),
        "default-network-opts": {"bridge": {HOST_BINDING: str(parsed)}},
    }


def wanted_settings(options: EngineOptions) -> Json:
    """The settings tree that is merged into daemon.json.

    :raises EngineConfigError: a value is no size, pool or address, or ``settings`` names something
        that the role decides or that has a variable of its own.
    """
    if options.log_driver not in LOG_DRIVERS:
        raise _refuse(
            f"'{options.log_driver}' is not supported",
            "log_driver",
            f"use {' or '.join(LOG_DRIVERS)}",
        )
    if not options.cgroup_parent.endswith(".slice"):
        raise _refuse(
            f"'{options.cgroup_parent}' is not a slice", "cgroup_parent", f"use {UNATTRIBUTED}"
        )
    if options.log_max_file < 1:
        raise _refuse("at least one log file is needed", "log_max_file", "use 1 or more")
    tree: Json = {
        "exec-opts": ["native.cgroupdriver=systemd"],
        "live-restore": True,
        "features": {"cdi": True},
        "cgroup-parent": options.cgroup_parent,
        "log-driver": options.log_driver,
        "log-opts": {
            "max-size": _size(options.log_max_size, "log_max_size"),
            "max-file": str(options.log_max_file),
        },
        "builder": {
            "gc": {
                "enabled": True,
                "defaultKeepStorage": _size(options.build_cache_size, "build_cache_size"),
            }
        },
    }
    if options.address_pools:
        tree["default-address-pools"] = _pools(options.address_pools)
    tree.update(_published(options.publish_address))
    return _with_extra(tree, options.settings)


# Keys with a variable of their own. They are refused in `settings` even when the variable leaves
# them out: two places for one thing would make one of them a lie.
_OWN_KEYS = {
    "default-address-pools": "address_pools",
    "ip": "publish_address",
    "log-driver": "log_driver",
    "cgroup-parent": "cgroup_parent",
}


def _with_extra(tree: Json, extra: Mapping[str, Any]) -> Json:
    taken = leaves(tree)
    for path in leaves(extra):
        name = dotted(path)
        if path[0] in _OWN_KEYS:
            raise _refuse(
                f"'{name}' has a variable of its own",
                "settings",
                f"use docker_engine_{_OWN_KEYS[path[0]]}",
            )
        if any(path[: len(own)] == own or own[: len(path)] == path for own in taken):
            raise _refuse(f"'{name}' is decided by the role", "settings", "remove it there")
    return merge(tree, dict(extra), {})
