#!/usr/bin/python
# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: whose everything is that a host's engine has, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ds01_container_owner_info
author:
  - The ds01.infra contributors (@ds01)
version_added: 0.1.0
short_description: Reads whose the containers of a host are, and why
description:
  - Tells of each container whose it is, how that is known, what speaks against it, by which tool it was made
    and what it is for; of images, volumes, networks and execs whose they are.
  - Options narrow it down; a thing has to fulfil all that are given.
  - Changes nothing, not even the records themselves.
extends_documentation_fragment:
  - ds01.infra.owner_book
options:
  name:
    description: Only the things with this name, this id, or an id that begins with these four or more digits.
    type: str
  user:
    description:
      - Only what belongs to this user, by account name or uid.
      - Somebody without an account (any more) is found by what he was called, or by his uid.
    type: str
  kinds:
    description: Only things of these kinds.
    type: list
    elements: str
    choices: [container, image, volume, network, exec]
    default: [container]
  unknown:
    description: Only what is listed as unknown.
    type: bool
    default: false
  contradicted:
    description: Only that of which something speaks for somebody else.
    type: bool
    default: false
  gone:
    description: Also what is gone, as long as it is remembered.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reads only. On a host without a store it says so and returns nothing.
    support: full
  diff_mode:
    description: Reads only.
    support: none
  idempotent:
    description: Reads only.
    support: full
seealso:
  - module: ds01.infra.ds01_container_owner
"""

EXAMPLES = r"""
- name: Look at all containers
  ds01.infra.ds01_container_owner_info:
  register: owners

- name: Show those of which nobody knows whose they are
  ansible.builtin.debug:
    msg: "{{ owners.things | selectattr('method', 'eq', 'unknown') | map(attribute='name') }}"

- name: Look at all that alice has made, also what is gone
  ds01.infra.ds01_container_owner_info:
    user: alice
    kinds: [container, image, volume, network]
    gone: true

- name: Look whether something contradicts what is published
  ds01.infra.ds01_container_owner_info:
    contradicted: true
"""

RETURN = r"""
things:
  description: What there is, by kind, then the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(container), V(image), V(volume), V(network) or V(exec).
      type: str
      sample: container
    id:
      description: Its full id; a volume's name.
      type: str
      sample: 3f4d6a0c9b1e6a2f8f6d0a5b7c1e2d3f4a5b6c7d8e9f00112233445566778899
    name:
      description: Its name; of an image a reference, of an exec nothing.
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
users:
  description: How much belongs to whom among the things above, by name; the unknown last.
  returned: success
  type: list
  elements: dict
  contains:
    user:
      description: The user; null for the unknown.
      type: str
      sample: alice
    uid:
      description: His uid; null where he has none.
      type: int
      sample: 1001
    things:
      description: How many.
      type: int
      sample: 3
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
from ..module_utils._core.owners import CONTAINER, KINDS

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str"},
    "user": {"type": "str"},
    "kinds": {"type": "list", "elements": "str", "choices": list(KINDS), "default": [CONTAINER]},
    "unknown": {"type": "bool", "default": False},
    "contradicted": {"type": "bool", "default": False},
    "gone": {"type": "bool", "default": False},
    **shell.ARGUMENTS,
}


def main() -> None:
    """The module's entry."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result, warnings = owner.read(module.params, module.check_mode)
    except Ds01Error as error:
        module.fail_json(msg=str(error), **error.as_dict())
    for warning in warnings:
        module.warn(warning)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
