# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema for editors and the reference page say what the domain's parser does."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from ds01.core import errors, parse, reference, reference_page, tree
from ds01.core.keys import ALIASES, KEYS, LEVELS, TABLE
from ds01.limits_yaml import read_tree

REPO = Path(__file__).resolve().parents[2]
LAB = REPO / "inventories/lab/limits.yml"
SCHEMA = reference.schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


class Yaml12(yaml.SafeLoader):
    """YAML as the language server reads it: the core schema of YAML 1.2, dates are texts."""


Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?[0-9]+\.[0-9]*$", list("-+0123456789")),
):
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def by_schema(text: str) -> list[str]:
    """What the editor would say."""
    return [error.message for error in VALIDATOR.iter_errors(yaml.load(text, Loader=Yaml12))]


def by_parser(text: str, tmp_path: Path) -> list[str]:
    """What the domain says."""
    path = tmp_path / "limits.yml"
    path.write_text(text, encoding="utf-8")
    try:
        parse.parse(read_tree(str(path), "limits.yml", tree.Node, errors.Ds01Error), "limits.yml")
    except errors.InputError as error:
        return [problem.what for problem in error.problems if problem.level == "error"]
    except errors.Ds01Error as error:
        return [error.what]
    return []


def in_group(line: str) -> str:
    return f"default_group: student\ngroups:\n  student:\n    {line}\n"


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


def test_the_worked_example_satisfies_schema_and_parser(tmp_path: Path) -> None:
    text = LAB.read_text(encoding="utf-8")
    assert by_schema(text) == []
    assert by_parser(text, tmp_path) == []


def test_the_worked_example_names_the_schema() -> None:
    first = LAB.read_text(encoding="utf-8").splitlines()[0]
    start, _unused, path = first.partition("$schema=")
    assert start == "# yaml-language-server: "
    assert (LAB.parent / path).resolve() == REPO / "docs/limits.schema.json"


GOOD = [
    "memory_max: 32g",
    "memory_max: 32GiB",
    "memory_max: 1.5 T",
    "memory_max: 33554432",
    "memory_max: '64m'",
    "memory_max: null",
    "memory_max: ~",
    "memory_swap_max: 0",
    "io_read_bw_max: 100M",
    "io_read_bw_max: 5MB/s",
    "io_write_bw_max: 64MiB/s",
    "io_write_iops_max: 500",
    "cpu_quota: 50%",
    "cpu_quota: 133.5 %",
    "cpu_weight: 10000",
    "tasks_max: 16",
    "max_cpus: 0.5",
    "max_gpu_equivalents: 0",
    "idle_timeout: 48h",
    "idle_timeout: 1d 12h",
    "idle_timeout: 90min",
    "gpu_hold_after_stop: 0s",
    "max_runtime: null",
    "allow_full_gpu: true",
    "allow_full_gpu: yes",
    "allow_full_gpu: Off",
    "visibility: all",
    "mounts: [/data:ro, '/scratch/..b:rw']",
    "mounts: []",
    "mounts: null",
    "ports: [8080, 9000-9100]",
    "devices: [/dev/fuse]",
    "members: [alice, h.baker@hertie-school.lan, 12345]",
    "members: null",
    "unix_groups: ['domain users']",
    "total: {memory_max: 8g, max_tasks: 4000}",
    "total: null",
    "aggregate: {cpu_quota: 400%, max_gpus_per_user: 2}",
    "max_gpu_slots: 2",
    "idle_timeout_h: 0.5",
    "max_runtime_h: '48'",
    "max_runtime_h: null",
]

