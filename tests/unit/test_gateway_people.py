# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who at the door, with a directory that is slow, silent or gone."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ds01 import limits_source
from ds01.core.apply import write_record
from ds01.core.callers import ENFORCE, OBSERVE, Caller, Refusal
from ds01.core.limits import to_json
from ds01.gateway import people as people_module
from ds01.gateway.people import NameService, People, Places
from ds01.gateway.people_known import Files
from ds01.gateway.slow import Slow
from ds01.host.local_accounts import Account
from ds01.host.peer import Peer
from ds01.threads import Hung

ID = "0123456789abcdef" * 4
LOGIN = "/user.slice/user-1001.slice/session-3.scope"
BAKER = "h.baker@hertie-school.lan"
BAKERS = r"ds01-student-h.baker\x40hertie\x2dschool.lan.slice"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
LIMITS = f"""
default_group: student
groups:
  student:
  research:
    unix_groups: [scientists]
    gateway_mode: enforce
  partner:
    members: [{BAKER}]
    gateway_mode: enforce
user_overrides:
  bob:
    gateway_mode: enforce
    expires: 2026-11-22T13:00:00+00:00
"""
PASSWD = """root:x:0:0:root:/root:/bin/bash
alice:x:1001:1001:,,,:/home/alice:/bin/bash
allie:x:1001:1001::/home/alice:/bin/bash
bob:x:1002:1002::/home/bob:/bin/bash
dana:x:1004:1004::/home/dana:/bin/bash
+::::::
broken line
x:y:z:1:2:3:4
"""
GROUP = "root:x:0:\nds01-admins:x:900:dana\nalice:x:1001:\ndocker:x:990:alice,bob\n"


class Directory:
    """A name service that can hang."""

    def __init__(self) -> None:
        self.accounts = {70000: Account(BAKER, 70000, frozenset({70000, 500}))}
        self.groups: dict[str, int] = {"scientists": 500}
        self.open = threading.Event()
        self.open.set()
        self.asked: list[object] = []

    def uid(self, uid: int) -> Account | None:
        self.asked.append(uid)
        self.open.wait(20)
        return self.accounts.get(uid)

    def name(self, name: str) -> Account | None:
        self.asked.append(name)
        self.open.wait(20)
        found = [a for a in self.accounts.values() if a.name.lower() == name.lower()]
        return found[0] if found else None

    def group(self, name: str) -> int | None:
        self.asked.append(f"group {name}")
        self.open.wait(20)
        return self.groups.get(name)


