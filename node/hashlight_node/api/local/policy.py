"""The operator's word: the allow list, and trying a policy before it counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from hashlight_node.api.errors import Fault, InvalidBodyError, NotFoundError
from hashlight_node.matching.policy import MatchKind, Policy, Rule, severity
from hashlight_node.model import Handling, OpinionFold, Scope
from hashlight_protocol import BadSignalError, encode_timestamp, parse_signal

from .answers import JsonAnswer, NoAnswer
from .bodies import JsonBody
from .lookup import LOOKUP_BYTES
from .models.policy import (
    AllowedDetail,
    AllowedPage,
    NewAllowed,
    PolicyTrial,
    TrialAnswer,
)
from .operations import NO_BODY, Call, operation
from .paging import number_key
from .queries import parse_queries

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashlight_node.exchange.operating.policies import Trial
    from hashlight_node.model import AllowedSignal

    from .models.policy import HandlingCounts, PolicyDraft, PolicyRule, TriedShown

_PDQ: Final = "pdq"


@operation(
    "POST",
    "/v1/allowed",
    scope=Scope.ADMIN,
    takes=JsonBody(NewAllowed),
    gives=JsonAnswer(AllowedDetail, status=201),
    raises=(BadSignalError,),
)
async def create_allowed(call: Call[NewAllowed]) -> AllowedDetail:
    """Say that a signal is harmless.

    Matches of it, and of queries that it covers, are handled as `ignore` and say
    `allowed`; they are not hidden. An entry for the same signal is replaced. The
    allow list is this node's alone.
    """
    body = call.body
    signal = parse_signal(body.type, body.value)
    if body.max_distance and signal.type != _PDQ:
        raise InvalidBodyError((Fault("/max_distance", "is 0 unless type is pdq"),))
    entry = await call.parts.policies.allow(
        signal, max_distance=body.max_distance, note=body.note
    )
    return _show(entry)


@operation(
    "GET",
    "/v1/allowed",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(AllowedPage, page_of="allowed"),
)
async def list_allowed(call: Call[None]) -> AllowedPage:
    """List what is said to be harmless."""
    entries = await call.parts.policies.allowed()
    rows, cursor = call.page.cut(entries, lambda it: number_key(it.allowed_id))
    return {"allowed": [_show(entry) for entry in rows], "next_cursor": cursor}


@operation(
    "DELETE",
    "/v1/allowed/{id}",
    scope=Scope.ADMIN,
    takes=NO_BODY,
    gives=NoAnswer(),
    raises=(NotFoundError,),
)
async def delete_allowed(call: Call[None]) -> None:
    """Take an entry back; the policy decides again from the next lookup on."""
    if not await call.parts.policies.disallow(call.row_id):
        raise NotFoundError


@operation(
    "POST",
    "/v1/policy/try",
    scope=Scope.AUDIT,
    takes=JsonBody(PolicyTrial, max_bytes=LOOKUP_BYTES),
    gives=JsonAnswer(TrialAnswer),
)
async def try_policy(call: Call[PolicyTrial]) -> TrialAnswer:
    """Try a policy on 1 to 1,000 signals before it counts.

    Each is matched against what is live now and judged twice. Nothing is changed, and
    the flood breaker neither counts nor decides.
    """
    queries = parse_queries(call.body.queries)
    policy = _policy_of(call.body.policy)
    trials = await call.parts.policies.try_policy(queries, policy)
    return {
        "results": [_show_trial(trial) for trial in trials],
        "counts": {
            "now": _count(trial.now.handling for trial in trials),
            "then": _count(trial.then.handling for trial in trials),
            "changed": sum(it.now.handling is not it.then.handling for it in trials),
        },
    }


def _policy_of(draft: PolicyDraft) -> Policy:
    return Policy(tuple(map(_rule_of, draft.rules)), Handling(draft.default))


def _rule_of(rule: PolicyRule) -> Rule:
    return Rule(
        handling=Handling(rule.handling),
        list=rule.list,
        label=rule.label,
        review=rule.review,
        opinion=None if rule.opinion is None else OpinionFold(rule.opinion),
        match=None if rule.match is None else MatchKind(rule.match),
    )


def _count(handlings: Iterable[Handling]) -> HandlingCounts:
    counts = Counter(handlings)
    return {
        "block": counts[Handling.BLOCK],
        "review": counts[Handling.REVIEW],
        "ignore": counts[Handling.IGNORE],
    }


def _show_trial(trial: Trial) -> TriedShown:
    matches = trial.then.matches
    strictest = min(matches, key=lambda it: severity(it.handling), default=None)
    decided_by = None if strictest is None else strictest.decided_by
    return {
        "query": {"type": trial.now.query.type, "value": trial.now.query.value},
        "now": trial.now.handling,
        "then": trial.then.handling,
        "matches": len(matches),
        "rule": None if decided_by is None else decided_by.rule,
        "because": None if decided_by is None else decided_by.because,
    }


def _show(entry: AllowedSignal) -> AllowedDetail:
    return {
        "id": entry.allowed_id,
        "signal": {"type": entry.signal.type, "value": entry.signal.value},
        "max_distance": entry.max_distance,
        "note": entry.note,
        "created_at": encode_timestamp(entry.created_at),
    }


OPERATIONS: Final = (create_allowed, list_allowed, delete_allowed, try_policy)
