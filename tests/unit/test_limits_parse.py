# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A faulty limits file is refused with the place and the remedy; nothing of it is used."""

from __future__ import annotations

import pytest
from ds01.core import errors
from ds01.core.errors import Ds01Error, InputError
from fakes import read_limits

GROUP = "default_group: student\ngroups:\n  student:\n"
OVERRIDE = GROUP + "user_overrides:\n"


def refusal(text: str) -> str:
    with pytest.raises(Ds01Error) as caught:
        read_limits(text)
    return str(caught.value)


# Each fault: the file, and the whole message.
REFUSED = {
    "an unknown key, with the nearest": (
        GROUP + "    memroy_max: 32g\n",
        "limits.yml:4: unknown key 'memroy_max' in groups.student. Did you mean 'memory_max'?",
    ),
    "an unknown key at the top": (
        GROUP + "defualts: {}\n",
        "limits.yml:4: unknown key 'defualts'. Did you mean 'defaults'?",
    ),
    "a size with a bad unit": (
        GROUP + "    memory_max: 32 gigs\n",
        "limits.yml:4: groups.student.memory_max: '32 gigs' is not a size such as 512m, 32g or "
        "1.5T. Write a size such as 512m or 32g, or null for no limit",
    ),
    "a rate that could be bits": (
        GROUP + "    io_read_bw_max: 100Mbps\n",
        "limits.yml:4: groups.student.io_read_bw_max: '100Mbps' is not a rate in bytes per second "
        "such as 100M, 100MB/s or 64MiB. Write bytes per second such as 100M, or null for no limit",
    ),
    "a percentage without its sign": (
        GROUP + "    cpu_quota: 400\n",
        "limits.yml:4: groups.student.cpu_quota: '400' is not a percentage of one CPU such as "
        "400% (four CPUs) or 12.5%. Write per cent of one CPU such as 400%, or null for no limit",
    ),
    "a quota that systemd would ignore": (
        GROUP + "    cpu_quota: 33.333%\n",
        "limits.yml:4: groups.student.cpu_quota: '33.333%' is not a percentage of one CPU such as "
        "400% (four CPUs) or 12.5%. Write per cent of one CPU such as 400%, or null for no limit",
    ),
    "a duration without a unit": (
        GROUP + "    idle_timeout: 48\n",
        "limits.yml:4: groups.student.idle_timeout: '48' is not a duration such as 48h, 30m or "
        "7d. Write a duration such as 48h, or null for no limit",
    ),
    "a size below what makes sense": (
        GROUP + "    memory_max: 4k\n",
        "limits.yml:4: groups.student.memory_max: 4k is less than the smallest sensible value, "
        "16 MiB. Write a size such as 512m or 32g",
    ),
    "a negative count": (
        GROUP + "    tasks_max: -5\n",
        "limits.yml:4: groups.student.tasks_max: -5 is less than the smallest sensible value, "
        "16. Write a whole number",
    ),
    "a weight above the kernel's": (
        GROUP + "    cpu_weight: 20000\n",
        "limits.yml:4: groups.student.cpu_weight: 20000 is more than the largest allowed value, "
        "10000. Write a whole number",
    ),
    "a key with nothing behind it": (
        GROUP + "    memory_max:\n",
        "limits.yml:4: groups.student.memory_max has no value. Write a size such as 512m or 32g, "
        "or null for no limit",
    ),
    "null where there must be a value": (
        GROUP + "    allow_full_gpu: null\n",
        "limits.yml:4: groups.student.allow_full_gpu cannot be null. Give true or false",
    ),
    "a list where a value belongs": (
        GROUP + "    memory_max: [8g]\n",
        "limits.yml:4: groups.student.memory_max must be a size such as 512m or 32g. "
        "Write a single value",
    ),
    "a value where a list belongs": (
        GROUP + "    mounts: /data:ro\n",
        "limits.yml:4: groups.student.mounts must be a list of paths with :ro or :rw. "
        "Write mounts: [...]",
    ),
    "an empty entry of a list": (
        GROUP + "    ports: ['', 8080]\n",
        "limits.yml:4: groups.student.ports holds an empty or nested entry. Remove it",
    ),
    "a member of two groups": (
        GROUP + "    members: [alice]\n  researcher:\n    members:\n      - carol\n      - alice\n",
        "limits.yml:8: alice is a member twice: of group student (limits.yml:4) and of group "
        "researcher. Keep the name in one place",
    ),
    "a directory's name in two groups, in another case": (
        GROUP
        + "    members: [h.baker@hertie-school.lan]\n"
        + "  researcher:\n    members: [H.Baker@Hertie-School.LAN]\n",
        "limits.yml:6: H.Baker@Hertie-School.LAN is a member twice: of group student "
        "(limits.yml:4) and of group researcher. Keep the name in one place",
    ),
    "a member twice in one line": (
        GROUP + "    members: [alice, bob, alice]\n",
        "limits.yml:4: alice is a member twice: of group student (limits.yml:4) and of group "
        "student. Keep the name in one place",
    ),
    "a Unix group in two groups": (
        GROUP + "    unix_groups: [staff]\n  researcher:\n    unix_groups: [staff]\n",
        "limits.yml:6: Unix group staff is a member twice: of group student (limits.yml:4) and of "
        "group researcher. Keep the name in one place",
    ),
    "members that are no list": (
        GROUP + "    members: alice\n",
        "limits.yml:4: groups.student.members must be a list of names. Write members: [alice, bob]",
    ),
    "a member that is no name": (
        GROUP + "    members: [alice, 'bob:x']\n",
        "limits.yml:4: 'bob:x' is not an account name. Correct groups.student.members",
    ),
    "an override of one account under two spellings": (
        OVERRIDE + "  H.Baker@hertie-school.lan: {}\n  h.baker@hertie-school.lan: {}\n",
        "limits.yml:6: user_overrides names 'h.baker@hertie-school.lan' twice, also as "
        "'H.Baker@hertie-school.lan'. Keep one",
    ),
    "a group name with a dash": (
        GROUP + "  phd-students: {}\n",
        "limits.yml:4: the group name 'phd-students' would break the slice tree: it must start "
        "with a small letter and hold small letters, digits and underscores only. Rename the "
        "group, for example to 'phd_students'",
    ),
    "a group name that is ds01's own": (
        GROUP + "  unattributed: {}\n",
        "limits.yml:4: the group name 'unattributed' is reserved for ds01's own slices. Rename "
        "the group, for example to 'phd_students'",
    ),
    "a key that stands twice": (
        GROUP + "    memory_max: 8g\n    tasks_max: 64\n    memory_max: 16g\n",
        "limits.yml:6: the key 'memory_max' stands twice, first in line 4. Keep one; YAML would "
        "silently take the last",
    ),
    "a group that stands twice": (
        GROUP + "    tasks_max: 64\n  student:\n    tasks_max: 65\n",
        "limits.yml:5: the key 'student' stands twice, first in line 3. Keep one; YAML would "
        "silently take the last",
    ),
    "a default group that is none": (
        "default_group: studnet\ngroups:\n  student: {}\n",
        "limits.yml:1: default_group names 'studnet', which is no group. Did you mean 'student'?",
    ),
    "no default group": (
        "groups:\n  student: {}\n",
        "limits.yml:1: default_group is missing: users in no group would have no limits. "
        "Write default_group: student",
    ),
    "a default group that is a list": (
        "default_group: [student]\ngroups:\n  student: {}\n",
        "limits.yml:1: default_group must be the name of one group. Write default_group: student",
    ),
    "memory_high above memory_max": (
        GROUP + "    memory_max: 8g\n    memory_high: 9g\n",
        "limits.yml:5: group student: memory_high 9 GiB from groups.student.memory_high "
        "(limits.yml:5) is above memory_max 8 GiB from groups.student.memory_max (limits.yml:4). "
        "Lower memory_high or raise memory_max",
    ),
    "an override that contradicts its group": (
        GROUP
        + "    memory_max: 8g\n    members: [alice]\n"
        + "user_overrides:\n  alice:\n    memory_high: 9g\n",
        "limits.yml:8: user alice: memory_high 9 GiB from user_overrides.alice.memory_high "
        "(limits.yml:8) is above memory_max 8 GiB from groups.student.memory_max (limits.yml:4). "
        "Lower memory_high or raise memory_max",
    ),
    "a total that nobody would enforce": (
        GROUP + "    total:\n      max_containers_per_user: 3\n",
        "limits.yml:5: groups.student.total cannot hold 'max_containers_per_user': only slice "
        "limits count for many users together. Known here: cpu_quota, cpu_weight, memory_max, "
        "memory_high, memory_swap_max, io_weight, io_read_bw_max, io_write_bw_max, "
        "io_read_iops_max, io_write_iops_max, tasks_max",
    ),
    "an end that is no date": (
        OVERRIDE + "  alice:\n    tasks_max: 64\n    expires: end of term\n",
        "limits.yml:7: user_overrides.alice.expires: 'end of term' is not a date. Write a day "
        "such as 2027-01-31, or a time such as 2027-01-31T18:00",
    ),
    "a day that does not exist": (
        OVERRIDE + "  alice:\n    expires: 2027-02-30\n",
        "limits.yml:6: user_overrides.alice.expires: '2027-02-30' is not a date. Write a day "
        "such as 2027-01-31, or a time such as 2027-01-31T18:00",
    ),
    "an end that was not filled in": (
        OVERRIDE + "  alice:\n    expires:\n",
        "limits.yml:6: user_overrides.alice.expires has no value. Fill it in, or remove expires",
    ),
    "a variable in a value": (
        GROUP + "    memory_max: '{{ big }}'\n",
        "limits.yml:4: groups.student.memory_max: '{{ big }}' is not a size such as 512m, 32g or "
        "1.5T. This file is plain YAML, variables are not filled in",
    ),
    "a bare variable": (
        GROUP + "    memory_max: {{ big }}\n",
        "limits.yml:4: a key must be a plain word. Write 'key: value'; variables in {{ }} are "
        "not filled in here",
    ),
    "a variable as a member": (
        GROUP + "    members: ['{{ users }}']\n",
        "limits.yml:4: '{{ users }}' is not an account name: variables are not filled in here. "
        "Correct groups.student.members",
    ),
    "a section of the existing installation": (
        GROUP + "enforcement:\n  enabled: true\n",
        "limits.yml:4: the section 'enforcement' of the existing installation is not a limit. "
        "Remove it; its settings live in the roles' variables",
    ),
    "hours with a unit of their own": (
        GROUP + "    idle_timeout_h: 48h\n",
        "limits.yml:4: groups.student.idle_timeout_h: '48h' is not a bare number, the unit is in "
        "the name. Write the number alone, or rename idle_timeout_h to idle_timeout",
    ),
    "negative hours": (
        GROUP + "    idle_timeout_h: -1\n",
        "limits.yml:4: groups.student.idle_timeout_h: '-1' is not a bare number, the unit is in "
        "the name. Write the number alone, or rename idle_timeout_h to idle_timeout",
    ),
    "two old spellings of one key that disagree": (
        GROUP + "    gpu_limit: 1\n    max_gpus_per_user: 2\n",
        "limits.yml:5: groups.student.gpu_limit (limits.yml:4) and "
        "groups.student.max_gpus_per_user both set max_gpu_equivalents, to different values. "
        "Keep one, as max_gpu_equivalents",
    ),
    "a tab as indentation": (
        GROUP + "\ttasks_max: 64\n",
        "limits.yml:4: not valid YAML: found character '\\t' that cannot start any token. Correct "
        "the indentation (spaces, no tabs) or the quoting there",
    ),
    "a merge key": (
        "base: &base\n  tasks_max: 64\n" + GROUP + "    <<: *base\n",
        "limits.yml:6: merge keys (<<) are not read. Write the keys out",
    ),
    "a tag": (
        GROUP + "    memory_max: !vault 8g\n",
        "limits.yml:4: the tag '!vault' is not read. Remove the tag",
    ),
    "a tag that would run code elsewhere": (
        GROUP + "    members: !!python/object/apply:os.system ['touch /tmp/x']\n",
        "limits.yml:4: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not read. "
        "Remove the tag",
    ),
    "an anchor inside itself": (
        GROUP + "    members: &m [*m]\n",
        "limits.yml:4: aliases nest without end. Write the values out",
    ),
    "a second document": (
        GROUP + "---\n" + GROUP,
        "limits.yml:4: not valid YAML: but found another document. Correct the indentation "
        "(spaces, no tabs) or the quoting there",
    ),
    "an unknown anchor": (
        GROUP + "    members: *who\n",
        "limits.yml:4: not valid YAML: found undefined alias 'who'. Correct the indentation "
        "(spaces, no tabs) or the quoting there",
    ),
    "a zero byte": (
        GROUP + "    reason: a\0b\n",
        "limits.yml:4: the character '\\x00' cannot stand in YAML. Remove it; it may have come "
        "along with a copy and paste",
    ),
    "an empty file": (
        "",
        "limits.yml: the limits file is empty. Start from inventories/lab/limits.yml",
    ),
    "only a comment": (
        "# later\n",
        "limits.yml: the limits file is empty. Start from inventories/lab/limits.yml",
    ),
    "nothing but null": (
        "~\n",
        "limits.yml:1: the limits file is empty. Start from inventories/lab/limits.yml",
    ),
    "a list as the whole file": (
        "- student\n",
        "limits.yml:1: the limits file must be a mapping of keys to values. Write one "
        "'key: value' a line below it",
    ),
    "a word as the whole file": (
        "student\n",
        "limits.yml:1: the limits file must be a mapping of keys to values. Write one "
        "'key: value' a line below it",
    ),
    "a group that is a list": (
        GROUP + "    - tasks_max: 64\n",
        "limits.yml:4: groups.student must be a mapping of keys to values. Write one "
        "'key: value' a line below it",
    ),
    "overrides as a list": (
        GROUP + "user_overrides: [alice]\n",
        "limits.yml:4: user_overrides must be a mapping of keys to values. Write one "
        "'key: value' a line below it",
    ),
    "a namespace that there is not": (
        GROUP + "    host_namespaces: [mount]\n",
        "limits.yml:4: groups.student.host_namespaces: 'mount' is not one of network, ipc, pid, "
        "uts. Write a list of network, ipc, pid, uts",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_fault_is_refused_with_its_place_and_remedy(text: str, message: str) -> None:
    assert refusal(text) == message


def test_every_fault_is_told_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(InputError) as caught:
        read_limits(
            "groups:\n  student:\n    memroy: 1g\n    cpu_quota: 4\n  a-b: {}\n"
            "user_overrides:\n  bob: {expires: soon}\ndefault_group: nobody\n"
        )
    places = [problem.where for problem in caught.value.problems]
    assert places == [f"limits.yml:{line}" for line in (3, 4, 5, 7, 8)]
    assert str(caught.value).count("\n") == 4


def test_an_error_says_its_parts_apart() -> None:
    error = errors.Ds01Error("what", "where", "remedy")
    assert (str(error), error.as_dict()) == (
        "where: what. remedy",
        {"what": "what", "where": "where", "remedy": "remedy"},
    )
    assert str(errors.Ds01Error("what")) == "what"
