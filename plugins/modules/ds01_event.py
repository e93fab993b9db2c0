#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: append one event to the host's event log."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_event
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Append one event to the ds01 event log
description:
  - Appends one line of JSON, shorter than 4 KiB, to the event log of the host.
  - The modules of this collection record their own changes; use this one for changes that a
    play makes by other means.
options:
  event_type:
    description: Dotted lower-case words, the widest first.
    type: str
    required: true
  user:
    description: The user whom the event concerns, by name.
    type: str
  source:
    description: Who reports it.
    type: str
    default: ansible
  details:
    description:
      - What else there is to know. Cut, with a mark, where the line would be 4 KiB or longer.
    type: dict
    default: {}
  path:
    description: The event log; made, readable by root and the group C(adm), where it is missing.
    type: path
    default: /var/log/ds01/events.jsonl
attributes:
  check_mode:
    description: Checks the event and appends nothing.
    support: full
  diff_mode:
    description: Shows the line that is appended.
    support: full
  idempotent:
    description: Each run is an event of its own.
    support: none
"""

EXAMPLES = r"""
- name: Record that the data disk was replaced
  ds01.infra.ds01_event:
    event_type: storage.disk_replaced
    details:
      device: /dev/nvme1n1
      ticket: 4711
"""

RETURN = r"""
event:
  description: The event as it was written.
  returned: success
  type: dict
  sample:
    timestamp: "2026-11-21T23:59:59.007Z"
    event_type: storage.disk_replaced
    source: ansible
    details: {device: /dev/nvme1n1}
    schema_version: 1
"""

import json

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.events import Event, append, encode


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "event_type": {"type": "str", "required": True},
            "user": {"type": "str"},
            "source": {"type": "str", "default": "ansible"},
            "details": {"type": "dict", "default": {}},
            "path": {"type": "path", "default": "/var/log/ds01/events.jsonl"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        event = Event(
            given["event_type"], given["source"], user=given["user"], details=given["details"]
        )
        line = encode(event).decode("ascii")
        if not module.check_mode:
            append(given["path"], event)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(
        changed=True,
        event=json.loads(line),
        diff={"before": "", "after": line, "after_header": given["path"]},
    )


if __name__ == "__main__":
    main()
