"""Bringing back what a restored backup has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import Fault, InvalidBodyError
from hashlight_node.exchange.errors import (
    RolledBackError,
    UnconfirmedError,
    UnknownListError,
)
from hashlight_node.model import Scope

from .answers import JsonAnswer
from .bodies import JsonBody
from .models.recovering import RecoverAnswer, RecoverRequest
from .operations import Call, operation

if TYPE_CHECKING:
    from hashlight_node.exchange.publishing.recover import Recovered

    from .models.recovering import RecoveredShown


@operation(
    "POST",
    "/v1/recover",
    scope=Scope.ADMIN,
    takes=JsonBody(RecoverRequest, is_required=False),
    gives=JsonAnswer(RecoverAnswer),
    raises=(UnknownListError, RolledBackError, UnconfirmedError),
)
async def recover(call: Call[RecoverRequest]) -> RecoverAnswer:
    """Ask peers what they have of our lists, and bring back what is lost.

    A list that is older here than what this node has signed, as after a restore from
    backup, is not signed and not served until this has given it back its root.
    """
    recovery, body = call.parts.recovery, call.body
    if body.list is None:
        if body.no_peers or body.next_epoch:
            raise InvalidBodyError((Fault("/list", "which list it is about"),))
        return _answer(await recovery.recover())
    if body.no_peers:
        await recovery.vouch(body.list)
    bring_back = recovery.begin_next if body.next_epoch else recovery.recover
    return _answer(await bring_back(body.list))


def _answer(recovered: list[Recovered]) -> RecoverAnswer:
    return {"lists": [_show(one) for one in recovered]}


def _show(recovered: Recovered) -> RecoveredShown:
    return {
        "name": recovered.list_name,
        "origin": recovered.origin,
        "state": recovered.state,
        "old_size": recovered.old_size,
        "new_size": recovered.new_size,
        "signed_size": recovered.signed_size,
        "missing_bodies": recovered.missing_bodies,
        "answered": list(recovered.answered),
        "problems": list(recovered.problems),
    }


OPERATIONS: Final = (recover,)
