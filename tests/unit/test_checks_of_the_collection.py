"""The checks of the artefact, the documentation and the links find what they are for."""

from __future__ import annotations

import os
from pathlib import Path

import check_artefact
import check_docs_of_plugins
import check_links
import pytest
import yaml


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    files = {"plugins/core/a.py": "A = 1\n", "README.md": "# hi\n", "roles/r/x.yml": "---\n"}
    trees = []
    for name in ("tree", "installed"):
        tree = lay(tmp_path / name, files)
        (tree / "files").mkdir()
        (tree / "files" / "core").symlink_to("../plugins/core")
        trees.append(tree)
    return trees[0], trees[1]


def test_an_artefact_like_its_tree_is_complete(pair: tuple[Path, Path]) -> None:
    assert list(check_artefact.file_problems(*pair)) == []


def test_a_file_left_out_or_changed_is_named(pair: tuple[Path, Path]) -> None:
    tree, installed = pair
    (installed / "README.md").unlink()
    (installed / "roles/r/x.yml").write_text("--- other\n")
    (installed / "plugins/core/a.py").chmod(0o755)
    assert list(check_artefact.file_problems(tree, installed)) == [
        "README.md is not in the artefact",
        "plugins/core/a.py differs in the artefact (content, mode or link)",
        "roles/r/x.yml differs in the artefact (content, mode or link)",
    ]


def test_a_link_turned_into_a_copy_is_named(pair: tuple[Path, Path]) -> None:
    tree, installed = pair
    link = installed / "files" / "core"
    link.unlink()
    lay(link, {"a.py": "A = 1\n"})
    assert list(check_artefact.file_problems(tree, installed)) == [
        "files/core differs in the artefact (content, mode or link)"
    ]


def test_a_link_to_nowhere_is_named(pair: tuple[Path, Path]) -> None:
    for tree in pair:
        os.symlink("../gone", tree / "files" / "lost")
    assert list(check_artefact.file_problems(*pair)) == ["files/lost is a dangling link"]


def test_development_files_do_not_ship(pair: tuple[Path, Path]) -> None:
    lay(pair[1], {"tests/unit/test_a.py": ""})
    problems = list(check_artefact.file_problems(*pair))
    assert problems == ["tests is for development; add it to build_ignore in galaxy.yml"]


def test_a_runtime_without_its_links_is_told(tmp_path: Path) -> None:
    lay(tmp_path, {"files/runtime/ds01/__init__.py": ""})
    problems = list(check_artefact.runtime_problems(tmp_path))
    assert [problem.split()[0] for problem in problems] == [
        "ds01.core",
        "ds01.host",
        "ds01.limits_yaml",
    ]


def test_a_runtime_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    lay(tmp_path, {"files/runtime/ds01/__init__.py": "", "files/runtime/ds01/a.py": "import zzz\n"})
    first = next(iter(check_artefact.runtime_problems(tmp_path)))
    assert "No module named 'zzz'" in first


def role(root: Path, options: dict[str, object], defaults: dict[str, object]) -> Path:
    about = {"short_description": "s", "description": ["d"], "author": ["a"], "options": options}
    specs = {"argument_specs": {"main": about}}
    return lay(
        root / "engine",
        {
            "README.md": "# engine\n",
            "meta/argument_specs.yml": yaml.safe_dump(specs),
            "defaults/main.yml": yaml.safe_dump(defaults),
        },
    )


def test_defaults_and_argument_specs_must_name_the_same(tmp_path: Path) -> None:
    known = {"type": "int", "description": ["x"]}
    path = role(
        tmp_path,
        {
            "engine_a": {**known, "default": 1},
            "engine_b": known,
            "engine_c": {**known, "required": True},
            "wild": {"type": "int", "required": True},
        },
        {"engine_a": 2, "engine_d": 4},
    )
    listed: dict[str, object] = {"ds01.infra.engine": {}}
    assert list(check_docs_of_plugins.role_problems(path, listed)) == [
        "role engine.wild has no description",
        "role engine: engine_d has a default but no entry in argument_specs",
        "role engine: engine_b is in argument_specs but has no default",
        "role engine: engine_a is 2, argument_specs say 1",
        "role engine: wild does not start with engine_",
    ]


def test_a_role_that_ansible_doc_does_not_know_is_named(tmp_path: Path) -> None:
    problems = list(check_docs_of_plugins.role_problems(role(tmp_path, {}, {}), {}))
    assert problems == ["role engine is not documented; does meta/argument_specs.yml exist?"]


def test_a_plugin_with_half_its_documentation_is_named() -> None:
    doc = {
        "short_description": "s",
        "description": ["d"],
        "author": ["a"],
        "attributes": {"check_mode": {}},
        "options": {"size": {"type": "dict", "description": ["x"], "suboptions": {"unit": {}}}},
    }
    answer = {"doc": doc, "examples": " \n", "return": None}
    assert list(check_docs_of_plugins.plugin_problems("module", "m", answer)) == [
        "module m has no EXAMPLES",
        "module m has no RETURN",
        "module m does not say in attributes whether it has check_mode and diff_mode",
        "module m.size.unit has no description",
        "module m.size.unit has no type",
    ]
    assert list(check_docs_of_plugins.plugin_problems("filter", "f", {})) == [
        "filter f has no documentation"
    ]


def test_links_are_followed_to_the_file_and_the_heading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay(
        tmp_path,
        {
            "a.md": "# One `two`: three\n[x](b.md) [y](b.md#s-1) [z](#one-two-three) "
            "[w](https://example.org/none) `[code](none.md)`\n```\n[code](none.md)\n```\n",
            "b.md": "## S\n## S\n",
            "bad.md": "[x](c.md) [y](b.md#s-2) [z](<a.md> 'title')\n[t](docs/ \"a title\")\n",
        },
    )
    assert list(check_links.broken(Path("a.md"))) == []
    assert list(check_links.broken(Path("bad.md"))) == [
        "bad.md: c.md leads to no file",
        "bad.md: b.md#s-2 leads to no heading",
        "bad.md: docs/ leads to no file",
    ]
