"""Records into our lists: as they come, checked, written once as compact JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import orjson
from typing_extensions import override

from hashlight_node.api.errors import Fault, InvalidBodyError
from hashlight_node.exchange.errors import (
    EmptyRequestError,
    ForeignRecordError,
    IdempotencyConflictError,
    ListInactiveError,
    NoRoomError,
    RolledBackError,
    UnconfirmedError,
    UnknownListError,
    UnknownRecordError,
)
from hashlight_node.model import Scope
from hashlight_node.store.bodies import read_record
from hashlight_node.store.meanings import known_meaning
from hashlight_node.store.reissues import current_ref
from hashlight_protocol import (
    BadRecordError,
    MalformedError,
    Reason,
    UnknownCriticalError,
    UnknownRecord,
    encode_ref,
    parse_origin,
    parse_ref,
)

from .answers import JsonAnswer
from .bodies import JSON, JsonBody, Received, Takes, read_json
from .erasures import show_erasure
from .models.lists import Erasure, ReasonName, RefsAnswer, Retraction
from .models.records import MAX_RECORDS, RecordsBody, WithdrawalAnswer
from .operations import Call, operation
from .strict_json import WHAT, parse_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from hashlight_node.exchange.publishing.publish import WithdrawalKind
    from hashlight_protocol import JsonValue

    from .bodies import SchemaOf
    from .parts import LocalLimits


_AT_ONCE_BYTES: Final = 65_536
"""What is parsed between other requests; more takes long and goes to a thread."""


class RecordsInBody(Takes[tuple[bytes, ...]]):
    """One record, or `{"records": […]}`, as the exact bytes of each record."""

    models = (RecordsBody,)
    is_idempotent = True

    @override
    def content(self, schema_of: SchemaOf) -> Mapping[str, object]:
        return {JSON: {"schema": schema_of(RecordsBody)}}

    @override
    async def read(
        self, request: web.Request, limits: LocalLimits
    ) -> Received[tuple[bytes, ...]]:
        raw = await read_json(request, max_bytes=limits.request_bytes)
        if len(raw) <= _AT_ONCE_BYTES:
            return Received(_read_bodies(raw), raw)
        return Received(await asyncio.to_thread(_read_bodies, raw), raw)


def _read_bodies(raw: bytes) -> tuple[bytes, ...]:
    return encode_bodies(parse_any(raw))


def encode_bodies(value: JsonValue) -> tuple[bytes, ...]:
    """Write the records of a request as the bytes that our log will commit to.

    Members that this version does not know are kept: what is written is what came,
    without the white space.

    Raises:
        MalformedError: It is not an object.
        EmptyRequestError: It holds no record.
        ProtocolError: One of them is not a record that we may publish; a pointer
            names its place in the request.
    """
    if not isinstance(value, dict):
        raise MalformedError(WHAT, "it is no object")
    if "records" not in value or "type" in value:
        return (_encode_body(value, ""),)
    records = value["records"]
    if len(value) > 1 or not isinstance(records, list) or len(records) > MAX_RECORDS:
        raise BadRecordError(
            "/records", f"it is not an array of 1 to {MAX_RECORDS}, and alone"
        )
    if not records:
        raise EmptyRequestError
    return tuple(
        _encode_body(record, f"/records/{position}")
        for position, record in enumerate(records)
    )


def _encode_body(record: JsonValue, place: str) -> bytes:
    body = orjson.dumps(record)
    if known_meaning(body) is not None:
        return body
    try:
        parsed = read_record(body)
    except BadRecordError as error:
        raise BadRecordError(place + error.pointer, error.reason) from error
    if isinstance(parsed, UnknownRecord):
        # Peers would keep it and nobody act on it: more likely a slip than a wish.
        raise BadRecordError(f"{place}/type", "it is not a type that this node knows")
    return body


@operation(
    "POST",
    "/v1/lists/{list}/records",
    scope=Scope.PUBLISH,
    takes=RecordsInBody(),
    gives=JsonAnswer(RefsAnswer, status=201),
    raises=(
        BadRecordError,
        EmptyRequestError,
        UnknownCriticalError,
        UnknownListError,
        ListInactiveError,
        NoRoomError,
        RolledBackError,
        UnconfirmedError,
        IdempotencyConflictError,
    ),
)
async def publish_records(call: Call[tuple[bytes, ...]]) -> RefsAnswer:
    """Publish records in one of our lists: one, or up to 1,000 together.

    All of them are in the signed log when the answer comes, or none is. Peers with a
    grant are told at once.
    """
    refs = await call.parts.publisher.publish(
        call.path["list"], call.body, idempotency=call.idempotency
    )
    return {"refs": [encode_ref(ref) for ref in refs]}


REASONS: Final[dict[ReasonName, Reason]] = {
    "unspecified": Reason.UNSPECIFIED,
    "withdrawn": Reason.WITHDRAWN,
    "false-positive": Reason.FALSE_POSITIVE,
    "expired": Reason.EXPIRED,
    "superseded": Reason.SUPERSEDED,
    "compromise": Reason.COMPROMISE,
}
_REASON_NAMES: Final = {reason: name for name, reason in REASONS.items()}
_WITHDRAWAL_ERRORS: Final = (
    ForeignRecordError,
    IdempotencyConflictError,
    ListInactiveError,
    UnknownListError,
    UnknownRecordError,
)


@operation(
    "POST",
    "/v1/lists/{list}/retract",
    scope=Scope.PUBLISH,
    takes=JsonBody(Retraction, is_idempotent=True),
    gives=JsonAnswer(WithdrawalAnswer, status=201),
    raises=_WITHDRAWAL_ERRORS,
)
async def retract_record(call: Call[Retraction]) -> WithdrawalAnswer:
    """Take a record back: every follower stops matching it.

    Who has confirmed that by signature is at `/v1/records/{ref}/erasure`, too.
    """
    return await _withdraw(call, "retract")


@operation(
    "POST",
    "/v1/lists/{list}/erase",
    scope=Scope.PUBLISH,
    takes=JsonBody(Erasure, is_idempotent=True),
    gives=JsonAnswer(WithdrawalAnswer, status=201),
    raises=_WITHDRAWAL_ERRORS,
)
async def erase_record(call: Call[Erasure]) -> WithdrawalAnswer:
    """Take a record back and destroy its content everywhere.

    Here it is gone when the answer comes. It names the peers that have it, most of
    which cannot have signed for the erasure yet; ask `/v1/records/{ref}/erasure` again.
    """
    return await _withdraw(call, "erase")


async def _withdraw(
    call: Call[Retraction] | Call[Erasure], kind: WithdrawalKind
) -> WithdrawalAnswer:
    ref = parse_ref(call.body.ref)
    if parse_origin(ref.origin).list_name != call.path["list"]:
        raise InvalidBodyError((Fault("/ref", "it names a record of another list"),))
    done = await call.parts.publisher.withdraw(
        ref, kind, REASONS[call.body.reason], idempotency=call.idempotency
    )
    record = await call.parts.database.read(lambda conn: current_ref(conn, ref))
    report = show_erasure(await call.parts.inspect.erasure(ref))
    return {
        "ref": encode_ref(done),
        "record": encode_ref(record),
        "is_complete": report["is_complete"],
        "peers": report["peers"],
    }


def reason_name(reason: Reason) -> ReasonName:
    """Give the word for why a record was taken back."""
    return _REASON_NAMES[reason]


OPERATIONS: Final = (publish_records, retract_record, erase_record)
