# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a limits file becomes on a host: which drop-ins, and which live values in which slices."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from ds01.core.errors import Ds01Error
from ds01.core.slices import MARKER
from ds01.host.accounts import HostAccount
from fakes import NOW, FakeHost, read_limits

GIB = 1024**3
SITE = """\
default_group: student
total: {memory_max: 400g}
login: {tasks_max: 1024}
unattributed: {memory_max: 4g}
defaults: {memory_max: 8g, cpu_weight: 100}
groups:
  student: {members: [alice], tasks_max: 512, io_write_bw_max: 8M}
  researcher:
    unix_groups: [ds01-researchers]
    memory_max: 64g
    cpu_quota: 12800.25%
    total: {memory_max: 300g}
user_overrides:
  alice: {tasks_max: 1024, io_write_bw_max: null, memory_max: 8g}
  h.baker@hertie-school.lan: {memory_max: 96g}
"""
BAKER = HostAccount("h.baker@hertie-school.lan", 1005, ("ds01-researchers",))
ACCOUNTS = {"alice": HostAccount("alice", 1001, ()), BAKER.name: BAKER}


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path, ACCOUNTS)


def settings(text: str) -> list[str]:
    """The lines of a drop-in that set something."""
    assert text.startswith(f"{MARKER}\n# ")
    assert text.splitlines()[2] == "[Slice]"
    assert text.endswith("\n")
    return text.splitlines()[3:]


def test_the_files_grow_with_groups_and_overrides_not_with_users(host: FakeHost) -> None:
    host.apply(SITE)
    assert sorted(host.files()) == [
        "ds01-researcher-.slice.d/60-ds01-group.conf",
        r"ds01-researcher-h.baker\x40hertie\x2dschool.lan.slice.d/70-ds01-user.conf",
        "ds01-researcher.slice.d/60-ds01-total.conf",
        "ds01-student-.slice.d/60-ds01-group.conf",
        "ds01-student-alice.slice.d/70-ds01-user.conf",
        "ds01-student.slice.d/60-ds01-total.conf",
        "ds01-unattributed.slice.d/60-ds01-total.conf",
        "ds01.slice.d/60-ds01-total.conf",
        "user-.slice.d/60-ds01-login.conf",
        "user-0.slice.d/70-ds01-login.conf",
        "user-1001.slice.d/70-ds01-login.conf",
        "user-1005.slice.d/70-ds01-login.conf",
    ]
    more = SITE.replace("[alice]", f"[alice, {', '.join(f'u{n}' for n in range(500))}]")
    assert host.apply(more).plan.write == {}


def test_a_group_drop_in_holds_what_each_of_its_users_may_have(host: FakeHost) -> None:
    host.apply(SITE)
    files = host.files()
    assert settings(files["ds01-researcher-.slice.d/60-ds01-group.conf"]) == [
        "CPUQuota=12800.25%",
        "CPUWeight=100",
        f"MemoryMax={64 * GIB}",
        "MemorySwapMax=0",
    ]
    assert settings(files["ds01-researcher.slice.d/60-ds01-total.conf"]) == [
        f"MemoryMax={300 * GIB}"
    ]
    assert settings(files["ds01-student.slice.d/60-ds01-total.conf"]) == []


def test_an_override_holds_only_what_differs_from_its_group(host: FakeHost) -> None:
    host.apply(SITE)
    files = host.files()
    assert settings(files["ds01-student-alice.slice.d/70-ds01-user.conf"]) == [
        "IOWriteBandwidthMax=",
        "TasksMax=1024",
    ]
    assert settings(files["user-1001.slice.d/70-ds01-login.conf"]) == ["IOWriteBandwidthMax="]


def test_an_override_like_its_group_needs_no_file(host: FakeHost) -> None:
    same = SITE.replace("  alice: {tasks_max: 1024, io_write_bw_max: null, memory_max: 8g}\n",
                        "  alice: {tasks_max: 512, reason: for later}\n")  # fmt: skip
    host.apply(same)
    assert "ds01-student-alice.slice.d/70-ds01-user.conf" not in host.files()


