# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slices alone hold a user: on a real kernel, with real containers, after site.yml ran."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from labhost.guest import Lab
from slices_host import BAKER, Slices

STUDENT = "ds01-student-alice.slice"
CAROL = "ds01-researcher-carol.slice"
MIB = 1024**2


@pytest.fixture(scope="module")
def slices(lab: Lab) -> Iterator[Slices]:
    """The host's slices, with the worked example's limits in force before and after."""
    host = Slices(lab)
    yield host
    host.remove_containers()
    host.play()


@pytest.fixture(autouse=True)
def no_leftovers(slices: Slices) -> Iterator[None]:
    yield
    slices.remove_containers()


def test_a_fork_bomb_stops_at_tasks_max(slices: Slices) -> None:
    slices.start("bomb", STUDENT, "sh", "-c", "while :; do sleep 300 & done")
    slices.wait_for(
        lambda: int(slices.cgroup(STUDENT, "pids.events").split()[1]) > 0, "forks are refused"
    )
    assert slices.cgroup(STUDENT, "pids.max") == "128"
    assert int(slices.cgroup(STUDENT, "pids.current")) <= 128
    assert slices.lab.run("true", as_user="carol").rc == 0


def test_a_memory_eater_is_killed_at_memory_max_while_others_go_on(slices: Slices) -> None:
    carol = slices.start("carols", CAROL, "sleep", "600")
    slices.start("eater", STUDENT, "tail", "/dev/zero")
    assert slices.lab.run("timeout 120 docker wait eater").stdout.strip() == "137"
    assert slices.lab.run("docker inspect -f '{{.State.OOMKilled}}' eater").stdout.strip() == "true"
    assert slices.cgroup(STUDENT, "memory.max") == str(256 * MIB)
    assert slices.pid("carols") == carol


def test_a_cpu_burner_gets_its_quota(slices: Slices) -> None:
    slices.start("burner", STUDENT, "sh", "-c", "while :; do :; done & while :; do :; done")
    share = slices.cpu_share(STUDENT, seconds=8)
    # One CPU; without the quota two loops on two CPUs would take nearly two.
    assert 0.5 <= share <= 1.2, f"the slice had {share:.0%} of a CPU"


def test_a_direct_writer_is_held_to_io_write_bw_max(slices: Slices) -> None:
    rate = slices.write_rate(STUDENT, mebibytes=40)
    # 8 MB/s are asked for; io.max may let a first burst through.
    assert rate <= 8e6 * 1.5, f"the slice wrote {rate / 1e6:.1f} MB/s"


def test_a_user_who_appears_after_the_run_is_limited(slices: Slices) -> None:
    user = "late-comer"
    slices.lab.run(f"id {user} 2>/dev/null || useradd --create-home {user}")
    unit = r"ds01-student-late\x2dcomer.slice"
    reloads = slices.reloads()
    slices.start("late", unit, "sleep", "600")
    assert slices.numbers(unit) == slices.numbers_of_group("student")
    assert slices.reloads() == reloads
    slices.lab.run(f"userdel --remove {user}")


def test_a_directory_name_has_her_own_slice(slices: Slices) -> None:
    unit = slices.lab.run(f"systemd-escape '{BAKER}'").stdout.strip()
    unit = f"ds01-researcher-{unit}.slice"
    baker = slices.start("bakers", unit, "sleep", "600")
    slices.wake(CAROL)
    slices.play_changed({BAKER: {"memory_max": "740m"}})
    assert slices.cgroup(unit, "memory.max") == str(740 * MIB)
    assert slices.cgroup(CAROL, "memory.max") == str(768 * MIB)
    assert baker in slices.cgroup_tree_pids(unit)
    assert slices.cgroup_tree_pids(CAROL) == []


def test_a_raised_limit_is_live_without_reload_and_the_container_keeps_its_pid(
    slices: Slices,
) -> None:
    pid = slices.start("alices", STUDENT, "sleep", "600")
    reloads = slices.reloads()
    watch = slices.watch(STUDENT, "memory.max")
    slices.play_changed({"alice": {"memory_max": "400m"}})
    assert slices.cgroup(STUDENT, "memory.max") == str(400 * MIB)
    assert slices.pid("alices") == pid
    assert slices.reloads() == reloads
    delay = slices.delay(watch, "/etc/systemd/system/ds01-student-alice.slice.d/70-ds01-user.conf")
    print(f"from the drop-in to the kernel: {delay:.2f} s")
    assert delay < 10, "the budget is 2 s; a test asserts at five times that"
    # The rest of her group is untouched by the override.
    assert slices.cgroup(STUDENT, "pids.max") == "128"
    # Somebody else's daemon-reload reads the same from the files.
    before = slices.numbers(STUDENT)
    slices.lab.run("systemctl daemon-reload")
    slices.start("second", STUDENT, "sleep", "600")
    assert slices.numbers(STUDENT) == before
    assert slices.pid("alices") == pid


