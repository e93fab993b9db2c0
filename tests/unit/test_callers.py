# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks: every way to seem to be somebody else is tried."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from ds01 import limits_source
from ds01.core import names
from ds01.core.callers import (
    ENFORCE,
    OBSERVE,
    Accounts,
    Caller,
    Missing,
    Place,
    Refusal,
    is_admin,
    local_uid,
    place_of,
    subordinate_owner,
    who,
)
from ds01.core.limits import Limits
from ds01.host.peer import Peer
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
ID = "0123456789abcdef" * 4
BUILD = "k3j4h5g6f7d8s9a0q1w2e3r4t"
LOGIN = "/user.slice/user-1001.slice/session-3.scope"
MANAGER = "/user.slice/user-1001.slice/user@1001.service"
ALICE = f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID}.scope"
DANA = f"/ds01.slice/ds01-admin.slice/ds01-admin-dana.slice/docker-{ID}.scope"
BAKER = (
    r"/ds01.slice/ds01-research.slice/ds01-research-h.baker\x40hertie\x2dschool.lan.slice"
    f"/docker-{ID}.scope"
)
FIRST_SUB = 165536
LIMITS = """
default_group: student
groups:
  student:
    gateway_mode: enforce
  research:
    unix_groups: [scientists]
    gateway_mode: observe
  admin:
    members: [dana]
user_overrides:
  bob:
    gateway_mode: observe
    expires: 2026-11-22T13:00:00+00:00
"""


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> Limits:
    source = tmp_path_factory.mktemp("limits") / "limits.yml"
    source.write_text(LIMITS)
    return limits_source.from_file(str(source))


@pytest.fixture
def accounts(limits: Limits) -> Accounts:
    people = {1001: "alice", 1002: "bob", 1004: "dana", 70000: "h.baker@hertie-school.lan"}
    return Accounts(
        names={0: "root", **people},
        uids={"root": 0, "allie": 1001, **{name: uid for uid, name in people.items()}},
        member_of={1001: frozenset({1001}), 1002: frozenset(), 1004: frozenset({900})},
        groups={900: ("ds01-admins",), 500: ("scientists",)},
        subordinates=((FIRST_SUB, 65536, 1001), (300000, 65536, 1002)),
        admin_group="ds01-admins",
        limits=limits,
    )


def peer(uid: int, cgroup: str, *groups: int) -> Peer:
    return Peer(4711, uid, uid, frozenset({uid, *groups}), cgroup)


def ask(accounts: Accounts, uid: int, cgroup: str, *groups: int) -> Caller:
    found = who(peer(uid, cgroup, *groups), accounts, NOW)
    assert isinstance(found, Caller), found
    return found


@pytest.mark.parametrize(
    "cgroup",
    [
        LOGIN,
        "/init.scope",
        "/system.slice/ssh.service",
        "/system.slice/docker.service",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "/system.slice/run-u7.scope",
        "/system.slice/slurmstepd.scope/job_12/step_batch/user/task_0",
        "/user.slice/user-0.slice/session-c1.scope",
        "/user.slice/user-1002.slice/session-9.scope",
        f"{MANAGER}/app.slice/app-code-77.scope",
        f"{MANAGER}/init.scope",
        f"{MANAGER}/app.slice/docker-{ID}.scope",
        f"{MANAGER}/user.slice/libpod-{ID}.scope/container",
        f"{MANAGER}/app.slice/docker.service/{ID}",
        f"{MANAGER}/ds01.slice/ds01-student.slice/ds01-student-bob.slice/docker-{ID}.scope",
        f"{MANAGER}/app.slice/dbus.slice/dbus-:1.2-org.a11y.atspi.Registry@0.service",
        MANAGER,
    ],
)
def test_on_the_host_the_uid_counts(accounts: Accounts, cgroup: str) -> None:
    found = ask(accounts, 1001, cgroup)
    assert (found.uid, found.name, found.container) == (1001, "alice", "")
    assert local_uid(peer(1001, cgroup)) == 1001