def test_a_user_who_appears_tomorrow_is_limited_without_another_run(host: FakeHost) -> None:
    host.apply(SITE)
    host.systemd.start("ds01-student-newcomer.slice", "user-4711.slice")
    kernel = host.systemd.kernel("ds01-student-newcomer.slice")
    assert (kernel["pids.max"], kernel["memory.max"]) == ("512", str(8 * GIB))
    assert kernel["memory.swap.max"] == "0"
    assert kernel["io.max"] == "254:0 rbps=max wbps=8000000 riops=max wiops=max"
    assert host.systemd.kernel("user-4711.slice")["pids.max"] == "1024"
    assert host.systemd.kernel("ds01.slice")["memory.max"] == str(400 * GIB)
    assert not host.look(SITE).changed


def test_no_user_has_the_limits_of_another(host: FakeHost) -> None:
    host.apply(SITE)
    baker = r"ds01-researcher-h.baker\x40hertie\x2dschool.lan.slice"
    others = (
        r"ds01-researcher-h.baker.slice",
        r"ds01-researcher-H.Baker\x40hertie\x2dschool.lan.slice",
    )
    host.systemd.start(baker, *others, "ds01-student-alicex.slice")
    assert host.systemd.kernel(baker)["memory.max"] == str(96 * GIB)
    assert host.systemd.kernel(others[0])["memory.max"] == str(64 * GIB)
    assert host.systemd.kernel("ds01-student-alicex.slice")["pids.max"] == "512"


def test_the_shell_of_root_is_never_limited(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {**ACCOUNTS, "root": HostAccount("root", 0, ())})
    host.systemd.start("user-0.slice")
    before = host.systemd.kernel("user-0.slice")
    host.apply(SITE + "  root: {memory_max: 1g}\n")
    assert host.systemd.kernel("user-0.slice") == before
    host.systemd.reboot()
    assert host.systemd.kernel("user-0.slice") == before


def test_a_changed_limit_is_live_at_once_and_the_same_after_a_reboot(host: FakeHost) -> None:
    host.systemd.start("ds01-student-alice.slice", "ds01-student-bob.slice", "user-1001.slice")
    host.apply(SITE)
    outcome = host.apply(SITE.replace("tasks_max: 1024, io", "tasks_max: 2048, io"))
    assert [(live.unit, live.wanted) for live in outcome.plan.live] == [
        ("ds01-student-alice.slice", ("TasksMax=2048",)),
        ("user-1001.slice", ("TasksMax=2048",)),
    ]
    assert list(outcome.plan.write) == [
        "ds01-student-alice.slice.d/70-ds01-user.conf",
        "user-1001.slice.d/70-ds01-login.conf",
    ]
    live = {unit: host.systemd.kernel(unit) for unit in host.systemd.contexts}
    assert live["ds01-student-alice.slice"]["pids.max"] == "2048"
    assert live["ds01-student-bob.slice"]["pids.max"] == "512"
    host.systemd.reboot()
    assert {unit: host.systemd.kernel(unit) for unit in host.systemd.contexts} == live


def test_a_value_that_somebody_changed_in_the_kernel_is_set_again(host: FakeHost) -> None:
    host.systemd.start("ds01-student-alice.slice")
    host.apply(SITE)
    host.systemd.set_properties("ds01-student-alice.slice", ["TasksMax=infinity"])
    outcome = host.apply(SITE)
    assert outcome.plan.write == {}
    assert [live.unit for live in outcome.plan.live] == ["ds01-student-alice.slice"]
    assert host.systemd.kernel("ds01-student-alice.slice")["pids.max"] == "1024"


def unlimited(host: FakeHost, unit: str) -> bool:
    kernel = host.systemd.kernel(unit)
    plain = {"cpu.max": "max 100000", "cpu.weight": "100", "io.weight": "default 100", "io.max": ""}
    return all(value == plain.get(name, "max") for name, value in kernel.items())


def test_a_removed_group_is_removed_and_its_slices_set_back(host: FakeHost) -> None:
    host.systemd.start("ds01-researcher-newcomer.slice", "ds01-student-bob.slice")
    host.systemd.use("ds01-researcher-newcomer.slice", "pids.current", 7)
    host.apply(SITE)
    assert not unlimited(host, "ds01-researcher-newcomer.slice")
    start, end = SITE.index("  researcher:"), SITE.index("user_overrides:")
    outcome = host.apply(SITE[:start] + SITE[end:])
    assert not [path for path in host.files() if "researcher" in path]
    assert not [p for p in Path(host.paths.units).iterdir() if "researcher" in p.name]
    assert unlimited(host, "ds01-researcher-newcomer.slice")
    assert unlimited(host, "ds01-researcher.slice")
    assert not unlimited(host, "ds01-student-bob.slice")
    assert outcome.warnings == (
        "ds01-researcher-newcomer.slice still runs 7 tasks of a removed group, without limits of "
        "their own until they are started again",
    )
    assert not host.look(SITE[:start] + SITE[end:]).changed


