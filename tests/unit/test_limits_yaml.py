# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loader takes plain YAML only, whatever is thrown at it, and never runs or waits for ever."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from ds01.core import parse, tree
from ds01.core.errors import Ds01Error
from ds01.limits_yaml import MAX_BYTES, read_tree
from fakes import NOW, read_limits

GROUP = "default_group: student\ngroups:\n  student:\n"


def refusal(text: str) -> str:
    with pytest.raises(Ds01Error) as caught:
        read_limits(text)
    return str(caught.value)


def read_file(path: Path) -> tree.Node:
    node: tree.Node = read_tree(str(path), "limits.yml", tree.Node, Ds01Error)
    return node


def test_keys_that_yaml_reads_as_something_else_are_unknown_keys() -> None:
    for key in ("1", "~", "true", "2026-01-01", "''"):
        assert "unknown key" in refusal(GROUP + f"    {key}: 64\n")


def test_no_value_in_the_file_runs_or_opens_anything(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for tag in ("!!python/object/apply:os.mknod", "!!python/object/new:os.mknod"):
        refusal(GROUP + f"    reason: {tag} ['{trap}']\n")
    assert not trap.exists()


def test_a_tower_of_aliases_ends_soon() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "aliases nest without end" in refusal("\n".join(rows) + "\n")


@pytest.mark.parametrize("depth", [60, 400, 5000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ("{a: ", "}")])
def test_deep_nesting_is_refused(depth: int, opened: str, closed: str) -> None:
    message = refusal(GROUP + f"    members: {opened * depth}{closed * depth}\n")
    assert "nests too deep" in message


def test_other_encodings_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "limits.yml"
    for raw in (GROUP.encode() + b"# caf\xe9\n", GROUP.encode() + b"\xed\xa0\x80: 1\n"):
        path.write_bytes(raw)
        with pytest.raises(Ds01Error, match=r"limits\.yml:4: the file is not UTF-8 text"):
            read_file(path)
    path.write_bytes(GROUP.encode("utf-16"))
    with pytest.raises(Ds01Error, match=r"limits\.yml:1: the file is not UTF-8 text\. Save it"):
        read_file(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "limits.yml"
    path.write_bytes(
        "\ufeff".encode() + (GROUP + "    tasks_max: 64\n").replace("\n", "\r\n").encode()
    )
    limits = parse.parse(read_file(path), "limits.yml", NOW)
    assert limits.groups["student"].settings["tasks_max"].where == "limits.yml:4"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Ds01Error) as caught:
        read_file(tmp_path)
    assert str(caught.value) == (
        "limits.yml: cannot read the limits file: Is a directory. Check the path and its permissions"
    )
    with pytest.raises(Ds01Error, match="No such file or directory"):
        read_file(tmp_path / "absent.yml")
    with pytest.raises(Ds01Error, match="cannot read the limits file"):
        read_file(Path("/dev/null\0x"))


def test_a_file_without_end_is_not_read_without_end() -> None:
    with pytest.raises(Ds01Error, match=f"the file is larger than {MAX_BYTES} bytes"):
        read_file(Path("/dev/zero"))


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(GROUP + "    tasks_max: 64\n"))
    writer.start()
    node = read_file(pipe)
    writer.join()
    assert parse.parse(node, "limits.yml", NOW).groups["student"].settings["tasks_max"].value == 64
