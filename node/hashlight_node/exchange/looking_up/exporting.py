"""Handing out everything that is live, in memory of constant size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hashlight_node.store.exporting import START, page_live_records

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from hashlight_node.model import Clock
    from hashlight_node.store.database import Connection, Database
    from hashlight_node.store.exporting import Exported, Place, Wanted

PAGE_PAIRS: Final = 1000
"""Pairs of a signal and a record that are read together: a few milliseconds' work."""


async def export_live(
    database: Database, *, clock: Clock, wanted: Wanted, page_pairs: int = PAGE_PAIRS
) -> AsyncGenerator[list[Exported], None]:
    """Read every live signal with its records.

    Each page is true at the moment at which it is read, all together are of no one
    moment: what is published or withdrawn meanwhile is in it or not. Whatever is live
    from beginning to end is in it once.

    Args:
        database: The store.
        clock: Unix seconds.
        wanted: What to give.
        page_pairs: Size of a page.

    Yields:
        Records, those of a signal one after the other; perhaps none at all.
    """
    place: Place | None = START
    while place is not None:
        rows, place = await database.read(_page_after(place, page_pairs, wanted, clock))
        yield rows


def _page_after(
    place: Place, limit: int, wanted: Wanted, clock: Clock
) -> Callable[[Connection], tuple[list[Exported], Place | None]]:
    def read(conn: Connection) -> tuple[list[Exported], Place | None]:
        return page_live_records(conn, place, limit, wanted=wanted, now=clock())

    return read
