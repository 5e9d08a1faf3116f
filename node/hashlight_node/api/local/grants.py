"""What peers may fetch of our lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from hashlight_node.api.errors import RateLimitedError
from hashlight_node.exchange.errors import (
    UnknownListError,
    UnknownPeerError,
    UnknownRecordError,
)
from hashlight_node.model import Scope
from hashlight_node.store import peers as store
from hashlight_protocol import (
    WHOLE_LIST,
    MalformedError,
    TooLargeError,
    encode_ref,
    encode_scope,
    encode_timestamp,
    parse_ref,
    parse_scope,
)

from .answers import JsonAnswer, NoAnswer
from .bodies import JsonBody
from .models.peering import (
    GrantDetail,
    GrantDraft,
    GrantPage,
    GrantPreview,
    GrantQuestion,
    GrantVerdict,
    NewGrant,
)
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashlight_node.exchange.operating.previewing import Preview, Share, Verdict
    from hashlight_node.model import Grant
    from hashlight_protocol import GrantScope

    from .models.peering import (
        NewScope,
        PeerGrant,
        RecordFactsShown,
        ScopeShown,
        ShareShown,
    )


@operation(
    "POST",
    "/v1/grants",
    scope=Scope.ADMIN,
    takes=JsonBody(NewGrant),
    gives=JsonAnswer(GrantDetail, status=201),
    raises=(UnknownPeerError, UnknownListError, MalformedError, TooLargeError),
)
async def create_grant(call: Call[NewGrant]) -> GrantDetail:
    """Let a peer fetch one of our lists, whole or as far as a scope goes.

    Granting again replaces the scope. Where it is wider, the peer fetches what is new
    to it by itself; where it is narrower, the peer keeps what it has.
    """
    body = call.body
    scope = _scope(body.scope)
    grant = await call.parts.peering.grant(
        body.peer, body.list, scope=scope, may_relay=body.relay
    )
    return _show(grant)


@operation(
    "POST",
    "/v1/grants/preview",
    scope=Scope.AUDIT,
    takes=JsonBody(GrantDraft),
    gives=JsonAnswer(GrantPreview),
    raises=(
        UnknownPeerError,
        UnknownListError,
        MalformedError,
        RateLimitedError,
    ),
)
async def preview_grant(call: Call[GrantDraft]) -> GrantPreview:
    """Tell what a peer would see of a list with a grant, before it is given.

    Every record of the list is looked at, some ten thousand a second.
    Nothing changes. There are no values in the answer.
    """
    body = call.body
    async with call.parts.previews_made.turn():
        found = await call.parts.previews.preview(
            body.peer, body.list, _scope(body.scope), examples=body.examples
        )
    return _show_preview(body.peer, body.list, found)


@operation(
    "POST",
    "/v1/grants/explain",
    scope=Scope.AUDIT,
    takes=JsonBody(GrantQuestion),
    gives=JsonAnswer(GrantVerdict),
    raises=(UnknownPeerError, UnknownRecordError, MalformedError),
)
async def explain_grant(call: Call[GrantQuestion]) -> GrantVerdict:
    """Tell whether a peer is given a record of ours, and by what it is not."""
    body = call.body
    scope = None if body.scope is None else _scope(body.scope)
    verdict = await call.parts.previews.explain(body.peer, parse_ref(body.ref), scope)
    return _show_verdict(body.peer, verdict)


@operation(
    "GET",
    "/v1/grants",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(GrantPage, page_of="grants"),
)
async def list_grants(call: Call[None]) -> GrantPage:
    """List what is granted to whom."""
    grants = await call.parts.database.read(store.list_grants)
    rows, cursor = call.page.cut(
        grants, lambda grant: f"{grant.peer_name}/{grant.list_name}"
    )
    return {"grants": [_show(grant) for grant in rows], "next_cursor": cursor}


@operation(
    "DELETE",
    "/v1/grants/{peer}/{list}",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=NoAnswer(),
    raises=(UnknownPeerError,),
)
async def delete_grant(call: Call[None]) -> None:
    """Take a grant back.

    The peer can fetch nothing more of the list. What it has already, it has: erase
    records that it must not keep, before the grant is gone.
    """
    await call.parts.peering.revoke(call.path["peer"], call.path["list"])


def show_scope(scope: GrantScope | None) -> ScopeShown | None:
    """Describe a scope in an answer; null for the whole list."""
    members = None if scope is None else encode_scope(scope)
    return cast("ScopeShown | None", members)


def show_grant(grant: Grant) -> PeerGrant:
    """Describe a grant in an answer about its peer."""
    return {
        "list": grant.list_name,
        "granted_at": encode_timestamp(grant.granted_at),
        "scope": show_scope(grant.scope),
        "relay": grant.may_relay,
    }


def _scope(scope: NewScope | None) -> GrantScope:
    if scope is None:
        return WHOLE_LIST
    return parse_scope(scope.model_dump(exclude_none=True))


def _show(grant: Grant) -> GrantDetail:
    return {"peer": grant.peer_name, **show_grant(grant)}


def _show_preview(peer_name: str, list_name: str, found: Preview) -> GrantPreview:
    counts, examples = found.counts, found.examples
    return {
        "peer": peer_name,
        "list": list_name,
        "is_granted": found.present is not None,
        "present": show_scope(found.present),
        "proposed": show_scope(found.proposed),
        "live": _show_share(found.live),
        "newly_shown": found.newly_shown,
        "no_longer_shown": found.no_longer_shown,
        "counts": {
            "states": _show_shares(counts["states"]),
            "labels": _show_shares(counts["labels"]),
            "signal_types": _show_shares(counts["signal_types"]),
            "sources": _show_shares(counts["sources"]),
            "about": _show_shares(counts["about"]),
        },
        "examples": {
            "shown": [*map(encode_ref, examples.shown)],
            "hidden": [*map(encode_ref, examples.hidden)],
            "newly_shown": [*map(encode_ref, examples.newly_shown)],
            "no_longer_shown": [*map(encode_ref, examples.no_longer_shown)],
        },
    }


def _show_shares(shares: Mapping[str, Share]) -> dict[str, ShareShown]:
    return {word: _show_share(shares[word]) for word in sorted(shares)}


def _show_share(share: Share) -> ShareShown:
    return {"shown": share.shown, "hidden": share.hidden}


def _show_verdict(peer_name: str, verdict: Verdict) -> GrantVerdict:
    facts: RecordFactsShown | None = None
    if verdict.facts is not None:
        facts = {
            "labels": sorted(verdict.facts.labels),
            "signals": sorted(verdict.facts.signal_types),
            "about": verdict.facts.about,
        }
    return {
        "peer": peer_name,
        "ref": encode_ref(verdict.ref),
        "state": verdict.state,
        "is_shown": not verdict.obstacles,
        "scope": show_scope(verdict.scope),
        "facts": facts,
        "obstacles": [*verdict.obstacles],
    }


OPERATIONS: Final = (
    create_grant,
    list_grants,
    delete_grant,
    preview_grant,
    explain_grant,
)
