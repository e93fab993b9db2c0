# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the role's variables to daemon.json's keys, and what is refused on the way."""

from __future__ import annotations

from typing import Any

import pytest
from ds01.core.engine_config import EngineConfigError
from ds01.core.engine_settings import HOST_BINDING, EngineOptions, wanted_settings


def test_the_settings_that_every_host_gets() -> None:
    tree = wanted_settings(EngineOptions())
    assert tree["exec-opts"] == ["native.cgroupdriver=systemd"]
    assert tree["live-restore"] is True
    assert tree["features"] == {"cdi": True}
    assert tree["cgroup-parent"] == "ds01-unattributed.slice"
    assert tree["log-opts"] == {"max-size": "20m", "max-file": "5"}
    assert tree["builder"]["gc"] == {"enabled": True, "defaultKeepStorage": "20GB"}


def test_ports_are_published_on_loopback_in_every_kind_of_network() -> None:
    tree = wanted_settings(EngineOptions())
    assert tree["ip"] == "127.0.0.1"
    assert tree["default-network-opts"] == {"bridge": {HOST_BINDING: "127.0.0.1"}}


def test_the_inventory_can_open_the_ports() -> None:
    tree = wanted_settings(EngineOptions(publish_address="0.0.0.0"))
    assert "ip" not in tree
    assert "default-network-opts" not in tree


def test_further_settings_are_merged_into_ours() -> None:
    extra = {"features": {"buildkit": True}, "log-opts": {"tag": "x"}, "data-root": "/data"}
    tree = wanted_settings(EngineOptions(settings=extra))
    assert tree["features"] == {"cdi": True, "buildkit": True}
    assert tree["log-opts"]["tag"] == "x"
    assert tree["data-root"] == "/data"


POOL = {"base": "172.20.0.0/14", "size": 24}


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        ({"log_max_size": "lots"}, "docker_engine_log_max_size", "'lots' is not a size"),
        ({"log_max_file": 0}, "docker_engine_log_max_file", "at least one log file"),
        ({"log_driver": "syslog"}, "docker_engine_log_driver", "not supported"),
        ({"build_cache_size": "-1"}, "docker_engine_build_cache_size", "not a size"),
        ({"cgroup_parent": "/docker"}, "docker_engine_cgroup_parent", "not a slice"),
        ({"publish_address": "::1"}, "docker_engine_publish_address", "not an IPv4 address"),
        ({"address_pools": [{"base": "x", "size": 24}]}, "address_pools[0]", "'x' does not"),
        ({"address_pools": [{"size": 24}]}, "address_pools[0]", "'base' is missing"),
        ({"address_pools": [{**POOL, "mask": 1}]}, "address_pools[0]", "unknown key 'mask'"),
        ({"address_pools": [{**POOL, "size": 12}]}, "address_pools[0]", "size 12 does not fit"),
        ({"address_pools": [{**POOL, "size": 31}]}, "address_pools[0]", "size 31 does not fit"),
        (
            {"address_pools": [POOL, {"base": "172.21.0.0/16", "size": 24}]},
            "address_pools[1]",
            "overlaps",
        ),
        ({"settings": {"live-restore": False}}, "docker_engine_settings", "decided by the role"),
        ({"settings": {"features": {"cdi": False}}}, "docker_engine_settings", "'features.cdi'"),
        ({"settings": {"builder": 1}}, "docker_engine_settings", "decided by the role"),
        (
            {"settings": {"exec-opts": ["native.cgroupdriver=cgroupfs"]}},
            "docker_engine_settings",
            "decided by the role",
        ),
        ({"settings": {"ip": "0.0.0.0"}}, "settings", "has a variable of its own"),
        ({"settings": {"default-address-pools": []}}, "settings", "docker_engine_address_pools"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(
    options: dict[str, Any], where: str, what: str
) -> None:
    with pytest.raises(EngineConfigError) as error:
        wanted_settings(EngineOptions(**options))
    assert where in error.value.where
    assert what in str(error.value)
    assert error.value.remedy
