#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gpu_settings
short_description: Lays down how GPUs are leased on a host
version_added: 0.1.0
description:
  - Writes C(/etc/ds01/gpu.json), which the helper daemon, the command C(ds01) and the modules of this
    collection read. The file is replaced in one step.
options:
  placement:
    description:
      - Which GPU a request gets where several would do.
      - V(spread) takes the GPU with the least leased first; V(pack) keeps whole GPUs free.
    type: str
    choices: [spread, pack]
    default: spread
  reservation_seconds:
    description: Seconds that a reserved GPU waits for its container.
    type: int
    default: 120
  reconcile_seconds:
    description: Seconds after which leases, containers and GPU processes are compared at the latest.
    type: int
    default: 60
  admin_group:
    description: Unix group whose members act for everybody; empty leaves that to root.
    type: str
    default: ""
  vendor_kind:
    description: Kind of the vendor's CDI devices.
    type: str
    default: nvidia.com/gpu
  watchers:
    description:
      - Names of containers that may have GPUs open without using them, such as an exporter of metrics.
      - Their GPUs are handed out. What such a container runs on a GPU makes it busy all the same.
    type: list
    elements: str
    default: []
  path:
    description: The file.
    type: path
    default: /etc/ds01/gpu.json
attributes:
  check_mode:
    description: Works on a host that was never provisioned.
    support: full
  diff_mode:
    description: Shows the file.
    support: full
  idempotent:
    description: An equal file is left alone.
    support: full
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Keep whole GPUs free for those who need one
  ds01.infra.ds01_gpu_settings:
    placement: pack
    admin_group: ds01-admins
"""

RETURN = r"""
settings:
  description: The content of the file.
  returned: success
  type: dict
  sample:
    schema: 1
    placement: spread
    reservation_seconds: 120
    reconcile_seconds: 60
    admin_group: ds01-admins
    vendor_kind: nvidia.com/gpu
    watchers: [dcgm-exporter]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.gpu_settings import SCHEMA, settings_from
from ..module_utils._settings_shell import lay

KEYS = (
    "placement",
    "reservation_seconds",
    "reconcile_seconds",
    "admin_group",
    "vendor_kind",
    "watchers",
)


def laid(module: AnsibleModule) -> dict[str, Any]:
    """The module's result.

    :raises Ds01Error: a value that cannot be one, or the file cannot be written.
    """
    path = module.params["path"]
    settings = {"schema": SCHEMA, **{key: module.params[key] for key in KEYS}}
    settings_from(settings, path)
    return lay(path, settings, module.check_mode)


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "placement": {"type": "str", "choices": ["spread", "pack"], "default": "spread"},
            "reservation_seconds": {"type": "int", "default": 120},
            "reconcile_seconds": {"type": "int", "default": 60},
            "admin_group": {"type": "str", "default": ""},
            "vendor_kind": {"type": "str", "default": "nvidia.com/gpu"},
            "watchers": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "path", "default": "/etc/ds01/gpu.json"},
        },
        supports_check_mode=True,
    )
    try:
        result = laid(module)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
