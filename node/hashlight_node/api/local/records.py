"""Single records: what they say, what is said about them, and proof of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from hashlight_node.exchange.errors import (
    ErasedError,
    NotServedError,
    UnknownRecordError,
    WithheldError,
)
from hashlight_node.matching.opinions import REVIEWED, fold
from hashlight_node.model import RecordState, Scope
from hashlight_protocol import (
    Indicator,
    Ref,
    encode_ref,
    encode_timestamp,
    parse_record,
)

from .answers import BytesAnswer, JsonAnswer
from .erasures import show_erasure
from .instants import optional_instant
from .models.records import ErasureAnswer, RecordDetail
from .operations import NO_BODY, Call, operation
from .publishing import reason_name

if TYPE_CHECKING:
    from hashlight_node.model import StoredOpinion, StoredRecord

    from .models.records import OpinionShown

RECEIPT_TYPE: Final = "text/plain; charset=utf-8"


@operation(
    "GET",
    "/v1/records/{ref}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(RecordDetail),
    raises=(UnknownRecordError,),
)
async def get_record(call: Call[None]) -> RecordDetail:
    """Show a record: what it says, its state here, and what nodes think of it.

    The body of a record that was retracted is still here, for audit; that of one that
    was erased is not.
    """
    detail = await call.parts.inspect.record(call.ref)
    record = detail.record
    has_body = bool(record.body) and record.state is not RecordState.INVALID
    opinion = fold(
        detail.opinions,
        node_name=call.parts.node_name,
        reviewed=has_body and _is_reviewed(record.body),
    )
    return {
        "ref": encode_ref(record.ref),
        "list": record.list_name,
        "node": record.node,
        "state": record.state,
        "reason": None if record.reason is None else reason_name(record.reason),
        "withdrawn_by": _withdrawn_by(record),
        "applied_at": encode_timestamp(record.applied_at),
        "withdrawn_at": optional_instant(record.withdrawn_at),
        "expires_at": optional_instant(record.expires_at),
        "body": _as_it_is(record.body) if has_body else None,
        "opinion": opinion,
        "opinions": [_show_opinion(said) for said in detail.opinions],
    }


@operation(
    "GET",
    "/v1/records/{ref}/receipt",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=BytesAnswer(RECEIPT_TYPE),
    raises=(UnknownRecordError, NotServedError, ErasedError, WithheldError),
)
async def get_receipt(call: Call[None]) -> bytes:
    """Give a file that proves the record to anybody who has the log's key.

    It is a `.tlog-proof` that holds the record, its place in the log and the signed
    checkpoint; `hashlight verify` checks it without a network.
    """
    return await call.parts.inspect.receipt(call.ref)


@operation(
    "GET",
    "/v1/records/{ref}/erasure",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(ErasureAnswer),
    raises=(UnknownRecordError,),
)
async def get_erasure(call: Call[None]) -> ErasureAnswer:
    """Tell which peers have confirmed by signature that they took a record back.

    For a record that was erased the proofs are about the ERASE, and those about the
    RETRACT stand beside them if it was retracted as well. A peer that has the record
    stays here as missing, also when its grant was revoked or it is in quarantine.
    """
    return show_erasure(await call.parts.inspect.erasure(call.ref))


def _as_it_is(body: bytes) -> dict[str, Any]:
    """Let the exact bytes that the log commits to into an answer."""
    return cast("dict[str, Any]", orjson.Fragment(body))


def _is_reviewed(body: bytes) -> bool:
    parsed = parse_record(body)
    return isinstance(parsed, Indicator) and parsed.review.level == REVIEWED


def _withdrawn_by(record: StoredRecord) -> str | None:
    if record.withdrawn_by is None:
        return None
    return encode_ref(Ref(record.ref.origin, record.withdrawn_by))


def _show_opinion(opinion: StoredOpinion) -> OpinionShown:
    return {
        "node": opinion.node,
        "ref": encode_ref(opinion.ref),
        "signal": opinion.signal_type,
        "stance": opinion.stance,
        "reason": opinion.reason,
    }


OPERATIONS: Final = (get_record, get_receipt, get_erasure)
