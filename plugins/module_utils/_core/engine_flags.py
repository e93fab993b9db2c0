# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dockerd's command line: which keys of daemon.json it occupies.

dockerd refuses to start when a directive is given both as a flag and in the file
(``findConfigurationConflicts`` in moby's ``daemon/config/config.go``), so a flag in the unit has to
be found before the file is written.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .engine_config import Json

#: Flags whose key in the file has another name.
_KEY_OF = {
    "add-runtime": "runtimes",
    "allow-nondistributable-artifacts": "allow-nondistributable-artifacts",
    "authorization-plugin": "authorization-plugins",
    "cdi-spec-dir": "cdi-spec-dirs",
    "default-address-pool": "default-address-pools",
    "default-network-opt": "default-network-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "feature": "features",
    "graph": "data-root",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
}
_SHORT = {
    "b": "bridge",
    "D": "debug",
    "G": "group",
    "g": "graph",
    "H": "host",
    "l": "log-level",
    "p": "pidfile",
    "s": "storage-driver",
}
_BOOLEAN = frozenset(
    {
        *("bridge-accept-fwmark", "cri-containerd", "debug", "experimental", "help", "icc", "init"),
        *("ip-forward", "ip-forward-no-drop", "ip-masq", "ip6tables", "iptables", "ipv6"),
        *("live-restore", "no-new-privileges", "raw-logs", "rootless", "selinux-enabled"),
        *("tls", "tlsverify", "userland-proxy", "validate", "version"),
    }
)
#: What dockerd merges instead of refusing.
_MERGED = frozenset({"runtimes"})


@dataclass(frozen=True)
class Flag:
    """One flag of dockerd's command line.

    :param key: the key of daemon.json that it occupies.
    :param text: as it was written, for the message.
    """

    key: str
    value: str
    text: str


def parse_flags(argv: Sequence[str]) -> list[Flag]:
    """Read dockerd's arguments (without the program's own name)."""
    flags: list[Flag] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            short, rest = name[:1], name[1:]
            name, value, equals = _SHORT.get(short, short), rest + equals + value, rest or equals
            value = value.removeprefix("=")
        if name in _BOOLEAN:
            value = value or "true"
        elif not equals and words:
            value = words.pop(0)
            word = f"{word} {value}"
        flags.append(Flag(_KEY_OF.get(name, name), value, word))
    return flags


def conflicts(flags: Iterable[Flag], daemon: Json) -> list[Flag]:
    """The flags whose directive daemon.json gives too."""
    return [flag for flag in flags if flag.key in daemon and flag.key not in _MERGED]


_VARIABLE = re.compile(r"\$\{(?P<braced>\w+)\}|\$(?P<plain>\w+)")


def expand_arguments(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Replace variables in a unit's command line as systemd.service(5) does.

    ``$NAME`` as a word of its own is split into words, ``${NAME}`` stays one word.
    """
    result: list[str] = []
    for word in words:
        if match := re.fullmatch(r"\$(\w+)", word):
            result.extend(shlex.split(environment.get(match[1], "")))
        else:
            result.append(
                _VARIABLE.sub(lambda m: environment.get(m["braced"] or m["plain"], ""), word)
            )
    return result


def parse_environment_file(text: str) -> dict[str, str]:
    """Read an ``EnvironmentFile=`` (systemd.exec(5)): assignments, comments, quoted values."""
    found: dict[str, str] = {}
    for line in text.replace("\\\n", "").splitlines():
        line = line.strip()
        if not line or line[0] in "#;" or "=" not in line:
            continue
        name, _unused, value = line.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found
