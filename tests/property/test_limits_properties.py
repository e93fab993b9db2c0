# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds of any limits, any names and any host: not only of those that somebody thought of."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ds01.core import errors, kinds, names, units
from ds01.core.keys import ALIASES, KEYS, SLICE_KEYS
from ds01.core.limits import Limits, from_json, group_of, of_user, to_json
from ds01.host.accounts import HostAccount
from fakes import NOW, FakeHost, parsed, read_limits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
QUICK = settings(max_examples=200, deadline=None, database=None)

# --- limits files ---------------------------------------------------------------------------------

MIB = 1024**2
_VALUES: dict[str, st.SearchStrategy[str]] = {
    "cpu_quota": st.integers(100, 2_560_000).map(lambda n: f"{n // 100}.{n % 100:02d}%"),
    "cpu_weight": st.integers(1, 10_000).map(str),
    "memory_max": st.integers(32 * MIB, 512 * 1024 * MIB).map(str),
    "memory_high": st.integers(16, 32).map(lambda n: f"{n}m"),
    "memory_swap_max": st.integers(0, 10**12).map(str),
    "io_weight": st.integers(1, 10_000).map(str),
    "io_read_bw_max": st.integers(4096, 10**12).map(str),
    "io_write_bw_max": st.integers(1, 500).map(lambda n: f"{n}MB/s"),
    "io_read_iops_max": st.integers(1, 10**9).map(str),
    "io_write_iops_max": st.integers(1, 10**9).map(str),
    "tasks_max": st.integers(16, 4_194_304).map(str),
}
BLOCK = st.fixed_dictionaries(
    {}, optional={name: value | st.just("null") for name, value in _VALUES.items()}
)
GROUPS = ("student", "researcher", "x", "a_b")
USERS = ("alice", "bob", "h.baker@hertie-school.lan", "-dash", "x2d", "1001", "a\\x2db", "ünï")


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Any]:
    """A limits file as a tree of plain values."""
    chosen = draw(st.lists(st.sampled_from(GROUPS), min_size=1, unique=True))
    tree: dict[str, Any] = {"default_group": draw(st.sampled_from(chosen)), "groups": {}}
    free = list(USERS)
    for name in chosen:
        members = draw(st.lists(st.sampled_from(free), unique=True)) if free else []
        free = [user for user in free if user not in members]
        tree["groups"][name] = {**draw(BLOCK), "members": members}
        if draw(st.booleans()):
            tree["groups"][name]["total"] = draw(BLOCK)
    for section in ("defaults", "total", "login", "unattributed"):
        if draw(st.booleans()):
            tree[section] = draw(BLOCK)
    who = draw(st.lists(st.sampled_from(USERS), unique=True, max_size=4))
    tree["user_overrides"] = {user: draw(BLOCK) for user in who}
    return tree


def as_yaml(tree: Mapping[str, Any]) -> str:
    """JSON is YAML; null, a word in the strategies, is written as one."""
    return json.dumps(tree, ensure_ascii=False).replace('"null"', "null")


@contextmanager
def a_host() -> Iterator[FakeHost]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as top:
        accounts = {user: HostAccount(user, 2000 + n, ()) for n, user in enumerate(USERS)}
        yield FakeHost(Path(top), accounts, {"/dev/vda": "254:0", "/dev/vdb": "254:16"})


def slices_of(tree: Mapping[str, Any]) -> list[str]:
    """Slices that containers and shells of this site would be in."""
    users = [names.user_slice(group, user) for group in tree["groups"] for user in USERS[:4]]
    return [*users, "ds01-unattributed.slice", "user-2000.slice", "user-2002.slice", "user-0.slice"]


def kernel(host: FakeHost) -> dict[str, dict[str, str]]:
    return {unit: host.systemd.kernel(unit) for unit in sorted(host.systemd.contexts)}


