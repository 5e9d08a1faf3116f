"""Tiles: a log's hashes cut into files of 256 that never change.

A tile of level L holds hashes of subtrees of 256^L leaves. Entry bundles and body
bundles are cut the same way at level 0.

Source: C2SP tlog-tiles; SPEC.md#tiles.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hashlight_protocol._text import HASH_BYTES, MAX_TREE_SIZE, parse_decimal
from hashlight_protocol.errors import BadBundleError, MalformedError
from hashlight_protocol.merkle import Frontier, subtree_hash
from hashlight_protocol.proofs import HashReader

TILE_WIDTH = 256
"""Hashes in a full tile, entries in a full bundle. Source: C2SP tlog-tiles."""

TILE_HEIGHT = 8
"""Levels of the tree that one tile spans."""

MAX_TILE_LEVEL = 63
"""Highest level that a path may name. Source: C2SP tlog-tiles."""

MAX_PATH = 64
"""Longest path in characters; the largest index needs fewer."""

TileReader = Callable[[int, int], bytes]
"""Gives the stored bytes of the tile (level, index), as wide as they are known."""

_PATH = re.compile(
    r"(?:tile/(?P<kind>entries|[0-9]{1,2})|bodies)"
    r"/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[0-9]{1,3}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class TileId:
    """The name of a tile of hashes.

    Attributes:
        level: 0 for leaf hashes, one more for each 8 levels of the tree.
        index: Position within the level, from 0.
        width: Hashes in it, 1 to 256; below 256 the tile is partial.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """

    level: int
    index: int
    width: int = TILE_WIDTH


@dataclass(frozen=True, slots=True)
class EntryBundleId:
    """The name of up to 256 entries.

    Attributes:
        index: Its first entry is leaf `index * 256`.
        width: Entries in it, 1 to 256; below 256 the bundle is partial.

    Source: C2SP tlog-tiles; SPEC.md#entry-bundles.
    """

    index: int
    width: int = TILE_WIDTH


@dataclass(frozen=True, slots=True)
class BodyBundleId:
    """The name of the bodies of up to 256 entries.

    Attributes:
        index: Its first body is that of leaf `index * 256`.
        width: Bodies in it, 1 to 256; below 256 the bundle is partial.

    Source: SPEC.md#body-bundles.
    """

    index: int
    width: int = TILE_WIDTH


ResourceId = TileId | EntryBundleId | BodyBundleId
"""Everything of a log that is cut into pieces of 256."""


def encode_tile_path(resource: ResourceId) -> str:
    """Write the path of a tile or bundle below the log's prefix.

    Raises:
        MalformedError: Level, index or width are out of range.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """
    path = _path_of(resource)
    if parse_tile_path(path) != resource:
        raise MalformedError("path", "level, index or width are out of range")
    return path


def _path_of(resource: ResourceId) -> str:
    head, last = divmod(resource.index, 1000)
    elements = [f"{last:03}"]
    while head > 0:
        head, element = divmod(head, 1000)
        elements.append(f"x{element:03}")
    part = "" if resource.width == TILE_WIDTH else f".p/{resource.width}"
    return f"{_folder_of(resource)}/{'/'.join(reversed(elements))}{part}"


def _folder_of(resource: ResourceId) -> str:
    if isinstance(resource, TileId):
        return f"tile/{resource.level}"
    return "tile/entries" if isinstance(resource, EntryBundleId) else "bodies"


def parse_tile_path(path: str) -> ResourceId:
    """Read the path of a tile or bundle, in its one canonical form.

    Args:
        path: What follows the log's prefix and a slash.

    Raises:
        MalformedError: The path names nothing.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """
    match = _PATH.fullmatch(path) if len(path) <= MAX_PATH else None
    if match is None:
        raise MalformedError("path", "it names no tile or bundle")
    digits = match["index"].replace("x", "").replace("/", "")
    index = parse_decimal(digits.lstrip("0") or "0", "path")
    width = TILE_WIDTH if match["width"] is None else int(match["width"])
    resource: ResourceId
    if match["kind"] is None:
        resource = BodyBundleId(index, width)
    elif match["kind"] == "entries":
        resource = EntryBundleId(index, width)
    else:
        resource = TileId(int(match["kind"]), index, width)
    _check_ranges(resource)
    # This refuses needless zeros and a partial suffix that says 256.
    if _path_of(resource) != path:
        raise MalformedError("path", "it is not in its one canonical form")
    return resource


def _check_ranges(resource: ResourceId) -> None:
    if not 1 <= resource.width <= TILE_WIDTH:
        raise MalformedError("path", "the width is not within 1 to 256")
    level = resource.level if isinstance(resource, TileId) else 0
    if level > MAX_TILE_LEVEL:
        raise MalformedError("path", f"the level is above {MAX_TILE_LEVEL}")


def tile_ids(tree_size: int) -> Iterator[TileId]:
    """List the tiles of a tree, level by level, each as wide as the tree makes it.

    Args:
        tree_size: Leaves in the tree.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """
    level, count = 0, tree_size
    while count:
        full, width = divmod(count, TILE_WIDTH)
        yield from (TileId(level, index) for index in range(full))
        if width:
            yield TileId(level, full, width)
        level, count = level + 1, full


def parse_tile(raw: bytes, width: int) -> tuple[bytes, ...]:
    """Split a tile into its hashes.

    Args:
        raw: The tile.
        width: Hashes it must hold.

    Raises:
        MalformedError: The tile is not exactly that wide.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """
    if len(raw) != width * HASH_BYTES:
        raise MalformedError("tile", f"it does not hold {width} hashes")
    return tuple(_hashes(raw))


def _hashes(raw: bytes) -> list[bytes]:
    return [raw[i : i + HASH_BYTES] for i in range(0, len(raw), HASH_BYTES)]


def tile_reader(read_tile: TileReader) -> HashReader:
    """Read any subtree of a tree from its tiles.

    Args:
        read_tile: Source of tiles; called once for each hash, so let it remember.

    Returns:
        A reader that raises BadBundleError if a tile is too narrow to hold what is
        asked for.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """

    def read(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        tile_index, first = divmod(index << height, TILE_WIDTH)
        tile = read_tile(tile_level, tile_index)
        end = first + (1 << height)
        if len(tile) < end * HASH_BYTES:
            raise BadBundleError(
                "tile", tile_index, f"level {tile_level}: it is narrower than {end}"
            )
        return subtree_hash(_hashes(tile[first * HASH_BYTES : end * HASH_BYTES]))

    return read


def new_tiles(
    read_tile: TileReader, old_size: int, leaf_hashes: Sequence[bytes]
) -> dict[tuple[int, int], bytes]:
    """Compute the tiles that appending leaves changes or adds.

    Reads one tile of each level at most, and hashes each new subtree once.

    Args:
        read_tile: Source of the tiles of the old tree; asked only for partial ones.
        old_size: Leaves in the old tree.
        leaf_hashes: `leaf_hash` of the new leaves, in order.

    Returns:
        By (level, index), the widest content of each such tile in the new tree.

    Raises:
        BadBundleError: A tile of the old tree is narrower than its size demands.

    Source: C2SP tlog-tiles; SPEC.md#tiles.
    """
    tiles: dict[tuple[int, int], bytes] = {}
    level, count, hashes = 0, old_size, leaf_hashes
    while hashes:
        index, width = divmod(count, TILE_WIDTH)
        content = b"".join((_left_part(read_tile, level, index, width), *hashes))
        above: list[bytes] = []
        for start in range(0, len(content), TILE_WIDTH * HASH_BYTES):
            tile = content[start : start + TILE_WIDTH * HASH_BYTES]
            tiles[level, index + len(above)] = tile
            if len(tile) == TILE_WIDTH * HASH_BYTES:
                above.append(subtree_hash(_hashes(tile)))
        level, count, hashes = level + 1, index, above
    return tiles


def _left_part(read_tile: TileReader, level: int, index: int, width: int) -> bytes:
    if width == 0:
        return b""
    tile = read_tile(level, index)[: width * HASH_BYTES]
    if len(tile) < width * HASH_BYTES:
        raise BadBundleError(
            "tile", index, f"level {level}: it is narrower than {width}"
        )
    return tile


def frontier_from_tiles(read_tile: TileReader, size: int) -> Frontier:
    """Read the right edge of a tree from its tiles.

    Args:
        read_tile: Source of tiles.
        size: Leaves in the tree.

    Raises:
        BadBundleError: A tile is narrower than the size demands.
        ValueError: The size is not that of any tree.

    Source: SPEC.md#tiles.
    """
    if not 0 <= size <= MAX_TREE_SIZE:
        raise ValueError("a tree has 0 to 2^63-1 leaves")
    read = tile_reader(read_tile)
    levels = range(size.bit_length() - 1, -1, -1)
    # The subtree of a bit follows all the larger ones, so its index is one below.
    return Frontier(
        size, tuple(read(n, (size >> n) - 1) for n in levels if size >> n & 1)
    )
