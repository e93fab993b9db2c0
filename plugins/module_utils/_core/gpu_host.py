# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true of a host before its GPUs are leased. Pure: facts in, refusals out.

Source: NVIDIA Container Toolkit, its ``config.toml`` and ``nvidia-ctk cdi generate``; Docker Engine
API, ``GET /info``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .errors import Problem
from .gpus import DRIVER_ABSENT, READY

VENDOR_COMMAND = "nvidia-ctk"
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
ENVVAR_KEY = "accept-nvidia-visible-devices-envvar-when-unprivileged"
MOUNTS_KEY = "accept-nvidia-visible-devices-as-volume-mounts"
NVIDIA_RUNTIME = "nvidia"
LEASE_DIR = "/run/cdi"
_NAMES_SHOWN = 10


@dataclass(frozen=True)
class EngineView:
    """What ``GET /info`` says of the running engine.

    :param default_runtime: ``DefaultRuntime``.
    :param runtimes: names in ``Runtimes``.
    :param cdi_dirs: ``CDISpecDirs``; empty where CDI is off.
    :param nvidia_containers: names of containers created with the runtime ``nvidia``, stopped ones
        included.
    """

    default_runtime: str = "runc"
    runtimes: tuple[str, ...] = ("runc",)
    cdi_dirs: tuple[str, ...] = ()
    nvidia_containers: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostFacts:
    """The host as found.

    :param state: of the driver, see :mod:`.gpus`; ``reason`` in NVML's words.
    :param gpus: how many GPUs NVML shows.
    :param toolkit: installed packages of the toolkit → version.
    :param toolkit_config: text of :data:`TOOLKIT_CONFIG`; None where there is none.
    :param engine: None while it does not run.
    :param admin_group_known: whether the admin group is on the host; True where none is wanted.
    """

    state: str
    reason: str = ""
    driver: str = ""
    gpus: int = 0
    toolkit: Mapping[str, str] = field(default_factory=dict)
    toolkit_config: str | None = None
    engine: EngineView | None = None
    admin_group_known: bool = True


