"""Bodies of a new log that are here already, from the log whose place it takes.

A commitment binds the list and not the log, so a re-issued record has the salt and body
that it had, and they need not travel again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.store import contents, reissues
from hashlight_protocol import (
    TILE_WIDTH,
    Body,
    BodyStatus,
    EntryKind,
    ProtocolError,
    encode_body_bundle,
    parse_entry_bundle,
)

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection, Database


class OwnBodies:
    """Gives body bundles of a log out of the store, where they are whole.

    Args:
        database: The store.
        log: A followed log.
    """

    def __init__(self, database: Database, log: Log) -> None:
        self._database = database
        self._log = log

    async def bundle(self, index: int, width: int, entries: bytes) -> bytes | None:
        """Give a body bundle, if the body of each of its records is here.

        What it holds is verified against the entries like one that was fetched.

        Args:
            index: Which bundle.
            width: Entries in it.
            entries: The entry bundle, as a peer sent it.
        """
        if self._log.counts_from is not None:
            return None
        return await self._database.read(
            lambda conn: self._read(conn, index, width, entries)
        )

    def _read(
        self, conn: Connection, index: int, width: int, entries: bytes
    ) -> bytes | None:
        try:
            raw = parse_entry_bundle(entries, width)
        except ProtocolError:
            return None  # Whoever verifies it says what is wrong.
        commitments = {
            leaf_index: entry[1:]
            for leaf_index, entry in enumerate(raw, index * TILE_WIDTH)
            if entry[0] == EntryKind.RECORD
        }
        originals = reissues.find_originals(conn, self._log, commitments)
        places = {
            leaf_index: it.content_id
            for leaf_index, it in originals.items()
            if it.content_id is not None
        }
        if len(places) < len(commitments):
            return None
        stored = contents.read_contents(conn, sorted(places.values()))
        bodies = [Body(BodyStatus.NONE)] * width
        for leaf_index, content_id in places.items():
            salt, body = stored[content_id]
            bodies[leaf_index % TILE_WIDTH] = Body(BodyStatus.PRESENT, salt, body)
        return encode_body_bundle(bodies)
