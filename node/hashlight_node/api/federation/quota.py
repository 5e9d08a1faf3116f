"""What each peer may take of us in a while, so that there is enough for the others.

A share is far more than following costs: reading must always be faster than any log
grows, and a first copy of a million records must not wait. It ends loops that ask for
the same thing for ever, on purpose or by mistake.

Whose share a request is charged to is known only once its signature was verified: key
ids can be claimed by anybody. So all that was not verified is charged to strangers
together, afterwards, and a flood of forged requests uses up no peer's share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from hashlight_node.api.errors import RateLimitedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_node.peer_metrics import PeerMetrics

_MIB: Final = 1024 * 1024
_LOG_SECONDS: Final = 60
_LONGEST_WAIT_SECONDS: Final = 60

STRANGERS: Final = "strangers"
"""Stands for callers without a name, in metrics; no node has a name without a dot."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one caller may take.

    Attributes:
        requests: A second, for as long as it likes.
        mebibytes: Of answers, a second.
        burst_seconds: For how many seconds it may take that all at once.
    """

    requests: int
    mebibytes: int
    burst_seconds: int


PEER_SHARE: Final = Share(requests=400, mebibytes=64, burst_seconds=10)
"""400 requests are 200 bundles of 256 records and their bodies, each second."""

STRANGERS_SHARE: Final = Share(requests=200, mebibytes=8, burst_seconds=10)
"""Of all strangers together: refusals, and the descriptor, a few kilobytes each."""


class TokenBucket:
    """Fills at a rate up to a brim; may be overdrawn by what was not known before.

    Args:
        rate: Tokens a second.
        brim: Most tokens.
        now: Seconds on the clock that all calls go by.
    """

    def __init__(self, rate: float, brim: float, now: float) -> None:
        self._rate = rate
        self._brim = brim
        self._level = brim
        self._at = now

    def wait_seconds(self, now: float) -> float:
        """Tell how long to wait until something is in it; 0 if something is."""
        self._fill(now)
        return max(0.0, (1 - self._level) / self._rate)

    def take(self, count: float, now: float) -> None:
        """Take tokens, even if there are not so many."""
        self._fill(now)
        self._level -= count

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self._at) * self._rate
        self._level = min(self._brim, self._level + gained)
        self._at = now


class _Account:
    def __init__(self, share: Share, now: float) -> None:
        burst = share.burst_seconds
        rate = share.mebibytes * _MIB
        self.requests = TokenBucket(share.requests, share.requests * burst, now)
        self.bytes = TokenBucket(rate, rate * burst, now)
        self.logged_at: float | None = None


class Quotas:
    """Keeps an account for each peer and for each kind of request by strangers.

    For one event loop; not thread-safe.

    Args:
        metrics: Counts who is refused.
        monotonic: Seconds, on a clock that nobody sets.
    """

    def __init__(self, metrics: PeerMetrics, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        # Only names of peers and two constants become keys.
        self._accounts: dict[str, _Account] = {}

    def admit_peer(self, name: str) -> None:
        """Charge a verified request to the peer that signed it.

        Raises:
            RateLimitedError: Its share is used up.
        """
        self._admit(name, name, PEER_SHARE)

    def admit_stranger(self, asks_for: str) -> None:
        """Charge a request by nobody in particular.

        Args:
            asks_for: A constant; so that a flood of one kind leaves the other alone.

        Raises:
            RateLimitedError: What strangers may have is used up.
        """
        self._admit(f"{STRANGERS} {asks_for}", STRANGERS, STRANGERS_SHARE)

    def charge_peer(self, name: str, sent_bytes: int) -> None:
        """Charge the bytes of an answer to an admitted peer."""
        self._accounts[name].bytes.take(sent_bytes, self._monotonic())

    def _admit(self, key: str, name: str, share: Share) -> None:
        now = self._monotonic()
        account = self._accounts.setdefault(key, _Account(share, now))
        wait_seconds = max(
            account.requests.wait_seconds(now), account.bytes.wait_seconds(now)
        )
        if not wait_seconds:
            account.requests.take(1, now)
            return
        self._metrics.count_throttled(name)
        if account.logged_at is None or now - account.logged_at >= _LOG_SECONDS:
            account.logged_at = now
            peer = None if name == STRANGERS else name
            _log.warning("a caller has used up its share", peer=peer)
        raise RateLimitedError(min(math.ceil(wait_seconds), _LONGEST_WAIT_SECONDS))


_log = structlog.get_logger()
