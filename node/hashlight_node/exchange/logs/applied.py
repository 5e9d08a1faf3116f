"""Who follows the commits that make signals live or dead, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashlight_node.model import SignalChange


class FollowsCommits(Protocol):
    """Is told of every change, by the store's writer, in two steps after its commit."""

    def apply(self, changes: Sequence[SignalChange]) -> None:
        """Follow a commit before it is announced; lookups that match wait meanwhile.

        Must not fail: what it follows is on disk.
        """
        ...

    def tidy(self, changes: Sequence[SignalChange]) -> None:
        """Follow it once it is announced, before whoever wrote is told that it is done.

        Must not fail, and may take longer.
        """
        ...


class Applied:
    """Tells everybody who follows commits.

    Args:
        followers: In this order; each is called with the changes of a commit, in the
            writer's thread, before the commit is announced.
        then: The same for those that are called once it is announced.
    """

    def __init__(
        self,
        *followers: Callable[[Sequence[SignalChange]], None],
        then: Sequence[Callable[[Sequence[SignalChange]], None]] = (),
    ) -> None:
        self._followers = followers
        self._then = then

    def apply(self, changes: Sequence[SignalChange]) -> None:
        """Follow a commit before it is announced."""
        if changes:
            for follow in self._followers:
                follow(changes)

    def tidy(self, changes: Sequence[SignalChange]) -> None:
        """Follow it once it is announced."""
        if changes:
            for follow in self._then:
                follow(changes)
