# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks something of the engine."""

from __future__ import annotations

from dataclasses import dataclass

OBSERVE = "observe"
ENFORCE = "enforce"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    :param uid: key of everything that is kept for him.
    :param name: for display and for limits; the uid in digits where no account is known.
    :param group: his group of the limits.
    :param mode: ``observe`` or ``enforce``.
    :param admin: root of the host, or a member of the administrators' Unix group; never in a
        container.
    :param container: id of the container that he asks from; empty on the host.
    :param known: an account is known for the uid.
    """

    uid: int
    name: str
    group: str
    mode: str
    admin: bool = False
    container: str = ""
    known: bool = True


@dataclass(frozen=True)
class Refusal:
    """Why nobody can be told to ask.

    :param rule: name of the rule, for the log.
    """

    what: str
    remedy: str
    rule: str = "identity"
