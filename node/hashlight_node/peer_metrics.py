"""What a node counts about how peers behave, beyond what they send."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class PeerMetrics:
    """Part of `Metrics`, in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._throttled = Counter(
            "hashlight_peer_throttled",
            "Requests refused because their sender has used up its share",
            ("peer",),
            registry=registry,
        )
        self._clock_offset = Gauge(
            "hashlight_peer_clock_offset_seconds",
            "How far the clock of a peer that takes no signature of ours is ahead",
            ("peer",),
            registry=registry,
        )

    def count_throttled(self, caller: str) -> None:
        """Note a request refused for want of quota: of a peer, or of `strangers`."""
        self._throttled.labels(caller).inc()

    def show_clock_offset(self, peer: str, seconds: int | None) -> None:
        """Set how far a peer's clock is ahead of ours; 0 if it takes our signatures."""
        self._clock_offset.labels(peer).set(seconds or 0)