def test_a_removed_override_goes_back_to_its_group(host: FakeHost) -> None:
    host.systemd.start("ds01-student-alice.slice", "user-1001.slice")
    host.apply(SITE)
    outcome = host.apply(SITE.replace("  alice: {tasks_max", "  zoe: {tasks_max"))
    assert sorted(outcome.plan.remove) == [
        "ds01-student-alice.slice.d/70-ds01-user.conf",
        "user-1001.slice.d/70-ds01-login.conf",
    ]
    kernel = host.systemd.kernel("ds01-student-alice.slice")
    assert (kernel["pids.max"], kernel["io.max"][:30]) == ("512", "254:0 rbps=max wbps=8000000 ri")
    assert host.systemd.kernel("user-1001.slice")["io.max"] != ""


def test_a_removed_key_is_set_back_in_the_kernel(host: FakeHost) -> None:
    host.systemd.start("ds01-student-bob.slice")
    host.apply(SITE)
    host.apply(SITE.replace("tasks_max: 512, io_write_bw_max: 8M", "cpu_weight: 50"))
    kernel = host.systemd.kernel("ds01-student-bob.slice")
    assert (kernel["pids.max"], kernel["io.max"], kernel["cpu.weight"]) == ("max", "", "50")
    host.apply(SITE.replace("tasks_max: 512, io_write_bw_max: 8M", "cpu_weight: 100"))
    assert host.systemd.kernel("ds01-student-bob.slice")["cpu.weight"] == "100"


def test_an_override_that_ends_goes_back_to_its_group(host: FakeHost) -> None:
    text = SITE.replace("tasks_max: 1024, io", "expires: 2026-12-31, tasks_max: 1024, io")
    host.systemd.start("ds01-student-alice.slice")
    host.apply(text)
    assert host.systemd.kernel("ds01-student-alice.slice")["pids.max"] == "1024"
    later = NOW + timedelta(days=60)
    host.apply(text, later)
    assert host.systemd.kernel("ds01-student-alice.slice")["pids.max"] == "512"
    assert "ds01-student-alice.slice.d/70-ds01-user.conf" not in host.files()
    assert not host.look(text, later).changed


@pytest.mark.parametrize(
    "unit",
    ["ds01-strangers-x.slice", "ds01-strangers.slice", "ds01-unattributed-x.slice",
     "ds01-build-y.slice", "ds01-student-alice-deeper.slice", "ds01-student-.slice"],
)  # fmt: skip
def test_slices_that_are_not_ours_are_left_alone(unit: str, host: FakeHost) -> None:
    host.systemd.start(unit)
    host.systemd.set_properties(unit, ["TasksMax=77", "MemoryMax=1073741824"])
    before = host.systemd.kernel(unit)
    for text in (SITE, SITE, SITE.replace("400g", "300g")):
        host.apply(text)
        assert host.systemd.kernel(unit) == before


def test_what_has_no_owner_is_limited_from_the_first_run_and_never_called_removed(
    host: FakeHost,
) -> None:
    host.systemd.start("ds01-unattributed.slice")
    host.systemd.use("ds01-unattributed.slice", "pids.current", 12)
    for _run in range(2):
        assert host.apply(SITE).warnings == ()
        kernel = host.systemd.kernel("ds01-unattributed.slice")
        assert (kernel["memory.max"], kernel["memory.swap.max"]) == (str(4 * GIB), "0")


def test_a_user_in_a_new_group_is_told_that_old_containers_stay(host: FakeHost) -> None:
    host.systemd.start("ds01-student-alice.slice")
    host.apply(SITE)
    moved = SITE.replace("members: [alice], ", "").replace(
        "unix_groups: [ds01-researchers]", "members: [alice]"
    )
    outcome = host.apply(moved)
    assert outcome.warnings == (
        "alice is no longer in group student: what runs in ds01-student-alice.slice stays there "
        "until it is created again",
    )
    assert host.systemd.kernel("ds01-student-alice.slice")["pids.max"] == "512"
    assert "ds01-researcher-alice.slice.d/70-ds01-user.conf" in host.files()


