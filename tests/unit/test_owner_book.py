# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The book of owners: who made what, what was found, and an administrator's word."""

from __future__ import annotations

from pathlib import Path

import pytest
from owner_desk import ONE, WALL, OwnerDesk, intent, made, seen, weak


@pytest.fixture
def desk(tmp_path: Path) -> OwnerDesk:
    return OwnerDesk(tmp_path)


def test_what_came_of_an_intent_is_its_users(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent(agent="Docker-Client/24.0", admin=True))
    assert desk.owners.intents() == [intent(agent="Docker-Client/24.0", admin=True)]
    assert desk.owners.bind("t1", ONE, "web")
    assert desk.owners.intents() == []
    found = desk.one()
    assert found.made == made(agent="Docker-Client/24.0", admin=True)
    assert (found.owner.user, found.owner.uid, found.owner.method) == ("alice", 1001, "gateway")
    assert (found.name, found.created, found.gone, found.facts) == ("web", WALL, None, None)
    assert desk.owners.undecided() == [found]


def test_a_look_neither_overwrites_the_maker_nor_concludes_without_him(desk: OwnerDesk) -> None:
    desk.owners.reserve(intent())
    desk.owners.bind("t1", ONE, "web")
    assert desk.owners.apply([seen(owner=weak())]) == [ONE]
    found = desk.one()
    assert (found.owner.user, found.made, found.state) == ("alice", made(), "running")
    assert desk.owners.undecided() == [found]
    assert desk.owners.apply([seen(owner=found.owner, made=made())]) == []
    assert desk.owners.undecided() == []
