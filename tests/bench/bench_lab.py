# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the slices take on the lab host, for 20 users and for 2,000.

Usage: ``python tests/bench/bench_lab.py [--write]`` with a lab that is up (``make lab``).

Reference, measured in the same run: ``ansible.builtin.ping``, which is what any task costs. The
host's accounts and limits are put back at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from report import table, write_section
from sites import LARGE, SMALL, Size, limits_file, user

REPO = Path(__file__).resolve().parents[2]
INVENTORY = REPO / "inventories/lab/hosts.yml"
ROUNDS = 3
PASSWD, SAVED = "/etc/passwd", "/root/passwd.before-bench"


def ansible(module: str, arguments: dict[str, object]) -> tuple[float, dict[str, object]]:
    """One task on the lab host: seconds of wall time, and its result.

    :raises SystemExit: the task failed.
    """
    command = ["ansible", "ds01_hosts", "-i", str(INVENTORY), "-m", module]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "-a", json.dumps(arguments)],
        cwd=REPO,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{module} failed on the lab host:\n{done.stdout}{done.stderr}")
    return seconds, result_of(done.stdout)


def result_of(text: str) -> dict[str, object]:
    """The result in what ``ansible`` prints of one host: ``name | CHANGED => {…}``."""
    result = json.loads(text.partition(" => ")[2])
    assert isinstance(result, dict)
    return result


def on_host(script: str) -> None:
    """Run a shell script as root on the lab host."""
    lab = [str(REPO / "tests/lab/lab"), "ssh", "--", "sh", "-s"]
    subprocess.run(lab, input=script, text=True, check=True, capture_output=True)


def accounts(size: Size) -> str:
    """Lines of /etc/passwd for all users of a site."""
    lines = [
        f"{user(n)}:x:{20_000 + n}:{20_000 + n}::/nonexistent:/usr/sbin/nologin"
        for n in range(size.users)
    ]
    return "\n".join(lines)


def slices(path: Path) -> tuple[float, dict[str, object]]:
    """One run of the module with the limits of a file."""
    limits = f"{{{{ lookup('ds01.infra.limits', '{path}') }}}}"
    return ansible("ds01.infra.ds01_slices", {"limits": limits})


def measure(size: Size, folder: Path) -> dict[str, float]:
    """Seconds of a first run, of one with nothing to do, and of one changed limit; and files."""
    path = folder / f"limits-{size.users}.yml"
    path.write_text(limits_file(size), encoding="utf-8")
    on_host(f"cp {SAVED} {PASSWD}\ncat >>{PASSWD} <<'END'\n{accounts(size)}\nEND\n")
    first, result = slices(path)
    files = result["files"]
    assert isinstance(files, dict)
    again = sorted(slices(path)[0] for _round in range(ROUNDS))[ROUNDS // 2]
    path.write_text(path.read_text().replace("tasks_max: 100\n", "tasks_max: 90\n"))
    changed, _result = slices(path)
    return {
        "first run, s": first,
        "a run with nothing to do, s": again,
        "one limit of a group changed, s": changed,
        "drop-ins": float(files["total"]),
    }


def main() -> None:
    """Measure, print, and with ``--write`` put the table into docs/benchmarks.md."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    chosen = options.parse_args()
    on_host(f"cp -p {PASSWD} {SAVED}\n")
    try:
        with tempfile.TemporaryDirectory() as folder:
            ping = sorted(
                ansible("ansible.builtin.ping", {"data": "pong"})[0] for _round in range(ROUNDS)
            )
            small, large = (measure(size, Path(folder)) for size in (SMALL, LARGE))
    finally:
        on_host(f"cp -p {SAVED} {PASSWD}\nrm {SAVED}\n")
        slices(REPO / "inventories/lab/limits.yml")
    reference = ping[ROUNDS // 2]
    lines = [["reference: ping, s", f"{reference:.1f}", f"{reference:.1f}", "1.0"]]
    for step, value in small.items():
        form = "{:.0f}" if step == "drop-ins" else "{:.1f}"
        ratio = f"{large[step] / value:.1f}"
        lines.append([step, form.format(value), form.format(large[step]), ratio])
    text = "\n".join(
        [
            "## The slices on the lab host",
            "",
            "One task of Ansible over ssh to the lab host (a virtual machine, emulated where there "
            f"is no KVM), wall time, medians of {ROUNDS} where nothing changes.",
            "",
            table(("", str(SMALL), str(LARGE), "ratio"), lines),
        ]
    )
    print(text)
    if chosen.write:
        write_section("slices on the lab host", text)


if __name__ == "__main__":
    main()
