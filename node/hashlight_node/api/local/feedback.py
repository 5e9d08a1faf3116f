"""What we think of records and what they led to, in lists of our own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import (
    IdempotencyConflictError,
    ListExistsError,
    UnknownRecordError,
)
from hashlight_node.model import Scope
from hashlight_node.store import logs, records
from hashlight_protocol import (
    BadRecordError,
    Opinion,
    Sighting,
    encode_record,
    encode_ref,
    parse_ref,
    parse_timestamp,
)

from .answers import JsonAnswer
from .bodies import JsonBody
from .models.feedback import NewOpinion, NewSighting
from .models.lists import RefAnswer
from .operations import Call, operation

if TYPE_CHECKING:
    from hashlight_node.store.database import Connection
    from hashlight_protocol import Ref

    from .parts import LocalParts

FEEDBACK: Final = "feedback"
SIGHTINGS: Final = "sightings"


@operation(
    "POST",
    "/v1/opinions",
    scope=Scope.FEEDBACK,
    takes=JsonBody(NewOpinion, is_idempotent=True),
    gives=JsonAnswer(RefAnswer, status=201),
    raises=(BadRecordError, UnknownRecordError, IdempotencyConflictError),
)
async def publish_opinion(call: Call[NewOpinion]) -> RefAnswer:
    """Say what we think of a record.

    It is published in our list `feedback`. The record's owner sees it if that list is
    granted to them.
    """
    body = call.body
    opinion = Opinion(
        ref=parse_ref(body.ref),
        stance=body.stance,
        signal_type=body.signal,
        reason=body.reason,
        tags=tuple(body.tags),
    )
    return await _publish(call, FEEDBACK, opinion)


@operation(
    "POST",
    "/v1/sightings",
    scope=Scope.FEEDBACK,
    takes=JsonBody(NewSighting, is_idempotent=True),
    gives=JsonAnswer(RefAnswer, status=201),
    raises=(BadRecordError, UnknownRecordError, IdempotencyConflictError),
)
async def publish_sighting(call: Call[NewSighting]) -> RefAnswer:
    """Say what a record led to on our service.

    It is published in our list `sightings`. The record's owner sees it if that list
    is granted to them.
    """
    body = call.body
    sighting = Sighting(
        ref=parse_ref(body.ref),
        outcome=body.outcome,
        count=body.count,
        first_at=parse_timestamp(body.first_at),
        last_at=parse_timestamp(body.last_at),
        signal_type=body.signal,
    )
    return await _publish(call, SIGHTINGS, sighting)


async def _publish(
    call: Call[NewOpinion] | Call[NewSighting],
    list_name: str,
    record: Opinion | Sighting,
) -> RefAnswer:
    bodies = [encode_record(record)]
    await _prepare(call.parts, list_name, record.ref)
    (ref,) = await call.parts.publisher.publish(
        list_name, bodies, idempotency=call.idempotency
    )
    return {"ref": encode_ref(ref)}


async def _prepare(parts: LocalParts, list_name: str, about: Ref) -> None:
    """Check that the record is known, and start our list with the first word in it.

    A reference to nothing would be published for ever and help nobody.
    """

    def look(conn: Connection) -> bool:
        if records.read_record(conn, about) is None:
            raise UnknownRecordError(about)
        return logs.find_own_log(conn, parts.node_name, list_name) is not None

    if not await parts.database.read(look):
        with suppress(ListExistsError):  # Somebody else was first, a moment ago.
            await parts.publisher.create_list(list_name, {})


OPERATIONS: Final = (publish_opinion, publish_sighting)
