# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the cost of limits grows from 20 users to 2,000, beside what would be done without ds01.

Usage: ``PYTHONPATH=files/runtime:tests python tests/bench/bench_limits.py [--write]``

References, measured in the same run: PyYAML's ``safe_load`` of the same file (no places, no
checks), and one drop-in a user instead of prefix drop-ins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ds01.core import errors, parse, tree
from ds01.core.limits import Limits, from_json, of_user, to_json
from ds01.core.names import user_slice
from ds01.core.slices import Site
from ds01.host.accounts import HostAccount
from ds01.limits_yaml import read_tree
from fakes import NOW, FakeHost
from report import machine, table, write_section
from sites import LARGE, SMALL, Size, limits_file

ROUNDS = 5


def median_ms(action: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median CPU time of an action in milliseconds; one round before warms up.

    CPU time, since the machine's other work must not count.
    """
    action()
    times = []
    for _round in range(rounds):
        start = time.process_time()
        action()
        times.append((time.process_time() - start) * 1000)
    return statistics.median(times)


def one_file_each(limits: Limits, site: Site, folder: Path) -> int:
    """The reference: every user's whole limits in a drop-in of her own."""
    count = 0
    for name, group in limits.groups.items():
        for member in group.members:
            settings = of_user(limits, member, name, site.now)
            text = "".join(f"{s.key}={s.value}\n" for s in settings.values())
            (folder / f"{user_slice(name, member)}.conf").write_text(text)
            count += 1
    return count


def prefix_files(site: Site, folder: Path) -> int:
    """What ds01 does: drop-ins of groups and overrides."""
    files = site.files()
    for number, text in enumerate(files.values()):
        (folder / f"{number}.conf").write_text(text)
    return len(files)


def measure(size: Size, top: Path) -> dict[str, float]:
    """All figures of one size: milliseconds and numbers of files."""
    path = top / f"limits-{size.users}.yml"
    path.write_text(limits_file(size), encoding="utf-8")

    def check() -> Limits:
        root = read_tree(str(path), "limits.yml", tree.Node, errors.Ds01Error)
        return parse.parse(root, "limits.yml", NOW)

    limits = check()
    accounts = {name: HostAccount(name, 10_000 + n, ()) for n, name in enumerate(limits.overrides)}
    host = FakeHost(top / f"host-{size.users}", accounts)
    site = host.gather(limits).site
    naive, ours = top / f"naive-{size.users}", top / f"ours-{size.users}"
    naive.mkdir()
    ours.mkdir()
    text = json.dumps(to_json(limits))
    found = {
        "yaml": median_ms(lambda: yaml.safe_load(path.read_text(encoding="utf-8"))),
        "check": median_ms(check),
        "json": median_ms(lambda: from_json(json.loads(text))),
        "naive_ms": median_ms(lambda: one_file_each(limits, site, naive)),
        "ours_ms": median_ms(lambda: prefix_files(host.gather(limits).site, ours)),
        "naive_files": one_file_each(limits, site, naive),
        "ours_files": prefix_files(site, ours),
    }
    start = time.process_time()
    host.apply(path.read_text())
    found["first_ms"] = (time.process_time() - start) * 1000
    found["second_ms"] = median_ms(lambda: host.apply(path.read_text()))
    return found


def rows(small: dict[str, float], large: dict[str, float]) -> list[list[str]]:
    """The table's lines: a figure for both sizes and how it grows."""
    words = {
        "yaml": "reference: PyYAML safe_load, CPU ms",
        "check": "ds01: read, check, places, CPU ms",
        "json": "ds01: read limits.json back, CPU ms",
        "naive_ms": "reference: one drop-in a user, CPU ms",
        "ours_ms": "ds01: prefix drop-ins, CPU ms",
        "naive_files": "reference: one drop-in a user, files",
        "ours_files": "ds01: prefix drop-ins, files",
        "first_ms": "ds01: first run (check to record), CPU ms",
        "second_ms": "ds01: second run, nothing to do, CPU ms",
    }
    lines = []
    for key, text in words.items():
        form = "{:,.0f}" if key.endswith("files") else "{:,.1f}"
        growth = f"{large[key] / small[key]:,.1f}"
        lines.append([text, form.format(small[key]), form.format(large[key]), growth])
    return lines


def main() -> None:
    """Measure, print, and with ``--write`` put the table into docs/benchmarks.md."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="update docs/benchmarks.md")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = (measure(size, Path(folder)) for size in (SMALL, LARGE))
    text = "\n".join(
        [
            "## Limits from 20 to 2,000 users",
            "",
            f"On the controller: {machine()}. CPU time, medians of {ROUNDS}.",
            "",
            table(("", str(SMALL), str(LARGE), "ratio"), rows(small, large)),
            "",
            f"At {LARGE.users:,} users: checking costs {large['check'] / large['yaml']:.2f} times "
            f"safe_load; the drop-ins are {large['ours_files'] / large['naive_files']:.2f} times the "
            f"files of one a user, in {large['ours_ms'] / large['naive_ms']:.2f} times the time.",
        ]
    )
    print(text)
    if chosen.write:
        write_section("limits", text)


if __name__ == "__main__":
    main()
