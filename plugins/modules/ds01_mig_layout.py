#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_mig_layout
short_description: Splits GPUs by MIG as the inventory says
version_added: 0.1.0
description:
  - Compares how GPUs are split by MIG with named profiles, and splits those anew that differ. Which MIG
    profiles a GPU has, and where they may lie, is asked of the driver.
  - All GPUs are checked before the first one is touched. A GPU is left alone, and the module fails with
    the names, while somebody leases a slot of it or a process runs on it. Nobody is granted a slot of
    a GPU while it is split.
  - A GPU whose MIG devices are the wanted ones, in any order, is not touched. One that differs is split
    anew as a whole; its MIG devices get new UUIDs.
  - GPUs that O(layout) does not name are left as they are.
  - What changed is an event of type C(gpu.partitioned) in the host's event log.
options:
  profiles:
    description:
      - Named layouts of one GPU, each a list of MIG profiles in NVIDIA's spelling, one for each device.
      - An empty list is a whole GPU, with MIG off.
    type: dict
    required: true
  layout:
    description: GPU index or UUID, and the name of its layout in O(profiles).
    type: dict
    required: true
  cdi_path:
    description:
      - The vendor's CDI spec. New MIG devices are leased once they are in it, see M(ds01.infra.ds01_gpu_cdi).
    type: path
    default: /etc/cdi/nvidia.yaml
attributes:
  check_mode:
    description: Refuses what a run would refuse.
    support: full
  diff_mode:
    description: Shows the layout of each GPU that changes.
    support: full
  idempotent:
    description: A run that was broken off is finished by the next one.
    support: full
requirements:
  - The runtime of this collection on the host, or nvidia-ml-py
seealso:
  - module: ds01.infra.ds01_gpu_cdi
  - name: NVIDIA Multi-Instance GPU User Guide
    description: Which profiles there are, and which go together.
    link: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
author:
  - The ds01.infra contributors (@ds01)
"""

EXAMPLES = r"""
- name: Two whole GPUs, one in three, one in seven
  ds01.infra.ds01_mig_layout:
    profiles:
      whole: []
      thirds: [2g.10gb, 2g.10gb, 2g.10gb]
      sevenths: "{{ ['1g.5gb'] * 7 }}"
    layout:
      "0": whole
      "1": whole
      "2": thirds
      "3": sevenths
"""

RETURN = r"""
gpus:
  description: The GPUs that changed, or would change.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: Index of the GPU.
      type: int
    uuid:
      description: Its UUID.
      type: str
    before:
      description: MIG profiles of the devices that it had; empty for a whole GPU.
      type: list
      elements: str
    after:
      description: MIG profiles of the devices that it has now.
      type: list
      elements: str
actions:
  description: What was done, or would be, in order.
  returned: always
  type: list
  elements: str
  sample: ["GPU 2: destroy GPU instance 3", "GPU 2: create 2g.10gb"]
refusals:
  description: Why nothing was done.
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

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _gpu_host_shell as shell
from ..module_utils._core import mig
from ..module_utils._core.errors import Problem
from ..module_utils._core.mig import Step
from ..module_utils._core.store import Store
from ..module_utils._engine_shell import refuse
from ..module_utils._host import nvml
from ..module_utils._host.nvml_mig import Mig
from ..module_utils._respawn import into_runtime


def report(steps: Sequence[Step]) -> dict[str, Any]:
    """The result of these steps."""
    return {
        "changed": bool(steps),
        "gpus": [
            {"index": s.index, "uuid": s.uuid, "before": list(s.before), "after": list(s.after)}
            for s in steps
        ],
        "actions": [words for step in steps for words in step.words],
        "diff": {
            "before": shell.lines(f"GPU {s.index}: {mig.show(s.before)}" for s in steps),
            "after": shell.lines(f"GPU {s.index}: {mig.show(s.after)}" for s in steps),
            "before_header": "MIG layout",
            "after_header": "MIG layout",
        },
    }


def look(
    splitter: Mig, params: Mapping[str, Any], store: Store | None, uuid: str = ""
) -> tuple[mig.Plan, list[Problem]]:
    """The steps as things are now, and why they may not be done.

    :param uuid: only this GPU; empty: all of them.
    """
    gpus = mig.gpus_from(splitter.read())
    wanted, problems = mig.resolve(params["profiles"], params["layout"], gpus)
    if uuid:
        wanted = {key: value for key, value in wanted.items() if key == uuid}
    plan = mig.plan(gpus, wanted, shell.users(nvml.read(), store))
    return plan, [*problems, *plan.problems]


def split(module: AnsibleModule, splitter: Mig, done: list[Step]) -> None:
    """Plan, and carry out unless in check mode.

    :param done: gets the steps as they are finished, for the message of a failure, too.
    """
    store = shell.the_store()
    plan, problems = look(splitter, module.params, store)
    if problems:
        refuse(module, problems, **report(done))
    for notice in plan.notices:
        module.warn(notice)
    if module.check_mode:
        done += plan.steps
        return
    for step in plan.steps:
        with shell.no_new_leases(store):
            try:
                carry_out(module, splitter, store, step, done)
            finally:
                shell.tell_the_book(store, module.params["cdi_path"], "ds01_mig_layout")


def carry_out(
    module: AnsibleModule, splitter: Mig, store: Store | None, step: Step, done: list[Step]
) -> None:
    """One GPU, which nobody can lease meanwhile."""
    for _round in range(2):
        # Somebody may have been granted a slot since all GPUs were checked.
        again, problems = look(splitter, module.params, store, step.uuid)
        if problems:
            refuse(module, problems, **report(done))
        for part in again.steps:
            mig.apply(mig.first_part(part), splitter)
    done.append(step)
    shell.record("gpu.partitioned", report([step])["gpus"][0])


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec={
            "profiles": {"type": "dict", "required": True},
            "layout": {"type": "dict", "required": True},
            "cdi_path": {"type": "path", "default": "/etc/cdi/nvidia.yaml"},
        },
        supports_check_mode=True,
    )
    into_runtime()
    if not shell.can_look():
        module.fail_json(msg=shell.NO_RUNTIME, **report(()))
    done: list[Step] = []
    try:
        split(module, Mig(), done)
    except shell.ERRORS as error:
        module.fail_json(msg=str(error), **report(done))
    module.exit_json(**report(done))


if __name__ == "__main__":
    main()
