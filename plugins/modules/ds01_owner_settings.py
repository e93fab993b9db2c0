#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_owner_settings
short_description: Lays down how owners are found and published
version_added: 0.1.0
description:
  - Writes C(/etc/ds01/owners.json), which the helper daemon reads, and reads again when it changes. The file
    is replaced in one step.
options:
  admin_group:
    description:
      - Unix group whose members are published as C(admins) and may set owners; empty leaves that to root.
    type: str
    default: ""
  service_users:
    description:
      - Names of accounts that stand for a service and for no person, such as a dashboard's. They are
        published as C(service_users) for those who read the published file; ds01 treats them as any other.
    type: list
    elements: str
    default: []
  history_seconds:
    description: Seconds that the record of a thing is kept after it is gone, an hour or more.
    type: float
    default: 7776000
  sync_seconds:
    description: Seconds after which all records are compared with the engine at the latest, from 10 to 86400.
    type: float
    default: 300
  path:
    description: The file.
    type: path
    default: /etc/ds01/owners.json
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
- name: Publish who the admins are, and keep what is gone for half a year
  ds01.infra.ds01_owner_settings:
    admin_group: ds01-admins
    service_users: [ds01-dashboard]
    history_seconds: "{{ 183 * 86400 }}"
"""

RETURN = r"""
settings:
  description: The content of the file.
  returned: success
  type: dict
  sample:
    schema: 1
    admin_group: ds01-admins
    service_users: [ds01-dashboard]
    history_seconds: 7776000
    sync_seconds: 300
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.owner_settings import SCHEMA, settings_from
from ..module_utils._settings_shell import lay

ARGUMENTS: dict[str, Any] = {
    "admin_group": {"type": "str", "default": ""},
    "service_users": {"type": "list", "elements": "str", "default": []},
    "history_seconds": {"type": "float", "default": 7776000},
    "sync_seconds": {"type": "float", "default": 300},
    "path": {"type": "path", "default": "/etc/ds01/owners.json"},
}


def laid(module: AnsibleModule) -> dict[str, Any]:
    """The module's result.

    :raises Ds01Error: a value that cannot be one, or the file cannot be written.
    """
    path = module.params["path"]
    given = {key: module.params[key] for key in ARGUMENTS if key != "path"}
    settings = settings_from({"schema": SCHEMA, **given}, path).as_json()
    return lay(path, settings, module.check_mode)


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = laid(module)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