BAD = [
    "memroy_max: 32g",
    "memory_max: 32 gigs",
    "memory_max: -1",
    "memory_max: 0.5",
    "memory_max: 1024",
    "memory_max: [32g]",
    "memory_max: {}",
    "io_read_bw_max: 100 Mbit",
    "io_read_bw_max: 100",
    "cpu_quota: 400",
    "cpu_quota: 4 CPUs",
    "cpu_weight: 0",
    "cpu_weight: 10001",
    "tasks_max: 15",
    "tasks_max: 12.5",
    "max_cpus: 2 cores",
    "max_cpus: 0.001",
    "idle_timeout: 48",
    "idle_timeout: 1:30",
    "idle_timeout: 48 hours",
    "allow_full_gpu: maybe",
    "allow_full_gpu: null",
    "allow_full_gpu: 1",
    "priority: 1001",
    "priority: null",
    "visibility: everyone",
    "mounts: /data:ro",
    "mounts: [data:ro]",
    "mounts: [/data]",
    "mounts: [/data/../etc:ro]",
    "mounts: ['/data/..:rw']",
    "ports: [http]",
    "ports: [0]",
    "ports: [70000]",
    "devices: [/dev/fuse, '']",
    "members: alice",
    "members: ['a:b']",
    "members: [alice, alice]",
    "members: [{alice: 1}]",
    "total: {max_containers_per_user: 3}",
    "total: {idle_timeout_h: 3}",
    "total: 8g",
    "aggregate: {idle_timeout: 48h}",
    "idle_timeout_h: 48h",
    "idle_timeout_h: -1",
    "tasks_max: 010",
    "memory_max: 05g",
    "memory_max: 5ib",
    "io_write_bw_max: 100Mb",
    "io_write_bw_max: 100Mbps",
    "idle_timeout: 5M",
    "cpu_quota: 33.333%",
    "host_namespaces: [mount]",
    "devices: [fuse]",
    "capabilities: [sys_admin]",
    "max_tasks: 3",
    "reason: for the whole group",
]

WHOLE_GOOD = [
    in_group("tasks_max: 64") + "login: {cpu_quota: 100%}\ntotal: null\nunattributed: {}\n",
    in_group("tasks_max: 64") + "defaults:\n  idle_timeout: 2h\n",
    in_group("tasks_max: 64")
    + "user_overrides:\n  h.baker@hertie-school.lan: {tasks_max: 99, reason: 4711, expires: 2027-01-31}\n",
    in_group("tasks_max: 64") + "user_overrides: {alice: {expires: 2027-01-31T18:00}}\n",
    in_group("tasks_max: 64") + "user_overrides: {alice: {expires: '2027-01-31T18:00:00+02:00'}}\n",
    in_group("tasks_max: 64") + "user_overrides: {alice: {expires: null}}\n",
    in_group("tasks_max: 64") + "user_overrides:\n",
]

WHOLE_BAD = [
    "[]",
    "groups: {student: {tasks_max: 64}}",
    "default_group: student",
    "default_group: student\ngroups: {}",
    "default_group: student\ngroups: null",
    "default_group: null\ngroups: {student: {}}",
    in_group("tasks_max: 64") + "enforcement: {enabled: true}\n",
    in_group("tasks_max: 64") + "default: {tasks_max: 64}\n",
    in_group("tasks_max: 64") + "  phd-students: {tasks_max: 64}\n",
    in_group("tasks_max: 64") + "  Staff: {tasks_max: 64}\n",
    in_group("tasks_max: 64") + "  unattributed: {tasks_max: 64}\n",
    in_group("tasks_max: 64") + f"  {'g' * 33}: {{tasks_max: 64}}\n",
    in_group("tasks_max: 64") + "login: {max_containers_per_user: 2}\n",
    in_group("tasks_max: 64") + "unattributed: {priority: 2}\n",
    in_group("tasks_max: 64") + "defaults: {members: [alice]}\n",
    in_group("tasks_max: 64") + "defaults: {aggregate: {idle_timeout: 64h}}\n",
    in_group("tasks_max: 64") + "user_overrides: {alice: {total: {tasks_max: 64}}}\n",
    in_group("tasks_max: 64") + "user_overrides: {alice: {expires: end of term}}\n",
    in_group("tasks_max: 64") + "user_overrides: {alice: {expires: 2027-13-01}}\n",
    in_group("tasks_max: 64") + "user_overrides: {'a/b': {tasks_max: 64}}\n",
    in_group("tasks_max: 64") + "user_overrides: [alice]\n",
]


@pytest.mark.parametrize("text", [*map(in_group, GOOD), *WHOLE_GOOD])
def test_schema_and_parser_both_accept(text: str, tmp_path: Path) -> None:
    assert (by_schema(text), by_parser(text, tmp_path)) == ([], [])


@pytest.mark.parametrize("text", [*map(in_group, BAD), *WHOLE_BAD])
def test_schema_and_parser_both_refuse(text: str, tmp_path: Path) -> None:
    assert by_schema(text), f"the schema accepts what the parser refuses: {text}"
    assert by_parser(text, tmp_path), f"the parser accepts what the schema refuses: {text}"


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = SCHEMA["$defs"][name] if name else schema
    return found


