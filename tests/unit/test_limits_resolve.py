# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has which limit, and from where."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from ds01.core.checks import Capacity, check_host, check_users
from ds01.core.errors import Ds01Error
from ds01.core.keys import ALIASES, TABLE
from ds01.core.limits import (
    Limits,
    expired_overrides,
    from_json,
    group_of,
    of_group,
    of_login,
    of_total,
    of_user,
    to_json,
)
from fakes import NOW, read_limits

MIB, GIB = 1024**2, 1024**3
SITE = """\
default_group: student
total:
  memory_max: 400g
login:
  tasks_max: 1024
unattributed:
  memory_max: 4g
defaults:
  memory_max: 8g
  cpu_weight: 100
  idle_timeout: 48h
groups:
  student:
    unix_groups: [ds01-students, ba]
    members: [alice]
    tasks_max: 512
    total: {memory_max: 100g}
  researcher:
    unix_groups: [ds01-researchers]
    members: [carol, h.baker@hertie-school.lan]
    memory_max: 64g
    cpu_weight: 200
    idle_timeout: null
user_overrides:
  alice:
    tasks_max: 1024
    reason: thesis
    expires: 2026-12-31
"""


@pytest.fixture
def site() -> Limits:
    return read_limits(SITE)


def values(limits: Limits, user: str, *unix_groups: str) -> dict[str, Any]:
    group, _unused = group_of(limits, user, unix_groups)
    return {name: s.value for name, s in of_user(limits, user, group, NOW).items()}


def test_an_override_keeps_the_other_values_of_its_group(site: Limits) -> None:
    with_override, group = values(site, "alice"), values(site, "bob")
    assert with_override.pop("tasks_max") == 1024
    assert group.pop("tasks_max") == 512
    assert with_override == group


def test_every_value_says_where_it_comes_from(site: Limits) -> None:
    settings = of_user(site, "alice", "student", NOW)
    assert set(settings) == {key.name for key in TABLE}
    assert settings["tasks_max"].origin == "user_overrides.alice.tasks_max (limits.yml:26)"
    assert settings["memory_max"].origin == "defaults.memory_max (limits.yml:9)"
    assert settings["memory_swap_max"].origin == "built-in default"
    carol = of_user(site, "carol", "researcher", NOW)
    assert carol["memory_max"].origin == "groups.researcher.memory_max (limits.yml:21)"
    assert (carol["idle_timeout"].value, carol["idle_timeout"].shown) == (None, "never")
    for setting in (*settings.values(), *carol.values()):
        assert setting.where.startswith("limits.yml:") or setting.path == "built-in default"


def test_totals_and_logins_have_their_own_values(site: Limits) -> None:
    assert {n: s.value for n, s in of_total(site).items()} == {"memory_max": 400 * GIB}
    assert {n: s.value for n, s in of_total(site, "student").items()} == {"memory_max": 100 * GIB}
    assert of_total(site, "researcher") == {} == of_total(site, "nobody")
    stray = of_total(site, "unattributed")
    assert (stray["memory_max"].value, stray["memory_swap_max"].value) == (4 * GIB, 0)
    assert of_login(site, None, NOW)["tasks_max"].value == 1024
    assert of_login(site, "alice", NOW)["tasks_max"].origin.startswith("user_overrides.alice")
    assert of_group(site, "gone")["memory_max"].value == 8 * GIB


@pytest.mark.parametrize(
    ("user", "unix_groups", "group", "why"),
    [
        ("alice", ["ds01-researchers"], "student", "groups.student.members (limits.yml:13)"),
        ("bob", ["users", "ba"], "student", "Unix group ba, groups.student.unix_groups"),
        ("newcomer", ["ds01-researchers"], "researcher", "Unix group ds01-researchers"),
        ("both", ["ds01-researchers", "ba"], "student", "Unix group ba"),
        ("nobody", [], "student", "default_group"),
        ("H.Baker@Hertie-School.LAN", [], "researcher", "groups.researcher.members"),
        ("Carol", [], "student", "default_group"),
        ("h.baker", [], "student", "default_group"),
    ],
)
def test_members_come_before_unix_groups_before_the_default(
    site: Limits, user: str, unix_groups: list[str], group: str, why: str
) -> None:
    found, reason = group_of(site, user, unix_groups)
    assert found == group
    assert reason.startswith(why)


