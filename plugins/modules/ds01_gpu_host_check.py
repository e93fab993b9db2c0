#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gpu_host_check
short_description: Refuses a host whose GPUs could be had without a lease
version_added: 0.1.0
description:
  - Looks at the NVIDIA driver (through NVML), the NVIDIA container toolkit and the Docker engine, and fails
    with every reason why GPUs cannot be leased on this host, each with its place and what to do.
  - Changes nothing and starts nothing.
  - NVML is read through the runtime of this collection. Without the runtime the module fails; in check
    mode it warns and RV(ready) is false.
options:
  required:
    description:
      - Whether a host without GPUs is a fault. Otherwise RV(ready) is false there.
      - A driver that is there and does not answer is a fault in any case.
    type: bool
    default: true
  minimum_driver:
    description: Least version of the driver.
    type: str
    default: "535"
  minimum_toolkit:
    description: Least version of the NVIDIA container toolkit.
    type: str
    default: 1.17.8
  cdi_command:
    description:
      - Program and arguments that write the vendor's CDI spec.
      - With a program other than C(nvidia-ctk) the toolkit may be absent.
    type: list
    elements: str
    default: [nvidia-ctk, cdi, generate]
  cdi_path:
    description: Where the vendor's CDI spec is. The engine has to read specs from its directory.
    type: path
    default: /etc/cdi/nvidia.yaml
  admin_group:
    description: Unix group that has to be there; empty for none.
    type: str
    default: ""
  socket:
    description:
      - The engine's unix socket.
      - Without it, C(/run/ds01/engine.sock) is taken where it exists, else C(/run/docker.sock).
    type: path
attributes:
  check_mode:
    description: Reads only. Works on a host that was never provisioned.
    support: full
  diff_mode:
    description: Reads only.
    support: none
  idempotent:
    description: Reads only.
    support: full
seealso:
  - module: ds01.infra.ds01_mig_layout
  - module: ds01.infra.ds01_gpu_cdi
  - name: NVIDIA Container Toolkit
    description: Installation and configuration.
    link: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: See whether GPUs can be leased on a host
  ds01.infra.ds01_gpu_host_check:
    minimum_driver: "550"

- name: Accept a host without GPUs
  ds01.infra.ds01_gpu_host_check:
    required: false
  register: gpus
"""

RETURN = r"""
ready:
  description: Whether there are GPUs to lease.
  returned: success
  type: bool
  sample: true
state:
  description:
    - State of the driver, V(ready), V(driver_absent) or V(driver_restarting); V(unknown) without the runtime.
  returned: always
  type: str
  sample: ready
reason:
  description: NVML's words where the driver is not ready.
  returned: success
  type: str
  sample: ""
driver_version:
  description: Version of the driver; empty without one.
  returned: always
  type: str
  sample: 550.54.15
toolkit:
  description: Installed packages of the NVIDIA container toolkit with their versions.
  returned: always
  type: dict
  sample:
    nvidia-container-toolkit: 1.17.8-1
slots:
  description: Indices of what can be leased, GPUs and MIG devices.
  returned: always
  type: list
  elements: str
  sample: ["0", "1", "2:0"]
refusals:
  description: Every reason why GPUs cannot be leased here.
  returned: failure
  type: list
  elements: dict
  contains:
    level:
      description: Always V(error).
      type: str
    what:
      description: The fault.
      type: str
    where:
      description: Its place.
      type: str
    remedy:
      description: What to do.
      type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _gpu_host_shell as shell
from ..module_utils._core import gpu_host
from ..module_utils._core.gpu_host import Needs
from ..module_utils._engine_shell import refuse
from ..module_utils._respawn import into_runtime


def unseen(module: AnsibleModule) -> dict[str, Any]:
    """Without the runtime: normal before the first run, a fault in one."""
    result = {"state": "unknown", "driver_version": "", "toolkit": {}, "slots": []}
    if not module.check_mode:
        module.fail_json(msg=shell.NO_RUNTIME, **result)
    module.warn("the GPUs cannot be looked at before the role runtime has run on this host")
    return {**result, "ready": False, "reason": ""}


def check(module: AnsibleModule) -> dict[str, Any]:
    """Look and judge; fails with the refusals."""
    given = module.params
    needs = Needs(
        driver=given["minimum_driver"],
        toolkit=given["minimum_toolkit"],
        cdi_command=given["cdi_command"],
        cdi_dir=os.path.dirname(given["cdi_path"]),
        required=given["required"],
        admin_group=given["admin_group"],
    )
    facts, inventory = shell.facts(module.run_command, given["socket"], needs.admin_group)
    result = {
        "state": facts.state,
        "driver_version": facts.driver,
        "toolkit": dict(facts.toolkit),
        "slots": [slot.index for slot in inventory.slots],
    }
    if problems := gpu_host.check(facts, needs):
        refuse(module, problems, **result)
    return {**result, "ready": not gpu_host.without_gpus(facts), "reason": facts.reason}


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "required": {"type": "bool", "default": True},
            "minimum_driver": {"type": "str", "default": "535"},
            "minimum_toolkit": {"type": "str", "default": "1.17.8"},
            "cdi_command": {
                "type": "list",
                "elements": "str",
                "default": ["nvidia-ctk", "cdi", "generate"],
            },
            "cdi_path": {"type": "path", "default": "/etc/cdi/nvidia.yaml"},
            "admin_group": {"type": "str", "default": ""},
            "socket": {"type": "path"},
        },
        supports_check_mode=True,
    )
    into_runtime()
    try:
        result = check(module) if shell.can_look() else unseen(module)
    except shell.ERRORS as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