def test_a_limit_below_present_use_gets_a_warning_in_the_diff(host: FakeHost) -> None:
    host.systemd.start("ds01-student-bob.slice")
    host.systemd.use("ds01-student-bob.slice", "memory.current", 6 * GIB)
    host.systemd.use("ds01-student-bob.slice", "pids.current", 400)
    host.apply(SITE)
    lower = SITE.replace("memory_max: 8g, cpu", "memory_max: 5g, cpu")
    outcome = host.look(lower)
    warning = (
        "ds01-student-bob.slice uses 6 GiB now, above the new memory_max 5 GiB "
        "from defaults.memory_max (limits.yml:5)"
    )
    assert outcome.warnings == (warning,)
    assert {"before_header": "warnings", "after_header": "warnings", "before": "",
            "after": f"{warning}\n"} in outcome.diff()  # fmt: skip


def test_a_disk_that_no_longer_counts_is_set_free(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, ACCOUNTS, {"/dev/vda": "254:0", "/dev/vdb": "254:16"})
    host.systemd.start("ds01-student-bob.slice")
    host.apply(SITE, devices=["/dev/vda", "/dev/vdb"])
    assert host.systemd.kernel("ds01-student-bob.slice")["io.max"].count("wbps=8000000") == 2
    host.systemd.daemon_reload()
    host.apply(SITE, devices=["/dev/vda"])
    assert host.systemd.kernel("ds01-student-bob.slice")["io.max"].split()[0] == "254:0"
    assert host.systemd.kernel("ds01-student-bob.slice")["io.max"].count("wbps=8000000") == 1
    assert not host.look(SITE, devices=["/dev/vda"]).changed


def test_a_disk_given_by_the_inventory_that_is_not_there_is_refused(host: FakeHost) -> None:
    with pytest.raises(Ds01Error) as caught:
        host.apply(SITE, devices=["/dev/sdx"])
    assert str(caught.value) == (
        "inventory: slices_io_devices names a disk that is not there: /dev/sdx: No such file or "
        "directory. Correct the node, or leave the list empty to have it found"
    )
    assert host.files() == {}


def test_two_overrides_of_one_account_are_refused(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {**ACCOUNTS, "h.baker": BAKER})
    with pytest.raises(Ds01Error) as caught:
        host.apply(SITE + "  h.baker: {memory_max: 32g}\n")
    assert str(caught.value) == (
        "limits.yml:16: user_overrides.h.baker@hertie-school.lan and user_overrides.h.baker are "
        "one account on this host (h.baker@hertie-school.lan, uid 1005). Keep one of them"
    )


def test_an_override_is_checked_against_the_group_that_the_host_gives(host: FakeHost) -> None:
    wrong = SITE.replace("lan: {memory_max: 96g}", "lan: {memory_high: 65g}")
    with pytest.raises(Ds01Error, match=r"limits\.yml:15: user h\.baker.* memory_high 65 GiB"):
        host.apply(wrong)
    assert not host.apply(wrong.replace("65g", "63g")).warnings


def test_an_account_that_is_absent_or_spelled_otherwise_is_told(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, {"baker": BAKER})
    text = SITE.replace("h.baker@hertie-school.lan", "baker")
    assert host.apply(text).warnings == (
        "user_overrides.alice (limits.yml:14): the host has no account alice; the override waits "
        "in group student",
        "user_overrides.baker (limits.yml:15): the host spells this account "
        "h.baker@hertie-school.lan; write it so, in members too, or its group may be another than "
        "you mean",
    )
    assert (
        r"ds01-researcher-h.baker\x40hertie\x2dschool.lan.slice.d/70-ds01-user.conf" in host.files()
    )


def test_the_place_of_a_value_cannot_add_lines_to_a_drop_in(host: FakeHost) -> None:
    limits = read_limits(SITE, shown="limits\nMemoryMax=1\n[Service].yml")
    for text in host.gather(limits).site.files().values():
        assert [line for line in text.splitlines() if line.startswith("[")] == ["[Slice]"]
        assert "MemoryMax=1" not in text.splitlines()
