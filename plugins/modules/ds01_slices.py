#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_slices
short_description: Make a host's systemd slices as the limits say
version_added: 0.1.0
author:
  - ds01.infra maintainers (@ds01)
description:
  - Writes the drop-ins of C(ds01.slice), of each group, of each override and of the login slices,
    and sets the values live in the cgroups of running containers, without a daemon-reload.
  - Group limits live in prefix drop-ins, so a user who appears tomorrow is limited without another run.
  - What is no longer in the limits is removed from the host and set back in the kernel.
  - If a step fails, the host goes on with the limits it had.
attributes:
  check_mode:
    support: full
    description: Shows the plan and changes nothing; works on a host that was never provisioned.
  diff_mode:
    support: full
    description: Shows every limit that changes, and every drop-in.
  idempotent:
    support: full
    description: Files and kernel values are compared; equal ones are left alone.
options:
  limits:
    description:
      - The checked limits, as the lookup P(ds01.infra.limits#lookup) returns them.
    type: dict
    required: true
  io_devices:
    description:
      - Block devices that the IO limits count for, such as V(/dev/nvme0n1).
      - With none, the disks under O(io_paths) are found.
    type: list
    elements: path
    default: []
  io_paths:
    description:
      - Paths whose disks the IO limits count for.
      - With none, the engine's data (C(data-root) in its C(daemon.json), else C(/var/lib/docker)),
        C(/home), and every directory that holds the home of a local account.
    type: list
    elements: path
    default: []
  preflight_only:
    description:
      - Only compare the limits with what the host has and can enforce; change nothing.
    type: bool
    default: false
seealso:
  - name: systemd.resource-control(5)
    description: The settings of a slice.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html
"""

EXAMPLES = r"""
- name: Apply the limits of the site
  ds01.infra.ds01_slices:
    limits: "{{ lookup('ds01.infra.limits', inventory_dir ~ '/limits.yml') }}"

- name: See what a host could not enforce
  ds01.infra.ds01_slices:
    limits: "{{ lookup('ds01.infra.limits', inventory_dir ~ '/limits.yml') }}"
    preflight_only: true
"""

RETURN = r"""
files:
  description: Drop-ins on the host after the run, and how many were written and removed.
  returned: success
  type: dict
  sample: {"total": 12, "written": 1, "removed": 0}
live:
  description: Slices whose kernel values were set, with each value before and after.
  returned: success
  type: list
  elements: dict
  sample: [{"unit": "ds01-student-alice.slice", "changes": ["memory_max: 256 MiB -> 512 MiB"]}]
io_devices:
  description: The disks that the IO limits count for.
  returned: success
  type: list
  elements: str
  sample: ["/dev/vda"]
"""

from datetime import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ds01.infra.plugins.module_utils._core import enforce, gather, limits
from ansible_collections.ds01.infra.plugins.module_utils._core.errors import Ds01Error
from ansible_collections.ds01.infra.plugins.module_utils._host.host import Host


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "limits": {"type": "dict", "required": True},
            "io_devices": {"type": "list", "elements": "path", "default": []},
            "io_paths": {"type": "list", "elements": "path", "default": []},
            "preflight_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module, Host())
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


def run(module: AnsibleModule, host: gather.HostPort) -> dict[str, Any]:
    """Gather, plan, and apply unless only asked.

    :raises Ds01Error: the limits do not fit the host, or a step failed.
    """
    params = module.params
    wanted = limits.from_json(params["limits"], "the limits parameter")
    io = gather.IoSettings(tuple(params["io_devices"]), tuple(params["io_paths"]))
    found = gather.gather(wanted, io, host, datetime.now().astimezone())
    found.refuse_errors()
    result: dict[str, Any] = {"changed": False, "io_devices": [d.node for d in found.site.devices]}
    if params["preflight_only"]:
        for warning in found.warnings:
            module.warn(warning)
        return result
    if module.check_mode:
        outcome = enforce.look(found, io, host, enforce.Paths())
    else:
        outcome = enforce.enforce(found, io, host, "ds01_slices")
    for warning in outcome.warnings:
        module.warn(warning)
    plan = outcome.plan
    files = {"total": outcome.total_files, "written": len(plan.write), "removed": len(plan.remove)}
    return {
        **result,
        "changed": outcome.changed,
        "files": files,
        "live": outcome.live_rows(),
        "diff": outcome.diff(),
    }


if __name__ == "__main__":
    main()