BLOCKS = {
    "defaults": "defaults: {%s: x}",
    "total": "total: {%s: x}",
    "login": "login: {%s: x}",
    "unattributed": "unattributed: {%s: x}",
    "group": "groups: {student: {%s: x}}",
    "group total": "groups: {student: {total: {%s: x}}}",
    "group aggregate": "groups: {student: {aggregate: {%s: x}}}",
    "override": "user_overrides: {alice: {%s: x}}",
}


def _properties(block: str) -> set[str]:
    if block in SCHEMA["properties"]:
        return set(_resolved(SCHEMA["properties"][block])["properties"])
    where = _resolved(SCHEMA["$defs"][block.partition(" ")[0]])
    if " " in block:
        where = _resolved(where["properties"][block.partition(" ")[2]])
    return set(where["properties"])


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_offers_exactly_the_keys_that_the_parser_knows_there(
    block: str, tmp_path: Path
) -> None:
    extra = ("members", "unix_groups", "total", "reason", "expires", "aggregate", "groups")
    known = {
        name
        for name in (*KEYS, *ALIASES, *extra)
        if not any(
            what.startswith("unknown key") or f"cannot hold {name!r}" in what
            for what in by_parser(f"default_group: x\n{BLOCKS[block] % name}\n", tmp_path)
        )
    }
    assert _properties(block) == known


@pytest.mark.parametrize("key", TABLE, ids=lambda key: key.name)
def test_null_is_allowed_where_the_parser_allows_it(key: Any, tmp_path: Path) -> None:
    text = in_group(f"{key.name}: null")
    assert bool(by_schema(text)) == bool(by_parser(text, tmp_path))


@pytest.mark.parametrize("key", TABLE, ids=lambda key: key.name)
def test_a_key_is_described_with_who_enforces_it(key: Any) -> None:
    description = SCHEMA["$defs"][key.name]["description"]
    assert key.about in description
    assert key.enforced_by in description
    assert ("Not enforced yet" in description) == key.pending


@pytest.mark.parametrize("name", [*ALIASES, "aggregate"])
def test_an_old_spelling_is_marked_deprecated(name: str) -> None:
    definition = SCHEMA["$defs"][name]
    assert definition["deprecated"] is True
    if name in ALIASES:
        assert ALIASES[name].key in definition["deprecationMessage"]


def _docgen() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docgen", REPO / "tests/ci/docgen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_has_a_row_with_its_enforcement() -> None:
    text = reference_page.page([])
    assert reference_page.keys_without_a_row(text) == []
    assert reference_page.keys_without_a_row(text.replace("| `tasks_max` |", "")) == ["tasks_max"]
    for key in TABLE:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{key.name}` |"))
        assert (reference_page.NOT_YET in row) == key.pending
        assert key.enforced_by in row
        if key.setting:
            assert f"`{key.setting}`" in row
            assert f"`{key.cgroup.partition(':')[0]}`" in row
    for title in LEVELS.values():
        assert f"### {title[0].upper()}{title[1:]}\n" in text
    for name, alias in ALIASES.items():
        assert f"| `{name}` | `{alias.key}` |" in text


def test_the_example_of_the_page_is_valid(tmp_path: Path) -> None:
    assert by_schema(reference_page.EXAMPLE) == []
    assert by_parser(reference_page.EXAMPLE, tmp_path) == []


def test_the_page_shows_each_refusal_with_the_message_itself() -> None:
    docgen = _docgen()
    text = reference_page.page([(faulty, docgen.refusal(faulty)) for faulty in docgen.FAULTY])
    assert "limits.yml:4: unknown key 'memroy_max' in groups.student. Did you mean" in text
    assert "is above the host: the host has 64 CPUs" in text
    with pytest.raises(SystemExit, match="this example is not refused"):
        docgen.refusal(reference_page.EXAMPLE)


def test_a_stale_page_is_found_and_the_command_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    docgen = _docgen()
    monkeypatch.setattr(docgen, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["docgen.py"])
    assert docgen.main() == 0
    monkeypatch.setattr(sys, "argv", ["docgen.py", "--check"])
    assert docgen.main() == 0
    page = tmp_path / "limits.md"
    page.write_text(page.read_text().replace("tasks_max", "max_tasks"))
    assert docgen.main() == 1
    said = capsys.readouterr().err
    assert "error: docs/limits.md differ" in said
    assert docgen.COMMAND in said
    assert "max_tasks" in page.read_text(), "--check wrote the page"


def test_the_pages_in_the_repository_are_current() -> None:
    for path, text in _docgen().pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale"
