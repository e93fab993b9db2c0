#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gateway_settings
short_description: Lays down how the gateway keeps the door
version_added: 0.1.0
description:
  - Writes C(/etc/ds01/gateway.json), which the gateway reads and reads again when it changes. The file is
    replaced in one step.
options:
  admin_group:
    description: Unix group whose members pass as root does; empty leaves that to root.
    type: str
    default: ""
  connections_per_user:
    description: Connections of one user that may be open at a time.
    type: int
    default: 256
  connections_total:
    description: Connections of all users together, not counting root's.
    type: int
    default: 4096
  requests_per_user:
    description: Requests of one user that may be at the engine at a time, not counting streams.
    type: int
    default: 16
  streams_per_user:
    description: Streams of one user that may be open at a time, such as attach, exec, logs and events.
    type: int
    default: 256
  head_seconds:
    description: Seconds in which a request's head has to arrive.
    type: float
    default: 10
  stall_seconds:
    description: Seconds after which a request whose body does not move is ended.
    type: float
    default: 300
  idle_seconds:
    description: Seconds after which a connection without a request is closed.
    type: float
    default: 600
  path:
    description: The file.
    type: path
    default: /etc/ds01/gateway.json
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
- name: Let admins pass, and give each user fewer connections
  ds01.infra.ds01_gateway_settings:
    admin_group: ds01-admins
    connections_per_user: 128
"""

RETURN = r"""
settings:
  description: The content of the file.
  returned: success
  type: dict
  sample:
    schema: 1
    admin_group: ds01-admins
    connections_per_user: 256
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.gateway_settings import SCHEMA, settings_from
from ..module_utils._settings_shell import lay

ARGUMENTS: dict[str, Any] = {
    "admin_group": {"type": "str", "default": ""},
    "connections_per_user": {"type": "int", "default": 256},
    "connections_total": {"type": "int", "default": 4096},
    "requests_per_user": {"type": "int", "default": 16},
    "streams_per_user": {"type": "int", "default": 256},
    "head_seconds": {"type": "float", "default": 10},
    "stall_seconds": {"type": "float", "default": 300},
    "idle_seconds": {"type": "float", "default": 600},
    "path": {"type": "path", "default": "/etc/ds01/gateway.json"},
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
