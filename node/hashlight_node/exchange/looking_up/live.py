"""What a lookup needs of the store, kept in memory and exact as of the last commit.

Most lookups find nothing, and for those the store has nothing to say but which state
its lists are in. So that is read once for each version of the database, by whoever asks
first, and a lookup that finds nothing costs no transaction at all.

In the node itself the matcher follows each commit before it is announced. A process
that only reads has nobody who tells it, so there the same read brings what became live
or died since the last one (`ChangeFeed`), and the matcher is never older than the
lists that an answer names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from hashlight_node.exchange.errors import StoreSilentError
from hashlight_node.exchange.notices import Rounds
from hashlight_node.model import Role
from hashlight_node.store import logs
from hashlight_protocol import parse_checkpoint, parse_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.model import Clock, Log
    from hashlight_node.store.database import Connection, Reader


MOST_SILENT_SECONDS: Final = 5.0
"""How old memory may be, in a process whose store others write. What such a process
cannot hear of may be a withdrawal, so then it says nothing rather than what was."""


@dataclass(frozen=True, slots=True)
class ListState:
    """Which state of a list an answer is based on, to explain it months later.

    Attributes:
        origin: The log.
        tree_size: Entries that its newest checkpoint here covers.
        root_hash: Root of that tree, 32 bytes.
        age_seconds: Time since the copy was last known to be complete; for our own, and
            on top of that, since the store was last heard by this process.
    """

    origin: str
    tree_size: int
    root_hash: bytes
    age_seconds: int


class Feed(Protocol):
    """Brings what else must be known before a lookup, in a process that only reads."""

    def follow(self, connection: Connection) -> None:
        """Catch up with the store.

        Args:
            connection: In a transaction, from which the lists' state is read as well.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Facts:
    """A list's state without the time; `verified_at` is None for our own lists."""

    origin: str
    tree_size: int
    root_hash: bytes
    verified_at: int | None

    def at(self, now: int, silent: int = 0) -> ListState:
        age = 0 if self.verified_at is None else max(0, now - self.verified_at)
        return ListState(self.origin, self.tree_size, self.root_hash, age + silent)


class LiveView:
    """The state of all lists, as of the last commit. For one event loop.

    Args:
        database: The store.
        clock: Unix seconds.
        feed: Called with every read; only where nobody else tells the matcher.
    """

    def __init__(
        self, database: Reader, *, clock: Clock, feed: Feed | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._feed = feed
        self._rounds: Rounds[None, None] = Rounds()
        self._facts: Sequence[_Facts] = ()
        self._version: int | None = None
        # Answers of one second are alike, so they share what is shown of the lists.
        self._shown: tuple[ListState, ...] = ()
        self._shown_at: tuple[int, int] | None = None

    async def lists(self) -> tuple[ListState, ...]:
        """Give the state of every list that has one, by origin.

        When this returns, the matcher knows everything that was committed before it
        was called. The same tuple comes again as long as nothing changes.

        Raises:
            StoreSilentError: The store cannot be heard, and others may write to it.
        """
        if self._database.silent_seconds() > MOST_SILENT_SECONDS:
            raise StoreSilentError
        if self._version != self._database.version():
            # A round under way may have read before a commit that our caller knows of.
            await self._rounds.run(None, self._renew)
        return self._show()

    def known_lists(self) -> tuple[ListState, ...] | None:
        """Give the same without waiting; None if something was committed meanwhile."""
        if self._version != self._database.version():
            return None
        is_silent = self._database.silent_seconds() > MOST_SILENT_SECONDS
        return None if is_silent else self._show()

    def _show(self) -> tuple[ListState, ...]:
        moment = (self._clock(), int(self._database.silent_seconds()))
        if moment != self._shown_at:
            self._shown = tuple(it.at(*moment) for it in self._facts)
            self._shown_at = moment
        return self._shown

    async def _renew(self) -> None:
        version = self._database.version()
        if version == self._version:
            return  # A round that we waited for has read it.
        self._facts = await self._database.read_settled(self._read)
        self._shown_at = None
        self._version = version

    def _read(self, connection: Connection) -> list[_Facts]:
        if self._feed is not None:
            self._feed.follow(connection)
        return _read_facts(connection)


def read_lists(connection: Connection, *, now: int) -> tuple[ListState, ...]:
    """Read the state of every list that has one, by origin."""
    return tuple(it.at(now) for it in _read_facts(connection))


def _read_facts(connection: Connection) -> list[_Facts]:
    known = logs.list_logs(connection)
    return [
        _facts_of(log)
        for log in known
        if log.checkpoint is not None and log.counts_until is None
    ]


def _facts_of(log: Log) -> _Facts:
    root_hash = log.root_hash
    if log.checkpoint_size != log.tree_size and log.checkpoint is not None:
        # A copy that is being extended: the checkpoint is that of the last whole one.
        root_hash = parse_checkpoint(parse_note(log.checkpoint).text).root_hash
    verified_at = log.verified_at if log.role is Role.FOLLOWED else None
    return _Facts(log.origin, log.checkpoint_size, root_hash, verified_at)
