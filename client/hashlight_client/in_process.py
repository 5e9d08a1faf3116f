"""Clients that keep all live signals in this process, for the lowest latency.

Nearly every upload matches nothing. These clients know that by themselves, in
microseconds; whatever may match is asked of the node, so a record that is withdrawn is
never in an answer, and evidence, opinions and policy are always the node's.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Unpack

from typing_extensions import override

from hashlight_protocol import BadSignalError, parse_signal

from . import clocks
from .blocking import Client
from .client import AsyncClient
from .decoding import decode_bulk_match
from .following import Follower
from .options import DEFAULT_BASE
from .requests import HASH_BYTES, split_hashes
from .values import Answer, Result, Signal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .following import Copy
    from .options import Options
    from .values import BulkMatch, Purpose

MAX_STALENESS_SECONDS: Final = 30.0
"""Twice the time after which a node says that nothing is new."""


class AsyncInProcessClient(AsyncClient):
    """As `AsyncClient`, with a copy of all live signals.

    Entering it (or `start`) loads the copy, at a few million signals a second and about
    60 bytes each, and follows what changes. Lookups that certainly match nothing are
    answered from it; all others, and all while the copy is not current, go to the node.
    The token needs the scope `lookup`.

    Args:
        base: As of `AsyncClient`.
        token: As of `AsyncClient`.
        max_staleness_seconds: How old the copy may be. While nothing changes the node
            says so every 15 s, so less than that sends lookups to the node at times.
        options: As of `AsyncClient`.

    A copy is current as of when the node said so, by its own clock, and not as of when
    that was read here: it may have lain in a buffer while this process stood still.
    """

    def __init__(
        self,
        base: str = DEFAULT_BASE,
        *,
        token: str,
        max_staleness_seconds: float = MAX_STALENESS_SECONDS,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(base, token=token, **options)
        self.max_staleness_seconds = max_staleness_seconds
        self._follower: Follower | None = None

    @override
    async def start(self) -> None:
        """Load the copy, and return when it is current; a second time does nothing.

        Raises:
            HashlightError: It cannot be loaded.
        """
        if self._follower is None:
            self._follower = Follower(
                self._transport, max_staleness_seconds=self.max_staleness_seconds
            )
        await self._follower.start()

    @override
    async def close(self) -> None:
        """Give the copy up and close all connections."""
        try:
            if self._follower is not None:
                await self._follower.close()
        finally:
            await super().close()

    @property
    def staleness_seconds(self) -> float:
        """Time since the copy was known to be whole; infinite if there is none."""
        copy = self._copy
        return clocks.now() - copy.current_at if copy else float("inf")

    @property
    def signal_count(self) -> int:
        """Signals in the copy."""
        copy = self._copy
        return len(copy.index) if copy else 0

    def is_certainly_unknown(
        self, signal: Signal | str, *, max_distance: int | None = None
    ) -> bool:
        """Tell, without asking anybody, that a signal matches nothing.

        Any thread may call it. False says nothing: the signal may match, or may not be
        one, or the copy is not current.

        Args:
            signal: A signal, or `TYPE:VALUE`.
            max_distance: As of `lookup`.
        """
        asked = Signal.parse(signal) if isinstance(signal, str) else signal
        return self.answer_locally(asked, max_distance) is not None

    @override
    async def lookup(
        self,
        signal: Signal | str,
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Result:
        asked = Signal.parse(signal) if isinstance(signal, str) else signal
        result = None if as_of else self.answer_locally(asked, max_distance)
        if result is not None:
            return result
        return await super().lookup(
            asked, max_distance=max_distance, as_of=as_of, purpose=purpose
        )

    @override
    async def lookup_many(
        self,
        signals: Iterable[Signal | str],
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Answer:
        """As `AsyncClient.lookup_many`; `lists` is empty if the node was not asked."""
        asked = [Signal.parse(it) if isinstance(it, str) else it for it in signals]
        results = [
            None if as_of else self.answer_locally(it, max_distance) for it in asked
        ]
        left = [place for place, result in enumerate(results) if result is None]
        answer = await super().lookup_many(
            [asked[place] for place in left],
            max_distance=max_distance,
            as_of=as_of,
            purpose=purpose,
        )
        for place, result in zip(left, answer.results, strict=True):
            results[place] = result
        return Answer(tuple(it for it in results if it is not None), answer.lists)

    @override
    async def lookup_pdq(
        self,
        hashes: bytes,
        *,
        max_distance: int | None = None,
        purpose: Purpose = "upload",
    ) -> list[BulkMatch]:
        copy = self._current()
        if copy is None:
            return await super().lookup_pdq(
                hashes, max_distance=max_distance, purpose=purpose
            )
        found: list[BulkMatch] = []
        for first, some in split_hashes(hashes):
            distance = _narrowed(copy, max_distance)
            may_match = await asyncio.to_thread(
                copy.index.may_match_hashes, some, distance
            )
            places = [first + place for place, may in enumerate(may_match) if may]
            if not places:
                continue
            left = b"".join(
                hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES]
                for place in places
            )
            lines = await self.lookup_pdq_lines(
                left, max_distance=max_distance, purpose=purpose
            )
            for line in lines:
                match = decode_bulk_match(line, 0)
                found.append(replace(match, index=places[match.index]))
        return found

    @property
    def _copy(self) -> Copy | None:
        return self._follower.copy if self._follower else None

    def _current(self) -> Copy | None:
        copy = self._copy
        if copy is None:
            return None
        age_seconds = clocks.now() - copy.current_at
        return copy if age_seconds <= self.max_staleness_seconds else None

    def answer_locally(
        self, asked: Signal, max_distance: int | None = None
    ) -> Result | None:
        """Answer without asking anybody, or give None; any thread may call it."""
        copy = self._current()
        if copy is None:
            return None
        try:
            signal = parse_signal(asked.type, asked.value)
        except BadSignalError:
            return None  # The node says what is wrong with it.
        query = Signal(signal.type, signal.value)
        if copy.index.may_match(query, _narrowed(copy, max_distance)):
            return None
        return Result(query, "ignore", (), truncated=False)


def _narrowed(copy: Copy, max_distance: int | None) -> int:
    if max_distance is None:
        return copy.pdq_threshold
    return max(0, min(copy.pdq_threshold, max_distance))


class InProcessClient(Client):
    """As `Client`, with a copy of all live signals; see `AsyncInProcessClient`.

    Any number of threads may ask it, and what it knows by itself it answers in their
    own.

    Args:
        base: As of `AsyncClient`.
        token: As of `AsyncClient`.
        max_staleness_seconds: How old the copy may be.
        options: As of `AsyncClient`.
    """

    def __init__(
        self,
        base: str = DEFAULT_BASE,
        *,
        token: str,
        max_staleness_seconds: float = MAX_STALENESS_SECONDS,
        **options: Unpack[Options],
    ) -> None:
        self._local = AsyncInProcessClient(
            base, token=token, max_staleness_seconds=max_staleness_seconds, **options
        )
        self._adopt(self._local)

    @property
    def staleness_seconds(self) -> float:
        """Time since the copy was known to be whole; infinite if there is none."""
        return self._local.staleness_seconds

    @property
    def signal_count(self) -> int:
        """Signals in the copy."""
        return self._local.signal_count

    def is_certainly_unknown(
        self, signal: Signal | str, *, max_distance: int | None = None
    ) -> bool:
        """Tell, without asking anybody, that a signal matches nothing."""
        return self._local.is_certainly_unknown(signal, max_distance=max_distance)

    @override
    def lookup(
        self,
        signal: Signal | str,
        *,
        max_distance: int | None = None,
        as_of: datetime | None = None,
        purpose: Purpose = "upload",
    ) -> Result:
        asked = Signal.parse(signal) if isinstance(signal, str) else signal
        result = None if as_of else self._local.answer_locally(asked, max_distance)
        if result is not None:
            return result
        return super().lookup(
            asked, max_distance=max_distance, as_of=as_of, purpose=purpose
        )
