"""Receiving notes: what a peer says about itself because nobody can ask it.

Source: SPEC.md#uploads.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hashlight_node.exchange.following.descriptors import pinned, replace_descriptor
from hashlight_node.exchange.logs.evidence import keep_evidence, quarantine_list
from hashlight_node.peers.errors import PeerMisbehavedError
from hashlight_protocol import (
    ListNote,
    StaleVersionError,
    open_added_note,
    parse_vkey,
)

if TYPE_CHECKING:
    from hashlight_node.exchange.following.list_notes import ListNotes
    from hashlight_node.model import Clock, Peer
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import Descriptor


class NoteReceiver:
    """Takes descriptors and list notes from the peers that they are about.

    Args:
        database: The store.
        list_notes: Remembers list notes.
        clock: Unix seconds.
    """

    def __init__(
        self, *, database: Database, list_notes: ListNotes, clock: Clock
    ) -> None:
        self._database = database
        self._list_notes = list_notes
        self._clock = clock

    async def add_note(self, peer: Peer, raw: bytes) -> None:
        """Take a note, as if we had fetched it.

        Args:
            peer: The authenticated sender.
            raw: The note.

        Raises:
            ProtocolError: It is no note of the sender, or cannot follow the one we
                have; what we have stays.
            UnknownPeerError: The peer is pinned no more.
        """
        identity = parse_vkey(peer.identity_vkey)
        note = await asyncio.to_thread(open_added_note, raw, identity)
        list_name = note.list_name if isinstance(note, ListNote) else ""
        try:
            if isinstance(note, ListNote):
                await self._list_notes.accept(peer, note, raw)
            else:
                await self._replace_descriptor(peer, note, raw)
        except PeerMisbehavedError as error:
            await self._keep(peer, list_name, error)
            raise error.cause from error

    async def _replace_descriptor(
        self, peer: Peer, descriptor: Descriptor, raw: bytes
    ) -> None:
        def write(conn: Connection) -> None:
            known = pinned(conn, peer.name)
            if descriptor.version < known.descriptor_version:
                # A request can be replayed, so this is no fault.
                raise StaleVersionError(
                    "descriptor", known.descriptor_version, descriptor.version
                )
            identity = parse_vkey(known.identity_vkey)
            replace_descriptor(
                conn, known, identity, descriptor, raw, now=self._clock()
            )

        await self._database.write(write)

    async def _keep(
        self, peer: Peer, list_name: str, error: PeerMisbehavedError
    ) -> None:
        def keep(conn: Connection) -> None:
            now = self._clock()
            if list_name:
                quarantine_list(conn, peer, list_name, error, now=now)
            else:
                keep_evidence(conn, peer, "", error, now=now)

        await self._database.write(keep)