ENDS = [
    ("2026-12-31", "2026-12-31T23:59:59+00:00", False),
    ("2026-12-31", "2027-01-01T00:00:00+00:00", True),
    ("2026-12-31", "2026-12-31T23:59:59-08:00", False),
    ("2026-12-31", "2027-01-01T00:00:00-08:00", True),
    ("2026-12-31T18:00", "2026-12-31T18:00:00+01:00", False),
    ("2026-12-31T18:00", "2026-12-31T18:00:01+01:00", True),
    ("2026-12-31T18:00Z", "2026-12-31T18:30:00+01:00", False),
    ("2026-12-31T18:00:00+01:00", "2026-12-31T17:30:00+00:00", True),
    ("2026-12-31 18:00", "2026-12-31T17:59:59+00:00", False),
    ("9999-12-31", "9999-12-31T23:59:59-14:00", False),
    ("0001-01-01", "2026-01-01T00:00:00+14:00", True),
]


@pytest.mark.parametrize(("expires", "now", "ended"), ENDS)
def test_an_override_holds_through_its_last_day_in_local_time(
    expires: str, now: str, ended: bool
) -> None:
    moment = datetime.fromisoformat(now)
    limits = read_limits(SITE.replace("2026-12-31", expires), moment)
    assert limits.overrides["alice"].expired(moment) is ended
    tasks = of_user(limits, "alice", "student", moment)["tasks_max"].value
    assert tasks == (512 if ended else 1024)


@pytest.mark.parametrize(
    "expires",
    ["20261231", "2026-W53-4", "2026-12-31T18", "2026-12-31T18:00:00.5", "2026-366", "tomorrow",
     "2026-12-31T24:00", "2026-12-31T18:00+0100", "31.12.2026", "2026-1-1", "٢٠٢٦-12-31", "2026-13-01"],
)  # fmt: skip
def test_an_end_is_read_the_same_by_every_python(expires: str) -> None:
    with pytest.raises(Ds01Error, match="is not a date"):
        read_limits(SITE.replace("2026-12-31", expires))


def test_an_override_that_has_ended_is_ignored_with_a_warning(site: Limits) -> None:
    later = NOW + timedelta(days=100)
    assert expired_overrides(site, NOW) == []
    (warning,) = expired_overrides(site, later)
    assert warning.level == "warning"
    assert str(warning) == (
        "limits.yml:25: the override of alice ended on 2026-12-31 and is ignored. "
        "Remove it, or set a later date"
    )
    assert of_login(site, "alice", later)["tasks_max"].value == 1024
    assert of_login(site, "alice", later)["tasks_max"].path == "login.tasks_max"


def test_an_override_that_has_ended_is_not_held_against_group_or_host() -> None:
    text = SITE.replace("tasks_max: 1024\n    reason", "memory_high: 16g\n    reason")
    later = NOW + timedelta(days=100)
    with pytest.raises(Ds01Error, match=r"user alice: memory_high 16 GiB .* is above memory_max"):
        read_limits(text)
    small = Capacity(cpus=2, memory=2000 * GIB, pids=1000)
    limits = read_limits(text.replace("memory_high: 16g", "tasks_max: 2000"), later)
    assert [p.what for p in check_host(limits, small, later)] == [
        "login.tasks_max: 1024 is above the host: the kernel has 1000 process ids"
    ]
    assert len(check_host(limits, small, NOW)) == 2
    assert read_limits(text, later).overrides["alice"].settings["memory_high"].value == 16 * GIB


def test_an_override_is_only_guessed_wrong_where_the_host_gives_the_group() -> None:
    text = SITE.replace("members: [alice]", "members: []")
    text = text.replace("tasks_max: 1024\n    reason", "memory_high: 16g\n    reason")
    limits = read_limits(text)
    (warning,) = [p for p in limits.problems if "memory_high" in p.what]
    assert (warning.level, warning.what.endswith("if alice is in group student")) == (
        "warning",
        True,
    )
    assert check_users(limits, {"alice": "researcher"}, NOW) == []
    (fault,) = check_users(limits, {"alice": "student"}, NOW)
    assert (fault.level, fault.where) == ("error", "limits.yml:26")


