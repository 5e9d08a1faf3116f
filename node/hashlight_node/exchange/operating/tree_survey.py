"""Holds the stored entries and hashes of a log against its root, block by block.

Each hash of a tree is stored up to three times: it follows from the entries, it stands
in the tile of level 0, and the hash of that tile stands in the tile above. Whatever two
of them agree on is taken for right, and the root that the log signed says in the end
whether it was. So a damaged byte is found where it is, and not only that there is one.

Memory: a tile for each level of the tree, and what is found to be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from hashlight_protocol import (
    TILE_WIDTH,
    Frontier,
    ProtocolError,
    leaf_hashes,
    parse_entry_bundle,
    subtree_hash,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    TileAt = Callable[[int, int], bytes | None]

Copy = Literal["entries", "tile", "parent"]
"""From where the hash of a block can be known."""

COPIES: Final[tuple[Copy, ...]] = ("entries", "tile", "parent")

_HASH_BYTES: Final = 32
_BLOCK_LEVEL: Final = 8
_REPAIRS_KEPT: Final = 256
"""Tiles that are remembered to be written again, 2 MiB; the rest waits for a round."""


@dataclass(frozen=True, slots=True)
class Block:
    """What is to be known of 256 leaves.

    Attributes:
        index: Which block.
        entries: Its entries as they are stored; None if they cannot be taken apart.
        hashes: The leaf hashes that count; None if nothing here tells them.
        wrong: Positions within the block of entries that do not hash to them; None if
            the bundle as a whole is wrong.
    """

    index: int
    entries: tuple[bytes, ...] | None
    hashes: tuple[bytes, ...] | None
    wrong: tuple[int, ...] | None

    def entry(self, position: int) -> bytes | None:
        """Give an entry if it is authentic."""
        if self.entries is None or self.wrong is None or position in self.wrong:
            return None
        return self.entries[position]


@dataclass(slots=True)
class TreeSurvey:
    """The tree of a log, as far as it was read.

    Attributes:
        size: Leaves that it has.
        bad_tiles: Level and index of tiles that are not what they must be.
        tiles: What they must be, of the first of them.
        bad_entries: Blocks whose entries are wrong, each with the leaves if known.
        unknown: Blocks of which no two copies agree.
        frontier: Right edge of the tree up to here.
        prefer: Which copy is believed of a block of which no two agree.
        has_grown: Whether the log has more leaves by now: what is partial in this tree
            may then be stored wider.
    """

    size: int
    prefer: Copy = "entries"
    has_grown: bool = False
    bad_tiles: list[tuple[int, int]] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    bad_entries: dict[int, tuple[int, ...]] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    frontier: Frontier = field(default_factory=Frontier)
    _levels: list[list[bytes]] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    def add(
        self,
        index: int,
        entries: bytes | None,
        tile: bytes | None,
        *,
        tile_at: TileAt,
        goal: bytes | None = None,
    ) -> Block:
        """Take in the next block.

        Args:
            index: Which; one after the other.
            entries: The stored entry bundle.
            tile: The stored tile of level 0.
            tile_at: Reads a stored tile of a higher level.
            goal: The log's root, which decides about the last block if it is partial.
        """
        width = min(TILE_WIDTH, self.size - index * TILE_WIDTH)
        parsed = parse_entries(entries, width, has_grown=self.has_grown)
        ours = None if parsed is None else tuple(leaf_hashes(parsed))
        stored = self._hashes(tile, width)
        if width == TILE_WIDTH:
            chosen, above = self._choose(index, ours, stored, tile_at)
            self.frontier = self.frontier.extend_subtrees((above,), level=_BLOCK_LEVEL)
            self._push(1, above, tile_at)
        else:
            chosen = self._choose_last(ours, stored, goal)
            if chosen is None:
                self.unknown.append(index)
            self.frontier = self.frontier.extend(chosen or ours or stored or ())
        if stored is None or stored != chosen:
            self._note_tile(0, index, chosen)
        wrong = _compare(ours, chosen)
        if wrong is None or wrong:
            self.bad_entries[index] = wrong or ()
        return Block(index, parsed, chosen, wrong)

    def finish(self, tile_at: TileAt) -> bytes:
        """Compare the partial tiles of the right edge; give the root of the tree."""
        for level, hashes in enumerate(self._levels, 1):
            if hashes:
                self._compare_tile(level, self._counts[level - 1], hashes, tile_at)
        return self.frontier.root

    def _choose(
        self,
        index: int,
        ours: tuple[bytes, ...] | None,
        stored: tuple[bytes, ...] | None,
        tile_at: TileAt,
    ) -> tuple[tuple[bytes, ...] | None, bytes]:
        of_entries = None if ours is None else subtree_hash(ours)
        of_tile = None if stored is None else subtree_hash(stored)
        slot = _slot(tile_at(1, index // TILE_WIDTH), index % TILE_WIDTH)
        if of_entries is not None and of_entries in {of_tile, slot}:
            return ours, of_entries
        if of_tile is not None and of_tile == slot:
            return stored, of_tile
        self.unknown.append(index)
        # Which of them was right, the root will say.
        candidates: dict[Copy, tuple[tuple[bytes, ...] | None, bytes | None]] = {
            "entries": (ours, of_entries),
            "tile": (stored, of_tile),
            "parent": (None, slot),
        }
        for copy in (self.prefer, *COPIES):
            hashes, above = candidates[copy]
            if above is not None:
                return hashes, above
        return None, bytes(_HASH_BYTES)

    def _choose_last(
        self,
        ours: tuple[bytes, ...] | None,
        stored: tuple[bytes, ...] | None,
        goal: bytes | None,
    ) -> tuple[bytes, ...] | None:
        if ours == stored:
            return ours
        for one in (ours, stored):
            if one is not None and self.frontier.extend(one).root == goal:
                return one
        return None

    def _push(self, level: int, above: bytes, tile_at: TileAt) -> None:
        while len(self._levels) < level:
            self._levels.append([])
            self._counts.append(0)
        hashes = self._levels[level - 1]
        hashes.append(above)
        if len(hashes) == TILE_WIDTH:
            self._compare_tile(level, self._counts[level - 1], hashes, tile_at)
            self._counts[level - 1] += 1
            self._levels[level - 1] = []
            self._push(level + 1, subtree_hash(hashes), tile_at)

    def _compare_tile(
        self, level: int, index: int, hashes: Sequence[bytes], tile_at: TileAt
    ) -> None:
        if self._hashes(tile_at(level, index), len(hashes)) != tuple(hashes):
            self._note_tile(level, index, hashes)

    def _hashes(self, tile: bytes | None, width: int) -> tuple[bytes, ...] | None:
        end = width * _HASH_BYTES
        is_partial = width < TILE_WIDTH
        if tile is None or len(tile) < end:
            return None
        if len(tile) > end and not (is_partial and self.has_grown):
            return None
        return tuple(tile[at : at + _HASH_BYTES] for at in range(0, end, _HASH_BYTES))

    def _note_tile(
        self, level: int, index: int, hashes: Sequence[bytes] | None
    ) -> None:
        self.bad_tiles.append((level, index))
        if hashes is not None and len(self.tiles) < _REPAIRS_KEPT:
            self.tiles[level, index] = b"".join(hashes)


def parse_entries(
    raw: bytes | None, width: int, *, has_grown: bool
) -> tuple[bytes, ...] | None:
    """Take a stored bundle apart; None if that cannot be done.

    Args:
        raw: The bundle.
        width: Entries wanted.
        has_grown: Whether there may be more behind them.
    """
    if raw is None:
        return None
    try:
        whole = raw if width == TILE_WIDTH or not has_grown else _cut(raw, width)
        return parse_entry_bundle(whole, width)
    except ProtocolError:
        return None


def _cut(raw: bytes, width: int) -> bytes:
    position = 0
    for _ in range(width):
        position += 2 + int.from_bytes(raw[position : position + 2], "big")
    return raw[:position]


def _slot(tile: bytes | None, position: int) -> bytes | None:
    at = position * _HASH_BYTES
    hashed = b"" if tile is None else tile[at : at + _HASH_BYTES]
    return hashed if len(hashed) == _HASH_BYTES else None


def _compare(
    ours: tuple[bytes, ...] | None, chosen: tuple[bytes, ...] | None
) -> tuple[int, ...] | None:
    if ours is None or chosen is None:
        return None
    return tuple(at for at in range(len(chosen)) if ours[at] != chosen[at])
