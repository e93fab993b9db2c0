# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units: what a text means, and how a number is told to people and to systemd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ds01.core import kinds, units
from ds01.core.keys import KEYS

MEANT = [
    (units.parse_size, "0", 0),
    (units.parse_size, "1048576", 1048576),
    (units.parse_size, "512m", 512 * 1024**2),
    (units.parse_size, "32GB", 32 * 1024**3),
    (units.parse_size, "32GiB", 32 * 1024**3),
    (units.parse_size, "1.5G", 3 * 512 * 1024**2),
    (units.parse_size, " 0.5 g ", 512 * 1024**2),
    (units.parse_size, "1024p", 1024**6),
    (units.parse_rate, "100M", 100_000_000),
    (units.parse_rate, "5MB/s", 5_000_000),
    (units.parse_rate, "64MiB", 64 * 1024**2),
    (units.parse_rate, "64MiB/s", 64 * 1024**2),
    (units.parse_rate, "4096", 4096),
    (units.parse_percent, "400%", 400.0),
    (units.parse_percent, "12.25 %", 12.25),
    (units.parse_duration, "48h", 172800),
    (units.parse_duration, "0.25h", 900),
    (units.parse_duration, "1d 12h", 129600),
    (units.parse_duration, "1d12h30min15s", 131415),
    (units.parse_duration, "30m", 1800),
    (units.parse_duration, "2w", 1209600),
    (units.parse_duration, "90sec", 90),
    (units.parse_count, "128", 128),
    (units.parse_count, "-1", -1),
    (units.parse_number, "0.5", 0.5),
    (units.parse_bool, "Yes", True),
    (units.parse_bool, "OFF", False),
]


@pytest.mark.parametrize(("parse", "text", "value"), MEANT)
def test_a_text_means_one_number(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (units.parse_size, "5ib"),
        (units.parse_size, "1025p"),
        (units.parse_rate, "5b"),
        (units.parse_rate, "5Mbit"),
        (units.parse_rate, "5 Mps"),
        (units.parse_percent, "12.345%"),
        (units.parse_percent, "012%"),
        (units.parse_duration, ""),
        (units.parse_duration, "12"),
        (units.parse_duration, "1h 30"),
        (units.parse_duration, "101000w"),
        (units.parse_duration, "1mi"),
        (units.parse_count, "1.0"),
        (units.parse_number, "1e3"),
        (units.parse_number, "inf"),
        (units.parse_bool, "1"),
        (units.parse_bool, "y"),
    ],
)
def test_what_could_mean_two_things_or_nothing_is_refused(
    parse: Callable[[str], Any], text: str
) -> None:
    with pytest.raises(units.UnitError):
        parse(text)


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (units.show_size, 0, "0 B"),
        (units.show_size, 8 * 1024**3, "8 GiB"),
        (units.show_size, 3 * 512 * 1024**2, "1.5 GiB"),
        (units.show_size, 1024**3 + 1, "1 GiB (1073741825 B)"),
        (units.show_size, 2 * 1024**5, "2 PiB"),
        (units.show_rate, 100_000_000, "100 MB/s"),
        (units.show_rate, 999, "999 B/s"),
        (units.show_rate, 4096, "4.1 kB/s (4096 B)"),
        (units.show_duration, 0, "0s"),
        (units.show_duration, 129600, "1d 12h"),
        (units.show_duration, 90, "1min 30s"),
        (units.show_number, 0.5, "0.5"),
        (units.show_number, 4.0, "4"),
        (units.show_number, 100, "100"),
        (units.show_number, 12345678.0, "12345678"),
        (units.show_number, 12800.55, "12800.55"),
    ],
)
def test_a_number_is_shown_with_its_unit(show: Callable[[Any], str], value: Any, text: str) -> None:
    assert show(value) == text


def test_a_key_without_a_value_is_shown_as_unlimited_or_never() -> None:
    assert KEYS["memory_max"].show(None) == "unlimited"
    assert KEYS["max_runtime"].show(None) == "never"
    assert KEYS["mounts"].show([]) == "none"
    assert KEYS["mounts"].show(["/data:ro", "/scratch:rw"]) == "/data:ro, /scratch:rw"


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("memory_max", 64 * 1024**2, True),
        ("memory_max", None, True),
        ("memory_max", "64m", False),
        ("memory_max", True, False),
        ("memory_max", 64.5, False),
        ("memory_max", 1, False),
        ("cpu_quota", 50, True),
        ("cpu_quota", float("nan"), False),
        ("cpu_quota", float("inf"), False),
        ("allow_full_gpu", True, True),
        ("allow_full_gpu", 1, False),
        ("allow_full_gpu", None, False),
        ("mounts", ["/data:ro"], True),
        ("mounts", "/data:ro", False),
        ("mounts", [1], False),
        ("visibility", "all", True),
        ("visibility", 3, False),
    ],
)
def test_a_value_read_back_is_of_its_kind(key: str, value: Any, good: bool) -> None:
    assert KEYS[key].accepts(value) is good


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.MOUNTS, "/data/:ro", "/data:ro"),
        (kinds.MOUNTS, "/:ro", "/:ro"),
        (kinds.MOUNTS, "//data/./x:rw", "/data/x:rw"),
        (kinds.PORTS, "8080", "8080"),
        (kinds.PORTS, "8000-8999", "8000-8999"),
        (kinds.VISIBILITY, "own", "own"),
        (kinds.DEVICES, "/dev/fuse", "/dev/fuse"),
        (kinds.CAPABILITIES, "SYS_PTRACE", "SYS_PTRACE"),
        (kinds.NAMESPACES, "network", "network"),
    ],
)
def test_an_access_word_has_one_spelling(kind: kinds.Kind, text: str, value: str) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kinds.MOUNTS, "data:ro"),
        (kinds.MOUNTS, "/data"),
        (kinds.MOUNTS, "/data/..:ro"),
        (kinds.MOUNTS, "/data/../etc:rw"),
        (kinds.MOUNTS, "/data\n/etc:rw"),
        (kinds.MOUNTS, "/data:rx"),
        (kinds.PORTS, "0"),
        (kinds.PORTS, "65536"),
        (kinds.PORTS, "9000-8000"),
        (kinds.PORTS, "+80"),
        (kinds.PORTS, "80-"),
        (kinds.VISIBILITY, "every"),
        (kinds.DEVICES, "fuse"),
        (kinds.DEVICES, "/dev/a b"),
        (kinds.CAPABILITIES, "sys_admin"),
        (kinds.NAMESPACES, "user"),
    ],
)
def test_an_access_word_of_another_form_is_refused(kind: kinds.Kind, text: str) -> None:
    with pytest.raises(units.UnitError):
        kind.parse(text)
