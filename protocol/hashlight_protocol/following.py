"""Following a log: which bundles of it a checkpoint authenticates, and which not.

A follower knows its own tree of s leaves. It asks for hashes only: of the leaves up to
the next multiple of 256, of the full blocks of 256 after that, and of the leaves of the
last, partial block. Appended to its own tree they must give the root of the checkpoint
of n leaves. That proves at once that the log was only appended to, and what each bundle
hashes to, for 32 bytes per 256 records. Then every bundle is checked by itself, so a
transfer can stop and go on anywhere, and nothing unverified is ever stored.

Source: SPEC.md#following.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hashlight_protocol.bodies import Body, BodyStatus
from hashlight_protocol.checkpoint import Checkpoint, KnownHead
from hashlight_protocol.commitments import commit
from hashlight_protocol.entries import EntryKind
from hashlight_protocol.errors import (
    BadBundleError,
    BadCommitmentError,
    BadProofError,
    MalformedError,
    RollbackError,
    SplitViewError,
    TooLargeError,
)
from hashlight_protocol.merkle import Frontier, leaf_hashes, subtree_hash
from hashlight_protocol.tiles import TILE_HEIGHT, TILE_WIDTH, TileId, parse_tile

MAX_RANGE = 2**28
"""Most leaves in one range, 2^20 bundles; keeps the hashes of a range in memory."""


def _blocks(old_size: int, new_size: int) -> range:
    # Full blocks of 256 leaves that begin at or after the old size.
    return range(-(-old_size // TILE_WIDTH), new_size // TILE_WIDTH)


def _width(tree_size: int, block: int) -> int:
    return min(TILE_WIDTH, tree_size - block * TILE_WIDTH)


def needed_tiles(
    old_size: int, new_size: int, anchor_size: int | None = None
) -> tuple[TileId, ...]:
    """Name the tiles that `plan_range` needs.

    Args:
        old_size: Leaves in the follower's own tree.
        new_size: Leaves in the checkpoint's tree.
        anchor_size: Size of a further known tree in between, see `plan_range`.

    Returns:
        Tiles of levels 0 and 1, as wide as the new tree makes them. None if the sizes
        are equal.

    Raises:
        TooLargeError: There are more than `MAX_RANGE` leaves between the sizes.
        ValueError: The sizes are not in order.

    Source: SPEC.md#following.
    """
    anchor = new_size if anchor_size is None else anchor_size
    if not 0 <= old_size <= anchor <= new_size:
        raise ValueError("the sizes are not in order")
    if new_size - old_size > MAX_RANGE:
        raise TooLargeError("range of leaves", MAX_RANGE)
    # A size within a block needs the leaves of that block.
    inside = {size // TILE_WIDTH for size in (old_size, anchor, new_size) if size % 256}
    if old_size == new_size:
        inside.clear()
    leaves = [TileId(0, block, _width(new_size, block)) for block in sorted(inside)]
    blocks = _blocks(old_size, new_size)
    if not blocks:
        return tuple(leaves)
    upper = range(blocks.start // TILE_WIDTH, -(-blocks.stop // TILE_WIDTH))
    full = new_size // TILE_WIDTH
    return (*leaves, *(TileId(1, index, _width(full, index)) for index in upper))


@dataclass(frozen=True, slots=True)
class VerifiedRange:
    """The part of a log between two sizes, authenticated by hashes.

    Attributes:
        origin: The log.
        old_size: Leaves in the follower's own tree.
        frontier: Right edge of the checkpoint's tree.

    Source: SPEC.md#following.
    """

    origin: str
    old_size: int
    frontier: Frontier
    # Leaf hashes of the blocks that a tree size falls into, by block.
    _leaves: Mapping[int, tuple[bytes, ...]] = field(repr=False)
    # Hashes of the full blocks in `_blocks(old_size, new_size)`.
    _block_hashes: Sequence[bytes] = field(repr=False)

    @property
    def new_size(self) -> int:
        """Leaves in the checkpoint's tree."""
        return self.frontier.size

    @property
    def bundles(self) -> range:
        """Indexes of the bundles to fetch, in order.

        The first one also holds leaves before `old_size`, unless that is a multiple of
        256.
        """
        if self.new_size == self.old_size:
            return range(0)
        return range(self.old_size // TILE_WIDTH, -(-self.new_size // TILE_WIDTH))

    def width(self, bundle_index: int) -> int:
        """Tell how many leaves a bundle has in the checkpoint's tree."""
        return _width(self.new_size, bundle_index)

    def check_entries(self, bundle_index: int, entries: Sequence[bytes]) -> list[bytes]:
        """Check that entries are those that the checkpoint authenticates.

        Args:
            bundle_index: One of `bundles`.
            entries: Encoded entries of the whole bundle, as `parse_entry_bundle` gives
                them.

        Returns:
            `leaf_hash` of each: the content of the bundle's tile.

        Raises:
            BadBundleError: An entry is missing, added, moved or altered; the reason
                names the leaf if its hash is known.
            ValueError: The bundle is not one of `bundles`.

        Source: SPEC.md#following.
        """
        if bundle_index not in self.bundles:
            raise ValueError("the bundle is not part of the range")
        width = self.width(bundle_index)
        if len(entries) != width:
            reason = f"it holds {len(entries)} entries and not {width}"
            raise BadBundleError("entries", bundle_index, reason)
        hashes = leaf_hashes(entries)
        self.check_hashes(bundle_index, hashes)
        return hashes

    def check_hashes(self, bundle_index: int, hashes: Sequence[bytes]) -> None:
        """Check that leaf hashes are those that the checkpoint authenticates.

        Args:
            bundle_index: One of `bundles`.
            hashes: `leaf_hash` of each entry of the whole bundle, whose number is
                right.

        Raises:
            BadBundleError: As for `check_entries`.

        Source: SPEC.md#following.
        """
        known = self._leaves.get(bundle_index)
        if known is not None:
            _compare_leaves(bundle_index, hashes, known)
            return
        position = bundle_index - _blocks(self.old_size, self.new_size).start
        if subtree_hash(hashes) != self._block_hashes[position]:
            first = bundle_index * TILE_WIDTH
            end = first + len(hashes) - 1
            reason = f"leaves {first} to {end} do not match their hash"
            raise BadBundleError("entries", bundle_index, reason)


def _compare_leaves(
    bundle_index: int, hashes: Sequence[bytes], known: Sequence[bytes]
) -> None:
    for offset, (found, expected) in enumerate(zip(hashes, known, strict=True)):
        if found != expected:
            leaf_index = bundle_index * TILE_WIDTH + offset
            reason = f"leaf {leaf_index} does not match its hash"
            raise BadBundleError("entries", bundle_index, reason)


def plan_range(
    frontier: Frontier,
    target: Checkpoint,
    tiles: Mapping[TileId, bytes],
    *,
    anchor: KnownHead | None = None,
) -> VerifiedRange:
    """Find out what a checkpoint authenticates beyond the follower's own tree.

    Args:
        frontier: Right edge of the follower's own, verified tree.
        target: The checkpoint, signed by the log.
        tiles: The tiles that `needed_tiles` names for these sizes.
        anchor: A further tree of this log that is known, for example one that was
            cosigned before its leaves were fetched; its size lies between the two.

    Raises:
        RollbackError: The checkpoint is smaller than the own tree.
        SplitViewError: The checkpoint has the size of the own tree or includes that of
            the anchor, with another root. The log signed both.
        BadBundleError: A tile is not the one that the other hashes authenticate.
        BadProofError: The tiles do not lead from the own tree to the checkpoint.
        TooLargeError: There are more than `MAX_RANGE` leaves between the sizes.
        KeyError: A tile that is needed was not given.
        ValueError: The anchor does not lie between the two sizes.

    Source: SPEC.md#following.
    """
    old_size, new_size = frontier.size, target.tree_size
    if new_size < old_size:
        raise RollbackError(target.origin, old_size, new_size)
    anchor_size = None if anchor is None else anchor.tree_size
    hashes = {
        tile: _parse_tile(tile, tiles[tile])
        for tile in needed_tiles(old_size, new_size, anchor_size)
    }
    leaves = {tile.index: part for tile, part in hashes.items() if tile.level == 0}
    upper = [(tile.index, part) for tile, part in hashes.items() if tile.level]
    first_block = upper[0][0] * TILE_WIDTH if upper else 0
    block_hashes = [block for _, part in upper for block in part]
    _check_leaves(frontier, leaves)
    _check_blocks(frontier, first_block, block_hashes)
    _check_levels(leaves, first_block, block_hashes)

    edge = _Edge(
        frontier,
        leaves,
        block_hashes[_blocks(old_size, new_size).start - first_block :],
    )
    tree = edge.grow(new_size)
    if tree.root != target.root_hash:
        if new_size == old_size:
            raise SplitViewError(target.origin, new_size)
        raise BadProofError(
            f"tiles of leaves {old_size} to {new_size} do not lead to the root"
        )
    if anchor is not None and edge.grow(anchor.tree_size).root != anchor.root_hash:
        raise SplitViewError(target.origin, anchor.tree_size)
    return VerifiedRange(target.origin, old_size, tree, leaves, edge.block_hashes)


@dataclass(frozen=True, slots=True)
class _Edge:
    """The follower's tree and the hashes to grow it with."""

    frontier: Frontier
    leaves: Mapping[int, Sequence[bytes]]
    block_hashes: Sequence[bytes]

    def grow(self, size: int) -> Frontier:
        tree = self.frontier
        block, inside = divmod(size, TILE_WIDTH)
        first, offset = divmod(tree.size, TILE_WIDTH)
        if size == tree.size:
            return tree
        if offset:
            end = inside if block == first else TILE_WIDTH
            tree = tree.extend(self.leaves[first][offset:end])
            first += 1
        if block < first:
            return tree
        tree = tree.extend_subtrees(
            self.block_hashes[: block - first], level=TILE_HEIGHT
        )
        return tree.extend(self.leaves[block][:inside]) if inside else tree


def _parse_tile(tile: TileId, raw: bytes) -> tuple[bytes, ...]:
    try:
        return parse_tile(raw, tile.width)
    except MalformedError as error:
        reason = f"level {tile.level}: {error.reason}"
        raise BadBundleError("tile", tile.index, reason) from None


def _cut(frontier: Frontier, height: int) -> Frontier:
    # The part of a tree that consists of subtrees of 2^height leaves and more.
    count = frontier.size >> height
    return Frontier(count << height, frontier.hashes[: count.bit_count()])


def _check_leaves(frontier: Frontier, leaves: Mapping[int, Sequence[bytes]]) -> None:
    # The leaves that the follower already has must reappear in the tile.
    block, offset = divmod(frontier.size, TILE_WIDTH)
    if offset and block in leaves:
        own = _cut(frontier, TILE_HEIGHT).extend(leaves[block][:offset])
        if own != frontier:
            reason = f"level 0: leaves before {frontier.size} differ from the own tree"
            raise BadBundleError("tile", block, reason)


def _check_blocks(
    frontier: Frontier, first_block: int, block_hashes: Sequence[bytes]
) -> None:
    # The same one level up, for the blocks that the follower has in full.
    own = _cut(frontier, TILE_HEIGHT)
    count = own.size // TILE_WIDTH - first_block
    if count > 0 and block_hashes:
        grown = _cut(frontier, 2 * TILE_HEIGHT).extend_subtrees(
            block_hashes[:count], level=TILE_HEIGHT
        )
        if grown != own:
            reason = f"level 1: blocks before {own.size} differ from the own tree"
            raise BadBundleError("tile", first_block // TILE_WIDTH, reason)


def _check_levels(
    leaves: Mapping[int, Sequence[bytes]],
    first_block: int,
    block_hashes: Sequence[bytes],
) -> None:
    # Tiles of both levels that overlap must agree.
    end = first_block + len(block_hashes)
    for block, hashes in leaves.items():
        if first_block <= block < end:
            above = block_hashes[block - first_block]
            if len(hashes) != TILE_WIDTH or subtree_hash(hashes) != above:
                reason = "level 0: it does not match its hash at level 1"
                raise BadBundleError("tile", block, reason)


def check_bodies(
    list_id: str, entries: Sequence[bytes], bodies: Sequence[Body], first_index: int
) -> None:
    """Check that bodies are those that verified entries commit to.

    Whether a body that is said to be erased was erased by the log is not checked here:
    the ERASE may stand in a later bundle.

    Args:
        list_id: Id of the list that the log belongs to.
        entries: Encoded entries of the bundle, from `VerifiedRange.check_entries`.
        bodies: One for each entry.
        first_index: Leaf index of the first entry.

    Raises:
        BadCommitmentError: A body is not the one that its entry commits to.
        BadBundleError: There are more or fewer bodies than entries, or a body stands
            beside an entry that has none, or the other way round.

    Source: SPEC.md#following.
    """
    bundle_index = first_index // TILE_WIDTH
    if len(bodies) != len(entries):
        reason = f"it holds {len(bodies)} bodies and not {len(entries)}"
        raise BadBundleError("bodies", bundle_index, reason)
    # Looked up once, because this runs for every record that anybody copies.
    record, present, none = EntryKind.RECORD, BodyStatus.PRESENT, BodyStatus.NONE
    for leaf_index, (entry, body) in enumerate(
        zip(entries, bodies, strict=True), first_index
    ):
        if (entry[0] == record) != (body.status != none):
            reason = f"leaf {leaf_index} has a body but is no record, or none but is"
            raise BadBundleError("bodies", bundle_index, reason)
        if (
            body.status == present
            and commit(list_id, body.salt, body.body) != entry[1:]
        ):
            raise BadCommitmentError(leaf_index)
