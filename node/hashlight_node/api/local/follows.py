"""Lists of peers that we copy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import (
    ExchangeError,
    FollowQuarantinedError,
    PeerQuarantinedError,
    UnknownFollowError,
    UnknownPeerError,
)
from hashlight_node.model import Scope
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerUnavailableError,
)
from hashlight_node.store import peers as store
from hashlight_node.store import withheld
from hashlight_protocol import encode_timestamp

from .answers import JsonAnswer, NoAnswer
from .bodies import JsonBody
from .instants import optional_instant
from .models.peering import (
    FollowDetail,
    FollowPage,
    NewFollow,
    SyncAnswer,
    SyncedShown,
    SyncFailure,
    SyncRequest,
)
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.exchange.following.follow import SyncReport
    from hashlight_node.model import Follow

    from .parts import LocalParts


@operation(
    "POST",
    "/v1/follows",
    scope=Scope.ADMIN,
    takes=JsonBody(NewFollow),
    gives=JsonAnswer(FollowDetail, status=201),
    raises=(UnknownPeerError,),
)
async def create_follow(call: Call[NewFollow]) -> FollowDetail:
    """Copy a list of a peer from now on.

    The first copy begins at once. While the peer has not granted the list, the follow
    waits.
    """
    body = call.body
    followed = await call.parts.peering.follow(body.peer, body.list, via=body.via)
    return (await _show_all(call.parts, [followed]))[0]


@operation(
    "GET",
    "/v1/follows",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(FollowPage, page_of="follows"),
)
async def list_follows(call: Call[None]) -> FollowPage:
    """List what is copied of whom, and how that stands."""
    follows = await call.parts.database.read(store.list_follows)
    rows, cursor = call.page.cut(
        follows, lambda follow: f"{follow.peer_name}/{follow.list_name}"
    )
    return {"follows": await _show_all(call.parts, rows), "next_cursor": cursor}


@operation(
    "DELETE",
    "/v1/follows/{peer}/{list}",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=NoAnswer(),
    raises=(UnknownPeerError, UnknownFollowError),
)
async def delete_follow(call: Call[None]) -> None:
    """Stop copying a list of a peer."""
    await call.parts.peering.unfollow(call.path["peer"], call.path["list"])


@operation(
    "POST",
    "/v1/sync",
    scope=Scope.ADMIN,
    takes=JsonBody(SyncRequest, is_required=False),
    gives=JsonAnswer(SyncAnswer),
    raises=(
        UnknownPeerError,
        UnknownFollowError,
        PeerQuarantinedError,
        FollowQuarantinedError,
        PeerUnavailableError,
        PeerMisbehavedError,
    ),
)
async def sync(call: Call[SyncRequest]) -> SyncAnswer:
    """Pull followed lists now: all, those of a peer, or those of one name.

    The answer comes when all is done. What could not be pulled is under `errors`;
    only if exactly one list was asked for, by peer and name, its error is the answer.
    """
    peer, name = call.body.peer, call.body.list
    if peer is not None and name is not None:
        return _sort([await call.parts.follower.sync(peer, name)])
    if peer is None and name is None:
        return _sort(await call.parts.follower.sync_all())
    follows = await call.parts.database.read(store.list_follows)
    wanted = [
        follow
        for follow in follows
        if peer in (None, follow.peer_name) and name in (None, follow.list_name)
    ]
    if not wanted and peer is not None:
        raise UnknownFollowError(peer, name or "*")
    return await _sync_each(call.parts, wanted)


async def _sync_each(parts: LocalParts, wanted: list[Follow]) -> SyncAnswer:
    """Pull several lists; the failure of one stops no other."""
    outcomes = await asyncio.gather(
        *(parts.follower.sync(each.peer_name, each.list_name) for each in wanted),
        return_exceptions=True,
    )
    reports: list[SyncReport] = []
    failures: list[SyncFailure] = []
    for follow, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, (ExchangeError, PeerError)):
            failures.append(
                {
                    "peer": follow.peer_name,
                    "list": follow.list_name,
                    "detail": str(outcome),
                }
            )
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            reports.append(outcome)
    answer = _sort(reports)
    return {"synced": answer["synced"], "errors": [*answer["errors"], *failures]}


def _sort(reports: list[SyncReport]) -> SyncAnswer:
    """Tell apart what was pulled and what was not."""
    return {
        "synced": [_show_report(report) for report in reports if report.error is None],
        "errors": [
            {
                "peer": report.peer_name,
                "list": report.list_name,
                "detail": report.error,
            }
            for report in reports
            if report.error is not None
        ],
    }


def _show_report(report: SyncReport) -> SyncedShown:
    return {
        "peer": report.peer_name,
        "list": report.list_name,
        "origin": report.origin,
        "state": report.state,
        "old_size": report.old_size,
        "new_size": report.new_size,
        "records": report.records,
        "retractions": report.retractions,
        "erasures": report.erasures,
        "seconds": round(report.seconds, 6),
    }


async def _show_all(parts: LocalParts, follows: Sequence[Follow]) -> list[FollowDetail]:
    counts = await parts.database.read(withheld.count_by_list)
    return [
        _show(follow, counts.get((follow.peer_name, follow.list_name), 0))
        for follow in follows
    ]


def _show(follow: Follow, withheld_count: int) -> FollowDetail:
    return {
        "peer": follow.peer_name,
        "list": follow.list_name,
        "state": follow.state,
        "followed_at": encode_timestamp(follow.followed_at),
        "synced_at": optional_instant(follow.synced_at),
        "error": follow.error,
        "via": follow.via,
        "may_relay": follow.may_relay,
        "withheld": withheld_count,
    }


OPERATIONS: Final = (create_follow, list_follows, delete_follow, sync)
