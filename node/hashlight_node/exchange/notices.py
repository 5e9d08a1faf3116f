"""News inside the node: who waits for it, and what work it means.

A notice says *that* something changed, never what: whoever is woken reads the store.
So notices may be lost (a crash), doubled or reordered without any harm, and the sweep
makes up for lost ones.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

Item = TypeVar("Item", bound="Hashable")
Key = TypeVar("Key", bound="Hashable")
Result = TypeVar("Result")


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


class Notices:
    """Wakes long polls and queues the work that a change causes.

    For one event loop; not thread-safe.

    Attributes:
        pushes: Origins of own logs whose newest checkpoint peers should hear of.
        syncs: (peer name, list name) of follows that should look for news.
    """

    def __init__(self) -> None:
        self.pushes: PendingQueue[str] = PendingQueue()
        self.syncs: PendingQueue[tuple[str, str]] = PendingQueue()
        self._events: dict[str, asyncio.Event] = {}
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
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

    def push_later(self, origin: str, seconds: float) -> None:
        """Queue a push after a while; takes the place of one that was to be later."""
        self._later(origin, seconds, lambda: self.pushes.add(origin))

    def sync_later(self, peer_name: str, list_name: str, seconds: float) -> None:
        """Queue a sync after a while; takes the place of one that was to be later."""
        key = (peer_name, list_name)
        self._later(key, seconds, lambda: self.syncs.add(key))

    def close(self) -> None:
        """Forget everything that was to happen later; release all long polls."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for origin in list(self._events):
            self.wake(origin)

    def _later(self, key: Hashable, seconds: float, act: Callable[[], None]) -> None:
        def fire() -> None:
            del self._timers[key]
            act()

        if self._closed:
            return
        earlier = self._timers.pop(key, None)
        if earlier is not None:
            earlier.cancel()
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(seconds, fire)


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
        self._failures: dict[Key, tuple[int, int]] = {}

    def remaining_seconds(self, key: Key, now: int) -> int:
        """Tell how long to wait still; 0 to go ahead."""
        _, until = self._failures.get(key, (0, now))
        return max(0, until - now)

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
        count, _ = self._failures.get(key, (0, now))
        own_seconds = 1 << min(count, 30)
        wanted_seconds = max(own_seconds, asked_seconds or 0)
        seconds = max(1, min(wanted_seconds, self._limit_seconds))
        self._failures[key] = (count + 1, now + seconds)
        return seconds

    def succeeded(self, key: Key) -> None:
        """Forget the failures."""
        self._failures.pop(key, None)
