#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what GPUs a host has, who has them, and who waits."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gpu_info
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Reads a host's GPUs, leases and queue
description:
  - Tells what the lease book says, and what NVML says now where that differs.
  - Changes nothing, not even the book's own view of the GPUs.
extends_documentation_fragment:
  - ds01.infra.gpu_book
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
  - module: ds01.infra.ds01_gpu_alloc
"""

EXAMPLES = r"""
- name: Look at the GPUs
  ds01.infra.ds01_gpu_info:
  register: gpu

- name: Stop while somebody has a GPU
  ansible.builtin.assert:
    that: gpu.leases | length == 0
    fail_msg: "in use by {{ gpu.users | map(attribute='user') | join(', ') }}"

- name: Show which slots are free
  ansible.builtin.debug:
    msg: "{{ gpu.slots | selectattr('free') | map(attribute='index') }}"
"""

RETURN = r"""
driver:
  description: What NVML says now.
  returned: success
  type: dict
  contains:
    state:
      description: V(ready), V(driver_absent) or V(driver_restarting).
      type: str
      sample: ready
    reason:
      description: NVML's own words where it is not ready.
      type: str
      sample: ""
    version:
      description: The driver's version; empty where it does not answer.
      type: str
      sample: 550.90.07
    changes:
      description:
        - What is not as the book last saw it. The daemon records it, or
          O(ds01.infra.ds01_gpu_alloc#module:state=reconciled).
      type: list
      elements: str
      sample: ["gpu_lost 3"]
slots:
  description: The slots, whole GPUs and MIG devices, in the order of their indices.
  returned: success
  type: list
  elements: dict
  contains:
    uuid:
      description: The slot's UUID.
      type: str
      sample: MIG-7a5b0c6e-0f0e-5a57-9a53-5a0d5c8b1e11
    index:
      description: The slot's index, for people.
      type: str
      sample: "2:0"
    profile:
      description: The MIG profile; empty for a whole GPU.
      type: str
      sample: 2g.10gb
    parent:
      description: UUID of its GPU.
      type: str
      sample: GPU-6f8d3c50-1b0f-5d4a-8d0e-2b8f1d3a7c01
    memory:
      description: Its memory in bytes.
      type: int
      sample: 10468982784
    equivalents:
      description: GPU equivalents that it counts for; a whole GPU is 1.
      type: float
      sample: 0.2857
    health:
      description: V(ok), V(lost) (its GPU does not answer) or V(gone) (its GPU was partitioned anew).
      type: str
      sample: ok
    free:
      description: Whether it can be leased now.
      type: bool
      sample: false
    lease:
      description: Id of the lease that has it; null where there is none.
      type: str
      sample: 4f1c2a9be07d4c55
    user:
      description: Who has it.
      type: str
      sample: alice
    drained:
      description: The admin's message while it is drained; null else.
      type: str
      sample: null
    blocked:
      description:
        - Why else it is not handed out, such as a process that uses it without a lease; null where
          nothing speaks against it.
      type: str
      sample: null
leases:
  description: The leases that hold slots, and ended ones whose container is still there.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The lease's id.
      type: str
      sample: 4f1c2a9be07d4c55
    device:
      description: The CDI device that a container asks for.
      type: str
      sample: ds01.local/lease=4f1c2a9be07d4c55
    state:
      description: V(reserved), V(bound), V(held) or V(free).
      type: str
      sample: bound
    user:
      description: Whose it is.
      type: str
      sample: alice
    uid:
      description: The user's uid.
      type: int
      sample: 1001
    slots:
      description: Its slots, each with C(uuid), C(index) and C(profile).
      type: list
      elements: dict
      sample: [{"uuid": "MIG-7a5b0c6e-0f0e-5a57-9a53-5a0d5c8b1e11", "index": "2:0", "profile": "2g.10gb"}]
    container:
      description: Id of the container that has it; empty while it is reserved.
      type: str
      sample: 3f4d6a0c9b1e
    container_name:
      description: The container's name.
      type: str
      sample: training
    request:
      description: The request's name.
      type: str
      sample: course-week-3
    note:
      description: What it is for.
      type: str
      sample: Deep learning, week 3
    since:
      description: When it was granted.
      type: str
      sample: "2026-11-22T12:00:00Z"
    until:
      description: When it ends by itself, if nothing else happens; null where no limit ends it.
      type: str
      sample: null
    stale:
      description: Whether a slot of it is lost or gone.
      type: bool
      sample: false
queue:
  description: The waiting requests, the next one first.
  returned: success
  type: list
  elements: dict
  contains:
    position:
      description: V(1) is the head of the queue.
      type: int
      sample: 1
    estimate:
      description: When it may be served; null where nothing tells. An estimate.
      type: str
      sample: "2026-11-22T14:00:00Z"
    user:
      description: Who waits.
      type: str
      sample: bob
    uid:
      description: The user's uid.
      type: int
      sample: 1002
    since:
      description: Since when.
      type: str
      sample: "2026-11-22T13:00:00Z"
    count:
      description: How many slots are asked for.
      type: int
      sample: 1
    kind:
      description: Of which kind.
      type: str
      sample: any
    devices:
      description: The slots that are asked for by name.
      type: list
      elements: str
      sample: []
    request:
      description: The request's name.
      type: str
      sample: ""
    note:
      description: What it is for.
      type: str
      sample: ""
    reason:
      description: Why it waits.
      type: str
      sample: no GPU is free
users:
  description: What each user has who has something.
  returned: success
  type: list
  elements: dict
  contains:
    user:
      description: The user.
      type: str
      sample: alice
    uid:
      description: The user's uid.
      type: int
      sample: 1001
    equivalents:
      description: GPU equivalents leased.
      type: float
      sample: 0.2857
    mig_instances:
      description: MIG devices leased.
      type: int
      sample: 1
    leases:
      description: Number of leases.
      type: int
      sample: 1
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _gpu_shell as shell
from ..module_utils._core.errors import Ds01Error
from ..module_utils._respawn import into_runtime


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(argument_spec=dict(shell.ARGUMENTS), supports_check_mode=True)
    into_runtime()
    try:
        result = read(module)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(changed=False, **result)


def read(module: AnsibleModule) -> dict[str, Any]:
    """The book and what NVML says beside it.

    :raises Ds01Error: the store is missing, damaged or of another version.
    """
    found = shell.inventory_now()
    with shell.opened(module.params, "ds01_gpu_info") as book:
        snapshot = book.snapshot()
    return {
        "driver": {
            "state": found.state,
            "reason": found.reason,
            "version": found.driver,
            "changes": shell.seen_changes(snapshot, found),
        },
        "slots": shell.slot_rows(snapshot),
        "leases": [shell.lease_row(lease, snapshot) for lease in snapshot.leases],
        "queue": [shell.queue_row(queued, snapshot) for queued in snapshot.queue],
        "users": shell.user_rows(snapshot),
    }


if __name__ == "__main__":
    main()
