"""What we think of records and what they led to, and what others say of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import (
    IdempotencyConflictError,
    ListInactiveError,
    NoRoomError,
    UnknownListError,
    UnknownRecordError,
)
from hashlight_node.model import Scope
from hashlight_protocol import (
    BadRecordError,
    Opinion,
    Sighting,
    encode_ref,
    parse_ref,
    parse_timestamp,
)

from .answers import JsonAnswer
from .bodies import JsonBody
from .models.feedback import (
    FeedbackPage,
    NewOpinion,
    NewSighting,
    NewSightings,
    SightingsCounted,
)
from .models.lists import RefAnswer
from .operations import NO_BODY, Call, operation
from .paging import encode_cursor, number_key
from .records import show_opinion, show_sighting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.exchange.publishing.feedback import RecordFeedback

    from .models.feedback import RecordFeedbackShown

_MANY_BYTES: Final = 262_144


@operation(
    "POST",
    "/v1/opinions",
    scope=Scope.FEEDBACK,
    takes=JsonBody(NewOpinion, is_idempotent=True),
    gives=JsonAnswer(RefAnswer, status=201),
    raises=(
        BadRecordError,
        UnknownRecordError,
        ListInactiveError,
        NoRoomError,
        IdempotencyConflictError,
    ),
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
    ref = await call.parts.feedback.publish_opinion(
        opinion, idempotency=call.idempotency
    )
    return {"ref": encode_ref(ref)}


@operation(
    "POST",
    "/v1/sightings",
    scope=Scope.FEEDBACK,
    takes=JsonBody(NewSighting, is_idempotent=True),
    gives=JsonAnswer(SightingsCounted, status=202),
    raises=(BadRecordError, UnknownRecordError, IdempotencyConflictError),
)
async def count_sighting(call: Call[NewSighting]) -> SightingsCounted:
    """Say what a record led to on our service.

    Sightings are added up, and published in our list `sightings` once in a while: one
    record for each record, signal type and outcome, however often it happened. The
    record's owner sees it if that list is granted to them.
    """
    return await _count(call, [call.body])


@operation(
    "POST",
    "/v1/sightings/batch",
    scope=Scope.FEEDBACK,
    takes=JsonBody(NewSightings, max_bytes=_MANY_BYTES, is_idempotent=True),
    gives=JsonAnswer(SightingsCounted, status=202),
    raises=(BadRecordError, UnknownRecordError, IdempotencyConflictError),
)
async def count_sightings(call: Call[NewSightings]) -> SightingsCounted:
    """Say what records led to on our service, many at once: all or none are counted."""
    return await _count(call, call.body.sightings)


@operation(
    "GET",
    "/v1/lists/{list}/feedback",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(FeedbackPage, page_of="feedback"),
    raises=(UnknownListError,),
)
async def list_feedback(call: Call[None]) -> FeedbackPage:
    """Show what other nodes say about the records of one of our lists.

    Records about which nothing is said are left out, so a page may be short or empty
    and yet not be the last.
    """
    page = call.page
    gathered = await call.parts.feedback.about_list(
        call.path["list"], int(page.after or 0), page.limit
    )
    cursor = None
    if len(gathered) == page.limit:
        last = number_key(gathered[-1].record.record_id)
        cursor = encode_cursor(page.kind, last)
    shown = [_show(one) for one in gathered if one.opinions or one.sightings]
    return {"feedback": shown, "next_cursor": cursor}


async def _count(
    call: Call[NewSighting] | Call[NewSightings], bodies: Sequence[NewSighting]
) -> SightingsCounted:
    seen = [
        Sighting(
            ref=parse_ref(body.ref),
            outcome=body.outcome,
            count=body.count,
            first_at=parse_timestamp(body.first_at),
            last_at=parse_timestamp(body.last_at),
            signal_type=body.signal,
        )
        for body in bodies
    ]
    await call.parts.feedback.count_sightings(seen, idempotency=call.idempotency)
    return {"counted": len(seen)}


def _show(feedback: RecordFeedback) -> RecordFeedbackShown:
    return {
        "ref": encode_ref(feedback.record.ref),
        "state": feedback.record.state,
        "opinion": feedback.fold,
        "opinions": [show_opinion(said) for said in feedback.opinions],
        "sightings": [show_sighting(total) for total in feedback.sightings],
    }


OPERATIONS: Final = (publish_opinion, count_sighting, count_sightings, list_feedback)