TOTALS = """\
default_group: g
total: {tasks_max: 9000}
groups:
  g: {members: [alice], total: {memory_max: 8g}}
user_overrides:
  alice: {memory_max: 9g, tasks_max: 10000}
"""


def test_a_value_that_a_total_never_lets_through_gets_a_warning() -> None:
    warnings = [str(problem) for problem in read_limits(TOTALS).problems]
    assert warnings == [
        "limits.yml:6: user alice: memory_max 9 GiB from user_overrides.alice.memory_max "
        "(limits.yml:6) can never be reached, group g as a whole has 8 GiB from "
        "groups.g.total.memory_max (limits.yml:4). Lower memory_max or raise the total",
        "limits.yml:6: user alice: tasks_max 10000 from user_overrides.alice.tasks_max "
        "(limits.yml:6) can never be reached, the whole host has 9000 from total.tasks_max "
        "(limits.yml:2). Lower tasks_max or raise the total",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cpu_quota: 401%", "groups.g.cpu_quota: 401% is above the host: the host has 4 CPUs (400%)"),
        ("max_cpus: 4.5", "groups.g.max_cpus: 4.5 is above the host: the host has 4 CPUs (4)"),
        ("memory_max: 65g", "groups.g.memory_max: 65 GiB is above the host: the host has 64 GiB of memory"),
        ("memory_high: 65g", "groups.g.memory_high: 65 GiB is above the host: the host has 64 GiB of memory"),
        ("tasks_max: 32769", "groups.g.tasks_max: 32769 is above the host: the kernel has 32768 process ids"),
        ("total: {memory_max: 1t}", "groups.g.total.memory_max: 1 TiB is above the host: "
         "the host has 64 GiB of memory"),
    ],
)  # fmt: skip
def test_a_value_above_the_host_is_refused(line: str, message: str) -> None:
    limits = read_limits(f"default_group: g\ngroups:\n  g:\n    {line}\n")
    (problem,) = check_host(limits, Capacity(cpus=4, memory=64 * GIB, pids=32768), NOW)
    assert str(problem) == f"limits.yml:4: {message}. Lower it, or write null for no limit"
    assert problem.level == "error"


def test_the_largest_values_of_the_host_are_taken() -> None:
    limits = read_limits(
        "default_group: g\ngroups:\n  g: {cpu_quota: 400%, max_cpus: 4, memory_max: 64g, tasks_max: 32768}\n"
    )
    assert check_host(limits, Capacity(cpus=4, memory=64 * GIB, pids=32768), NOW) == []


ALIASED = [
    ("max_gpus_per_user: 2", "max_gpu_equivalents", 2.0),
    ("gpu_limit: 1", "max_gpu_equivalents", 1.0),
    ("max_gpu_slots: 3", "max_mig_instances", 3),
    ("max_mig_per_container: 1", "max_gpus_per_container", 1),
    ("max_tasks: 512", "tasks_max", 512),
    ("io_read_bps: 500M", "io_read_bw_max", 500_000_000),
    ("io_write_bps: 200M", "io_write_bw_max", 200_000_000),
    ("idle_timeout_h: 48", "idle_timeout", 172800),
    ("max_runtime_h: 0.5", "max_runtime", 1800),
    ("max_runtime_h: null", "max_runtime", None),
    ("gpu_hold_after_stop_h: 0.25", "gpu_hold_after_stop", 900),
    ("container_hold_after_stop_h: 1", "container_hold_after_stop", 3600),
    ("gpu_wait_timeout_h: 2", "gpu_wait_timeout", 7200),
    ("aggregate: {memory_max: 96g}", "memory_max", 96 * GIB),
    ("aggregate: {max_tasks: 4096}", "tasks_max", 4096),
    ("aggregate: {gpu_limit: 2}", "max_gpu_equivalents", 2.0),
]