class Host:
    """A machine's files, and the gateway's people on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = Directory()
        self.now = NOW
        self.clock = 1000.0
        (folder / "logins").mkdir()
        (folder / "passwd").write_text(PASSWD)
        (folder / "group").write_text(GROUP)
        (folder / "subuid").write_text("alice:165536:65536\n")
        (folder / "gateway.json").write_text('{"schema": 1, "admin_group": "ds01-admins"}')
        self.running: list[People] = []

    def limits(self, text: str) -> None:
        source = self.folder / "limits.yml"
        source.write_text(text)
        record = {**to_json(limits_source.from_file(str(source))), "io": {}}
        write_record(record, str(self.folder / "limits.json"))

    def people(self, start: bool = True) -> People:
        files = Files(*(str(self.folder / n) for n in ("passwd", "group", "subuid", "logins")))
        places = Places(
            str(self.folder / "limits.json"),
            str(self.folder / "gateway.json"),
            str(self.folder / "people.json"),
            files,
        )
        names = NameService(self.directory.uid, self.directory.name, self.directory.group)
        found = People(places, names, lambda: self.clock, lambda: self.now, wait_seconds=0.3)
        if start:
            found.start()
        self.running.append(found)
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(people_module, "TICK_SECONDS", 0.02)
    host = Host(tmp_path)
    host.limits(LIMITS)
    yield host
    host.directory.open.set()
    for people in host.running:
        people.stop()


def peer(uid: int, *groups: int, cgroup: str = LOGIN) -> Peer:
    return Peer(4711, uid, uid, frozenset({uid, *groups}), cgroup)


def inside(unit: str, uid: int = 0) -> Peer:
    return peer(uid, cgroup=f"/ds01.slice/ds01-student.slice/{unit}/docker-{ID}.scope")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def caller(people: People, who: Peer) -> Caller:
    found = people.caller(who)
    assert isinstance(found, Caller), found
    return found


def mode(people: People, who: Peer) -> str:
    return caller(people, who).mode


def test_accounts_of_the_host_never_wait(host: Host) -> None:
    host.directory.open.clear()
    people = host.people()
    assert caller(people, peer(1001)).name == "alice"
    assert caller(people, peer(0)).admin
    assert caller(people, peer(1004, 900)).admin
    owner = caller(people, inside("ds01-student-alice.slice"))
    assert (owner.uid, owner.container, owner.admin) == (1001, ID, False)
    assert caller(people, peer(165536)).name == "alice"
    assert 1001 not in host.directory.asked


def test_an_answer_is_a_look_into_a_dictionary(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    people = host.people()
    first = caller(people, peer(1001))
    monkeypatch.setattr(people, "_decide", None)
    assert caller(people, peer(1001)) is first


def test_the_directory_is_asked_once_and_only_the_asker_waits(host: Host) -> None:
    people = host.people()
    assert people.caller(peer(70001)) is None
    host.directory.accounts[70001] = Account("carol", 70001, frozenset({70001}))

    host.directory.open.clear()

    async def both() -> list[Caller | Refusal]:
        waiting = [asyncio.create_task(people.wait_for(peer(70001))) for _n in range(2)]
        while not host.directory.asked.count(70001):
            await asyncio.sleep(0.005)
        host.directory.open.set()
        return list(await asyncio.gather(*waiting))

    found = asyncio.run(both())
    assert [one.name for one in found if isinstance(one, Caller)] == ["carol", "carol"]
    assert caller(people, peer(70001)).known
    assert host.directory.asked.count(70001) == 1


def test_a_directory_that_hangs_delays_one_first_request_and_nobody_else(host: Host) -> None:
    host.directory.open.clear()
    people = host.people()

    async def stranger() -> Caller | Refusal:
        waiting = asyncio.create_task(people.wait_for(peer(70001, 900)))
        await asyncio.sleep(0)
        assert caller(people, peer(1002)).name == "bob"
        return await waiting

    began = time.monotonic()
    found = asyncio.run(stranger())
    assert 0.25 < time.monotonic() - began < 5
    assert found == Caller(70001, "70001", "student", ENFORCE, known=False)
    assert caller(people, peer(70001)) == found
    # It is asked for again behind his back, and the answer counts when it comes.
    host.directory.accounts[70001] = Account("carol", 70001, frozenset({70001}))
    host.directory.open.set()
    until(lambda: caller(people, peer(70001)).known)


def test_a_uid_without_an_account_is_asked_for_now_and_then(host: Host) -> None:
    people = host.people()
    assert not asyncio.run(_ask(people, peer(70001))).known
    for _n in range(5):
        assert not caller(people, peer(70001)).known
    assert host.directory.asked.count(70001) == 1
    host.directory.accounts[70001] = Account("carol", 70001, frozenset({70001}))
    host.clock += people_module.ABSENT_SECONDS
    assert not caller(people, peer(70001)).known
    until(lambda: caller(people, peer(70001)).known)


async def _ask(people: People, who: Peer) -> Caller:
    found = await people.wait_for(who)
    assert isinstance(found, Caller)
    return found


def test_the_owner_of_a_container_may_be_of_the_directory(host: Host) -> None:
    people = host.people()
    found = asyncio.run(_ask(people, inside(BAKERS)))
    assert (found.uid, found.name, found.group, found.mode) == (70000, BAKER, "partner", ENFORCE)
    assert caller(people, inside(BAKERS, 33)) == found
    nobody = asyncio.run(people.wait_for(inside("ds01-student-eve.slice")))
    assert isinstance(nobody, Refusal) and "'eve'" in nobody.what
    assert isinstance(people.caller(inside("ds01-student-eve.slice")), Refusal)


def test_members_of_the_limits_are_known_before_they_come(host: Host) -> None:
    people = host.people()
    until(lambda: people.caller(peer(70000)) is not None)
    assert caller(people, peer(70000)).name == BAKER


def test_a_login_names_its_user(host: Host) -> None:
    host.directory.open.clear()
    (host.folder / "logins" / "70001").write_text("# x\nNAME=carol\nSTATE=active\n")
    people = host.people()
    assert caller(people, peer(70001)).name == "carol"
    (host.folder / "logins" / "70002").write_text("NAME=erin\n")
    until(lambda: people.caller(peer(70002)) is not None)


def test_groups_of_the_directory_count_by_their_number(host: Host) -> None:
    people = host.people()
    until(lambda: mode(people, peer(1001)) == OBSERVE)
    found = caller(people, peer(1001, 500))
    assert (found.group, found.mode) == ("research", ENFORCE)


def test_while_a_groups_number_is_not_known_nobody_is_freer(host: Host) -> None:
    host.directory.open.clear()
    people = host.people()
    assert mode(people, peer(1001)) == ENFORCE
    host.directory.open.set()
    until(lambda: mode(people, peer(1001)) == OBSERVE)


def test_a_gateway_that_starts_anew_knows_whom_it_knew(host: Host) -> None:
    people = host.people()
    asyncio.run(_ask(people, inside(BAKERS)))
    until(lambda: mode(people, peer(1001)) == OBSERVE)
    people.stop()
    record = host.folder / "people.json"
    assert record.stat().st_mode & 0o777 == 0o600
    host.directory.open.clear()
    after = host.people()
    assert caller(after, peer(70000)).name == BAKER
    assert caller(after, inside(BAKERS)).uid == 70000
    assert caller(after, peer(1001, 500)).group == "research"
    assert mode(after, peer(1001)) == OBSERVE


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1, "people": {"x": 1}, "groups": {}}', "null", "[" * 9999]
)
def test_a_damaged_record_counts_for_nothing(host: Host, text: str) -> None:
    (host.folder / "people.json").write_text(text)
    people = host.people()
    assert caller(people, peer(1001)).name == "alice"
    until(lambda: not people.faults)


def test_a_name_that_changes_is_taken_over_while_the_old_one_serves(host: Host) -> None:
    people = host.people()
    asyncio.run(people.wait_for(peer(70000)))
    host.directory.accounts[70000] = Account("eve", 70000, frozenset({70000}))
    host.directory.accounts[70009] = Account(BAKER, 70009, frozenset({70009}))
    assert caller(people, peer(70000)).name == BAKER
    host.clock += 61
    until(lambda: caller(people, peer(70000)).name == "eve")
    # The name is another uid's now, and so are the containers in its slice.
    asyncio.run(people.wait_for(peer(70009)))
    assert asyncio.run(_ask(people, inside(BAKERS))).uid == 70009


def test_a_directory_that_says_no_takes_nobodys_name_for_a_day(host: Host) -> None:
    people = host.people()
    asyncio.run(people.wait_for(peer(70000)))
    host.directory.accounts.clear()
    host.clock += 61
    host.directory.asked.clear()
    until(lambda: people.caller(peer(70000)) is not None and 70000 in host.directory.asked)
    assert caller(people, peer(70000)).name == BAKER
    host.clock += 24 * 3600
    until(lambda: people.caller(peer(70000)) is None)


def test_the_hosts_own_file_comes_before_the_directory(host: Host) -> None:
    people = host.people()
    asyncio.run(people.wait_for(peer(70000)))
    passwd = host.folder / "passwd"
    passwd.write_text(f"{PASSWD}local:x:70000:70000::/:/bin/sh\n")
    until(lambda: caller(people, peer(70000)).name == "local")
    # Of two accounts with one uid the first counts, as for the C library.
    assert caller(people, peer(1001)).name == "alice"
    assert caller(people, inside("ds01-student-allie.slice")).name == "alice"


def test_changed_limits_and_settings_count_within_moments(host: Host) -> None:
    people = host.people()
    assert caller(people, peer(1004, 900)).admin
    assert caller(people, peer(1002)).mode == ENFORCE
    host.limits("default_group: student\ngroups:\n  student:\n    gateway_mode: observe\n")
    until(lambda: mode(people, peer(1002)) == OBSERVE)
    (host.folder / "gateway.json").write_text('{"schema": 1, "connections_per_user": 7}')
    until(lambda: people.settings.connections_per_user == 7)
    until(lambda: not caller(people, peer(1004, 900)).admin)
    (host.folder / "gateway.json").write_text("{")
    until(lambda: "settings" in people.faults)
    assert people.settings.connections_per_user == 7
    os.unlink(host.folder / "limits.json")
    until(lambda: mode(people, peer(1002)) == ENFORCE)
    assert "limits" in people.faults and people.status()["limits_in_force"] is False
    assert caller(people, peer(0)).mode == OBSERVE


def test_an_override_that_ends_falls_away(host: Host) -> None:
    people = host.people()
    until(lambda: mode(people, peer(1001)) == OBSERVE)
    assert mode(people, peer(1002)) == ENFORCE
    host.now += timedelta(hours=1, seconds=1)
    until(lambda: mode(people, peer(1002)) == OBSERVE)


def test_strangers_take_no_room_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_module, "_KEPT", 50)
    people = host.people()
    for uid in range(80000, 80200):
        caller(people, peer(1001, uid))
        asyncio.run(people.wait_for(peer(uid)))
    assert len(people._table[1]) <= 50 and len(people._silent) <= 50


def test_a_connection_takes_its_users_share_of_the_door(host: Host) -> None:
    host.directory.open.clear()
    people = host.people()
    shares = [people.share_of(one)[0] for one in (peer(1001), peer(165600), peer(0), peer(70001))]
    assert shares == [1001, 1001, 0, 70001]
    assert people.share_of(inside("ds01-student-alice.slice", 0)) == (1001, None)
    # Whose container it is has to be asked for: neither root's share, nor that of a uid inside.
    assert people.share_of(inside(BAKERS, 1002)) == (people_module.NOBODY, None)
    share, refusal = people.share_of(peer(0, cgroup=f"/docker/{ID}"))
    assert share == people_module.NOBODY and refusal is not None


def test_the_record_tells_nothing_to_others(host: Host) -> None:
    people = host.people()
    asyncio.run(people.wait_for(peer(70000)))
    people.stop()
    record = json.loads((host.folder / "people.json").read_text())
    assert record["people"]["70000"][0] == BAKER


def test_a_call_that_hangs_takes_no_more_than_its_users_share(tmp_path: Path) -> None:
    fifo = tmp_path / "home"
    os.mkfifo(fifo)
    slow = Slow("paths", total=6, each=2, seconds=0.1)

    def hang() -> int:
        # Returns when somebody opens the other end: never, as a server that is gone.
        return os.open(fifo, os.O_RDONLY)

    async def run() -> None:
        for _n in range(2):
            with pytest.raises(Hung, match=r"no answer within 0\.1 s"):
                await slow.call(1001, hang)
        began = time.monotonic()
        with pytest.raises(Hung, match="have not come back"):
            await slow.call(1001, hang, 5)
        assert time.monotonic() - began < 2
        assert await slow.call(1002, lambda: os.stat(tmp_path).st_uid) == os.getuid()
        assert slow.busy == 2
        with pytest.raises(FileNotFoundError):
            await slow.call(1002, lambda: os.stat(tmp_path / "none"))
        for uid in (1003, 1004):
            for _n in range(2):
                with pytest.raises(Hung):
                    await slow.call(uid, hang)
        with pytest.raises(Hung, match="earlier calls"):
            await slow.call(1005, hang, 5)

    asyncio.run(run())
    writer = os.open(fifo, os.O_RDWR)
    until(lambda: slow.busy == 0)
    os.close(writer)
    assert asyncio.run(slow.call(1001, lambda: 7)) == 7
