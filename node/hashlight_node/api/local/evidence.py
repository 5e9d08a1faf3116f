"""What peers were caught at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import NotFoundError
from hashlight_node.model import Scope
from hashlight_node.store import deliveries as store
from hashlight_node.store import forks as fork_store
from hashlight_protocol import encode_timestamp

from .answers import BytesAnswer, JsonAnswer
from .models.operating import EvidenceDetail, EvidencePage, ForkDetail, ForkPage
from .operations import NO_BODY, Call, operation
from .paging import number_key

if TYPE_CHECKING:
    from hashlight_node.model import Evidence


@operation(
    "GET",
    "/v1/evidence",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(EvidencePage, page_of="evidence"),
)
async def list_evidence(call: Call[None]) -> EvidencePage:
    """List what peers were caught at."""
    found = await call.parts.database.read(store.list_evidence)
    rows, cursor = call.page.cut(found, lambda row: number_key(row.evidence_id))
    return {"evidence": [_show(row) for row in rows], "next_cursor": cursor}


@operation(
    "GET",
    "/v1/evidence/{id}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=BytesAnswer("application/octet-stream"),
    raises=(NotFoundError,),
)
async def get_evidence(call: Call[None]) -> bytes:
    """Give the bytes that show what a peer did, exactly as they came."""
    evidence_id = call.row_id
    found = await call.parts.database.read(
        lambda conn: store.read_evidence(conn, evidence_id)
    )
    if found is None:
        raise NotFoundError
    return found.payload


@operation(
    "GET",
    "/v1/forks",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(ForkPage, page_of="forks"),
)
async def list_forks(call: Call[None]) -> ForkPage:
    """List the logs that showed two histories, each with what proves it."""
    found = await call.parts.database.read(fork_store.list_forks)
    rows, cursor = call.page.cut(found, lambda row: row.origin)
    shown: list[ForkDetail] = [
        {
            "origin": row.origin,
            "found_at": encode_timestamp(row.found_at),
            "evidence": row.evidence.decode(),
        }
        for row in rows
    ]
    return {"forks": shown, "next_cursor": cursor}


def _show(evidence: Evidence) -> EvidenceDetail:
    return {
        "id": evidence.evidence_id,
        "peer": evidence.peer_name,
        "list": evidence.list_name,
        "code": evidence.code,
        "what": evidence.what,
        "found_at": encode_timestamp(evidence.found_at),
        "size_bytes": len(evidence.payload),
    }


OPERATIONS: Final = (list_evidence, get_evidence, list_forks)
