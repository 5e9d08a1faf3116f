"""What an operator sees of a running node: its log and its metrics.

The log is one JSON object a line on standard error. It must never hold a hash, an
identifier, a token, a salt or a key, and no reviewer can check that at every call.
So a line is built from an allow-list: a key that is not in `_FIELDS` is dropped, a
value that is not of its field's form is dropped, and of an exception only its type
and the places in the code are kept, because messages quote what they are about.
What was dropped is counted in the line itself (`withheld`).

Metrics are values of this process; those that describe the store are read when they
are scraped (`Metrics.show_log` and its neighbours are called by the local API).
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TextIO

import orjson
import structlog
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
from hashlight_protocol import is_list_name, is_node_name, parse_origin
from hashlight_protocol.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping
    from types import TracebackType

    from prometheus_client import Metric

# ------------------------------------------------------------------------ the log

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Id of the request that is being answered: in every line logged meanwhile. Not kept
by structlog, whose way to bind a value for a while costs as much as a search."""

# An event is a sentence about what happened, known when the code is written. Digits
# are what hashes, keys and tokens are made of and sentences are not.
_SENTENCE: Final = re.compile(r"[A-Za-z][A-Za-z ,;:.?'()-]{0,99}")
# Longest word of a sentence; the longest in English that we might need is shorter.
_MAX_WORD: Final = 20
_SLUG: Final = re.compile(r"[a-z]+(-[a-z]+){0,7}")
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{16}")
_ROUTE: Final = re.compile(r"/[A-Za-z0-9/{}._*-]{0,120}")
_DOTTED: Final = re.compile(r"[A-Za-z_]+(\.[A-Za-z_]+){0,9}")
_PLACE: Final = re.compile(r"[A-Za-z0-9_./<>-]+\.py:[0-9]+ [A-Za-z0-9_<>]+")
_ADDRESS: Final = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9.-]+):[0-9]{1,5}")
_URL: Final = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9.-]{1,253})(:[0-9]{1,5})?")
_VERSION: Final = re.compile(r"[0-9]{1,4}(\.[0-9a-z]{1,8}){1,4}")
_TIME: Final = re.compile(r"[0-9-]{10}T[0-9:.]{8,15}Z")
_METHOD: Final = re.compile(r"[A-Z]{1,8}")
_STACK_PLACES: Final = 24


# A digest can have the form of a name; a name that could be one is not worth the risk.
_DIGEST: Final = re.compile(r"[0-9a-f]{20}")


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    def matches(value: object) -> bool:
        return (
            isinstance(value, str)
            and pattern.fullmatch(value) is not None
            and _DIGEST.search(value) is None
        )

    return matches


def _is_number(value: object) -> bool:
    # 2**53 bounds it: a hash cannot hide in an integer of a log line.
    return isinstance(value, int | float) and abs(value) <= 2**53


def _names(is_name: Callable[[str], bool]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, str) and is_name(value) and _DIGEST.search(value) is None
    )


def _is_origin(value: str) -> bool:
    try:
        parse_origin(value)
    except ProtocolError:
        return False
    return True


def _is_stack(value: object) -> bool:
    return isinstance(value, list) and all(map(_matches(_PLACE), value))


_FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    "timestamp": _matches(_TIME),
    "level": _matches(_SLUG),
    "logger": _matches(_DOTTED),
    "request_id": _matches(_REQUEST_ID),
    "node": _names(is_node_name),
    "peer": _names(is_node_name),
    "list": _names(is_list_name),
    "origin": _names(_is_origin),
    "base": _matches(_URL),
    "federation": _matches(_ADDRESS),
    "local": _matches(_ADDRESS),
    "version": _matches(_VERSION),
    "method": _matches(_METHOD),
    "route": _matches(_ROUTE),
    "listener": _matches(_SLUG),
    "job": _matches(_SLUG),
    "code": _matches(_SLUG),
    "state": _matches(_SLUG),
    "error_type": _matches(_DOTTED),
    "cause_type": _matches(_DOTTED),
    "stack": _is_stack,
} | dict.fromkeys(
    (
        "status",
        "duration_seconds",
        "wait_seconds",
        "old_size",
        "new_size",
        "size",
        "records",
        "retractions",
        "erasures",
        "signals",
        "peers",
        "count",
        "attempt",
        "evidence_id",
        "pid",
        "offset_seconds",
        "free_mib",
    ),
    _is_number,
)


def keep_allowed(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Drop from a log line whatever is not known to be harmless.

    The last processor before encoding, so nothing is added after it.
    """
    del logger, name
    kept: dict[str, object] = {"event": _sentence(event.pop("event", ""))}
    given = {key: value for key, value in event.items() if value is not None}
    for key, is_harmless in _FIELDS.items():
        if key in given and is_harmless(given[key]):
            kept[key] = given.pop(key)
    if given:
        kept["withheld"] = len(given)
    return kept


def _sentence(event: object) -> str:
    if not (isinstance(event, str) and _SENTENCE.fullmatch(event)):
        return "event withheld"
    if any(len(word) > _MAX_WORD for word in event.split()):
        return "event withheld"
    return event


def _add_request_id(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    del logger, name
    event.setdefault("request_id", REQUEST_ID.get())
    return event


def _describe_exception(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Keep an exception's type and where it arose, without what it says."""
    del logger, name
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given
    if isinstance(error, tuple):
        error = error[1]
    while isinstance(error, BaseExceptionGroup):
        # Of several that ended together the first, which is why the rest did.
        error = error.exceptions[0]
    if not isinstance(error, BaseException):
        return event
    event["error_type"] = type(error).__qualname__
    if error.__cause__ is not None:
        event["cause_type"] = type(error.__cause__).__qualname__
    if isinstance(error, ProtocolError):
        event.setdefault("code", error.code)
    event["stack"] = _places(error.__traceback__)
    return event


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-_STACK_PLACES:]
    return [
        f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}"
        for frame in frames
    ]


def _without_record(
    logger: object, name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """Take out what structlog adds for its own use, so that it is not counted."""
    record = event.pop("_record", None)
    event.pop("_from_structlog", None)
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    del logger, name
    return event


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send this process's log to a stream as JSON lines; called once, by `app`.

    What libraries log comes in the same form and by the same rules, from `warning`
    on. Of their messages only the constant part is used: arguments may be anything.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        stream: Standard error by default.
    """
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    encode = structlog.processors.JSONRenderer(serializer=_encode)
    structlog.configure(
        processors=[
            _add_request_id,
            structlog.processors.add_log_level,
            stamp,
            _describe_exception,
            keep_allowed,
            encode,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.processors.add_log_level, stamp],
            processors=[_without_record, _describe_exception, keep_allowed, encode],
            use_get_message=False,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def _encode(event: object, **_: object) -> str:
    return orjson.dumps(event).decode()


# -------------------------------------------------------------------- the metrics

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
