"""Lookups of a process that only reads the store: a worker, or one that stands by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.api.local.parts import LocalLimits, LookupParts
from hashlight_node.exchange.looking_up.catching_up import CatchUp
from hashlight_node.exchange.looking_up.live import LiveView
from hashlight_node.exchange.looking_up.lookup import Lookup

from .judging import build_criteria

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from hashlight_node.config import Settings
    from hashlight_node.exchange.looking_up.match_log import MatchBuffer
    from hashlight_node.matching.judging import Criteria
    from hashlight_node.metrics import Metrics
    from hashlight_node.model import Clock
    from hashlight_node.store.database import Reader

    from .memory import Memory


@dataclass(frozen=True, slots=True)
class StoreLookups:
    """What answers lookups while others write; made by `follow_store`.

    Attributes:
        settings: The node's.
        clock: Unix seconds.
        database: Where matches are confirmed.
        memory: What is searched.
        criteria: What matches are judged by.
        feed: Brings memory and allow list up to a commit.
        view: The state of the lists, with memory brought up to it.
    """

    settings: Settings
    clock: Clock
    database: Reader
    memory: Memory
    criteria: Criteria
    feed: CatchUp
    view: LiveView

    def parts(self, metrics: Metrics, match_log: MatchBuffer | None) -> LookupParts:
        """Give what the operations that look things up are built from."""
        return LookupParts(
            node_name=self.settings.node.name,
            database=self.database,
            lookup=Lookup(
                database=self.database,
                matcher=self.memory.matcher,
                view=self.view,
                criteria=self.criteria,
                clock=self.clock,
                match_log=match_log,
            ),
            metrics=metrics,
            clock=self.clock,
            limits=local_limits(self.settings),
        )


async def follow_store(
    settings: Settings,
    database: Reader,
    memory: Memory,
    *,
    clock: Clock,
    flood_counts: Buffer | None,
) -> StoreLookups:
    """Bring memory up to the last commit, and be ready to follow the next ones.

    Args:
        settings: The node's.
        database: The store.
        memory: As of some change that the feed still has.
        clock: Unix seconds.
        flood_counts: As of `build_criteria`.

    Raises:
        FeedLostError: The feed does not lead from there to here.
        StoreSilentError: The database cannot be heard.
    """
    criteria = build_criteria(settings, clock=clock, flood_counts=flood_counts)
    feed = CatchUp(memory.matcher, memory.filled.mark, criteria.allowed)
    view = LiveView(database, clock=clock, feed=feed)
    await view.lists()
    return StoreLookups(settings, clock, database, memory, criteria, feed, view)


def local_limits(settings: Settings) -> LocalLimits:
    """Read what one request to the local API may cost."""
    return LocalLimits(
        request_bytes=settings.local.request_bytes,
        image_bytes=settings.local.image_bytes,
    )
