"""Who has seen and who has applied how much of our lists, and their signed word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import InvalidParameterError
from hashlight_node.exchange.errors import UnknownListError, UnknownPeerError
from hashlight_node.model import Scope
from hashlight_node.store.delivery_history import Moment, Signed
from hashlight_protocol import Ref, encode_ref, encode_timestamp

from .answers import JsonAnswer
from .instants import optional_instant
from .models.deliveries import SignedNotePage, StandingPage
from .operations import NO_BODY, Call, operation
from .paging import encode_cursor

if TYPE_CHECKING:
    from hashlight_node.exchange.telling.standing import Overdue, Progress, Standing
    from hashlight_node.store.delivery_history import SignedNote

    from .models.deliveries import (
        OverdueShown,
        ProgressShown,
        SignedNoteShown,
        StandingShown,
    )

_MOMENT: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-(delivered|applied)")


@operation(
    "GET",
    "/v1/lists/{list}/deliveries",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(StandingPage, page_of="deliveries"),
    raises=(UnknownListError,),
)
async def list_deliveries(call: Call[None]) -> StandingPage:
    """Show who has one of our lists, how far each is, and who lags behind.

    Listed is every peer that may fetch the list, could once, or has confirmed anything
    of it, and every node that gets it from one of them and has confirmed that.
    """
    found = await call.parts.inspect.deliveries(call.path["list"])
    rows, cursor = call.page.cut(found, lambda one: one.peer_name)
    return {"deliveries": [show_standing(one) for one in rows], "next_cursor": cursor}


@operation(
    "GET",
    "/v1/lists/{list}/deliveries/{peer}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(SignedNotePage, page_of="notes"),
    raises=(InvalidParameterError, UnknownListError, UnknownPeerError),
)
async def list_signed_notes(call: Call[None]) -> SignedNotePage:
    """Give what a peer has signed about one of our lists, the newest first.

    `hashlight verify NOTE --vkey LOG --cosigner PEER` checks each without a network.
    """
    found = await call.parts.inspect.signed_notes(
        call.path["list"],
        call.path["peer"],
        before=_parse_moment(call.page.after),
        limit=call.page.limit + 1,
    )
    notes = found.notes[: call.page.limit]
    cursor = None
    if len(notes) < len(found.notes):
        moment = notes[-1][0].moment
        key = f"{moment.at}-{moment.tree_size}-{moment.said}"
        cursor = encode_cursor(call.page.kind, key)
    return {
        "origin": found.origin,
        "notes": [_show_note(one, cosigner) for one, cosigner in notes],
        "next_cursor": cursor,
    }


def show_standing(standing: Standing) -> StandingShown:
    """Describe in an answer where a peer stands with a list."""
    delivered, applied = standing.delivered, standing.applied
    return {
        "peer": standing.peer_name,
        "via": standing.via,
        "peer_state": standing.peer_state,
        "is_granted": standing.is_granted,
        "origin": standing.origin,
        "delivered": None if delivered is None else _show_progress(delivered),
        "applied": _show_progress(applied),
        "lag_records": applied.lag_records,
        "lag_seconds": applied.lag_seconds,
        "heartbeat_at": optional_instant(standing.heartbeat_at),
        "unacknowledged": _show_overdue(standing.origin, standing.overdue),
    }


def _show_progress(progress: Progress) -> ProgressShown:
    return {
        "tree_size": progress.tree_size,
        "at": optional_instant(progress.at),
        "lag_records": progress.lag_records,
        "lag_seconds": progress.lag_seconds,
    }


def _show_overdue(origin: str, overdue: Overdue | None) -> OverdueShown | None:
    if overdue is None:
        return None
    return {
        "entry": encode_ref(Ref(origin, overdue.leaf_index)),
        "kind": "erase" if overdue.kind == "erase" else "retract",
        "age_seconds": overdue.age_seconds,
    }


def _show_note(one: SignedNote, cosigner: str) -> SignedNoteShown:
    return {
        "kind": Signed(one.moment.said),
        "tree_size": one.moment.tree_size,
        "at": encode_timestamp(one.moment.at),
        "note": one.note.decode(),
        "cosigner": cosigner,
    }


def _parse_moment(key: str) -> Moment | None:
    if not key:
        return None
    found = _MOMENT.fullmatch(key)
    if found is None:
        raise InvalidParameterError("cursor", "is not one of this list")
    return Moment(int(found[1]), int(found[2]), found[3])


OPERATIONS: Final = (list_deliveries, list_signed_notes)
