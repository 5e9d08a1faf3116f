"""One transfer: bundles of a followed log, fetched ahead and verified in order.

Nothing here stores anything. Whatever a peer sends that is not what the checkpoint
authenticates becomes a `PeerMisbehavedError` that names the list, the bundle and, where
it is known, the leaf.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hashlight_node.peers.errors import PeerMisbehavedError, blaming, digest_of
from hashlight_node.store.meanings import read_meaning
from hashlight_protocol import (
    TILE_WIDTH,
    BadCommitmentError,
    Body,
    BodyBundleId,
    BodyStatus,
    EntryBundleId,
    EntryKind,
    Erase,
    MalformedError,
    Meta,
    ProtocolError,
    UnknownEntry,
    UnsupportedEntryError,
    check_bodies,
    encode_body_bundle,
    parse_body_bundle,
    parse_entry,
    parse_entry_bundle,
    parse_origin,
)

from .digesting import Job

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence

    from hashlight_node.exchange.logs.erasures import ErasureClaims
    from hashlight_node.model import Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.meanings import Meaning
    from hashlight_protocol import Entry, TileId, VerifiedRange

    from .digesters import Digester
    from .digesting import Digested
    from .own_bodies import OwnBodies

_AHEAD: Final = 6
"""Requests under way at once; bounds the memory to about 6 times 6 MiB."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """The new part of a bundle, verified and parsed.

    Attributes:
        first_index: Leaf index of the first entry here.
        raw: The entries as they are hashed.
        leaf_hashes: `leaf_hash` of each.
        entries: What they say.
        bodies: One for each. What was said to be erased stands here as withheld: the
            ERASE that makes it true is applied like any other entry.
        unsupported: Set if the bundle goes on with an entry that we must understand
            and do not; entries from there on are left out.
        meanings: What the bodies mean, one for each or, if nobody has looked, none.
    """

    first_index: int
    raw: tuple[bytes, ...]
    leaf_hashes: tuple[bytes, ...]
    entries: tuple[Entry, ...]
    bodies: tuple[Body, ...]
    unsupported: UnsupportedEntryError | None
    meanings: tuple[Meaning | None, ...] = ()


@dataclass(frozen=True, slots=True)
class RawBundle:
    """What a peer sent for one bundle.

    Attributes:
        index: Which bundle.
        entries: Content of the entry bundle.
        bodies: Content of the body bundle, decoded.
        digested: What another process found when it checked the bodies and read them.
    """

    index: int
    entries: bytes
    bodies: bytes
    digested: Digested | None = None


async def fetch_tiles(
    client: PeerClient, peer: Peer, origin: str, tiles: Sequence[TileId]
) -> dict[TileId, bytes]:
    """Fetch tiles, several at a time; nothing of them is verified.

    Raises:
        PeerError: One of them cannot be had.
    """

    async def fetch(tile: TileId) -> tuple[TileId, bytes]:
        return tile, await client.fetch_tile(peer, origin, tile)

    return {tile: raw async for tile, raw in fetch_ahead(tiles, fetch)}


def fetch_bundles(
    client: PeerClient,
    peer: Peer,
    span: VerifiedRange,
    own: OwnBodies,
    digester: Digester | None = None,
    *,
    has_room: Callable[[], bool] = _always,
) -> AsyncGenerator[RawBundle]:
    """Fetch the bundles of a range in order, some ahead of the reader.

    Use with `contextlib.aclosing`: requests under way are then cancelled when the
    reader stops.

    Args:
        client: Asks the peer.
        peer: Whose log it is.
        span: The range.
        own: Bodies that need not be fetched.
        digester: Checks and reads what was fetched, beside this process.
        has_room: Whether bodies can be stored. While they cannot, they are left out as
            if they were withheld: a withdrawal may be among the entries.

    Raises:
        PeerError: One of them cannot be had.
    """
    list_id = parse_origin(span.origin).list_id

    async def fetch(index: int) -> RawBundle:
        width = span.width(index)
        entries = await client.fetch_entries(
            peer, span.origin, EntryBundleId(index, width)
        )
        if not has_room():
            return RawBundle(index, entries, _left_out(entries, width))
        bodies = await own.bundle(index, width, entries)
        if bodies is None:
            bodies = await client.fetch_bodies(
                peer, span.origin, BodyBundleId(index, width)
            )
        raw = RawBundle(index, entries, bodies)
        if digester is None:
            return raw
        job = Job(list_id, index * TILE_WIDTH, width, entries, bodies)
        return replace(raw, digested=await digester.digest(job))

    return fetch_ahead(span.bundles, fetch)


def _left_out(entries: bytes, width: int) -> bytes:
    """Write the body bundle of entries whose bodies are not fetched."""
    try:
        parsed = parse_entry_bundle(entries, width)
    except ProtocolError:
        # Found out, and blamed, where it is verified.
        return b""
    return encode_body_bundle(
        [
            Body(BodyStatus.WITHHELD if raw[0] == EntryKind.RECORD else BodyStatus.NONE)
            for raw in parsed
        ]
    )


async def fetch_ahead(
    items: Iterable[Item], fetch: Callable[[Item], Coroutine[Any, Any, Result]]
) -> AsyncGenerator[Result]:
    """Yield the results of `fetch` in the order of the items.

    The first error ends everything; what is under way then is cancelled.
    """
    pending: deque[asyncio.Task[Result]] = deque()
    try:
        for item in items:
            pending.append(asyncio.create_task(fetch(item)))
            if len(pending) == _AHEAD:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def verify_bundle(
    peer: str, span: VerifiedRange, raw: RawBundle, claims: ErasureClaims
) -> VerifiedBundle:
    """Check a bundle against what the checkpoint authenticates, and parse it.

    Some 4 ms of work for a full bundle, to be called in a thread; 1 ms if another
    process has digested it.

    Args:
        peer: Who sent it.
        span: What is authentic.
        raw: What was sent.
        claims: Told which bodies are said to be erased, and what ERASE entries cover.

    Raises:
        PeerMisbehavedError: Something is not what it must be.
    """
    where = raw.index * TILE_WIDTH
    skip = max(0, span.old_size - where)
    with blaming(peer, f"entries {raw.index} of {span.origin}", raw.entries):
        whole = parse_entry_bundle(raw.entries, span.width(raw.index))
        hashes = _check_entries(span, raw, whole)[skip:]
    # What hashes to what the log signed is the owner's, whoever sent it.
    owner = parse_origin(span.origin).node
    with blaming(owner, f"entries {raw.index} of {span.origin}", raw.entries):
        entries, unsupported = _parse_entries(span.origin, whole[skip:], where + skip)
    bodies = open_bodies(peer, span.origin, raw, whole)[skip:]
    end = len(entries)
    meanings = _meanings(raw, bodies, skip)
    kept = _note_erasures(entries, bodies[:end], where + skip, claims)
    return VerifiedBundle(
        first_index=where + skip,
        raw=whole[skip : skip + end],
        leaf_hashes=tuple(hashes[:end]),
        entries=entries,
        bodies=kept,
        unsupported=unsupported,
        meanings=meanings[:end],
    )


def _check_entries(
    span: VerifiedRange, raw: RawBundle, entries: Sequence[bytes]
) -> Sequence[bytes]:
    if raw.digested is None:
        return span.check_entries(raw.index, entries)
    span.check_hashes(raw.index, raw.digested.leaf_hashes)
    return raw.digested.leaf_hashes


def _meanings(
    raw: RawBundle, bodies: Sequence[Body], skip: int
) -> tuple[Meaning | None, ...]:
    """Give what bodies from one on mean, read here and not while others write."""
    if raw.digested is not None:
        return raw.digested.meanings[skip:]
    return tuple(
        read_meaning(body.body) if body.status is BodyStatus.PRESENT else None
        for body in bodies
    )


def open_package(
    peer: str,
    origin: str,
    entries: Sequence[bytes],
    hashes: Sequence[bytes],
    first_index: int,
) -> VerifiedBundle:
    """Parse uploaded entries; their bodies are still to come.

    Args:
        peer: Who sent them.
        origin: The log.
        entries: What a checkpoint of the log authenticates.
        hashes: `leaf_hash` of each.
        first_index: Leaf index of the first.

    Raises:
        PeerMisbehavedError: The log signed an entry that cannot stand there.
    """
    with blaming(peer, f"entries from {first_index} of {origin}", b"".join(entries)):
        parsed, unsupported = _parse_entries(origin, entries, first_index)
    return VerifiedBundle(
        first_index=first_index,
        raw=tuple(entries[: len(parsed)]),
        leaf_hashes=tuple(hashes[: len(parsed)]),
        entries=parsed,
        bodies=(Body(BodyStatus.WITHHELD),) * len(parsed),
        unsupported=unsupported,
    )


def open_bodies(
    peer: str, origin: str, raw: RawBundle, entries: Sequence[bytes]
) -> tuple[Body, ...]:
    """Parse a body bundle and check all of it, also what we have already.

    Evidence outlives every ERASE, and a body with one wrong byte is a real one. So it
    holds the entry and the digest of what came instead of a match, never the body.

    Args:
        peer: Who sent it.
        origin: The log.
        raw: What was sent.
        entries: The bundle's entries, authentic.

    Raises:
        PeerMisbehavedError: A body is not what its entry commits to.
    """
    what = f"bodies {raw.index} of {origin}"
    list_id = parse_origin(origin).list_id
    first_index = raw.index * TILE_WIDTH
    with blaming(peer, what, digest_of(raw.bodies)):
        bodies = parse_body_bundle(raw.bodies, len(entries))
        if raw.digested is not None:
            return bodies  # The same was done there, and nothing was wrong.
        try:
            check_bodies(list_id, entries, bodies, first_index)
        except BadCommitmentError as error:
            offset = error.leaf_index - first_index
            came = encode_body_bundle([bodies[offset]])
            evidence = entries[offset] + digest_of(came)
            raise PeerMisbehavedError(peer, what, error, evidence) from error
    return bodies


def _parse_entries(
    origin: str, raw: Sequence[bytes], first_index: int
) -> tuple[tuple[Entry, ...], UnsupportedEntryError | None]:
    entries: list[Entry] = []
    for leaf_index, one in enumerate(raw, first_index):
        entry = parse_entry(one, leaf_index=leaf_index)
        if isinstance(entry, Meta) and entry.origin != origin:
            raise MalformedError("META entry", "it names another log")
        if isinstance(entry, UnknownEntry) and entry.is_critical:
            return tuple(entries), UnsupportedEntryError(leaf_index, entry.kind)
        entries.append(entry)
    return tuple(entries), None


def _note_erasures(
    entries: Sequence[Entry],
    bodies: Sequence[Body],
    first_index: int,
    claims: ErasureClaims,
) -> tuple[Body, ...]:
    is_told = BodyStatus.ERASED in {body.status for body in bodies}
    if not is_told and Erase not in set(map(type, entries)):
        return tuple(bodies)
    kept: list[Body] = []
    for leaf_index, (entry, body) in enumerate(
        zip(entries, bodies, strict=True), first_index
    ):
        if isinstance(entry, Erase):
            claims.prove(entry.first, entry.count)
        if body.status is BodyStatus.ERASED:
            claims.claim(leaf_index)
            kept.append(Body(BodyStatus.WITHHELD))
        else:
            kept.append(body)
    return tuple(kept)