NOBODYS = [
    "/ds01.slice",
    "/ds01.slice/ds01-student.slice",
    "/ds01.slice/ds01-student.slice/ds01-student-alice.slice",
    "/ds01.slice/ds01-student.slice/ds01-student-alice.slice/run-u7.scope",
    f"/ds01.slice/ds01-student.slice/docker-{ID}.scope",
    f"/ds01.slice/docker-{ID}.scope",
    f"/ds01.slice/ds01-unattributed.slice/docker-{ID}.scope",
    f"/ds01.slice/ds01-unattributed.slice/ds01-unattributed-alice.slice/docker-{ID}.scope",
    f"/ds01.slice/ds01-build.slice/ds01-build-alice.slice/docker-{ID}.scope",
    # A level that does not fit, a spelling that systemd-escape(1) does not make, cut or long ids.
    f"/ds01.slice/ds01-research.slice/ds01-student-alice.slice/docker-{ID}.scope",
    rf"/ds01.slice/ds01-student.slice/ds01-student-\x61lice.slice/docker-{ID}.scope",
    rf"/ds01.slice/ds01-student.slice/ds01-student-a\x2flice.slice/docker-{ID}.scope",
    rf"/ds01.slice/ds01-student.slice/ds01-student-alice\x0a.slice/docker-{ID}.scope",
    f"/ds01.slice/ds01-Student.slice/ds01-Student-alice.slice/docker-{ID}.scope",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice-x.slice/docker-{ID}.scope",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID[:-1]}.scope",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID}0.scope",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID.upper()}.scope",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID}.scope (deleted)",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/libpod-{ID}.scope",
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/x/docker-{ID}.scope",
    f"/x/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{ID}.scope",
    # Builds stand at any path that they ask for.
    f"/ds01.slice/ds01-student.slice/ds01-student-alice.slice/buildkit/{BUILD}",
    f"{ALICE}/buildkit/{BUILD}",
    f"{ALICE}/x.slice:{BUILD}",
    f"/system.slice/ds01-unattributed.slice:docker:{BUILD}",
    f"/ds01-student-bob.slice/buildkit/{BUILD}",
    f"{MANAGER}/buildkit/{BUILD}",
    f"{MANAGER}/x.slice:{BUILD}",
    f"{MANAGER}/x.slice:{BUILD}/below",
    f"{LOGIN}/buildkit/{BUILD}",
    f"/user.slice/user-1001.slice/x.slice:{BUILD}",
    f"/system.slice/ssh.service/x.slice:{BUILD}",
    f"/system.slice/buildkit/{BUILD}",
    # Containers that lie in no slice of ours, and other engines' ones.
    f"/system.slice/docker-{ID}.scope",
    f"/system.slice/docker-{ID}.scope/init.scope",
    f"/docker/{ID}",
    f"/system.slice/docker.service/{ID}",
    "/system.slice/docker.service/x",
    "/system.slice/docker.service/init.scope",
    "/system.slice/containerd.service/x",
    f"/system.slice/containerd.service/kubepods/pod1/{ID}",
    f"/system.slice/cri-containerd-{ID}.scope",
    f"/system.slice/nerdctl-{ID}.scope",
    f"/system.slice/x.service/{ID}",
    f"/user.slice/user-1001.slice/docker-{ID}.scope",
    f"/user.slice/user-1001.slice/session-3.scope/{ID}",
    f"/user.slice/docker-{ID}.scope",
    f"/docker-{ID}.scope",
    f"/app.slice/docker-{ID}.scope",
    "/machine.slice/machine-vm.scope",
    f"/machine.slice/libpod-{ID}.scope",
    "/kubepods.slice/kubepods-besteffort.slice",
    "/lxc.payload.web/init.scope",
    "/lxc/web",
    # No place at all.
    "/",
    "",
    "//",
    "/..",
    "/../../x",
    "/user.slice/../x",
    f"{MANAGER}/../../../system.slice/ssh.service",
    f"{MANAGER}//x",
    "/user.slice",
    "/user.slice/user-1001.slice",
    "/user.slice/ssh.service",
    "/user.slice/user-1001.slice/x",
    "/user.slice/user-01001.slice/user@01001.service/x.scope",
    "/user.slice/user-1002.slice/user@1001.service/x.scope",
    "/user.slice/user-1001.slice/user@1002.service",
    "/user.slice/user@1001.service/x.scope",
    "/system.slice/user-1001.slice:x/session-3.scope",
    "/system.slice",
    "/system.slice/x",
    "/somewhere/else.service",
    "/somewhere.slice/user-1001.slice/user@1001.service/x.scope",
    "user.slice/user-1001.slice/session-3.scope",
]


@pytest.mark.parametrize("uid", [0, 1001, 1004, FIRST_SUB])
@pytest.mark.parametrize("cgroup", NOBODYS)
def test_elsewhere_nobody_is_anybody(accounts: Accounts, cgroup: str, uid: int) -> None:
    found = who(peer(uid, cgroup, 900), accounts, NOW)
    assert isinstance(found, Refusal)
    assert found.what and found.remedy and found.rule.startswith("identity.")
    assert isinstance(local_uid(peer(uid, cgroup, 900)), Refusal)
    assert not is_admin(peer(uid, cgroup, 900), 900)


@pytest.mark.parametrize("below", ["", "/init.scope", "/docker/" + ID, "/system.slice/ssh.service"])
@pytest.mark.parametrize("uid", [0, 1001, 1002, 4242])
def test_a_container_is_its_owner_whatever_its_uid(
    accounts: Accounts, uid: int, below: str
) -> None:
    found = ask(accounts, uid, ALICE + below, 900, 500)
    assert found == Caller(1001, "alice", "student", ENFORCE, container=ID)
    assert isinstance(local_uid(peer(uid, ALICE + below)), Refusal)


