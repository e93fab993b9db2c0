"""Write the generated pages of docs: the limits file's schema and reference, the gateway's list.

``make docs`` runs it; the stage ``docs`` of ``make test`` runs it with ``--check``.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import gateway_page
from ds01.core import checks, errors, parse, reference, reference_page, tree
from ds01.core.limits import Limits
from ds01.limits_yaml import read_tree

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMAND = "make docs"
# A server to refuse values above; a large one of its kind.
SERVER = checks.Capacity(cpus=64, memory=512 * 1024**3, pids=4194304)
_GROUP = "default_group: student\ngroups:\n  student:\n"
# Faulty files; the page shows them with the very message that ds01 gives.
FAULTY = (
    f"{_GROUP}    memroy_max: 32g\n",
    f"{_GROUP}    memory_max: 32 gigs\n    cpu_quota: 400\n    idle_timeout: 48\n",
    f"{_GROUP}    memory_max: 8g\n    memory_max: 16g\n",
    f"{_GROUP}    memory_max: 8g\n    memory_high: 9g\n",
    f"{_GROUP}    cpu_quota: 9600%\n",
    f"{_GROUP}    members: [alice]\n  researcher:\n    members: [alice]\n",
    f"{_GROUP}  phd-students:\n    members: [carol]\n",
    f"{_GROUP}    total:\n      max_containers_per_user: 3\n",
    f"{_GROUP}user_overrides:\n  alice:\n    memory_max: 48g\n    expires: end of term\n",
    "groups:\n  student:\n    memory_max: 32g\n",
    f"{_GROUP}    memory_max: '{{{{ big }}}}'\n",
    f"{_GROUP}enforcement:\n  enabled: true\n",
)


def load(text: str) -> Limits:
    """The limits in a text, as the playbook and ``ds01 limits check`` read them.

    :raises errors.Ds01Error: the text is refused.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        root = read_tree(file.name, "limits.yml", tree.Node, errors.Ds01Error)
    return parse.parse(root, "limits.yml")


def refusal(text: str) -> str:
    """What ds01 answers to a faulty file; a text that it accepts is a mistake of this program."""
    try:
        problems = checks.check_host(load(text), SERVER, datetime.now().astimezone())
    except errors.Ds01Error as error:
        return str(error)
    if not problems:
        raise SystemExit(f"error: this example is not refused:\n{text}")
    return "\n".join(str(problem) for problem in problems)


def pages() -> dict[Path, str]:
    """Every generated file with its content."""
    examples = [(text, refusal(text)) for text in FAULTY]
    return {
        DOCS / "limits.schema.json": json.dumps(reference.schema(), indent=2) + "\n",
        DOCS / "limits.md": reference_page.page(examples),
        DOCS / "gateway-routes.md": gateway_page.page(),
    }


def stale(path: Path, wanted: str) -> bool:
    """Whether a file differs from what it should be; the difference goes to stderr."""
    present = path.read_text(encoding="utf-8") if path.is_file() else ""
    if present == wanted:
        return False
    lines = difflib.unified_diff(
        present.splitlines(), wanted.splitlines(), str(path.name), "as the code says", lineterm=""
    )
    print("\n".join([*lines][:40]), file=sys.stderr)
    return True


def main() -> int:
    """Write the pages, or with ``--check`` say which are stale; return 1 then."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail when stale")
    check = parser.parse_args().check
    old = [path for path, text in pages().items() if check and stale(path, text)]
    if old:
        names = ", ".join(f"docs/{path.name}" for path in old)
        print(f"error: {names} differ from the code; run: {COMMAND}", file=sys.stderr)
        return 1
    if not check:
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8")
    print(f"{len(pages())} generated pages {'are current' if check else 'written'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
