#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gpu_guard
short_description: Keeps the GPUs of running containers through a daemon-reload
version_added: 0.1.0
description:
  - A container that got its GPU from NVIDIA's legacy hook loses it when systemd reloads its units, because
    systemd never heard of the devices that the hook allowed. Installing a package reloads units too.
  - This module finds such containers and tells systemd about exactly the nodes that they have, before
    anything on the host reloads; or it stops and names them.
  - Nobody gets a node here that he does not have. A node counts only if it is a bind mount of the host's
    devtmpfs (as the kernel's mountinfo says) and the kernel lets the container's cgroup use it now.
  - systemd forgets the permission together with the scope, when the container stops.
options:
  policy:
    description:
      - V(protect) adds the nodes to the container's scope with C(systemctl set-property --runtime) and
        verifies it.
      - V(stop) changes nothing and fails with the names of the containers.
      - A container that cannot be judged (a paused one) or protected is named, and the module fails, in
        both cases.
    type: str
    choices: [protect, stop]
    default: protect
  socket:
    description:
      - The engine's unix socket.
      - Without it, C(/run/ds01/engine.sock) is taken where it exists, else C(/run/docker.sock).
    type: path
attributes:
  check_mode:
    description: Tells which containers it would protect.
    support: full
  diff_mode:
    description: Shows the devices added to each scope.
    support: full
  idempotent:
    description: A protected container is left alone.
    support: full
seealso:
  - name: The loss of devices at a daemon-reload
    description: Issue of the NVIDIA container toolkit.
    link: https://github.com/NVIDIA/nvidia-container-toolkit/issues/48
  - module: ds01.infra.ds01_engine_info
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Make running GPU containers safe before anything reloads systemd
  ds01.infra.ds01_gpu_guard:

- name: Touch nothing while such containers run
  ds01.infra.ds01_gpu_guard:
    policy: stop
"""

RETURN = r"""
protected:
  description: The containers that were made safe, or would be in check mode.
  returned: always
  type: list
  elements: dict
  sample:
    - id: 4f0c3a5e
      name: training
      scope: docker-4f0c3a5e.scope
      nodes: [/dev/nvidia0, /dev/nvidiactl]
"""

import glob
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _engine_shell as shell
from ..module_utils._host.gpuguard import (
    AtRisk,
    GpuGuard,
    scopes,
)

REMEDY = "stop these containers in a maintenance window, or unpause the paused ones, and run again"


def running(module: AnsibleModule) -> list[tuple[str, str, int]]:
    """Id, name and first process of the running containers; by their scopes if the engine is down."""
    found = scopes()
    if not found:
        return []
    host = shell.look(module.run_command, module.params["socket"], ())
    if host.facts.active:
        return [(c.id, c.name, c.pid) for c in host.containers]
    return [(container_id, container_id[:12], pid) for container_id, pid in found]


def diff(risks: list[AtRisk]) -> list[dict[str, str]]:
    return [
        {
            "before_header": f"{risk.scope} ({risk.name})",
            "after_header": f"{risk.scope} ({risk.name})",
            "before": "",
            "after": "".join(f"DeviceAllow={node.device} rw  # {node}\n" for node in risk.nodes),
        }
        for risk in risks
    ]


def stop(module: AnsibleModule, risks: list[AtRisk], what: str) -> None:
    named = "; ".join(str(risk) for risk in risks)
    module.fail_json(
        msg=f"{what}: {named}. {REMEDY}", legacy_gpu=[risk.as_dict() for risk in risks]
    )


def guard(module: AnsibleModule) -> dict[str, Any]:
    guardian = GpuGuard(module.run_command)
    # A host without GPU nodes has nothing to lose, and needs no question to the engine.
    risks = guardian.find(running(module)) if glob.glob("/dev/nvidia*") else []
    if risks and module.params["policy"] == "stop":
        stop(module, risks, "a daemon-reload would take the GPU from running containers")
    if unknown := [risk for risk in risks if risk.unknown]:
        stop(module, unknown, "containers have GPU nodes and the kernel cannot be asked about them")
    if not module.check_mode:
        for risk in risks:
            if guardian.protect(risk):
                stop(module, [risk], "systemd did not accept a container's GPU nodes")
        if risks:
            protected = [risk.as_dict() for risk in risks]
            shell.record("gpu.legacy_protected", "ds01_gpu_guard", {"containers": protected})
    return {
        "changed": bool(risks),
        "protected": [risk.as_dict() for risk in risks],
        "diff": diff(risks),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "policy": {"type": "str", "choices": ["protect", "stop"], "default": "protect"},
            "socket": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = guard(module)
    except shell.ERRORS as error:
        shell.fail(module, error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