@pytest.mark.parametrize(("line", "key", "value"), ALIASED)
@pytest.mark.parametrize("block", ["defaults", "groups", "user_overrides"])
def test_an_old_spelling_is_read_with_a_notice(block: str, line: str, key: str, value: Any) -> None:
    text = "default_group: g\ngroups:\n  g: {}\n"
    path = {"defaults": "defaults", "groups": "groups.x", "user_overrides": "user_overrides.x"}[
        block
    ]
    if block == "groups":
        text += f"  x:\n    {line}\n"
    else:
        text += f"{block}:\n  {line}\n" if block == "defaults" else f"{block}:\n  x:\n    {line}\n"
    limits = read_limits(text)
    settings = {
        "defaults": limits.defaults,
        "groups": limits.groups.get("x", limits.groups["g"]).settings,
        "user_overrides": limits.overrides["x"].settings if limits.overrides else {},
    }[block]
    assert settings[key].value == value
    assert settings[key].path.startswith(path)
    notices = [p for p in limits.problems if p.level == "notice"]
    assert notices
    assert all(n.where == settings[key].where and n.remedy for n in notices)


def test_the_table_of_old_spellings_is_covered() -> None:
    assert {row[0].partition(":")[0] for row in ALIASED} == {*ALIASES, "aggregate"}


@pytest.mark.parametrize(
    "order", [("tasks_max: 64", "max_tasks: 512"), ("max_tasks: 512", "tasks_max: 64")]
)
def test_a_new_spelling_counts_over_an_old_one_wherever_it_stands(order: tuple[str, str]) -> None:
    limits = read_limits(f"default_group: g\ngroups:\n  g:\n    {order[0]}\n    {order[1]}\n")
    assert limits.groups["g"].settings["tasks_max"].value == 64
    (warning,) = [p for p in limits.problems if p.level == "warning"]
    assert (
        warning.what == "groups.g.max_tasks says tasks_max a second time; groups.g.tasks_max counts"
    )


def test_limits_survive_json_whole(site: Limits) -> None:
    text = json.dumps(to_json(site))
    assert from_json(json.loads(text)) == site
    assert json.dumps(to_json(from_json(json.loads(text)))) == text


def test_the_order_of_groups_survives_json_that_has_none() -> None:
    text = SITE.replace(
        "groups:\n  student:", "groups:\n  zebra: {unix_groups: [both]}\n  student:"
    )
    limits = read_limits(text)
    again = from_json(json.loads(json.dumps(to_json(limits), sort_keys=True)))
    assert list(again.groups) == ["zebra", "student", "researcher"]
    for site in (limits, again):
        assert group_of(site, "zoe", ["ba", "both"])[0] == "zebra"


def tampered(path: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(to_json(read_limits(SITE))))
    *parents, last = path.split("/")
    place: Any = data
    for step in parents:
        place = place[step]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2),
        ("groups", []),
        ("groups/student/name", "other"),
        ("groups/student/members", "alice"),
        ("groups/student/settings/tasks_max/value", "512"),
        ("groups/student/settings/tasks_max/value", -1),
        ("groups/student/settings/tasks_max/value", True),
        ("groups/student/settings/tasks_max/key", "memory_max"),
        ("groups/student/settings/tasks_max", None),
        ("groups/student/settings/unknown", {"key": "unknown", "value": 1, "path": "", "where": ""}),
        ("groups", {"../../etc": {"name": "../../etc", "settings": {}, "total": {}, "members": [],
                                  "unix_groups": [], "where": ""}}),
        ("group_order", ["student"]),
        ("group_order", "student"),
        ("default_group", "../x"),
        ("default_group", ["student"]),
        ("overrides/alice/expires", "never"),
        ("overrides/alice/user", "bob"),
        ("overrides/a\nb", {"user": "a\nb", "settings": {}, "reason": "", "expires": "", "where": ""}),
        ("defaults", KeyError),
        ("problems", [{"level": "error"}]),
        ("source", None),
    ],
)  # fmt: skip
def test_tampered_limits_are_refused_in_words(path: str, value: Any) -> None:
    data = tampered(path, value)
    with pytest.raises(Ds01Error) as caught:
        from_json(data, "limits.json")
    assert caught.value.where == "limits.json"
    assert caught.value.remedy.startswith("Run site.yml")


def test_limits_that_are_no_mapping_are_refused() -> None:
    damaged: tuple[Any, ...] = ([], None, "x", 3)
    for data in damaged:
        with pytest.raises(Ds01Error, match="the limits are damaged"):
            from_json(data)
