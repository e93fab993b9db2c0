"""Check the files of an installed collection against the tree that it was built from.

The runtime that goes to the host reaches the domain through links (``files/runtime/ds01/core``).
A build that drops them, or copies them wrongly, installs without a word and fails at a site.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SHIPPED = (
    "changelogs",
    "docs",
    "files",
    "inventories",
    "meta",
    "playbooks",
    "plugins",
    "roles",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
)
NOT_SHIPPED = (".cache", ".ci", ".git", "Makefile", "molecule", "pyproject.toml", "tests")


def shipped(tree: Path) -> Iterator[Path]:
    """Yield the paths, relative to the tree, of all files and links that belong in the artefact."""
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(folder, name)
            relative = path.relative_to(tree)
            if relative.parts[0] in SHIPPED and (path.is_symlink() or not path.is_dir()):
                yield relative


def same(left: Path, right: Path) -> bool:
    """Tell whether two paths are links to the same place, or files of equal content and mode."""
    if left.is_symlink() or right.is_symlink():
        both = left.is_symlink() and right.is_symlink()
        return both and os.readlink(left) == os.readlink(right)
    executable = os.access(left, os.X_OK) == os.access(right, os.X_OK)
    return right.is_file() and executable and left.read_bytes() == right.read_bytes()


def file_problems(tree: Path, installed: Path) -> Iterator[str]:
    """Yield what differs between the tree and what was installed from it."""
    for name in NOT_SHIPPED:
        if os.path.lexists(installed / name):
            yield f"{name} is for development; add it to build_ignore in galaxy.yml"
    for path in sorted(shipped(tree)):
        if not os.path.lexists(installed / path):
            yield f"{path} is not in the artefact"
        elif not same(tree / path, installed / path):
            yield f"{path} differs in the artefact (content, mode or link)"
    for folder, folders, files in os.walk(installed):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not path.exists():
                yield f"{path.relative_to(installed)} is a dangling link"


def runtime_problems(installed: Path) -> Iterator[str]:
    """Yield what stops the installed payload from being imported as the package ``ds01``."""
    code = (
        "import importlib, pkgutil, ds01\n"
        "for item in pkgutil.walk_packages(ds01.__path__, 'ds01.'):\n"
        "    if not item.name.endswith('__main__'):\n"
        "        importlib.import_module(item.name); print(item.name)\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed / "files/runtime")}
    probe = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        yield f"the installed runtime cannot be imported:\n{probe.stderr}"
    names = set(probe.stdout.split())
    for name in ("ds01.core", "ds01.host", "ds01.limits_yaml"):
        if name not in names:
            yield f"{name} is not reachable in the installed runtime; is its link gone?"


def main() -> int:
    """Check TREE against INSTALLED; print each problem and return 1 if there is any."""
    tree, installed = (Path(argument).absolute() for argument in sys.argv[1:3])
    problems = [*file_problems(tree, installed), *runtime_problems(installed)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"artefact: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
