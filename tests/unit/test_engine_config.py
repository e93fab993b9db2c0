# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json is merged: others' keys stay, ours come and go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ds01.core import engine_config as config
from ds01.core.engine_settings import EngineOptions, wanted_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WHERE = ("/etc/docker/daemon.json", "/etc/ds01/engine.json")


def plan(daemon: str | None, record: str | None = None, **options: Any) -> config.Plan:
    return config.make_plan(daemon, record, wanted_settings(EngineOptions(**options)), WHERE)


def test_keys_of_others_stay_and_keep_their_order() -> None:
    before = {"registry-mirrors": ["https://m.example.org"], "debug": True, "dns": ["10.0.0.1"]}
    after = plan(json.dumps(before)).after
    assert list(after)[:3] == list(before)
    assert {key: after[key] for key in before} == before


def test_our_value_wins_over_a_present_one() -> None:
    after = plan('{"live-restore": false, "cgroup-parent": "x.slice"}').after
    assert after["live-restore"] is True
    assert after["cgroup-parent"] == "ds01-unattributed.slice"


def test_exec_opts_are_merged_by_name_in_their_place() -> None:
    before = {
        "exec-opts": ["native.cgroupdriver=cgroupfs", "isolation=x", "native.cgroupdriver=none"]
    }
    after = plan(json.dumps(before)).after
    assert after["exec-opts"] == ["native.cgroupdriver=systemd", "isolation=x"]


def test_nested_mappings_are_merged_key_by_key() -> None:
    before = {"features": {"buildkit": False}, "builder": {"gc": {"policy": [{"all": True}]}}}
    after = plan(json.dumps(before)).after
    assert after["features"] == {"buildkit": False, "cdi": True}
    assert after["builder"]["gc"]["policy"] == [{"all": True}]
    assert after["builder"]["gc"]["enabled"] is True


def test_a_value_of_the_wrong_kind_gives_way() -> None:
    assert plan('{"features": [], "exec-opts": "x"}').after["features"] == {"cdi": True}


def test_options_of_another_log_driver_go_with_it() -> None:
    before = '{"log-driver": "syslog", "log-opts": {"syslog-address": "udp://x", "max-size": "1m"}}'
    assert plan(before).after["log-opts"] == {"max-size": "20m", "max-file": "5"}


def test_options_of_the_same_log_driver_stay() -> None:
    before = '{"log-opts": {"tag": "{{.Name}}"}}'
    assert plan(before).after["log-opts"] == {
        "tag": "{{.Name}}",
        "max-size": "20m",
        "max-file": "5",
    }


def test_the_second_run_changes_nothing() -> None:
    first = plan('{"debug": true}')
    second = plan(first.after_text, first.record_text)
    assert not second.writes_file
    assert second.restart_for == ()
    assert second.record_text == second.record_before
    assert second.after_text == first.after_text


def test_a_setting_that_is_given_up_is_removed() -> None:
    first = plan('{"default-network-opts": {"bridge": {"x.y": "1"}}}')
    opened = plan(first.after_text, first.record_text, publish_address="0.0.0.0")
    assert "ip" not in opened.after
    assert opened.after["default-network-opts"] == {"bridge": {"x.y": "1"}}
    assert {d.path[0] for d in opened.changes} == {"ip", "default-network-opts"}


def test_a_mapping_that_we_made_goes_with_its_last_value() -> None:
    first = plan(None)
    opened = plan(first.after_text, first.record_text, publish_address="0.0.0.0")
    assert "default-network-opts" not in opened.after


def test_a_given_up_setting_that_somebody_changed_since_stays() -> None:
    first = plan(None, settings={"debug": True, "shutdown-timeout": 30})
    by_hand = {**first.after, "shutdown-timeout": 90}
    second = plan(json.dumps(by_hand), first.record_text)
    assert "debug" not in second.after
    assert second.after["shutdown-timeout"] == 90


def test_an_option_of_a_list_is_taken_out_alone() -> None:
    first = plan('{"labels": ["site=x"]}', settings={"labels": ["room=1"]})
    assert first.after["labels"] == ["site=x", "room=1"]
    second = plan(first.after_text, first.record_text)
    assert second.after["labels"] == ["site=x"]


