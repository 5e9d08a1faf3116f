"""News inside the node: who waits for it, and what work it means.

A notice says *that* something changed, never what: whoever is woken reads the store.
So notices may be lost (a crash), doubled or reordered without any harm, and the sweep
makes up for lost ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

Item = TypeVar("Item", bound="Hashable")
Key = TypeVar("Key", bound="Hashable")
Result = TypeVar("Result")

_TURNS_OF_A_PEER: Final = 2
"""One long transfer does not hold up the peer's other lists; two slow ones do."""


class PendingQueue(Generic[Item]):
    """A queue in which nothing waits twice.

    For one event loop; not thread-safe.
    """

    def __init__(self) -> None:
        self._items: dict[Item, None] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item) -> None:
        """Queue an item, unless it waits already."""
        self._items[item] = None
        self._filled.set()

    async def take(self) -> Item:
        """Wait for the oldest item and remove it."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        item = next(iter(self._items))
        del self._items[item]
        return item


class PeerQueue(PendingQueue[tuple[str, str]]):
    """A queue of (peer name, what), in which no peer keeps all workers busy.

    An item whose turn is under way waits for its end, in the queue and not in a worker,
    and so does what would be too much for one peer.

    For one event loop; not thread-safe.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[tuple[str, str]]:
        """Wait for the oldest item that may run, and hold its turn."""
        while (item := self._next()) is None:
            self._filled.clear()
            await self._filled.wait()
        del self._items[item]
        self._running.add(item)
        try:
            yield item
        finally:
            self._running.remove(item)
            self._filled.set()

    def _next(self) -> tuple[str, str] | None:
        turns = Counter(peer for peer, _ in self._running)
        may_run = (
            item
            for item in self._items
            if item not in self._running and turns[item[0]] < _TURNS_OF_A_PEER
        )
        return next(may_run, None)


class Notices:
    """Wakes long polls and queues the work that a change causes.

    For one event loop; not thread-safe.

    Args:
        jitter: Gives, for each thing that is to happen later, by which share of the
            wait to put it off further. All who failed at the same moment, because a
            peer was down, must not come back at the same moment.

    Attributes:
        pushes: Origins of own logs whose newest checkpoint peers should hear of.
        peer_pushes: (peer name, origin): who should hear of which of them.
        syncs: (peer name, list name) of follows that should look for news.
        forks: Origins of logs whose evidence others should have.
    """

    def __init__(self, *, jitter: Callable[[], float] = lambda: 0.0) -> None:
        self._jitter = jitter
        self.pushes: PendingQueue[str] = PendingQueue()
        self.peer_pushes = PeerQueue()
        self.syncs = PeerQueue()
        self.forks: PendingQueue[str] = PendingQueue()
        self._events: dict[str, asyncio.Event] = {}
        self._timers: dict[tuple[PeerQueue, tuple[str, str]], asyncio.TimerHandle] = {}
        self._closed = False

    def advanced(self, origin: str) -> None:
        """One of our logs has a new checkpoint: wake its readers, push it."""
        self.wake(origin)
        self.pushes.add(origin)

    def wake(self, origin: str) -> None:
        """A log's checkpoint, own or mirrored, changed: wake those who wait for it."""
        event = self._events.pop(origin, None)
        if event is not None:
            event.set()

    def announced(self, peer_name: str, list_name: str) -> None:
        """A peer has news in a list we follow."""
        self.syncs.add((peer_name, list_name))

    def subscribe(self, origin: str) -> asyncio.Event:
        """Give what is set at the next change of a log.

        Subscribe first and read the store second: a change in between then sets the
        event, and none is missed.
        """
        if self._closed:
            # A long poll that begins while the node stops must not hold it up.
            released = asyncio.Event()
            released.set()
            return released
        return self._events.setdefault(origin, asyncio.Event())

    def push_later(self, peer_name: str, origin: str, seconds: float) -> None:
        """Queue a push to one peer after a while, unless it will be queued earlier."""
        self._later(self.peer_pushes, (peer_name, origin), seconds)

    def sync_later(self, peer_name: str, list_name: str, seconds: float) -> None:
        """Queue a sync after a while, unless it will be queued earlier."""
        self._later(self.syncs, (peer_name, list_name), seconds)

    def close(self) -> None:
        """Forget everything that was to happen later; release all long polls."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for origin in list(self._events):
            self.wake(origin)

    def _later(self, queue: PeerQueue, item: tuple[str, str], seconds: float) -> None:
        key = (queue, item)

        def fire() -> None:
            del self._timers[key]
            queue.add(item)

        if self._closed:
            return
        loop = asyncio.get_running_loop()
        # Later and never earlier: what was told how long to wait must find that over.
        fires_at = loop.time() + seconds * (1 + self._jitter())
        set_before = self._timers.get(key)
        if set_before is not None:
            if set_before.when() <= fires_at:
                return
            set_before.cancel()
        self._timers[key] = loop.call_at(fires_at, fire)


class Rounds(Generic[Key, Result]):
    """Runs work once at a time per key; a crowd that waits shares the next round.

    Whoever asks while a round is under way is answered by a round that starts after
    the question: the running one may have read the store too early to see why it was
    asked.
    """

    def __init__(self) -> None:
        self._turns: dict[Key, _Turn[Result]] = {}

    async def run(self, key: Key, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do the work, or share the result of whoever did it after we asked.

        Raises:
            Exception: What `work` raises; the next in the queue then tries itself.
        """
        turn = self._turns.setdefault(key, _Turn())
        ticket = turn.started + 1
        async with turn.lock:
            if turn.done is not None and turn.done[0] >= ticket:
                return turn.done[1]
            turn.started += 1
            number = turn.started
            result = await work()
            turn.done = (number, result)
            return result


class _Turn(Generic[Result]):
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.started = 0
        self.done: tuple[int, Result] | None = None


class Backoff(Generic[Key]):
    """How long not to try again, for each thing that failed.

    Doubles from one second up to a limit, and is forgotten at the first success.
    """

    def __init__(self, *, limit_seconds: int) -> None:
        self._limit_seconds = limit_seconds
        self._failures: dict[Key, tuple[int, int, int]] = {}

    def remaining_seconds(self, key: Key, now: int) -> int:
        """Tell how long to wait still; 0 to go ahead."""
        _, failed_at, until = self._failures.get(key, (0, now, now))
        # A clock that was set back must not keep us waiting until it has caught up.
        return max(0, until - now) if failed_at <= now else 0

    def failed(self, key: Key, now: int, asked_seconds: int | None = None) -> int:
        """Count a failure.

        Args:
            key: What failed.
            now: Unix seconds.
            asked_seconds: How long the other side asked us to wait, if it did; it
                gets at most our limit.

        Returns:
            Seconds to wait.
        """
        count, _, _ = self._failures.get(key, (0, now, now))
        own_seconds = 1 << min(count, 30)
        wanted_seconds = max(own_seconds, asked_seconds or 0)
        seconds = max(1, min(wanted_seconds, self._limit_seconds))
        self._failures[key] = (count + 1, now, now + seconds)
        return seconds

    def succeeded(self, key: Key) -> None:
        """Forget the failures."""
        self._failures.pop(key, None)
