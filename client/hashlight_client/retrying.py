"""When to try again, and when to give up."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar

from .errors import NodeUnreachableError, ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

PASSING_STATUSES: Final = frozenset({429, 502, 503, 504})
"""Refusals after which the same request may succeed: the node is busy or restarting."""

_MAX_DOUBLINGS: Final = 30


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    Everything a client sends may be sent twice: it reads, or carries an
    `Idempotency-Key`. So connections that fail and answers that break off are
    repeated like refusals that pass.

    Attributes:
        patience_seconds: How long after the beginning of a call it may be repeated;
            0 to try once.
        first_pause_seconds: Mean of the first pause; each further one is twice as
            long.
        longest_pause_seconds: Where the doubling ends. A node that asks for more time
            gets it, if patience allows.
    """

    patience_seconds: float = 30.0
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0

    def pause_seconds(
        self, failures: int, asked_seconds: float | None, chance: float
    ) -> float:
        """Tell how long to wait.

        Args:
            failures: How often it failed before this time.
            asked_seconds: What the node said in `Retry-After`.
            chance: A random number from 0 to 1. It spreads clients that failed at
                the same moment, so that they do not all come back together.
        """
        doubled = self.first_pause_seconds * 2.0 ** min(failures, _MAX_DOUBLINGS)
        own = min(doubled, self.longest_pause_seconds)
        if asked_seconds is not None:
            return asked_seconds + own * chance
        return own * (0.5 + chance)

    def next_pause_seconds(self, failures: int, error: Exception | None) -> float:
        """Tell how long to wait after a failure, somewhat at random.

        Args:
            failures: How often it failed before this time.
            error: What it failed with; None if it only ended too early.
        """
        asked = getattr(error, "retry_after_seconds", None)
        return self.pause_seconds(failures, asked, random.random())  # noqa: S311 -- it guards nothing

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do something until it succeeds, fails for good, or patience ends.

        Raises:
            HashlightError: What the last attempt raised.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.patience_seconds
        for failures in count():
            try:
                return await attempt()
            except (NodeUnreachableError, ProblemError) as error:
                pause = self.next_pause_seconds(failures, error)
                if not passes(error) or loop.time() + pause >= give_up_at:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover -- `count` never ends


def passes(error: NodeUnreachableError | ProblemError) -> bool:
    """Tell whether the same request may succeed later."""
    return isinstance(error, NodeUnreachableError) or error.status in PASSING_STATUSES


def parse_retry_after(text: str | None) -> float | None:
    """Read a `Retry-After` header (RFC 9110, section 10.2.3): seconds or a date.

    Returns:
        Seconds from now, not negative; None if there is none, or nonsense in it.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
