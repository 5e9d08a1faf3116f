"""Near duplicates among what is known."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from hashlight_node.model import Scope
from hashlight_protocol import parse_signal

from .answers import JsonAnswer
from .bodies import JsonBody
from .models.policy import ClusterRequest, ClusterShown
from .operations import Call, operation

if TYPE_CHECKING:
    from hashlight_node.exchange.looking_up.clusters import KnownMember

    from .models.policy import MemberShown


@operation(
    "POST",
    "/v1/clusters",
    scope=Scope.AUDIT,
    takes=JsonBody(ClusterRequest),
    gives=JsonAnswer(ClusterShown),
)
async def find_cluster(call: Call[ClusterRequest]) -> ClusterShown:
    """Find the near duplicates of a hash.

    From the hash to the known ones near it, to those near them, and on, up to 1,000.
    Members are linked and not merged: each keeps its own records and opinions.
    """
    query = parse_signal(call.body.type, call.body.value)
    cluster = await call.parts.clusters.find(query, max_distance=call.body.max_distance)
    held = Counter(name for it in cluster.members for name in it.lists)
    return {
        "query": {"type": query.type, "value": query.value},
        "threshold": cluster.threshold,
        "members": [_show(member) for member in cluster.members],
        "lists": [{"list": name, "members": held[name]} for name in sorted(held)],
        "truncated": cluster.truncated,
    }


def _show(known: KnownMember) -> MemberShown:
    return {
        "signal": {"type": "pdq", "value": known.member.value},
        "distance": known.member.distance,
        "links": known.member.links,
        "records": known.record_count,
        "lists": list(known.lists),
    }


OPERATIONS: Final = (find_cluster,)
