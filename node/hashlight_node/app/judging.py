"""What the settings say about matches, as what matches are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.matching.allowing import AllowList
from hashlight_node.matching.flood import (
    BUFFER_BYTES,
    FloodBreaker,
    FloodCounters,
    prepare_counts,
)
from hashlight_node.matching.judging import Criteria
from hashlight_node.matching.policy import MatchKind, Policy, Rule
from hashlight_node.matching.thresholds import Thresholds

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from hashlight_node.config import PolicySettings, Settings
    from hashlight_node.model import Clock


def build_criteria(
    settings: Settings, *, clock: Clock, flood_counts: Buffer | None = None
) -> Criteria:
    """Make what matches are judged by; the allow list is still empty.

    Args:
        settings: The node's.
        clock: Unix seconds.
        flood_counts: Memory that several processes share, to count matches together;
            see `FloodCounters`. None for a process that counts alone.
    """
    policy, matching = settings.policy, settings.matching
    flood = None
    if policy.flood_matches:
        counts = _own_counts() if flood_counts is None else flood_counts
        counters = FloodCounters(counts, window_seconds=policy.flood_seconds)
        flood = FloodBreaker(counters, limit=policy.flood_matches, clock=clock)
    return Criteria(
        policy=_policy(policy),
        node_name=settings.node.name,
        thresholds=Thresholds(
            matching.pdq_threshold, tuple(matching.thresholds.items())
        ),
        allowed=AllowList(),
        flood=flood,
    )


def _own_counts() -> Buffer:
    counts = bytearray(BUFFER_BYTES)
    prepare_counts(counts)
    return counts


def largest_threshold(settings: Settings) -> int:
    """Tell how far the matcher has to look for PDQ hashes of any list."""
    matching = settings.matching
    return max(matching.pdq_threshold, *matching.thresholds.values(), 0)


def _policy(settings: PolicySettings) -> Policy:
    return Policy(
        rules=tuple(
            Rule(
                handling=rule.handling,
                list=rule.list,
                label=rule.label,
                review=rule.review,
                opinion=rule.opinion,
                match=None if rule.match is None else MatchKind(rule.match),
            )
            for rule in settings.rules
        ),
        default=settings.default,
    )
