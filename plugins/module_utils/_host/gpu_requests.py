# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a container can have asked for GPUs, read from the engine's inspection.

What clients send: ``docker run --device nvidia.com/gpu=0`` becomes a device request with the driver
``cdi`` (docker/cli, cli/command/container/opts.go; compose does the same), ``--gpus`` one with a
count or ids and no driver, which moby turns into NVIDIA_VISIBLE_DEVICES for NVIDIA's hook
(daemon/nvidia_linux.go). With NVIDIA's runtime the variable, also one of the image, counts by
itself, and so do mounts below /var/run/nvidia-container-devices
(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

LEASE_KIND = "ds01.local/lease"
VENDOR_KINDS = ("nvidia.com/gpu", "runtime.nvidia.com/gpu", "management.nvidia.com/gpu")
ALL = "all"

_NAMES = re.compile(r"(?:gpu|mig)(?=[0-9])")
_GPU_NODE = re.compile(r"/dev/(?:nvidia|char/195:)([0-9]{1,3})")
_CGROUP_RULE = re.compile(r"([abc]) +(\*|[0-9]+):(\*|[0-9]+) +[rwm]+")
_NVIDIA_MAJOR = "195"
_CONTROL_MINORS = frozenset({"254", "255"})
"""nvidia-modeset and nvidiactl: no GPU behind them."""
_NONE = frozenset({"", "none", "void"})
_DEVICE_MOUNTS = "/var/run/nvidia-container-devices/"


def requests(
    found: Mapping[str, Any], kinds: Iterable[str] = VENDOR_KINDS
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a container asked for.

    :param found: the engine's answer to ``GET /containers/{id}/json``.
    :param kinds: CDI kinds of the vendor's devices.
    :returns: ids of leases; what it can open without one: ``all``, ``count:2``, ``minor:0``, UUIDs
        and indices. Sorted, each once.
    """
    host: Mapping[str, Any] = found.get("HostConfig") or {}
    leases: set[str] = set()
    gpus: set[str] = set()
    kinds = frozenset(kinds)
    for request in host.get("DeviceRequests") or ():
        _device_request(request, kinds, leases, gpus)
    for device in host.get("Devices") or ():
        _device(str(device.get("PathOnHost") or ""), kinds, leases, gpus)
    for rule in host.get("DeviceCgroupRules") or ():
        gpus |= _cgroup_rule(str(rule))
    if host.get("Privileged"):
        gpus.add(ALL)
    if str(host.get("Runtime") or "").startswith("nvidia"):
        for name in _visible(found):
            _named(name, kinds, leases, gpus)
    return tuple(sorted(leases)), tuple(sorted(gpus))


def _device_request(
    request: Mapping[str, Any], kinds: frozenset[str], leases: set[str], gpus: set[str]
) -> None:
    driver = str(request.get("Driver") or "")
    ids = [str(value) for value in request.get("DeviceIDs") or ()]
    if driver not in ("", "cdi") and not driver.startswith("nvidia"):
        return
    for value in ids:
        # A qualified name is one for newer engines whatever the driver is called.
        if "=" in value or driver != "cdi":
            _named(value, kinds, leases, gpus)
    count = int(request.get("Count") or 0)
    if driver != "cdi" and not ids and count:
        gpus.add(ALL if count < 0 else f"count:{count}")


def _named(value: str, kinds: frozenset[str], leases: set[str], gpus: set[str]) -> None:
    """A device by its CDI name, or by a name within the vendor's kind."""
    kind, equals, name = value.rpartition("=")
    if equals and kind == LEASE_KIND:
        leases.add(name)
    elif (not equals or kind in kinds) and name not in _NONE:
        gpus.add(_NAMES.sub("", name, count=1) if _NAMES.match(name) else name)


def _device(path: str, kinds: frozenset[str], leases: set[str], gpus: set[str]) -> None:
    """A device mapping: a node, a directory of nodes, or a CDI name as an API client may send it."""
    if "=" in path and not path.startswith("/"):
        _named(path, kinds, leases, gpus)
        return
    path = posixpath.normpath(path)
    node = _GPU_NODE.fullmatch(path)
    if node and node[1] not in _CONTROL_MINORS:
        gpus.add(f"minor:{node[1]}")
    elif path in ("/", "/dev", "/dev/char"):
        gpus.add(ALL)


def _cgroup_rule(rule: str) -> set[str]:
    """A device rule lets root in the container make the node."""
    parts = _CGROUP_RULE.fullmatch(rule.strip())
    if parts is None or parts[1] == "b" or parts[2] not in ("*", _NVIDIA_MAJOR):
        return set()
    if parts[1] == "a" or parts[3] == "*":
        return {ALL}
    return set() if parts[3] in _CONTROL_MINORS else {f"minor:{parts[3]}"}


def _visible(found: Mapping[str, Any]) -> list[str]:
    """What NVIDIA's runtime takes from the environment and the mounts."""
    config: Mapping[str, Any] = found.get("Config") or {}
    env = dict(str(entry).partition("=")[::2] for entry in config.get("Env") or ())
    value = env.get("NVIDIA_VISIBLE_DEVICES")
    if value is None and "CUDA_VERSION" in env and "NVIDIA_REQUIRE_CUDA" not in env:
        value = ALL  # images from before the variable existed
    names = (value or "").split(",")
    for mount in found.get("Mounts") or ():
        target = str(mount.get("Destination") or "")
        if target.startswith(_DEVICE_MOUNTS):
            name = target.removeprefix(_DEVICE_MOUNTS)
            if name.startswith("cdi/"):  # cdi/<vendor>/<class>/<device>
                name = "=".join(name.removeprefix("cdi/").rsplit("/", 1))
            names.append(name)
    return [name.strip() for name in names]
