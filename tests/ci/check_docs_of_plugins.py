"""Check that every plugin and role of an installed collection documents itself completely.

Everything is asked of ``ansible-doc``, as an admin would. A role's defaults and its argument
specification must name the same variables, or one of them promises what the other lacks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

COLLECTION = "ds01.infra"
# Folder of the collection -> the type's name for ansible-doc.
PLUGIN_FOLDERS = {"modules": "module", "lookup": "lookup", "filter": "filter", "test": "test"}
KNOWN_FOLDERS = {*PLUGIN_FOLDERS, "module_utils", "plugin_utils", "doc_fragments"}


def ansible_doc(kind: str, *arguments: str) -> dict[str, Any]:
    """Return what ``ansible-doc --json`` prints for one type of plugin."""
    program = Path(sys.executable).with_name("ansible-doc")
    answer = subprocess.run(
        [str(program), "--type", kind, "--json", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        raise SystemExit(f"error: ansible-doc -t {kind} {' '.join(arguments)}:\n{answer.stderr}")
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def option_problems(where: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options, at any depth, that lack a description or a type."""
    for name, option in options.items():
        here = f"{where}.{name}"
        for key in ("description", "type"):
            if not option.get(key):
                yield f"{here} has no {key}"
        for key in ("suboptions", "options", "contains"):
            if option.get(key):
                yield from option_problems(here, option[key])


def plugin_problems(kind: str, name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield what one plugin's documentation lacks."""
    doc = answer.get("doc")
    if not doc:
        yield f"{kind} {name} has no documentation"
        return
    where = f"{kind} {name}"
    for key in ("short_description", "description", "author"):
        if not doc.get(key):
            yield f"{where} has no {key}"
    if not (answer.get("examples") or "").strip():
        yield f"{where} has no EXAMPLES"
    if not answer.get("return"):
        yield f"{where} has no RETURN"
    if kind == "module" and set(doc.get("attributes") or {}) < {"check_mode", "diff_mode"}:
        yield f"{where} does not say in attributes whether it has check_mode and diff_mode"
    yield from option_problems(where, doc.get("options") or {})
    yield from option_problems(f"{where} returns", answer.get("return") or {})


def all_plugin_problems(installed: Path) -> Iterator[str]:
    """Yield what the plugins' documentation lacks, and any plugin ansible-doc does not see."""
    plugins = installed / "plugins"
    for folder in sorted(path.name for path in plugins.iterdir() if path.is_dir()):
        if folder not in KNOWN_FOLDERS:
            yield f"plugins/{folder}: this check does not know the type; teach it"
    for folder, kind in PLUGIN_FOLDERS.items():
        files = sorted(path.stem for path in (plugins / folder).glob("*.py"))
        files = [stem for stem in files if stem != "__init__"]
        if not files:
            continue
        names = sorted(ansible_doc(kind, "--list", COLLECTION))
        if kind in {"module", "lookup"}:
            for stem in set(files) - {name.rpartition(".")[2] for name in names}:
                yield f"{kind} {stem} is not listed by ansible-doc"
        if not names:
            yield f"plugins/{folder} has files, but ansible-doc lists no {kind}"
            continue
        answers = ansible_doc(kind, *names)
        for name in names:
            yield from plugin_problems(kind, name, answers.get(name, {}))
        print(f"{kind}: {len(names)} documented")


def load(path: Path) -> Any:
    """Return the content of a YAML file, or an empty mapping where there is no such file."""
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def role_problems(role: Path, listed: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a role's documentation lacks and where it disagrees with its defaults."""
    if f"{COLLECTION}.{role.name}" not in listed:
        yield f"role {role.name} is not documented; does meta/argument_specs.yml exist?"
        return
    if not (role / "README.md").is_file():
        yield f"role {role.name} has no README.md"
    main = load(role / "meta" / "argument_specs.yml").get("argument_specs", {}).get("main", {})
    for key in ("short_description", "description", "author"):
        if not main.get(key):
            yield f"role {role.name} has no {key}"
    options = main.get("options") or {}
    yield from option_problems(f"role {role.name}", options)
    optional = {name for name, option in options.items() if not option.get("required")}
    defaults = load(role / "defaults" / "main.yml")
    for name in sorted(set(defaults) - set(options)):
        yield f"role {role.name}: {name} has a default but no entry in argument_specs"
    for name in sorted(optional - set(defaults)):
        yield f"role {role.name}: {name} is in argument_specs but has no default"
    for name in sorted(optional & set(defaults)):
        spoken = options[name].get("default")
        if "default" in options[name] and spoken != defaults[name]:
            yield f"role {role.name}: {name} is {defaults[name]!r}, argument_specs say {spoken!r}"
    prefixes = (f"{role.name}_", "ds01_")
    for name in sorted(options):
        if not name.startswith(prefixes):
            yield f"role {role.name}: {name} does not start with {role.name}_"


def all_role_problems(installed: Path) -> Iterator[str]:
    """Yield the problems of every role."""
    roles = sorted(path for path in (installed / "roles").iterdir() if path.is_dir())
    if not roles:
        yield "the collection has no role"
        return
    listed = ansible_doc("role", "--list", COLLECTION)
    for role in roles:
        yield from role_problems(role, listed)
    print(f"role: {len(roles)} checked")


def main(argv: Sequence[str]) -> int:
    """Check the collection installed at argv[1]; print each problem, return 1 if there is any."""
    installed = Path(argv[1]).absolute()
    problems = [*all_plugin_problems(installed), *all_role_problems(installed)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"documentation: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