@dataclass(frozen=True)
class Needs:
    """What the inventory asks for.

    :param driver: least driver version; :param toolkit: least version of the toolkit.
    :param cdi_command: program and arguments that write the vendor's CDI spec.
    :param cdi_dir: directory that the spec is written to.
    :param required: whether a host without GPUs is a fault.
    """

    driver: str
    toolkit: str
    cdi_command: Sequence[str]
    cdi_dir: str = "/etc/cdi"
    required: bool = True
    admin_group: str = ""


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of a driver or package version, without epoch and package revision.

    ``550.54.15`` → (550, 54, 15), ``1:1.17.8-1`` → (1, 17, 8), ``1.18.0~rc.1-1`` → (1, 18, 0).
    """
    match = re.match(r"(?:\d+:)?v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def older(version: str, least: str) -> bool:
    """Whether a version is below another; missing parts count as 0. A pre-release is older."""
    have, want = parse_version(version), parse_version(least)
    width = max(len(have), len(want))
    padded = have + (0,) * (width - len(have))
    wanted = want + (0,) * (width - len(want))
    return padded < wanted or (padded == wanted and re.search(r"~rc", version) is not None)


def toolkit_setting(text: str, key: str) -> str | None:
    """A top-level value of the toolkit's TOML file, as written; None where it is not set.

    Only what stands above the first table counts, and no commented line.
    """
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            return None
        match = re.match(rf'"?{re.escape(key)}"?\s*=\s*([^#]+)', line)
        if match:
            return match[1].strip()
    return None


def check(facts: HostFacts, needs: Needs) -> list[Problem]:
    """Every reason not to lease this host's GPUs; empty where there is none.

    A host without a driver is judged by ``needs.required`` alone.
    """
    if facts.state != READY or not facts.gpus:
        return [*_absent(facts, needs), *_admin_group(facts, needs)]
    return [
        *_driver(facts, needs),
        *_toolkit(facts, needs),
        *_toolkit_settings(facts),
        *_engine(facts.engine, needs),
        *_admin_group(facts, needs),
    ]


def without_gpus(facts: HostFacts) -> bool:
    """Whether this is a host without GPUs, as opposed to one whose driver is ill."""
    return facts.state == DRIVER_ABSENT or (facts.state == READY and not facts.gpus)


def _absent(facts: HostFacts, needs: Needs) -> list[Problem]:
    if without_gpus(facts):
        if not needs.required:
            return []
        what = f"there is no NVIDIA driver ({facts.reason or 'NVML shows no GPU'})"
        return [
            _problem(
                what,
                "NVML",
                "Install the driver, or set gpu_host_required: false for a host without GPUs",
            )
        ]
    what = f"the driver does not answer ({facts.reason})"
    return [_problem(what, "NVML", "See dmesg (NVRM, Xid); after an upgrade of the driver reboot")]


def _driver(facts: HostFacts, needs: Needs) -> list[Problem]:
    if not older(facts.driver, needs.driver):
        return []
    what = f"driver {facts.driver} is older than {needs.driver}"
    return [_problem(what, "NVML", "Upgrade the driver in a maintenance window")]


def _toolkit(facts: HostFacts, needs: Needs) -> list[Problem]:
    where = "package nvidia-container-toolkit"
    if not facts.toolkit:
        if not needs.cdi_command or os.path.basename(needs.cdi_command[0]) == VENDOR_COMMAND:
            return [
                _problem(
                    "the NVIDIA container toolkit is not installed",
                    where,
                    f"Install version {needs.toolkit} or newer from NVIDIA's packages, or name the "
                    "site's own generator in gpu_host_cdi_command",
                )
            ]
        return []
    return [
        _problem(
            f"version {version} is older than {needs.toolkit}",
            f"package {name}",
            f"Upgrade it to {needs.toolkit} or newer; older ones let a container become root on "
            "the host (CVE-2025-23266)",
        )
        for name, version in sorted(facts.toolkit.items())
        if older(version, needs.toolkit)
    ]


def _toolkit_settings(facts: HostFacts) -> list[Problem]:
    """With the toolkit's runtime or hook installed, an image's variable alone would give GPUs."""
    if facts.toolkit_config is None and not facts.toolkit:
        return []
    text = facts.toolkit_config or ""
    problems = []
    value = toolkit_setting(text, ENVVAR_KEY)
    if value != "false":
        said = f"is {value}" if value else "is not set, which means true"
        problems.append(
            _problem(
                f"{ENVVAR_KEY} {said}: a container gets GPUs without a lease through "
                "NVIDIA_VISIBLE_DEVICES",
                TOOLKIT_CONFIG,
                f"nvidia-ctk config --in-place --set {ENVVAR_KEY}=false",
            )
        )
    if toolkit_setting(text, MOUNTS_KEY) not in (None, "false"):
        problems.append(
            _problem(
                f"{MOUNTS_KEY} is on: a container gets GPUs without a lease through its mounts",
                TOOLKIT_CONFIG,
                f"nvidia-ctk config --in-place --set {MOUNTS_KEY}=false",
            )
        )
    return problems


def _engine(engine: EngineView | None, needs: Needs) -> list[Problem]:
    if engine is None:
        return [_problem("the engine does not run", "docker.service", "Run the role docker_engine")]
    problems = []
    if engine.default_runtime == NVIDIA_RUNTIME:
        problems.append(
            _problem(
                "the default runtime is nvidia: every container may get GPUs without a lease",
                "daemon.json: default-runtime",
                "Set docker_engine_settings: {default-runtime: runc} and run the role "
                "docker_engine; leave runtimes.nvidia, since old containers need it to start",
            )
        )
    if engine.nvidia_containers and NVIDIA_RUNTIME not in engine.runtimes:
        shown = ", ".join(engine.nvidia_containers[:_NAMES_SHOWN])
        rest = len(engine.nvidia_containers) - _NAMES_SHOWN
        problems.append(
            _problem(
                f"the runtime nvidia is not registered any more, and containers were created with it: "
                f"{shown}{f' and {rest} more' if rest > 0 else ''}",
                "daemon.json: runtimes.nvidia",
                "Register it again (nvidia-ctk runtime configure), or remove these containers",
            )
        )
    missing = [path for path in (needs.cdi_dir, LEASE_DIR) if path not in _plain(engine.cdi_dirs)]
    if not engine.cdi_dirs:
        problems.append(
            _problem("CDI is off", "daemon.json: features.cdi", "Run the role docker_engine")
        )
    elif missing:
        problems.append(
            _problem(
                f"the engine does not read CDI specs from {' and '.join(missing)}",
                "daemon.json: cdi-spec-dirs",
                "Add it there, or take the key out",
            )
        )
    return problems


def _plain(paths: Sequence[str]) -> set[str]:
    """Paths as they are: /var/run is /run."""
    return {re.sub(r"^/var/run(?=/|$)", "/run", os.path.normpath(path)) for path in paths}


def _admin_group(facts: HostFacts, needs: Needs) -> list[Problem]:
    if facts.admin_group_known:
        return []
    return [
        _problem(
            f"there is no group {needs.admin_group!r} on the host",
            "gpu_host_admin_group",
            "Create it, or name another; empty leaves GPUs to root alone",
        )
    ]


def _problem(what: str, where: str, remedy: str) -> Problem:
    return Problem("error", what, where, remedy)
