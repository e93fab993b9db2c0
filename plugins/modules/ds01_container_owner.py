#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: look up whose a container is, say whose it is, compare all records with the engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_container_owner
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Looks up or sets whose a container is
description:
  - Every container of a host has an owner with a method, a confidence and evidence, or is listed as unknown.
  - This module tells whose one is, records an administrator's word on it, takes that word back, or compares
    all records with the engine.
  - An administrator's word outweighs everything else. What speaks for somebody else stays visible as a
    contradiction.
extends_documentation_fragment:
  - ds01.infra.owner_book
options:
  state:
    description:
      - V(found) tells whose O(container) is, and changes nothing.
      - V(set) records that O(container) is O(owner)'s.
      - V(unset) takes that word back; what else is known then decides again.
      - V(synced) compares all records with the engine, mends what differs, and publishes them anew.
    type: str
    choices: [found, set, unset, synced]
    default: found
  container:
    description:
      - The container, by its id, by the first four or more digits of it, or by its name.
      - One that is there comes before those that are gone. Where it could still be several, the run fails and
        names them.
    type: str
  owner:
    description:
      - Whose it is, by account name or uid. A name that is all digits is looked up as a name first.
      - The host has to know the account.
    type: str
  allow_missing:
    description: Accept an O(owner) that is a uid without an account, such as that of somebody who has left.
    type: bool
    default: false
  reason:
    description: Why the owner is set; shown wherever the owner is explained. Up to 200 characters.
    type: str
  by:
    description:
      - Who says so, for the record. Without it, the account that became root on the host.
      - A play can give the name of the person at the controller.
    type: str
  event_log:
    description: Where the change is recorded.
    type: path
    default: /var/log/ds01/events.jsonl
attributes:
  check_mode:
    description:
      - Decides on a copy of the records, so that the answer is the one that the run would have had.
      - On a host without a store, which O(state=set) and the others need, it says so and goes on.
    support: full
  diff_mode:
    description: Shows the records that change, a line each.
    support: full
  idempotent:
    description: The same word a second time, with the same reason, changes nothing.
    support: full
seealso:
  - module: ds01.infra.ds01_container_owner_info
  - module: ds01.infra.ds01_owner_settings
"""

EXAMPLES = r"""
- name: Whose is this container?
  ds01.infra.ds01_container_owner:
    container: train
  register: found

- name: Show it, with the reason
  ansible.builtin.debug:
    msg: "{{ found.container.summary }}"

- name: Move a container to its real owner
  ds01.infra.ds01_container_owner:
    state: set
    container: 3f4d6a0c9b1e
    owner: alice
    reason: Set up by the former admin for alice's thesis
    by: "{{ lookup('ansible.builtin.env', 'USER') }}"

- name: Take that back
  ds01.infra.ds01_container_owner:
    state: unset
    container: 3f4d6a0c9b1e

- name: Make the records agree with the engine, with the daemon down
  ds01.infra.ds01_container_owner:
    state: synced
