"""Why something is, was or would be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from hashlight_node.api.errors import InvalidParameterError, NotFoundError
from hashlight_node.model import Scope
from hashlight_node.store import matches as store
from hashlight_protocol import Ref, encode_ref, encode_timestamp

from .answers import JsonAnswer
from .bodies import JsonBody
from .instants import optional_instant
from .lookup import parse_past, show_list, show_past_list, show_result
from .models.explain import ExplainAnswer, ExplainedMatch, ExplainRequest, MatchPage
from .models.lookup import Query
from .operations import NO_BODY, Call, operation
from .paging import number_key
from .queries import parse_queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.exchange.looking_up.explain import ExplainedMatch as FoundMatch
    from hashlight_node.exchange.looking_up.explain import ProvenRecord
    from hashlight_node.matching.judging import Match
    from hashlight_node.store.matches import StoredMatch

    from .models.explain import (
        DecisionShown,
        KnownSignal,
        LoggedMatch,
        LoggedSignal,
        PolicyShown,
        ProofShown,
        ProvenShown,
    )

EXPLAIN_BYTES: Final = 65_536


@operation(
    "POST",
    "/v1/explain",
    scope=Scope.AUDIT,
    takes=JsonBody(ExplainRequest, max_bytes=EXPLAIN_BYTES),
    gives=JsonAnswer(ExplainAnswer),
)
async def explain_signal(call: Call[ExplainRequest]) -> ExplainAnswer:
    """Explain what is known about a signal, now or at a time in the past.

    The answer is that of a lookup, with the rule that decided about each match and the
    proof of each record. Asking counts as no match.
    """
    body = call.body
    (query,) = parse_queries([Query(type=body.type, value=body.value)])
    at = None if body.as_of is None else parse_past(body.as_of, call.parts.clock())
    found = await call.parts.explain.signal(query, at=at)
    policy = cast("PolicyShown", found.policy)
    return {
        "result": show_result(found.result),
        "lists": [
            *(show_list(it) for it in found.lists),
            *(show_past_list(it, found.at) for it in found.past_lists),
        ],
        "policy": policy,
        "decisions": [_show_decision(it, policy) for it in found.result.matches],
        "records": [_show_proven(it) for it in found.records],
        "more_records": found.more_records,
    }


@operation(
    "GET",
    "/v1/matches{?after}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(MatchPage, page_of="matches"),
)
async def list_matches(call: Call[None]) -> MatchPage:
    """List the matches that were written down, oldest first.

    They are if the setting `log_matches` says so, about a second after the answer.
    """
    after = int(call.page.after or _number(call.query.get("after", "0")))
    found = await call.parts.database.read(
        lambda conn: store.page_matches(conn, after, call.page.limit + 1)
    )
    rows, cursor = call.page.cut(found, lambda it: number_key(it.match_id))
    return {"matches": [_show_logged(it) for it in rows], "next_cursor": cursor}


@operation(
    "GET",
    "/v1/matches/{id}",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(ExplainedMatch),
    raises=(NotFoundError,),
)
async def explain_match(call: Call[None]) -> ExplainedMatch:
    """Explain a match that was written down.

    Shows the records that it named as they are now, each with a receipt and with a
    proof that it was in its list then, the state of all lists then, and the policy and
    the rule that decided. What was erased since is not shown.
    """
    found = await call.parts.explain.match(call.row_id)
    if found is None:
        raise NotFoundError
    return {
        "match": _show_logged(found.match),
        "policy": cast("PolicyShown", found.policy),
        "signals": _show_signals(found),
        "lists": [
            {
                "origin": it.origin,
                "tree_size": it.tree_size,
                "root_hash": it.root_hash.hex(),
                "applied_at": encode_timestamp(it.applied_at),
            }
            for it in found.lists
        ],
        "records": [_show_proven(it) for it in found.records],
        "more_records": found.more_records,
    }


def _number(after: str) -> str:
    """Tell a match's number from the id of an event, which `after` may also be."""
    if not after.isdigit():
        name = "after"
        raise InvalidParameterError(name, "is not the number of a match")
    return after


def _show_decision(match: Match, policy: PolicyShown) -> DecisionShown:
    decided = match.decided_by
    return {
        "signal": {"type": match.signal.type, "value": match.signal.value},
        "handling": match.handling,
        "rule": decided.rule,
        "rule_text": _rule(policy, decided.rule),
        "because": decided.because,
        "ref": encode_ref(decided.ref),
    }


def _rule(policy: Mapping[str, Any], index: int | None) -> dict[str, str] | None:
    rules: Sequence[dict[str, str]] = policy["rules"]
    return None if index is None else rules[index]


def _show_proven(record: ProvenRecord) -> ProvenShown:
    proof: ProofShown | None = None
    if record.proof is not None:
        proof = {
            "leaf_index": record.ref.leaf_index,
            "tree_size": record.proof.tree_size,
            "root_hash": record.proof.root_hash.hex(),
            "hashes": [it.hex() for it in record.proof.hashes],
        }
    return {
        "ref": encode_ref(record.ref),
        "state": record.state,
        "withdrawn_at": optional_instant(record.withdrawn_at),
        "receipt": None if record.receipt is None else record.receipt.decode(),
        "problem": record.problem,
        "proof": proof,
    }


def _show_logged(match: StoredMatch) -> LoggedMatch:
    event: Mapping[str, Any] = orjson.loads(match.event)
    shown = {
        "id": match.match_id,
        "matched_at": encode_timestamp(match.matched_at),
        "request_id": event["request"],
        "type": event["type"],
        "handling": match.handling,
        "matches": [_show_logged_signal(it) for it in event["matches"]],
        "more_matches": event["more_matches"],
        "truncated": event["truncated"],
    }
    return cast("LoggedMatch", shown)


def _show_logged_signal(match: Mapping[str, Any]) -> LoggedSignal:
    kept = (
        "distance",
        "threshold",
        "opinion",
        "handling",
        "allowed",
        "flooded",
        "rule",
        "because",
        "more_records",
    )
    shown = {
        "signal_id": match["signal"],
        **{name: match[name] for name in kept},
        "decided_by": encode_ref(Ref(*match["decided_by"])),
        "records": [encode_ref(Ref(*it)) for it in match["records"]],
    }
    return cast("LoggedSignal", shown)


def _show_signals(found: FoundMatch) -> list[KnownSignal]:
    shown: list[KnownSignal] = []
    for match in found.event["matches"]:
        signal = found.signals.get(match["signal"])
        shown.append(
            {
                "signal_id": match["signal"],
                "signal": None
                if signal is None
                else {"type": signal.type, "value": signal.value},
                "rule_text": _rule(found.policy, match["rule"]),
            }
        )
    return shown


OPERATIONS: Final = (explain_signal, list_matches, explain_match)
