"""Going on with a list in a new log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import Fault, InvalidBodyError
from hashlight_node.exchange.errors import (
    NotServedError,
    RolledBackError,
    UnconfirmedError,
    UnknownListError,
)
from hashlight_node.exchange.publishing.epochs import Abandoned, Frozen
from hashlight_node.model import Scope

from .answers import JsonAnswer
from .bodies import JsonBody
from .models.lists import NextLog, NextLogAnswer
from .operations import Call, operation

if TYPE_CHECKING:
    from hashlight_node.exchange.publishing.epochs import Ending


@operation(
    "POST",
    "/v1/lists/{list}/epochs",
    scope=Scope.ADMIN,
    takes=JsonBody(NextLog),
    gives=JsonAnswer(NextLogAnswer, status=201),
    raises=(NotServedError, RolledBackError, UnconfirmedError, UnknownListError),
)
async def begin_next_log(call: Call[NextLog]) -> NextLogAnswer:
    """End the newest log of a list and go on in another, with a key of its own.

    Every record that still counts goes on under the same index. Followers stop matching
    what is not in the new log.
    """
    begun = await call.parts.epochs.begin_next(
        call.path["list"], ending=_ending(call.body)
    )
    return {
        "origin": begun.origin,
        "ended": begun.ended,
        "final_size": begun.final.tree_size,
        "final_root": begun.final.root_hash.hex(),
        "reissued": begun.reissued,
    }


def _ending(body: NextLog) -> Ending:
    match body.ending:
        case "frozen":
            if body.final_size is not None:
                raise InvalidBodyError(
                    (Fault("/final_size", "a frozen log ends where it is"),)
                )
            return Frozen()
        case "abandoned":
            if body.final_size is None:
                raise InvalidBodyError(
                    (Fault("/final_size", "an abandoned log needs it"),)
                )
            return Abandoned(body.final_size, body.later)


OPERATIONS: Final = (begin_next_log,)
