"""What an operator measures of a running node.

Values of this process; those that describe the store are read when they are scraped
(`Metrics.show_log` and its neighbours are called by the local API).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from typing_extensions import override

from hashlight_node.peer_metrics import PeerMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Metric

# From the cached answer to the slow peer; a lookup's goal is below the third.
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Metrics:
    """What a node counts and measures, in the names that dashboards rely on.

    One object per node and no global registry, so that several nodes can live in
    one process.
    """

    def __init__(self, *, version: str, spec_version: str) -> None:
        self.registry = CollectorRegistry()
        self._gauge(
            "hashlight_build_info",
            "Always 1; what is running",
            *("version", "protocol"),
        ).labels(version, spec_version).set(1)
        self._leads = self._gauge(
            "hashlight_leads", "Whether this process writes: 0 if it stands by"
        )
        self._silent = self._gauge(
            "hashlight_store_silent_seconds",
            "Time since a process that shares its database has heard of it",
        )
        self._requests = Histogram(
            "hashlight_http_request_seconds",
            "Time to answer requests; long polls wait on purpose",
            ("listener", "method", "route", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Finding a series by its labels takes longer than counting in it. As many as
        # there are series, and those are bounded: routes are patterns.
        self._request_series: dict[tuple[str, str, str, int], Histogram] = {}
        self._rejects = self._counter(
            "hashlight_rejects", "Requests refused, by code", "listener", "reason"
        )
        self._records = self._counter(
            "hashlight_records",
            "Records that came in, retractions and erasures that were applied",
            *("peer", "list", "result"),
        )
        self._failures = self._counter(
            "hashlight_verify_failures",
            "Data from a peer that did not verify; always look into it",
            *("peer", "code"),
        )
        self._unavailable = self._counter(
            "hashlight_peer_unavailable", "Exchanges a peer did not answer", "peer"
        )
        lookups = self._counter(
            "hashlight_lookups", "Queries looked up, by outcome", "outcome"
        )
        self._matched = lookups.labels("matched")
        self._unmatched = lookups.labels("unmatched")
        self._unlogged = self._counter(
            "hashlight_unlogged_matches",
            "Matches that were not written down because too many waited for the disk",
        )
        self._flooded = self._counter(
            "hashlight_flooded_matches",
            "Matches that were not blocked because their signal matches far too much",
        )
        self._lookup_seconds = Histogram(
            "hashlight_lookup_seconds",
            "Time of one lookup call, whatever the number of its queries",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._sync_seconds = Histogram(
            "hashlight_sync_seconds",
            "Time of one pass over a followed list that brought something",
            ("peer",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._lag = self._gauge(
            "hashlight_peer_lag_seconds",
            "Time since a followed list was last known to be complete",
            *("peer", "list"),
        )
        self._success = self._gauge(
            "hashlight_peer_last_success_timestamp_seconds",
            "When a followed list was last known to be complete",
            *("peer", "list"),
        )
        self._size = self._gauge(
            "hashlight_log_size", "Entries of a log", "origin", "role"
        )
        self._signals = self._gauge(
            "hashlight_signals", "Signals that match today, by type", "type"
        )
        self._kernel = self._gauge(
            "hashlight_index_kernel",
            "Always 1; what searches for near hashes: c, or numpy, which is slower",
            "kernel",
        )
        self._freshness = self._gauge(
            "hashlight_copy_freshness",
            "What a copy may still be used for, by when it was last confirmed: 0 all, "
            "1 an operator should look, 2 it is not relayed, 3 it matches no more",
            *("peer", "list"),
        )
        self._applied_lag = self._gauge(
            "hashlight_delivery_lag_seconds",
            "Age of the oldest entry of ours that a peer has not confirmed as applied",
            *("peer", "list"),
        )
        self._unacknowledged = self._gauge(
            "hashlight_unacknowledged_withdrawal_seconds",
            "Age of the oldest retraction or erasure that a peer has not confirmed; "
            "0 if there is none",
            *("peer", "list"),
        )
        self._held = self._gauge(
            "hashlight_logs_held",
            "Own logs that are not signed because they are, or may be, rolled back",
            "state",
        )
        self._free = self._gauge(
            "hashlight_disk_free_bytes", "Room that is left on the disk of the store"
        )
        self._room = self._gauge(
            "hashlight_disk_state",
            "What the disk has room for: 0 all, 1 all but an operator should look, "
            "2 no new content is taken",
        )
        self._quarantined = self._gauge(
            "hashlight_quarantined", "Logs and peers in quarantine", "kind"
        )
        self.of_peers = PeerMetrics(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def observe_request(
        self, listener: str, method: str, route: str, status: int, seconds: float
    ) -> None:
        """Note one answered request; `route` is the pattern, never the path."""
        labels = (listener, method, route, status)
        series = self._request_series.get(labels)
        if series is None:
            series = self._requests.labels(listener, method, route, str(status))
            self._request_series[labels] = series
        series.observe(seconds)

    def count_reject(self, listener: str, code: str) -> None:
        """Note that a request was refused with a problem document."""
        self._rejects.labels(listener, code).inc()

    def count_records(self, peer: str, list_name: str, result: str, count: int) -> None:
        """Note entries of a peer; `result` is in, retracted or erased."""
        self._records.labels(peer, list_name, result).inc(count)

    def count_failure(self, peer: str, code: str) -> None:
        """Note data from a peer that broke the protocol."""
        self._failures.labels(peer, code).inc()

    def count_unavailable(self, peer: str) -> None:
        """Note that a peer could not be reached or did not finish."""
        self._unavailable.labels(peer).inc()

    def observe_lookup(self, *, matched: int, unmatched: int, seconds: float) -> None:
        """Note one lookup call and how many of its queries matched."""
        if matched:
            self._matched.inc(matched)
        if unmatched:
            self._unmatched.inc(unmatched)
        self._lookup_seconds.observe(seconds)

    def count_flooded(self, count: int) -> None:
        """Note matches whose `block` the flood breaker turned into `review`."""
        if count:
            self._flooded.inc(count)

    def count_unlogged(self, count: int) -> None:
        """Note matches that were not written down because too many waited."""
        self._unlogged.inc(count)

    def observe_sync(self, peer: str, seconds: float) -> None:
        """Note how long it took to copy what was new at a peer."""
        self._sync_seconds.labels(peer).observe(seconds)

    def show_follow(
        self, peer: str, list_name: str, *, synced_at: int | None, now: int
    ) -> None:
        """Set how far behind a followed list is; never synced counts from 1970."""
        synced = synced_at or 0
        self._success.labels(peer, list_name).set(synced)
        self._lag.labels(peer, list_name).set(max(0, now - synced))

    def show_log(self, origin: str, role: str, size: int) -> None:
        """Set the size of a log as far as it is verified here."""
        self._size.labels(origin, role).set(size)

    def show_signals(self, signal_type: str, count: int) -> None:
        """Set how many signals of a type match today."""
        self._signals.labels(signal_type).set(count)

    def show_lead(self, *, leads: bool, silent_seconds: float) -> None:
        """Say whether this process writes, and how old what it knows may be."""
        self._leads.set(leads)
        self._silent.set(silent_seconds)

    def show_kernel(self, name: str) -> None:
        """Say what searches for near hashes."""
        self._kernel.labels(name).set(1)

    def show_freshness(self, steps: Mapping[tuple[str, str], int]) -> None:
        """Set what every copy may still be used for, 0 to 3, by peer and list."""
        # What is followed no more leaves no series behind, or it would alert for ever.
        self._freshness.clear()
        for labels, step in steps.items():
            self._freshness.labels(*labels).set(step)

    def show_standings(self, found: Iterable[tuple[str, str, int, int]]) -> None:
        """Set how far everybody is behind with our lists.

        Args:
            found: Peer, list, seconds behind, and age in seconds of the oldest
                withdrawal that it has not confirmed. Of several logs of a list the
                worst counts.
        """
        behind: dict[tuple[str, str], int] = {}
        overdue: dict[tuple[str, str], int] = {}
        for peer, list_name, lag_seconds, age_seconds in found:
            labels = (peer, list_name)
            behind[labels] = max(behind.get(labels, 0), lag_seconds)
            overdue[labels] = max(overdue.get(labels, 0), age_seconds)
        for gauge, values in (
            (self._applied_lag, behind),
            (self._unacknowledged, overdue),
        ):
            gauge.clear()
            for labels, seconds in values.items():
                gauge.labels(*labels).set(seconds)

    def show_held(self, state: str, count: int) -> None:
        """Set how many own logs are not signed, by `rolled-back` and `unconfirmed`."""
        self._held.labels(state).set(count)

    def show_room(self, free_bytes: int, state: int) -> None:
        """Set how much room the disk of the store has, and what that means."""
        self._free.set(free_bytes)
        self._room.set(state)

    def show_quarantined(self, kind: str, count: int) -> None:
        """Set how many logs or peers are in quarantine."""
        self._quarantined.labels(kind).set(count)


METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render_metrics(
    metrics: Metrics, of_workers: Mapping[str, bytes] | None = None
) -> bytes:
    """Write all metrics in Prometheus' text format.

    Args:
        metrics: Of this process.
        of_workers: By worker, what this function wrote there. Its counters and
            histograms come with the label `worker`; they are not added up, because a
            worker that was started anew counts from 0, and the sum would fall.
    """
    if not of_workers:
        return generate_latest(metrics.registry)
    families = {family.name: family for family in metrics.registry.collect()}
    for worker, text in of_workers.items():
        for given in text_string_to_metric_families(text.decode()):
            family = families.get(given.name)
            if family is not None and given.type in _OF_WORKERS:
                family.samples += [
                    it._replace(labels={**it.labels, "worker": worker})
                    for it in given.samples
                ]
    return generate_latest(_Families(list(families.values())))


_OF_WORKERS: Final = frozenset({"counter", "histogram"})


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    @override
    def collect(self) -> list[Metric]:
        return self._families