def test_an_account_of_a_directory_owns_containers_too(accounts: Accounts) -> None:
    assert who(peer(0, BAKER), accounts, NOW) == Missing(70000)
    groups = {**accounts.member_of, 70000: frozenset({500})}
    known = Accounts(**{**vars(accounts), "member_of": groups})
    found = ask(known, 0, BAKER)
    assert (found.uid, found.group, found.mode) == (70000, "research", OBSERVE)
    assert ask(known, 0, BAKER.replace("h.baker", "H.Baker")).uid == 70000


def test_no_container_is_an_administrator_or_root(accounts: Accounts) -> None:
    assert ask(accounts, 0, DANA, 900) == Caller(1004, "dana", "admin", OBSERVE, container=ID)
    roots = ALICE.replace("alice", "root")
    found = who(peer(0, roots), accounts, NOW)
    assert isinstance(found, Refusal) and "no container is root" in found.what


def test_the_owner_of_a_container_needs_an_account(accounts: Accounts) -> None:
    stranger = peer(0, ALICE.replace("alice", "eve"))
    assert who(stranger, accounts, NOW) == Missing(name="eve")
    found = who(stranger, accounts, NOW, final=True)
    assert isinstance(found, Refusal) and "'eve'" in found.what
    # A uid in digits is a name like any other, never a uid.
    numeric = peer(0, ALICE.replace("alice", "1001"))
    assert isinstance(who(numeric, accounts, NOW, final=True), Refusal)


def test_a_second_name_of_an_account_has_no_limits_of_its_own(accounts: Accounts) -> None:
    assert ask(accounts, 0, ALICE.replace("alice", "allie")).name == "alice"


@pytest.mark.parametrize(
    "cgroup", [f"{MANAGER}/x.scope", f"{MANAGER}/app.slice/docker-{ID}.scope/init", MANAGER]
)
def test_below_a_users_own_manager_nobody_is_anyone_else(accounts: Accounts, cgroup: str) -> None:
    assert ask(accounts, FIRST_SUB + 7, cgroup).uid == 1001
    for other in (0, 1002, 1004, 300001, 4242):
        found = who(peer(other, cgroup, 900), accounts, NOW)
        assert isinstance(found, Refusal) and found.rule == "identity.manager"
        assert isinstance(local_uid(peer(other, cgroup)), Refusal)


def test_an_administrators_rootless_container_has_no_rights(accounts: Accounts) -> None:
    own = MANAGER.replace("1001", "1004")
    assert ask(accounts, 1004, f"{own}/app.slice/code.scope", 900).admin
    assert is_admin(peer(1004, f"{own}/app.slice/code.scope", 900), 900)
    inside = f"{own}/user.slice/libpod-{ID}.scope"
    assert not ask(accounts, 1004, inside, 900).admin
    assert not is_admin(peer(1004, inside, 900), 900)
    assert not is_admin(peer(1004, LOGIN, 900), None)


def test_root_in_a_group_that_a_service_made_is_nobody(accounts: Accounts) -> None:
    assert ask(accounts, 0, "/system.slice/cron.service").admin
    for cgroup in (
        "/system.slice/x.service/payload",
        f"{LOGIN}/payload",
        "/user.slice/user-0.slice/user@0.service/payload",
        f"/user.slice/user-0.slice/user@0.service/app.slice/docker-{ID}.scope",
    ):
        found = who(peer(0, cgroup), accounts, NOW)
        assert isinstance(found, Refusal) and found.rule == "identity.root"
        assert isinstance(local_uid(peer(0, cgroup)), Refusal)
    assert ask(accounts, 0, "/user.slice/user-0.slice/user@0.service/app.slice/x.service").admin


def test_administrators_are_told_by_the_kernels_groups(accounts: Accounts) -> None:
    assert ask(accounts, 1004, LOGIN, 900) == Caller(1004, "dana", "admin", OBSERVE, admin=True)
    assert not ask(accounts, 1004, LOGIN).admin
    nobody = Accounts(**{**vars(accounts), "admin_group": ""})
    assert not ask(nobody, 1004, LOGIN, 900).admin


def test_root_needs_no_account(accounts: Accounts) -> None:
    assert ask(Accounts(), 0, LOGIN) == Caller(0, "root", "", OBSERVE, admin=True)


def test_the_mode_is_the_limits(accounts: Accounts) -> None:
    assert ask(accounts, 1001, LOGIN).mode == ENFORCE
    assert ask(accounts, 1001, LOGIN, 500) == Caller(1001, "alice", "research", OBSERVE)
    bob = peer(1002, LOGIN)
    assert ask(accounts, 1002, LOGIN).mode == OBSERVE
    later = who(bob, accounts, NOW + timedelta(hours=2))
    assert isinstance(later, Caller) and later.mode == ENFORCE


