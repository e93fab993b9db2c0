#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_engine_info
short_description: Reads the state of a host's Docker engine
version_added: 0.1.0
description:
  - Tells which engine a host has and what runs on it, with what matters before the engine or systemd
    is touched.
  - Starts nothing. An engine that is down is reported as down, although asking its socket would start it.
options:
  socket:
    description:
      - The engine's unix socket.
      - Without it, C(/run/ds01/engine.sock) is taken where it exists, else C(/run/docker.sock).
    type: path
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Reads only.
    support: none
  idempotent:
    description: Reads only.
    support: full
seealso:
  - module: ds01.infra.ds01_engine_config
  - module: ds01.infra.ds01_gpu_guard
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Look at the engine
  ds01.infra.ds01_engine_info:
  register: engine

- name: Show who could talk to the engine from inside a container
  ansible.builtin.debug:
    msg: "{{ engine.containers | selectattr('sockets') | map(attribute='name') }}"
"""

RETURN = r"""
installed:
  description: Whether dockerd is there.
  returned: always
  type: bool
  sample: true
version:
  description: Version of the installed engine; null without one.
  returned: always
  type: str
  sample: 26.1.5+dfsg1
active:
  description: Whether docker.service runs.
  returned: always
  type: bool
  sample: true
cgroup_driver:
  description: Cgroup driver in use; null while the engine is down.
  returned: always
  type: str
  sample: systemd
live_restore:
  description: Whether containers would live through a restart of the engine now.
  returned: always
  type: bool
  sample: true
swarm:
  description: State of swarm mode.
  returned: always
  type: str
  sample: inactive
data_root:
  description: Where the engine keeps images and containers; null while it is down.
  returned: always
  type: str
  sample: /var/lib/docker
containers:
  description: The running containers.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The container's id.
      type: str
    name:
      description: Its name.
      type: str
    pid:
      description: Its first process on the host.
      type: int
    cgroup_parent:
      description: As given at its creation; empty for the engine's default.
      type: str
    sockets:
      description: Bind mounts that hand it a socket of the engine or of this project.
      type: list
      elements: str
legacy_gpu:
  description: Containers that would lose their GPU when systemd reloads its units.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The container's id.
      type: str
    name:
      description: Its name.
      type: str
    scope:
      description: Its systemd unit.
      type: str
    nodes:
      description: The device nodes that systemd does not know of.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _engine_shell as shell
from ..module_utils._host.gpuguard import GpuGuard


def main() -> None:
    module = AnsibleModule(argument_spec={"socket": {"type": "path"}}, supports_check_mode=True)
    try:
        host = shell.look(module.run_command, module.params["socket"], ())
        running = [(c.id, c.name, c.pid) for c in host.facts.containers]
        risks = GpuGuard(module.run_command).find(running)
    except shell.ERRORS as error:
        shell.fail(module, error)
    facts = host.facts
    module.exit_json(
        changed=False,
        installed=facts.version is not None,
        version=facts.version,
        active=facts.active,
        cgroup_driver=facts.cgroup_driver,
        live_restore=facts.live_restore,
        swarm=facts.swarm,
        data_root=host.info.get("DockerRootDir"),
        containers=[
            {
                "id": container.id,
                "name": container.name,
                "pid": container.pid,
                "cgroup_parent": container.cgroup_parent,
                "sockets": list(container.sockets),
            }
            for container in facts.containers
        ],
        legacy_gpu=[risk.as_dict() for risk in risks],
    )


if __name__ == "__main__":
    main()
