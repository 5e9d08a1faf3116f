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
    RecordEntry,
    encode_body_bundle,
    parse_entry_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection, Database

    from .transfer import VerifiedBundle


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

    async def known(self, bundle: VerifiedBundle) -> tuple[Body, ...]:
        """Give the bodies of entries that came without any, as far as they are here.

        Until the owner brings them nothing else would match of what goes on, from the
        moment on at which the new log takes the place of the old one.

        Args:
            bundle: Verified entries.
        """
        if self._log.counts_from is not None:
            return bundle.bodies
        commitments = {
            leaf_index: entry.commitment
            for leaf_index, entry in enumerate(bundle.entries, bundle.first_index)
            if isinstance(entry, RecordEntry)
        }
        found = await self._database.read(lambda conn: self._find(conn, commitments))
        return tuple(
            found.get(leaf_index, body)
            for leaf_index, body in enumerate(bundle.bodies, bundle.first_index)
        )

    def _find(
        self, conn: Connection, commitments: Mapping[int, bytes]
    ) -> dict[int, Body]:
        """Read the bodies of records that are here, by leaf index."""
        originals = reissues.find_originals(conn, self._log, commitments.items())
        places = {
            leaf_index: it.content_id
            for leaf_index, it in originals.items()
            if it.content_id is not None
        }
        stored = contents.read_contents(conn, sorted(places.values()))
        return {
            leaf_index: Body(BodyStatus.PRESENT, *stored[content_id])
            for leaf_index, content_id in places.items()
        }

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
        found = self._find(conn, commitments)
        if len(found) < len(commitments):
            return None
        bodies = [Body(BodyStatus.NONE)] * width
        for leaf_index, body in found.items():
            bodies[leaf_index % TILE_WIDTH] = body
        return encode_body_bundle(bodies)
