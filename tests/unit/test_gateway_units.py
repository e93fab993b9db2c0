# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's units keep what the design promises of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ds01.core.engine_socket import DROP_IN, SERVED, drop_in_text
from ds01.core.gateway_settings import GatewaySettings

REPO = Path(__file__).resolve().parents[2]
ROLE = REPO / "roles/gateway"

#: Settings of systemd.exec(5) that give a unit a mount namespace of its own.
NAMESPACE = (
    *("BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionDirectories"),
    *("ExtensionImages", "InaccessiblePaths", "LogNamespace", "MountAPIVFS", "MountImages"),
    *("NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivatePIDs", "PrivateTmp"),
    *("PrivateUsers", "ProcSubset", "ProtectControlGroups", "ProtectHome", "ProtectKernelLogs"),
    *("ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem"),
    *("ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootImage", "TemporaryFileSystem"),
)  # fmt: skip


def unit(name: str) -> dict[str, list[str]]:
    """Settings of a unit's template, each with its values."""
    found: dict[str, list[str]] = {}
    for line in (ROLE / f"templates/{name}.j2").read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_the_gateway_sees_the_paths_that_the_engine_sees() -> None:
    assert not set(unit("ds01-gateway.service")) & set(NAMESPACE)


@pytest.mark.parametrize("name", ["ds01-gateway.service", "ds01-pump.service"])
def test_a_service_at_the_door_never_gives_up(name: str) -> None:
    found = unit(name)
    assert found["StartLimitIntervalSec"] == ["0"]
    assert found["Restart"] == ["always"]
    assert found["RestartSec"] == ["100ms"]
    assert found["WatchdogSec"]


@pytest.mark.parametrize("name", ["ds01-gateway.socket", "ds01-pump.socket"])
def test_a_socket_never_gives_up_and_starts_at_boot(name: str) -> None:
    found = unit(name)
    assert found["TriggerLimitIntervalSec"] == ["0"]
    assert found["WantedBy"] == ["sockets.target"]
    assert name in SERVED


def test_closing_the_pumps_socket_does_not_stop_the_pump() -> None:
    found = unit("ds01-pump.service")
    assert not {"Requires", "BindsTo", "PartOf"} & set(found)


def test_the_drop_in_forgets_the_old_path_before_it_names_the_new_one() -> None:
    lines = [line for line in drop_in_text().splitlines() if line.startswith("ListenStream")]
    assert lines == ["ListenStream=", "ListenStream=/run/ds01/engine.sock"]
    assert "SocketMode=0600" in drop_in_text()


def test_the_runtime_looks_for_the_door_where_it_is() -> None:
    told = yaml.safe_load((REPO / "roles/runtime/vars/main.yml").read_text(encoding="utf-8"))
    assert told["__runtime_door"] == DROP_IN
    assert (REPO / "files/runtime" / told["__runtime_door_code"].removeprefix("lib/")).exists()


def test_the_roles_defaults_are_those_of_the_settings() -> None:
    told = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    built_in = GatewaySettings().as_json()
    for name, value in told.items():
        key = name.removeprefix("gateway_")
        assert key == "group" or built_in[key] == value, name
