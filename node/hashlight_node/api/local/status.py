"""The node at a glance."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.following.freshness import Freshness
from hashlight_node.model import Scope
from hashlight_protocol import encode_timestamp

from .answers import JsonAnswer
from .deliveries import show_standing
from .grants import show_grant
from .instants import optional_instant
from .models.status import StatusAnswer
from .operations import NO_BODY, Call, operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashlight_node.exchange.following.copies import CopyUnderWay
    from hashlight_node.exchange.operating.alerts import Alert
    from hashlight_node.exchange.operating.inspect import ListStatus, PeerStatus
    from hashlight_node.exchange.telling.standing import Standing

    from .models.status import (
        AlertShown,
        CopyingShown,
        FreshnessName,
        ListStatusShown,
        PeerStatusShown,
    )

_NAMES: Final[Mapping[Freshness, FreshnessName]] = {
    Freshness.FRESH: "fresh",
    Freshness.WARN: "warn",
    Freshness.NO_RELAY: "no-relay",
    Freshness.STALE: "stale",
}


@operation(
    "GET",
    "/v1/status",
    scope=Scope.AUDIT,
    takes=NO_BODY,
    gives=JsonAnswer(StatusAnswer),
)
async def get_status(call: Call[None]) -> StatusAnswer:
    """Show the lists, how far they are, and how the exchange with each peer stands."""
    status = await call.parts.inspect.status()
    return {
        "node": status.node,
        "lists": [
            _show_list(each, call.parts.follower.copy_under_way(each.origin))
            for each in status.lists
        ],
        "peers": [
            _show_peer(each, status.standings, call.parts.clock_offset(each.name))
            for each in status.peers
        ],
        "behind_relays": [
            show_standing(one) for one in status.standings if one.via is not None
        ],
        "alerts": [_show_alert(one) for one in status.alerts],
        "signals": dict(call.parts.matcher.sizes()),
    }


def _show_list(status: ListStatus, copy: CopyUnderWay | None) -> ListStatusShown:
    return {
        "origin": status.origin,
        "node": status.node,
        "name": status.list_name,
        "role": status.role,
        "state": status.state,
        "size": status.size,
        "checkpoint_size": status.checkpoint_size,
        "root_hash": status.root_hash.hex(),
        "follow_state": status.follow_state,
        "lag_seconds": status.lag_seconds,
        "error": status.error,
        "freshness": _NAMES[status.freshness],
        "copying": None if copy is None else _show_copy(copy),
    }


def _show_copy(copy: CopyUnderWay) -> CopyingShown:
    left = copy.seconds_left
    return {
        "size": copy.size,
        "target_size": copy.target_size,
        "entries_per_second": round(copy.per_second),
        "seconds_left": None if left is None else ceil(left),
    }


def _show_alert(alert: Alert) -> AlertShown:
    return {
        "severity": alert.severity,
        "code": alert.code,
        "peer": alert.peer_name,
        "list": alert.list_name,
        "origin": alert.origin,
        "age_seconds": alert.age_seconds,
        "detail": alert.detail,
    }


def _show_peer(
    status: PeerStatus,
    standings: Sequence[Standing],
    clock_offset_seconds: int | None,
) -> PeerStatusShown:
    return {
        "name": status.name,
        "base": status.base,
        "state": status.state,
        "contacted_at": optional_instant(status.contacted_at),
        "clock_offset_seconds": clock_offset_seconds,
        "grants": [*map(show_grant, status.grants)],
        "follows": [follow.list_name for follow in status.follows],
        "deliveries": [
            {
                "origin": delivery.origin,
                "tree_size": delivery.tree_size,
                "cosigned_at": encode_timestamp(delivery.cosigned_at),
            }
            for delivery in status.deliveries
        ],
        "acknowledgements": [
            {
                "origin": acknowledged.origin,
                "tree_size": acknowledged.tree_size,
                "acknowledged_at": encode_timestamp(acknowledged.acknowledged_at),
            }
            for acknowledged in status.acknowledgements
        ],
        "evidence": status.evidence,
        "lists": [
            show_standing(one)
            for one in standings
            if one.via is None and one.peer_name == status.name
        ],
    }


OPERATIONS: Final = (get_status,)
