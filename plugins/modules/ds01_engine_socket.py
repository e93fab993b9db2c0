#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_engine_socket
short_description: Moves the engine's socket behind the gateway's door, or back
version_added: 0.1.0
description:
  - With O(state=behind) the engine listens on C(/run/ds01/engine.sock), which is root's, and the gateway
    on C(/run/docker.sock). With O(state=plain) the engine has its plain socket again.
  - The engine restarts under live-restore, so running containers keep their processes; each is compared
    before and after. Callers wait in the door's socket meanwhile.
  - A move that fails is taken back, and the message says why. A run that was killed anywhere is finished
    by the next one.
  - What changed is an event of type C(gateway.adopted) or C(gateway.removed) in the host's event log.
  - Refuses, before anything changes, an engine that is told of another socket than docker.socket's or
    listens on the network, containers that live-restore would not keep, and a socket of containerd or the
    like that every user can write to.
  - The units of the gateway have to be laid down before O(stage=apply).
options:
  state:
    description: Where the engine is to listen.
    type: str
    choices: [behind, plain]
    default: behind
  stage:
    description:
      - V(apply) moves it.
      - V(check) only refuses what would have to be refused, and names in RV(warnings_found) what stays open.
    type: str
    choices: [check, apply]
    default: apply
  group:
    description: Group whose members may knock at the door.
    type: str
    default: docker
attributes:
  check_mode:
    description: Tells what would change. Works on a host that was never provisioned.
    support: full
  diff_mode:
    description: Shows the drop-in of docker.socket.
    support: full
  idempotent:
    description: An engine that listens where it should is left alone.
    support: full
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Move the engine behind the door
  ds01.infra.ds01_engine_socket:
    state: behind

- name: Give the host its plain socket back
  ds01.infra.ds01_engine_socket:
    state: plain
"""

RETURN = r"""
actions:
  description:
    - What was done, in order (in check mode, what would be).
    - C(write) replaces or removes the drop-in, C(move) restarts the engine with it, C(reload) and C(renew)
      put changed units into effect, C(open) and C(serve) start the door, C(enable) makes it start at boot;
      C(sweep), C(close), C(drain) and C(disable) undo them.
  returned: success
  type: list
  elements: str
dead_sockets:
  description:
    - Running containers that mount the engine's socket or a directory above it, if the engine moves.
    - The socket that they have is dead from then on, until they are restarted.
  returned: success
  type: list
  elements: str
warnings_found:
  description: What the run goes on with although somebody should look at it.
  returned: success
  type: list
  elements: str
streams_left:
  description: Whether the pump still carries streams, and so runs on until the last one ends.
  returned: success
  type: bool
refusals:
  description: Every reason to stop, with what, where and remedy.
  returned: failure
  type: list
  elements: dict
"""

import grp
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _engine_shell as shell
from ..module_utils._core import engine_socket as domain
from ..module_utils._core.engine_config import parse_json_object
from ..module_utils._core.engine_socket_apply import Move
from ..module_utils._host import engine_socket as adapter
from ..module_utils._host.engine import Engine
from ..module_utils._host.engine_host import read_text

DAEMON_JSON = "/etc/docker/daemon.json"
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["behind", "plain"], "default": "behind"},
    "stage": {"type": "str", "choices": ["check", "apply"], "default": "apply"},
    "group": {"type": "str", "default": "docker"},
}


class Host(adapter.SocketHost):
    """The adapter, with the engine's answers in the domain's words."""

    def running(self, path: str) -> list[Any]:
        return [shell.to_domain(container) for container in Engine(path).running()]


def look(module: AnsibleModule, host: Host) -> domain.Found:
    """The host as it is; starts nothing.

    :raises EngineError: the engine runs and does not answer.
    """
    socket = host.units.show(host.socket, "LoadState", "Listen", "FragmentPath", "DropInPaths")
    listens = host.listens()
    place = domain.ENGINE if domain.ENGINE in listens else domain.DOOR
    seen = shell.look(module.run_command, place, ())
    units = host.units.states((*domain.SERVED, domain.PUMP_SERVICE, domain.ENGINE_SOCKET))
    told = parse_json_object(read_text(DAEMON_JSON) or "", DAEMON_JSON).get("hosts")
    drop_ins = " ".join(socket["DropInPaths"]).split()
    files = (*seen.facts.unit_files, *socket["FragmentPath"], *drop_ins)
    return domain.Found(
        drop_in=host.read(),
        socket_unit=socket["LoadState"] == ["loaded"],
        unit_files=tuple(path for path in files if path != host.drop_in),
        socket_listens=tuple(socket["Listen"]),
        argv=seen.facts.argv,
        hosts=tuple(map(str, told)) if isinstance(told, list) else None,
        engine_active=seen.facts.active,
        engine_listens=listens,
        engine_file=os.path.lexists(domain.ENGINE),
        active={name: unit.active for name, unit in units.items()},
        enabled=frozenset(name for name, unit in units.items() if unit.enabled),
        stale=frozenset(name for name, unit in units.items() if unit.stale),
        live_restore=seen.facts.live_restore if seen.facts.active else None,
        swarm=seen.facts.swarm,
        containers=seen.facts.containers,
        others=tuple(domain.OtherSocket(*each) for each in adapter.other_sockets()),
        door_group=_group_exists(module.params["group"]),
    )


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def move(module: AnsibleModule) -> dict[str, Any]:
    """Look, refuse, and in earnest carry out."""
    wanted = module.params["state"]
    host = Host(module.run_command, domain.DROP_IN)
    found = look(module, host)
    # A check of a new host meets an engine that only an earlier role of the same play would bring.
    hypothetical = module.check_mode and not os.path.exists("/etc/ds01/engine.json")
    problems = [] if hypothetical else domain.check(found, wanted)
    if problems:
        shell.refuse(module, problems)
    todo = domain.steps(found, wanted)
    dead = domain.with_socket(found.containers)
    notes = domain.warnings(found, wanted)
    earnest = module.params["stage"] == "apply"
    if earnest and not module.check_mode and todo:
        Move(host).run(found, wanted)
        kind = "gateway.adopted" if wanted == domain.BEHIND else "gateway.removed"
        details = {"actions": list(todo), "dead_sockets": [str(each) for each in dead]}
        shell.record(kind, "ds01_engine_socket", details)
    if not earnest:
        for note in notes:
            module.warn(note)
    text = domain.drop_in_text() if wanted == domain.BEHIND else ""
    left = wanted == domain.PLAIN and host.units.ok("is-active", "--quiet", domain.PUMP_SERVICE)
    return {
        "changed": earnest and bool(todo),
        "actions": list(todo),
        "dead_sockets": [str(each) for each in dead] if domain.MOVE in todo else [],
        "warnings_found": notes,
        "streams_left": left,
        "diff": {
            "before": found.drop_in or "",
            "after": text,
            "before_header": domain.DROP_IN,
            "after_header": domain.DROP_IN,
        },
    }


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = move(module)
    except shell.ERRORS as error:
        shell.fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