@SLOW
@given(sites())
def test_a_second_run_has_nothing_to_do(tree: dict[str, Any]) -> None:
    with a_host() as host:
        host.systemd.start(*slices_of(tree))
        host.apply(as_yaml(tree))
        again = host.look(as_yaml(tree))
        assert (again.plan.write, again.plan.remove, again.plan.live) == ({}, (), ())
        assert not again.changed


@SLOW
@given(sites(), sites())
def test_live_values_are_what_a_reboot_makes_of_the_files(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    with a_host() as host:
        host.systemd.start(*slices_of(one), *slices_of(other))
        host.apply(as_yaml(one))
        host.apply(as_yaml(other))
        live = kernel(host)
        host.systemd.reboot()
        assert kernel(host) == live
        assert not host.look(as_yaml(other)).changed


@SLOW
@given(sites(), sites())
def test_what_was_there_before_leaves_no_trace(one: dict[str, Any], other: dict[str, Any]) -> None:
    with a_host() as host, a_host() as fresh:
        running = [*slices_of(one), *slices_of(other)]
        host.systemd.start(*running)
        fresh.systemd.start(*running)
        host.apply(as_yaml(one))
        host.apply(as_yaml(other))
        fresh.apply(as_yaml(other))
        assert host.files() == fresh.files()
        assert kernel(host) == kernel(fresh)


@SLOW
@given(sites(), st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(tree: dict[str, Any], random: Any) -> None:
    def shuffled(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        pairs = [(key, shuffled(value)) for key, value in node.items()]
        random.shuffle(pairs)
        return dict(pairs)

    with a_host() as host:
        one = host.gather(read_limits(as_yaml(tree))).site.files()
        other = host.gather(read_limits(as_yaml(shuffled(tree)))).site.files()
        assert one == other


@SLOW
@given(sites())
def test_every_line_of_a_drop_in_is_one_that_systemd_takes(tree: dict[str, Any]) -> None:
    with a_host() as host:
        host.apply(as_yaml(tree))
        for path, text in host.files().items():
            lines = text.splitlines()
            assert lines[2] == "[Slice]"
            for line in lines[3:]:
                setting, _value = parsed(line)
                assert setting in {key.setting for key in SLICE_KEYS}, path


@SLOW
@given(sites())
def test_an_effective_value_is_the_override_or_the_group_or_the_default(
    tree: dict[str, Any],
) -> None:
    limits = read_limits(as_yaml(tree))
    for user in USERS:
        group, _why = group_of(limits, user)
        named = [name for name, block in tree["groups"].items() if user in block["members"]]
        assert [group] == (named or [tree["default_group"]])
        layers = [tree.get("defaults", {}), tree["groups"][group]]
        layers.append(tree["user_overrides"].get(user, {}))
        effective = of_user(limits, user, group, NOW)
        assert set(effective) == set(KEYS)
        for key in SLICE_KEYS:
            said = [block[key.name] for block in layers if key.name in block]
            if said:
                wanted = None if said[-1] == "null" else key.kind.parse(said[-1])
                assert effective[key.name].value == wanted
                assert effective[key.name].where
            else:
                assert effective[key.name].path == "built-in default"


@SLOW
@given(sites())
def test_limits_survive_json_in_any_order_of_its_keys(tree: dict[str, Any]) -> None:
    limits = read_limits(as_yaml(tree))
    again = from_json(json.loads(json.dumps(to_json(limits), sort_keys=True)))
    assert again == limits
    assert list(again.groups) == list(limits.groups)


# --- text of any kind -----------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)
NEAR_YAML = st.text("abc:-[]{}&*!|>'\"%@`#?,. \t\n~<=/\\0\u2028é\x85", max_size=80)


def read_or_refusal(text: str) -> Limits | errors.Ds01Error:
    """Limits, or the complaint; anything else is a traceback that a user would see."""
    try:
        return read_limits(text)
    except errors.Ds01Error as error:
        return error


def assert_in_words(error: errors.Ds01Error) -> None:
    assert error.what
    assert error.where.startswith("limits.yml")
    assert error.remedy


@QUICK
@given(ANY_TEXT | NEAR_YAML)
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for whole in (text, f"default_group: g\ngroups:\n  g:\n    {text}\n"):
        answer = read_or_refusal(whole)
        if isinstance(answer, errors.Ds01Error):
            assert_in_words(answer)
        else:
            assert answer.default_group in answer.groups


@QUICK
@given(st.sampled_from(sorted({*KEYS, *ALIASES})), ANY_TEXT)
def test_any_value_of_any_key_is_taken_or_refused_in_words(key: str, text: str) -> None:
    answer = read_or_refusal(f"default_group: g\ngroups:\n  g: {{{key}: {json.dumps(text)}}}\n")
    if isinstance(answer, errors.Ds01Error):
        assert_in_words(answer)
        return
    for setting in answer.groups["g"].settings.values():
        assert KEYS[setting.key].accepts(setting.value)
        json.loads(json.dumps(setting.value, allow_nan=False))


@QUICK
@given(st.sampled_from([k for k in vars(kinds).values() if isinstance(k, kinds.Kind)]), ANY_TEXT)
def test_a_kind_reads_what_its_schema_allows(kind: kinds.Kind, text: str) -> None:
    """The schema may allow more (bounds, ``..`` after folding), never less."""
    try:
        kind.parse(text)
    except units.UnitError:
        return
    # A sign is read, to be refused with the bound's message.
    assert re.search(kind.pattern, text.strip().lstrip("+-"))


NUMBERS = st.integers(0, 10**18)


@QUICK
@given(NUMBERS, st.sampled_from(["", "k", "M", "Gi", "tib", "PB"]))
def test_a_size_is_read_exactly(number: int, unit: str) -> None:
    power = "kmgtp".find(unit[:1].lower()) + 1 if unit else 0
    exact = number * 1024**power
    if exact > units.MAX_BYTES:
        with pytest.raises(units.UnitError):
            units.parse_size(f"{number}{unit}")
    else:
        assert units.parse_size(f"{number}{unit}") == exact


@QUICK
@given(st.integers(0, units.MAX_BYTES))
def test_two_sizes_look_the_same_only_when_they_are(value: int) -> None:
    for show in (units.show_size, units.show_rate):
        assert show(value) != show(value + 1)


@QUICK
@given(st.integers(0, 10**9))
def test_a_shown_duration_reads_back(value: int) -> None:
    assert units.parse_duration(units.show_duration(value)) == value


# --- names ----------------------------------------------------------------------------------------

NAME = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=30
)


@QUICK
@given(st.sampled_from(GROUPS), NAME, st.sampled_from(GROUPS), NAME)
def test_distinct_users_never_share_a_slice(
    group: str, user: str, other_group: str, other: str
) -> None:
    one, two = names.user_slice(group, user), names.user_slice(other_group, other)
    assert (one == two) == ((group, user) == (other_group, other))
    assert names.classify(one) == names.SliceRole("user", group=group, user=user)
    assert one not in {names.group_slice(g) for g in GROUPS}


@QUICK
@given(NAME)
def test_an_accepted_name_makes_one_path_component_of_plain_ascii(name: str) -> None:
    if names.user_name_fault(name, "student"):
        return
    unit = names.user_slice("student", name)
    assert re.fullmatch(r"ds01-student-[A-Za-z0-9:_.\\]+\.slice", unit)
    assert len(f"{unit}.d") <= 255
    assert names.slice_path(unit).rpartition("/")[2] == unit


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(NAME.filter(lambda name: "\n" not in name), min_size=1, max_size=20))
def test_escaping_is_that_of_systemd(several: list[str]) -> None:
    escaped = [names.escape(name) for name in several]
    assert [names.unescape(text) for text in escaped] == several
    if shutil.which("systemd-escape"):
        answer = subprocess.run(["systemd-escape", "--", *several], capture_output=True, check=True)
        assert answer.stdout.decode().rstrip("\n").split(" ") == escaped
