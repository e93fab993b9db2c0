# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a process is, as its cgroup tells: see :mod:`.callers`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from . import names

_UNIT = re.compile(r"[^/:]+\.(service|scope|slice|socket|mount|swap)")
_SCOPE = re.compile(r"docker-([0-9a-f]{64})\.scope")
_LOGIN = re.compile(r"user-(0|[1-9][0-9]{0,9})\.slice")
_MANAGER = re.compile(r"user@(0|[1-9][0-9]{0,9})\.service")
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# Names that engines and builders give to cgroups of what they run.
_FOREIGN = re.compile(
    r"(docker|containerd|cri-containerd|nerdctl|libpod|crio|cri-o|buildkit|buildkitd|kubepods|lxc"
    r"|podman|machine)([-_.:/].*)?"
)
# Units whose processes are the host's own; what an engine keeps below its service is not.
_ENGINE_UNITS = frozenset({"docker.service", "containerd.service", "buildkit.service"})
# BuildKit joins an id of 25 letters and digits to the cgroup parent of a build.
_BUILD = re.compile(r"buildkit|.*:[0-9a-z]{20,}")

ON_HOST = "Call docker in a login on the host"
IN_SLICE = (
    "Start the container in your slice (docker run --cgroup-parent ds01-GROUP-USER.slice), or call "
    "docker on the host"
)


@dataclass(frozen=True)
class Refusal:
    """Why nobody can be told to ask.

    :param rule: name of the rule, for the log.
    :param container: id of the container that the peer is in for certain; a record may tell more of it.
    """

    what: str
    remedy: str
    rule: str = "identity"
    container: str = ""


@dataclass(frozen=True)
class Place:
    """What a cgroup tells of the processes in it.

    :param manager: the user whose manager's they are; negative elsewhere.
    :param owner: name of the user in whose slice the container lies; empty on the host.
    :param container: its id.
    :param slice: the name of that slice.
    :param unit: the processes lie in a unit itself, not in a group that a service made below it.
    :param contained: a name in the path looks like a container's.
    """

    manager: int = -1
    owner: str = ""
    container: str = ""
    slice: str = ""
    unit: bool = True
    contained: bool = False


_HOST = Place()


@lru_cache(maxsize=4096)
def place_of(cgroup: str) -> Place | Refusal:
    """What a cgroup tells of who is in it.

    :param cgroup: path below the cgroup root, as in ``/proc/<pid>/cgroup``.
    """
    parts = cgroup.split("/")[1:]
    if cgroup == "/init.scope":
        return _HOST
    if cgroup[:1] != "/" or any(part in ("", ".", "..") for part in parts):
        return _nowhere()
    if any(_BUILD.fullmatch(part) for part in parts):
        return Refusal("it runs in a step of a build", ON_HOST, "identity.build")
    if parts[0] == names.ROOT:
        return _in_ds01(parts)
    if parts[0] == "user.slice" and len(parts) > 2:
        login, manager = _LOGIN.fullmatch(parts[1]), _MANAGER.fullmatch(parts[2])
        if login and manager and login[1] == manager[1]:
            contained = any(_foreign(part) for part in parts[3:])
            return Place(int(login[1]), unit=_is_unit(parts[-1]), contained=contained)
    return _on_host(parts)


def _in_ds01(parts: list[str]) -> Place | Refusal:
    """``ds01.slice/ds01-<group>.slice/ds01-<group>-<user>.slice/docker-<id>.scope``, and below."""
    if parts[1:2] == [names.UNATTRIBUTED]:
        what = (
            "it runs in a container that is in no user's slice, so that nobody can tell whose it is"
        )
        inside = _SCOPE.fullmatch(parts[2]) if len(parts) > 2 else None
        return Refusal(what, IN_SLICE, "identity.unattributed", inside[1] if inside else "")
    scope = _SCOPE.fullmatch(parts[3]) if len(parts) > 3 else None
    role = names.classify(parts[2]) if len(parts) > 2 else names.SliceRole("other")
    if (
        scope is None
        or role.kind != "user"
        or names.group_name_fault(role.group)
        or names.user_name_fault(role.user, role.group)
        # Each owner has one spelling, and the levels fit together.
        or parts[1] != names.group_slice(role.group)
        or parts[2] != names.user_slice(role.group, role.user)
    ):
        what = "it runs in a slice of containers, but in no container of a user"
        return Refusal(what, IN_SLICE, "identity.unattributed")
    return Place(owner=role.user, container=scope[1], slice=parts[2], contained=True)


def _on_host(parts: list[str]) -> Place | Refusal:
    below_engine = parts[0] == "system.slice" and parts[1:2] and parts[1] in _ENGINE_UNITS
    if any(_foreign(part) for n, part in enumerate(parts) if not (n == 1 and below_engine)):
        return _contained("it runs in a container")
    if parts[0] not in ("system.slice", "user.slice") or any(":" in part for part in parts):
        return _nowhere()
    if len(parts) < 2 or not _is_unit(parts[1]):
        return _nowhere()
    if parts[0] == "user.slice" and not (
        _LOGIN.fullmatch(parts[1])
        and len(parts) > 2
        and _is_unit(parts[2])
        and _MANAGER.fullmatch(parts[2]) is None
    ):
        return _nowhere()
    if below_engine and len(parts) > 2:
        return _contained("it runs below the engine")
    return _HOST if _is_unit(parts[-1]) else Place(unit=False)


def _is_unit(part: str) -> bool:
    return _UNIT.fullmatch(part) is not None


def _foreign(part: str) -> bool:
    return _FOREIGN.fullmatch(part) is not None or _CONTAINER_ID.search(part) is not None


def _contained(what: str) -> Refusal:
    return Refusal(f"{what} that is in no user's slice", IN_SLICE, "identity.container")


def _nowhere() -> Refusal:
    return Refusal("its place on this host is not known", ON_HOST, "identity.place")