def test_a_removed_override_key_and_group_leave_the_host(slices: Slices) -> None:
    admin = "ds01-admin-dana.slice"
    slices.start("danas", admin, "sleep", "600")
    slices.wake(STUDENT)
    slices.play_changed({"alice": {"memory_max": "400m"}})
    output = slices.play_text(slices.limits_without_admins_and_student_cpu_quota())
    assert slices.cgroup(STUDENT, "memory.max") == str(256 * MIB)
    assert slices.cgroup(STUDENT, "cpu.max").split()[0] == "max"
    assert slices.cgroup(admin, "pids.max") == "max"
    left = slices.lab.run(
        "ls -d /etc/systemd/system/ds01-admin* /etc/systemd/system/ds01-student-alice*", check=False
    )
    assert left.stdout == ""
    assert "tasks of a removed group" in output


def test_a_limit_below_present_use_is_warned_of_in_the_diff(slices: Slices) -> None:
    slices.start("alices", STUDENT, "sh", "-c", "for i in $(seq 40); do sleep 600 & done; wait")
    slices.wait_for(
        lambda: int(slices.cgroup(STUDENT, "pids.current")) > 40, "forty sleepers are up"
    )
    output = slices.play_changed({"alice": {"tasks_max": "20"}}, "--check", "--diff")
    assert f"{STUDENT} uses 4" in output
    assert "above the new tasks_max 20" in output
    assert slices.cgroup(STUDENT, "pids.max") == "128", "check mode changed the host"


def test_limits_above_the_host_are_refused_and_the_old_ones_hold(slices: Slices) -> None:
    slices.wake(STUDENT)
    before = slices.numbers(STUDENT), slices.drop_ins()
    output = slices.play_changed(
        {"alice": {"memory_max": "64g"}, "bob": {"tasks_max": "99"}}, fails=True
    )
    assert "user_overrides.alice.memory_max: 64 GiB is above the host" in output
    assert (slices.numbers(STUDENT), slices.drop_ins()) == before


def test_a_step_that_fails_leaves_the_old_limits_in_force(slices: Slices) -> None:
    slices.wake(STUDENT)
    before = slices.numbers(STUDENT), slices.drop_ins()
    # The record cannot be written: the last step fails after files and kernel have changed.
    slices.lab.run("chattr +i /etc/ds01")
    try:
        output = slices.play_changed({"alice": {"memory_max": "300m"}}, fails=True)
    finally:
        slices.lab.run("chattr -i /etc/ds01")
    assert "The old limits are in force again" in output
    assert (slices.numbers(STUDENT), slices.drop_ins()) == before


def test_login_shells_have_their_limits_and_root_has_none(slices: Slices) -> None:
    inside = slices.lab.run("cat /proc/self/cgroup", as_user="alice").stdout
    assert "/user.slice/user-1001.slice/" in inside
    assert slices.cgroup("user-1001.slice", "memory.max") == str(1024 * MIB)
    assert slices.cgroup("user-1001.slice", "pids.max") == "1024"
    assert slices.cgroup("user-0.slice", "pids.max") == "max"


def test_swap_is_no_way_round(slices: Slices) -> None:
    slices.wake(STUDENT)
    assert slices.cgroup(STUDENT, "memory.swap.max") == "0"


def test_all_numbers_are_the_same_after_a_reboot(slices: Slices) -> None:
    slices.play_changed({"alice": {"memory_max": "400m", "reason": "thesis"}})

    def look() -> dict[str, dict[str, str]]:
        slices.start("alices", STUDENT, "sleep", "600")
        slices.wake(CAROL)
        slices.lab.run("true", as_user="alice")
        everything = [
            STUDENT,
            CAROL,
            "ds01.slice",
            "ds01-student.slice",
            "ds01-researcher.slice",
            "user-1001.slice",
        ]
        found = {unit: slices.numbers(unit) for unit in everything}
        slices.remove_containers()
        return found

    before = look()
    slices.lab.reboot()
    engine = "docker info"
    slices.wait_for(lambda: slices.lab.run(engine, check=False).rc == 0, "the engine is back", 120)
    assert look() == before
    assert before[STUDENT]["memory.max"] == str(400 * MIB)