"""

RETURN = r"""
container:
  description:
    - The container with its owner; null where there is no such container.
  returned: with O(container)
  type: dict
  contains:
    kind:
      description: V(container); other kinds are shown by M(ds01.infra.ds01_container_owner_info).
      type: str
      sample: container
    id:
      description: Its full id.
      type: str
      sample: 3f4d6a0c9b1e6a2f8f6d0a5b7c1e2d3f4a5b6c7d8e9f00112233445566778899
    name:
      description: Its name.
      type: str
      sample: train
    image:
      description: The image that it was made from, as its maker named it.
      type: str
      sample: lab/base
    state:
      description: The engine's word, such as V(running); V(gone) once it is deleted.
      type: str
      sample: running
    owner:
      description: The owner's name; what was named, where there is no such account; null when unknown.
      type: str
      sample: alice
    owner_uid:
      description: The owner's uid; null when unknown.
      type: int
      sample: 1001
    method:
      description:
        - How the owner was found, V(admin), V(gateway), V(ds01_label), V(aime_label), V(container_name),
          V(devcontainer), V(mount_path), V(compose_dir), V(cgroup), V(process) or V(unknown).
      type: str
      sample: mount_path
    confidence:
      description:
        - V(certain) where nobody but root could have made it say so, V(weak) where whoever made the
          container could have, V(none) when unknown.
      type: str
      sample: weak
    summary:
      description: Owner and reason in a sentence.
      type: str
      sample: >-
        alice, because /home/alice/proj, which it mounts, is hers; weak: anybody who may mount it could have
    evidence:
      description: All that speaks for an owner, what decided first.
      type: list
      elements: dict
      contains:
        method:
          description: As above.
          type: str
          sample: mount_path
        user:
          description: Whom it names.
          type: str
          sample: alice
        uid:
          description: His uid; null where he has none.
          type: int
          sample: 1001
        confidence:
          description: As above.
          type: str
          sample: weak
        words:
          description: What it is, and who could have made it so.
          type: str
          sample: /home/alice/proj, which it mounts, is hers
    contradictions:
      description: What speaks for somebody else, in words.
      type: list
      elements: str
      sample: ["the label ds01.user says bob"]
    interface:
      description:
        - The tool that it was made by, V(atomic), V(orchestration), V(compose), V(devcontainer), V(docker),
          V(api) or V(unknown).
      type: str
      sample: docker
    interface_words:
      description: Where that is known from.
      type: str
      sample: the client called itself Docker-Client/26.1.5
    container_type:
      description: >-
        What it is for, V(devcontainer), V(compose), V(interactive), V(service), V(batch) or V(unknown).
      type: str
      sample: batch
    type_words:
      description: Where that is known from.
      type: str
      sample: it has no terminal and is not restarted
    managed:
      description: Whether it was made through the gateway, or by ds01 itself.
      type: bool
      sample: true
    created_at:
      description: When it was made.
      type: str
      sample: "2026-11-22T12:00:00Z"
    gone_at:
      description: When it was deleted; null while it is there.
      type: str
      sample: null
    made:
      description: The gateway's record of who made it; null where there is none.
      type: dict
      contains:
        user:
          description: Who asked for it.
          type: str
          sample: alice
        uid:
          description: His uid.
          type: int
          sample: 1001
        at:
          description: When.
          type: str
          sample: "2026-11-22T12:00:00Z"
        agent:
          description: What the client called itself.
          type: str
          sample: Docker-Client/26.1.5 (linux)
        container:
          description: Id of the container that it was asked from; empty on the host.
          type: str
          sample: ""
        admin:
          description: Whether he had an administrator's rights.
          type: bool
          sample: false
        mended:
          description: >-
            Whether the gateway died in between, and the container was found to be the one it had asked for.
          type: bool
          sample: false
        restored:
          description: Whether the store was lost since, and this is what the published file said.
          type: bool
          sample: false
    set_by:
      description: An administrator's word; null where there is none.
      type: dict
      contains:
        user:
          description: Whose it is said to be.
          type: str
          sample: alice
        uid:
          description: His uid.
          type: int
          sample: 1001
        by:
          description: Who said so.
          type: str
          sample: dana
        at:
          description: When.
          type: str
          sample: "2026-11-22T12:00:00Z"
        reason:
          description: Why.
          type: str
          sample: Set up by the former admin for alice's thesis
changes:
  description: What differed between the records and the engine, a line each.
  returned: with O(state=synced)
  type: list
  elements: str
  sample:
    - "3f4d6a0c9b1e train: alice (mount_path, weak); before: unknown"
current:
  description: Whether the records were compared with the engine; false where it did not answer.
  returned: success
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _container_owner as owner
from ..module_utils import _owner_shell as shell
from ..module_utils._core.errors import Ds01Error
from ..module_utils._core.events import EVENTS_PATH

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["found", "set", "unset", "synced"], "default": "found"},
    "container": {"type": "str"},
    "owner": {"type": "str"},
    "allow_missing": {"type": "bool", "default": False},
    "reason": {"type": "str"},
    "by": {"type": "str"},
    "event_log": {"type": "path", "default": EVENTS_PATH},
    **shell.ARGUMENTS,
}


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_if=[
            ("state", "found", ["container"]),
            ("state", "set", ["container", "owner"]),
            ("state", "unset", ["container"]),
        ],
        supports_check_mode=True,
    )
    try:
        result, warnings = owner.change(module.params, module.check_mode)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    for warning in warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
