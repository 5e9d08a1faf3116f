"""Which body bundles a transaction changed, for those who keep copies of them.

A bundle whose entries are all there changes in three ways only: a body is destroyed,
is dropped because it is old, or comes later than its entry. All three places say so
here, whoever caused it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from hashlight_protocol import TILE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection

_CHANGED: Final = "hashlight-changed-bodies"


class BundlePlace(NamedTuple):
    """Names a body bundle in this store."""

    log_id: int
    bundle: int


class KeepsBodies(Protocol):
    """Keeps copies of body bundles outside of the store."""

    def forget(self, places: AbstractSet[BundlePlace]) -> None:
        """Destroy the copies of bundles that changed.

        Called in the writer's thread, after the commit and before whoever wrote is told
        that it is done. Must not fail: what could not be destroyed is remembered.
        """
        ...

    def scrub(self) -> None:
        """Make sure that everything which had to be destroyed is.

        Raises:
            ScrubError: Some of it could not be.
        """
        ...


def note_changed(connection: Connection, leaves: Iterable[tuple[int, int]]) -> None:
    """Say that bodies changed.

    Args:
        connection: In a transaction; outside of `collecting` nobody listens.
        leaves: Log and leaf index of each.
    """
    changed: set[BundlePlace] | None = connection.info.get(_CHANGED)
    if changed is not None:
        changed.update(
            BundlePlace(log_id, leaf_index // TILE_WIDTH)
            for log_id, leaf_index in leaves
        )


@contextmanager
def collecting(connection: Connection) -> Iterator[set[BundlePlace]]:
    """Collect what `note_changed` says while the block lasts."""
    changed: set[BundlePlace] = set()
    connection.info[_CHANGED] = changed
    try:
        yield changed
    finally:
        connection.info.pop(_CHANGED, None)
