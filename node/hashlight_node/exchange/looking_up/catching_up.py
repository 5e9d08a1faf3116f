"""Following the store in a process that only reads it.

The node tells its own matcher of every commit. Nobody tells another process, so it
asks: whenever something was committed, the feed of changes says which signals to look
at again, and the allow list is read anew if it is another. Both are read in the
transaction that gives the lists' state, before anything is searched.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from hashlight_node.store import allowed, changes

if TYPE_CHECKING:
    from hashlight_node.matching.allowing import AllowList
    from hashlight_node.matching.matcher import Matcher
    from hashlight_node.model import FeedMark
    from hashlight_node.store.database import Connection

_PAGE: Final = 10_000
"""Changes read at a time."""


class FeedLostError(Exception):
    """The store's feed does not go on where memory stands.

    What came next was pruned, or the store is one that was put in the place of another:
    there the numbers that memory knows may mean other signals.

    Attributes:
        seq: Number of the last one that it knows.
    """

    def __init__(self, seq: int) -> None:
        super().__init__(f"the feed does not go on after change {seq} as it was read")
        self.seq = seq


class CatchUp:
    """Keeps memory as of the last commit that was looked at; see `live.Feed`.

    Args:
        matcher: As it was at the change `mark`.
        mark: The last change that it knows.
        allow_list: Filled by the first `follow`.
    """

    def __init__(self, matcher: Matcher, mark: FeedMark, allow_list: AllowList) -> None:
        self._matcher = matcher
        self._mark = mark
        self._allow_list = allow_list
        self._allowed_version: tuple[int, int] | None = None
        self._is_done = False
        self._lock = threading.Lock()

    def follow(self, connection: Connection) -> None:
        """Apply everything that changed since the last time.

        Raises:
            FeedLostError: The feed does not go on where we are: only a new start from
                the store helps.
        """
        # Before the first query, which decides what a transaction sees.
        with self._lock:
            if not self._is_done:
                self._follow(connection)

    def _follow(self, connection: Connection) -> None:
        if not changes.can_resume_at(connection, self._mark):
            raise FeedLostError(self._mark.seq)
        while rows := changes.marked_changes_after(connection, self._mark.seq, _PAGE):
            changed = [change for _, change in rows]
            # What was erased has no type and no value any more, and is dead.
            self._matcher.forget([it.signal_id for it in changed if not it.type])
            self._matcher.apply([it for it in changed if it.type])
            self._mark = rows[-1][0]
        version = allowed.version(connection)
        if version != self._allowed_version:
            self._allow_list.replace(allowed.list_allowed(connection))
            self._allowed_version = version

    def hand_over(self, connection: Connection) -> FeedMark:
        """Catch up for the last time: from now on somebody else tells the matcher.

        Args:
            connection: In a transaction, when nobody writes.

        Returns:
            The change that memory is at.
        """
        with self._lock:
            self._follow(connection)
            self._is_done = True
            return self._mark
