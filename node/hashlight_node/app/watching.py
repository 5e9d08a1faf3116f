"""What a node watches over by itself: old copies, late confirmations, old receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.following.freshness import FreshnessKeeper, FreshnessRules
from hashlight_node.exchange.operating.alerts import AlertRules, Watch
from hashlight_node.exchange.operating.retention import Retention, RetentionRules
from hashlight_node.exchange.telling.pruning import DeliveryPruning
from hashlight_node.jobs import Chore

if TYPE_CHECKING:
    from hashlight_node.config import Settings
    from hashlight_node.exchange.publishing.publish import Publisher

    from .foundation import Foundation

_HOUR_SECONDS: Final = 3600
_WATCH_SECONDS: Final = 60


def freshness_rules(settings: Settings) -> FreshnessRules:
    """Give what becomes of copies that nobody confirms, as the operator has it."""
    exchange = settings.exchange
    return FreshnessRules(
        warn_after_seconds=exchange.warn_after_hours * _HOUR_SECONDS,
        relay_until_seconds=exchange.relay_until_hours * _HOUR_SECONDS,
        serve_until_seconds=exchange.serve_until_hours * _HOUR_SECONDS,
    )


def alert_rules(settings: Settings) -> AlertRules:
    """Give when the operator wants to be told of what."""
    hours = settings.exchange.withdrawal_alert_hours
    return AlertRules(freshness_rules(settings), hours * _HOUR_SECONDS)


def build_freshness_keeper(on: Foundation) -> FreshnessKeeper:
    """Build what takes copies out of use that nobody confirms."""
    return FreshnessKeeper(
        database=on.database, rules=freshness_rules(on.settings), clock=on.clock
    )


def build_retention(on: Foundation, publisher: Publisher) -> Retention:
    """Build what forgets old records, sightings and evidence."""
    kept = on.settings.retention
    return Retention(
        database=on.database,
        publisher=publisher,
        matcher=on.applied,
        clock=on.clock,
        rules=RetentionRules(
            expired_days=kept.expired_days,
            sightings_days=kept.sightings_days,
            audit_days=kept.audit_days,
        ),
    )


def watch_chores(on: Foundation) -> list[Chore]:
    """Give the chores that keep an eye on copies, confirmations and receipts."""
    keeper = build_freshness_keeper(on)
    watch = Watch(database=on.database, rules=alert_rules(on.settings), clock=on.clock)
    pruning = DeliveryPruning(
        database=on.database,
        clock=on.clock,
        kept_days=on.settings.exchange.deliveries_days,
    )
    return [
        Chore("freshness", _WATCH_SECONDS, keeper.check),
        Chore("watch", _WATCH_SECONDS, watch.look),
        Chore("prune-deliveries", _HOUR_SECONDS, pruning.prune),
    ]