def test_without_limits_everybody_but_root_and_administrators_is_under_the_rules(
    accounts: Accounts,
) -> None:
    bare = Accounts(**{**vars(accounts), "limits": None})
    assert ask(bare, 1001, LOGIN, 500) == Caller(1001, "alice", "", ENFORCE)
    assert ask(bare, 1004, LOGIN, 900).mode == OBSERVE


def test_who_is_not_known_is_a_stranger_under_the_strictest_rules(accounts: Accounts) -> None:
    unknown = peer(4242, LOGIN, 500, 900)
    assert who(unknown, accounts, NOW) == Missing(4242)
    found = who(unknown, accounts, NOW, final=True)
    assert found == Caller(4242, "4242", "student", ENFORCE, known=False)


def test_groups_that_nobody_could_number_yet_make_nobody_freer(accounts: Accounts) -> None:
    unsure = Accounts(**{**vars(accounts), "groups_unsure": True})
    assert ask(unsure, 1002, LOGIN).mode == ENFORCE
    # Members by name are what they are, and administrators by a number that is known.
    assert ask(unsure, 1004, LOGIN, 900).admin
    assert ask(unsure, 1004, LOGIN).mode == OBSERVE


def test_subordinate_ids_are_no_users_of_their_own(accounts: Accounts) -> None:
    assert ask(accounts, FIRST_SUB, LOGIN).uid == 1001
    assert ask(accounts, FIRST_SUB + 65535, LOGIN).uid == 1001
    assert who(peer(FIRST_SUB + 65536, LOGIN), accounts, NOW) == Missing(FIRST_SUB + 65536)
    # An account that has such a uid is itself; a range of two users is nobody's.
    names_too = {**accounts.names, FIRST_SUB: "carol"}
    assert ask(Accounts(**{**vars(accounts), "names": names_too}), FIRST_SUB, LOGIN).name == "carol"
    assert subordinate_owner(5, ((0, 10, 1001), (5, 10, 1002))) == -1
    assert not ask(accounts, FIRST_SUB, LOGIN, 900).admin


PARTS = st.sampled_from(
    [
        "ds01.slice",
        "ds01-student.slice",
        "ds01-student-alice.slice",
        f"docker-{ID}.scope",
        "user.slice",
        "user-1001.slice",
        "user-1002.slice",
        "user@1001.service",
        "user@1002.service",
        "session-3.scope",
        "system.slice",
        "ssh.service",
        "docker.service",
        "buildkit",
        f"x:{BUILD}",
        "ds01-unattributed.slice",
        ID,
        "payload",
        "..",
        "",
    ]
)


@given(st.lists(PARTS, max_size=7), st.sampled_from([0, 1001, 1002, 1004, 4242]))
def test_whatever_the_path_nobody_gains(parts: list[str], uid: int) -> None:
    cgroup = "/" + "/".join(parts)
    table = Accounts(
        names={1001: "alice", 1002: "bob", 1004: "dana"},
        uids={"alice": 1001, "bob": 1002, "dana": 1004},
        member_of={1001: frozenset()},
        groups={900: ("ds01-admins",)},
        admin_group="ds01-admins",
    )
    found = who(peer(uid, cgroup, 900), table, NOW, final=True)
    if isinstance(found, Caller):
        in_slice = re.match(
            rf"/ds01\.slice/ds01-student\.slice/ds01-student-alice\.slice/docker-{ID}", cgroup
        )
        assert found.uid == (1001 if in_slice else uid)
        assert bool(found.container) == bool(in_slice)
        assert not (found.admin and (in_slice or (uid and ID in cgroup)))
        assert ".." not in parts and "" not in parts and "buildkit" not in parts
        manager = re.match(r"/user\.slice/user-(\d+)\.slice/user@\1\.service", cgroup)
        if manager:
            assert found.uid == int(manager[1])
        if found.uid == 0:
            assert ID not in cgroup and "payload" not in parts[-1:]
    else:
        assert isinstance(found, Refusal)


@given(st.text(max_size=60))
def test_any_text_is_judged(cgroup: str) -> None:
    assert isinstance(place_of(cgroup), (Place, Refusal))
    assert isinstance(place_of(f"/ds01.slice/{cgroup}/docker-{ID}.scope"), (Place, Refusal))


@given(st.text(min_size=1, max_size=40))
def test_every_owner_is_read_back_from_his_slice(user: str) -> None:
    unit = names.user_slice("student", user)
    place = place_of(f"/ds01.slice/ds01-student.slice/{unit}/docker-{ID}.scope")
    if names.user_name_fault(user, "student") == "":
        assert isinstance(place, Place) and place.owner == user
    else:
        assert isinstance(place, Refusal)