def test_extra_exec_opts_stand_beside_ours() -> None:
    after = plan(None, settings={"exec-opts": ["native.umask=normal"]}).after
    assert after["exec-opts"] == ["native.cgroupdriver=systemd", "native.umask=normal"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "/etc/docker/daemon.json:1:2: not valid JSON: Expecting property name"),
        ('{\n "debug": tru\n}', "/etc/docker/daemon.json:2:11: not valid JSON"),
        ("[]", "/etc/docker/daemon.json: a JSON object is expected at the top"),
        ('{"debug": true, "debug": false}', "the key 'debug' is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
    ],
)
def test_a_broken_daemon_json_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(config.EngineConfigError) as error:
        plan(text)
    assert message in str(error.value)
    assert "nothing was changed" in str(error.value)


@pytest.mark.parametrize("text", ["", "  \n", "\ufeff{}"])
def test_an_empty_file_is_an_empty_configuration(text: str) -> None:
    assert plan(text).after["live-restore"] is True


@pytest.mark.parametrize(
    "text", ['{"schema_version": 2, "applied": {}}', '{"schema_version": 1}', "[]", "{"]
)
def test_a_record_that_cannot_be_trusted_is_refused(text: str) -> None:
    with pytest.raises(config.EngineConfigError) as error:
        plan(None, text)
    assert "/etc/ds01/engine.json" in str(error.value)


def test_the_record_says_who_manages_it_and_what_was_applied() -> None:
    record = json.loads(plan('{"debug": true}').record_text)
    assert record["_managed"].startswith("Managed by ds01.infra")
    assert record["daemon_json"] == WHERE[0]
    assert record["applied"]["features"] == {"cdi": True}
    assert "debug" not in record["applied"]


def test_the_record_is_read_as_it_was_written() -> None:
    record = config.Record({"debug": True}, ("ip",), "/srv/docker/daemon.json")
    assert config.parse_record(record.render(), "engine.json") == record


def test_a_restart_that_did_not_happen_is_still_due() -> None:
    first = plan(None)
    broken_off = config.Record(first.record_after.applied, first.restart_for).render()
    again = plan(first.after_text, broken_off)
    assert not again.writes_file
    assert again.restart_for == first.restart_for != ()
    assert again.record_text != again.record_before


@pytest.mark.parametrize(
    ("before", "after", "restart"),
    [
        ({}, {"live-restore": True}, False),
        ({"live-restore": True}, {}, True),
        ({}, {"labels": ["a=b"]}, False),
        ({"max-concurrent-downloads": 9}, {}, False),
        ({}, {"features": {"cdi": True}}, True),
        ({"features": {"cdi": True}}, {"features": {"cdi": True, "buildkit": True}}, False),
        ({"runtimes": {}}, {"runtimes": {"nvidia": {"path": "x"}}}, False),
        ({}, {"cgroup-parent": "a.slice"}, True),
        ({}, {"log-opts": {"max-size": "1m"}}, True),
        ({}, {"ip": "127.0.0.1"}, True),
        ({}, {"default-address-pools": [{"base": "172.17.0.0/16", "size": 16}]}, True),
    ],
)
def test_only_what_a_reload_leaves_out_needs_a_restart(
    before: config.Json, after: config.Json, restart: bool
) -> None:
    found = config.differences(before, after)
    assert found
    assert any(change.needs_restart for change in found) is restart


# The machine that runs this may be busy with an emulated host beside it.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
scalars = st.one_of(st.booleans(), st.integers(), st.text(max_size=5))
keys = st.sampled_from(["debug", "dns", "features", "builder", "ip", "log-opts", "x"])
trees: st.SearchStrategy[config.Json] = st.dictionaries(
    keys,
    st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(keys, scalars, max_size=3)),
    max_size=5,
)


@unhurried
@given(existing=trees, wanted=trees, applied=trees)
def test_what_is_wanted_is_there_and_a_second_merge_changes_nothing(
    existing: config.Json, wanted: config.Json, applied: config.Json
) -> None:
    once = config.merge(existing, wanted, applied)
    assert config.leaves(wanted).items() <= config.leaves(once).items()
    assert config.merge(once, wanted, wanted) == once


@unhurried
@given(existing=trees, wanted=trees)
def test_foreign_values_survive_coming_and_going(
    existing: config.Json, wanted: config.Json
) -> None:
    with_ours = config.merge(existing, wanted, {})
    without = config.merge(with_ours, {}, wanted)
    touched = {path[0] for path in config.leaves(wanted)} | set(wanted)
    assert {k: v for k, v in without.items() if k not in touched} == {
        k: v for k, v in existing.items() if k not in touched
    }
