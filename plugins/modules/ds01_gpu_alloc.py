#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: lease GPUs, end leases, drain slots, reconcile the book with the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_gpu_alloc
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Lease GPUs, end leases, drain slots, and reconcile the lease book
description:
  - Changes the host's lease book, which alone decides who has which GPU or MIG device.
  - A lease is durable before its device exists, so two requests at once never get the same slot,
    whatever is killed when.
  - A request is held to the user's limits, as if the user had made it.
  - A lease waits for its container for two minutes (C(reservation_seconds) of C(gpu.json)) and then ends.
extends_documentation_fragment:
  - ds01.infra.gpu_book
options:
  state:
    description:
      - V(allocated) leases slots to O(user), or renews O(lease) with new slots. It reconciles first, so
        the engine has to answer.
      - V(released) ends the lease that O(lease), O(container) or O(user) with O(request) names.
      - V(drained) hands O(slot) out to nobody any more; who has it keeps it.
      - V(undrained) hands it out again.
      - V(reconciled) compares the book with the engine's containers and NVML's processes and mends what
        differs.
    type: str
    choices: [allocated, released, drained, undrained, reconciled]
    default: allocated
  user:
    description:
      - Whose lease it is, by account name or uid. A name that is all digits is looked up as a name first.
    type: str
  request:
    description:
      - A name for the request, of your choice. The same O(user) and O(request) again have the same lease, and
        nothing is changed.
      - Without it each run is a request of its own.
    type: str
  count:
    description: How many slots, all of one kind. Without O(devices) the default is V(1).
    type: int
  kind:
    description:
      - V(any), V(full) (a whole GPU), V(mig) (a MIG device), or a MIG profile such as V(2g.10gb).
      - Without O(devices) the default is V(any).
    type: str
  devices:
    description: Exactly these slots, by UUID or index (V(0), V(0:1)).
    type: list
    elements: str
  note:
    description: What it is for, shown in lists. Up to 200 characters.
    type: str
  wait:
    description:
      - Seconds to wait in the queue where the slots are not free, at most until the user's
        C(gpu_wait_timeout).
      - With V(0) the run fails at once and says who has them.
    type: int
    default: 0
  lease:
    description:
      - Id of a lease.
      - With O(state=allocated) this lease, which a container has, is renewed; the container keeps its
        device name and gets the new slots at its next start. Without O(count), O(kind) and O(devices)
        the same is asked for as the first time.
    type: str
  container:
    description: Id or name of the container whose lease ends.
    type: str
  slot:
    description: UUID or index of the slot to drain or undrain.
    type: str
  reason:
    description: Why the slot is drained; users are shown it.
    type: str
  lease_dir:
    description: Where the CDI files of the leases are.
    type: path
    default: /run/cdi
  engine_socket:
    description:
      - The engine's unix socket.
      - Without it, C(/run/ds01/engine.sock) is taken where it exists, else C(/run/docker.sock).
    type: path
  event_log:
    description: Where the decision is recorded.
    type: path
    default: /var/log/ds01/events.jsonl
attributes:
  check_mode:
    description:
      - Decides on a copy of the book, so that the answer is the one that the run would have had.
      - The id of a lease that would be granted is made up; the run makes another.
      - O(wait) is not waited for; the answer is the place in the queue.
    support: full
  diff_mode:
    description: Shows the slots with their leases and blocks, before and after.
    support: full
  idempotent:
    description:
      - O(state=allocated) with O(request) is, as long as the lease lasts; without it each run leases
        anew.
      - The other states are.
    support: partial
seealso:
  - module: ds01.infra.ds01_gpu_info
  - module: ds01.infra.ds01_store
"""

EXAMPLES = r"""
- name: Lease alice a MIG device for the course
  ds01.infra.ds01_gpu_alloc:
    user: alice
    kind: 2g.10gb
    request: course-week-3
    note: Deep learning, week 3
  register: gpu

- name: Show what a container asks for to get it
  ansible.builtin.debug:
    msg: "docker run --device {{ gpu.lease.device }} …"

- name: End the lease
  ds01.infra.ds01_gpu_alloc:
    state: released
    user: alice
    request: course-week-3

- name: Take a GPU out of service before its repair
  ds01.infra.ds01_gpu_alloc:
    state: drained
    slot: "0"
    reason: Fan replaced on Tuesday

- name: Make book, engine and GPUs agree
  ds01.infra.ds01_gpu_alloc:
    state: reconciled
"""

RETURN = r"""
lease:
  description:
    - The lease that was granted, found or ended; null where there is none.
  returned: with O(state=allocated) and O(state=released)
  type: dict
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
      description: V(reserved), V(bound) (a container has it), V(held) (its container is stopped) or V(free).
      type: str
      sample: reserved
    user:
      description: Whose it is.
      type: str
      sample: alice
    uid:
      description: The user's uid.
      type: int
      sample: 1001
    slots:
      description: The slots.
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
    container:
      description: Id of the container that has it; empty while it is reserved.
      type: str
      sample: ""
    container_name:
      description: The container's name.
      type: str
      sample: ""
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
      sample: "2026-11-22T12:02:00Z"
    stale:
      description: Whether a slot of it is lost or gone; it is then never given another in its place.
      type: bool
      sample: false
waiting:
  description:
    - In check mode, the place in the queue that the request would have; null where it would not wait.
  returned: with O(state=allocated)
  type: dict
  contains:
    position:
      description: V(1) is the head of the queue.
      type: int
      sample: 2
    estimate:
      description:
        - When it may be served, by the limits of the leases in the way; null where none ends. An
          estimate.
      type: str
      sample: "2026-11-22T14:00:00Z"
slot:
  description: The slot that was drained or undrained.
  returned: with O(state=drained) and O(state=undrained)
  type: dict
  sample: {"uuid": "GPU-6f8d3c50-1b0f-5d4a-8d0e-2b8f1d3a7c01", "index": "0", "profile": "", "drained": true}
reconciled:
  description: What differed, and was mended or has to be told, in words.
  returned: with O(state=reconciled)
  type: list
  elements: str
  sample: ["end 4f1c2a9be07d4c55: its container is gone"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _gpu_alloc as alloc
from ..module_utils import _gpu_shell as shell
from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.events import EVENTS_PATH
from ..module_utils._core.lease_files import DIRECTORY
from ..module_utils._respawn import into_runtime

ARGUMENTS: dict[str, Any] = {
    "state": {
        "type": "str",
        "choices": ["allocated", "released", "drained", "undrained", "reconciled"],
        "default": "allocated",
    },
    "user": {"type": "str"},
    "request": {"type": "str"},
    "count": {"type": "int"},
    "kind": {"type": "str"},
    "devices": {"type": "list", "elements": "str"},
    "note": {"type": "str"},
    "wait": {"type": "int", "default": 0},
    "lease": {"type": "str"},
    "container": {"type": "str"},
    "slot": {"type": "str"},
    "reason": {"type": "str"},
    "lease_dir": {"type": "path", "default": DIRECTORY},
    "engine_socket": {"type": "path"},
    "event_log": {"type": "path", "default": EVENTS_PATH},
    **shell.ARGUMENTS,
}


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[
            ("state", "allocated", ["user"]),
            ("state", "released", ["lease", "container", "request"], True),
            ("state", "drained", ["slot", "reason"]),
            ("state", "undrained", ["slot"]),
        ],
        required_by={"request": ["user"]},
        mutually_exclusive=[
            ("count", "devices"),
            ("kind", "devices"),
            ("lease", "container", "request"),
        ],
        supports_check_mode=True,
    )
    into_runtime()
    try:
        result = alloc.change(module.params, module.check_mode)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
