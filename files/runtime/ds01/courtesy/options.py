# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of ``docker run`` and ``docker create``: which are options, and whether a GPU is asked for.

Pure. The client reads them with pflag (https://pkg.go.dev/github.com/spf13/pflag), and stops at the first
word that is no option: the image. So do we; a word that we are not sure of ends the courtesy, not the
command.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

LEASE_DEVICE = "ds01.local/lease="
VENDOR_DEVICE = "nvidia.com/gpu="
ALL = -1

# docker run of client 26.1 (cli/command/container/opts.go, run.go); those that --help hides included.
# Newer ones that take a value: --use-api-socket (28) takes none and stands with the switches.
_VALUES = """
    add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns
    cidfile cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus
    cpuset-cpus cpuset-mems detach-keys device device-cgroup-rule device-read-bps device-read-iops
    device-write-bps device-write-iops dns dns-opt dns-option dns-search domainname entrypoint env env-file
    expose gpus group-add health-cmd health-interval health-retries health-start-interval
    health-start-period health-timeout hostname io-maxbandwidth io-maxiops ip ip6 ipc isolation
    kernel-memory label label-file link link-local-ip log-driver log-opt mac-address memory
    memory-reservation memory-swap memory-swappiness mount name net net-alias network network-alias
    oom-score-adj pid pids-limit platform publish pull restart runtime security-opt shm-size stop-signal
    stop-timeout storage-opt sysctl tmpfs ulimit user userns uts volume volume-driver volumes-from workdir
"""
_SWITCHES = """
    detach disable-content-trust help init interactive no-healthcheck oom-kill-disable privileged
    publish-all quiet read-only rm sig-proxy tty use-api-socket
"""
_SHORT = {
    "a": "attach",
    "c": "cpu-shares",
    "d": "detach",
    "e": "env",
    "h": "hostname",
    "i": "interactive",
    "l": "label",
    "m": "memory",
    "p": "publish",
    "P": "publish-all",
    "q": "quiet",
    "t": "tty",
    "u": "user",
    "v": "volume",
    "w": "workdir",
}
TAKES_VALUE = frozenset(_VALUES.split())
SWITCHES = frozenset(_SWITCHES.split())
_GLOBAL_VALUES = frozenset(
    {"--config", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"}
)
_COMMANDS = frozenset({"run", "create"})


@dataclass(frozen=True)
class Option:
    """An option as it was written.

    :param name: its long name.
    :param value: None for a switch.
    :param begin: index of its first word.
    :param end: index behind its last word.
    """

    name: str
    value: str | None
    begin: int
    end: int


@dataclass(frozen=True)
class GpuWish:
    """GPUs that a command asks for.

    :param count: how many; :data:`ALL` for as many as may be.
    :param devices: those that are named, else empty.
    :param options: where it says so.
    """

    count: int = 1
    devices: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()


class _NotSure(Exception):
    """The words are not understood: the client is to judge them."""


def gpu_wish(words: Sequence[str]) -> GpuWish | None:
    """What GPUs a command line asks for; None where it asks for none, or not in a way we know.

    :param words: what follows ``docker``.
    """
    try:
        start = _first_option(words)
        options = list(_options(words, start))
        if not options or options[-1].end >= len(words):
            return None  # no image: the client says so
        if any(option.name == "help" for option in options):
            return None
        return _wish(options)
    except (_NotSure, ValueError, csv.Error):
        return None


def with_lease(words: Sequence[str], wish: GpuWish, lease: str) -> list[str]:
    """The words with the lease in place of what asked for GPUs."""
    removed = {number for option in wish.options for number in range(option.begin, option.end)}
    place = min(removed)
    device = f"--device={LEASE_DEVICE}{lease}"
    return [
        device if number == place else word
        for number, word in enumerate(words)
        if number == place or number not in removed
    ]


def _first_option(words: Sequence[str]) -> int:
    """The index behind ``run``, ``create``, ``container run`` or ``container create``."""
    number = 0
    while number < len(words) and words[number].startswith("-"):
        number += 2 if words[number] in _GLOBAL_VALUES else 1
    if words[number : number + 1] == ["container"]:
        number += 1
    if number >= len(words) or words[number] not in _COMMANDS:
        raise _NotSure
    return number + 1


def _options(words: Sequence[str], start: int) -> Iterator[Option]:
    """The options before the image."""
    number = start
    while number < len(words):
        word = words[number]
        if word == "--":
            yield Option("--", None, number, number + 1)
            return
        if not word.startswith("-") or word == "-":
            return
        found = _long(words, number) if word.startswith("--") else _cluster(words, number)
        yield from found
        number = found[-1].end


def _long(words: Sequence[str], number: int) -> list[Option]:
    name, equals, value = words[number][2:].partition("=")
    if name in SWITCHES:
        return [Option(name, value if equals else None, number, number + 1)]
    if name not in TAKES_VALUE:
        raise _NotSure
    if equals:
        return [Option(name, value, number, number + 1)]
    return [_with_next(name, words, number)]


def _cluster(words: Sequence[str], number: int) -> list[Option]:
    """``-it``, ``-p80:80``, ``-p=80:80``, ``-itv /a:/b``."""
    letters = words[number][1:]
    found: list[Option] = []
    for place, letter in enumerate(letters):
        name = _SHORT.get(letter)
        if name is None:
            raise _NotSure
        rest = letters[place + 1 :]
        if name in TAKES_VALUE:
            found.append(
                Option(name, rest.removeprefix("="), number, number + 1)
                if rest
                else _with_next(name, words, number)
            )
            return found
        if rest.startswith("="):
            found.append(Option(name, rest[1:], number, number + 1))
            return found
        found.append(Option(name, None, number, number + 1))
    return found


def _with_next(name: str, words: Sequence[str], number: int) -> Option:
    if number + 1 >= len(words):
        raise _NotSure
    return Option(name, words[number + 1], number, number + 2)


def _wish(options: Sequence[Option]) -> GpuWish | None:
    gpus = [option for option in options if option.name == "gpus"]
    devices = [o for o in options if o.name == "device" and o.value is not None]
    if any(LEASE_DEVICE in str(option.value) for option in devices):
        return None  # who names a lease has one
    vendor = [option for option in devices if str(option.value).startswith(VENDOR_DEVICE)]
    if len(gpus) == 1 and not vendor:
        wish = parse_gpus(str(gpus[0].value))
        return replace(wish, options=tuple(gpus)) if wish else None
    if vendor and not gpus:
        names = tuple(str(option.value).removeprefix(VENDOR_DEVICE) for option in vendor)
        if "all" in names:
            return GpuWish(ALL, (), tuple(vendor))
        return GpuWish(len(names), names, tuple(vendor))
    return None


def parse_gpus(value: str) -> GpuWish | None:
    """The value of ``--gpus``, as the client reads it (opts/gpus.go): ``all``, ``2``, ``device=0``.

    :returns: None where it asks for no GPU, or for more than a lease can say.
    :raises ValueError: it is no such value.
    """
    rows = list(csv.reader([value], strict=True))
    if len(rows) != 1 or not rows[0]:
        raise ValueError(value)
    count: int | None = None
    devices: tuple[str, ...] = ()
    for field in rows[0]:
        key, equals, text = field.partition("=")
        if not equals:
            key, text = "count", field
        if key == "count":
            count = ALL if text == "all" else int(text)
        elif key == "device":
            devices = tuple(text.split(","))
        elif not (key == "driver" and text in ("", "nvidia")):
            return None  # capabilities or options of the driver's own: not ours to leave out
    if devices:
        return None if count is not None else GpuWish(len(devices), devices)
    count = 1 if count is None else count
    return GpuWish(count) if count == ALL or count > 0 else None
