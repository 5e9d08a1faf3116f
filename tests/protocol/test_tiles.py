"""Tiles: their paths, their content, and trees read from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    TILE_WIDTH,
    BadBundleError,
    BodyBundleId,
    EntryBundleId,
    Frontier,
    MalformedError,
    ResourceId,
    TileId,
    consistency_proof,
    encode_tile_path,
    frontier_from_tiles,
    inclusion_proof,
    new_tiles,
    parse_tile,
    parse_tile_path,
    root_of,
    tile_ids,
    tile_reader,
)
from support import reference_trees as reference

PATHS: list[tuple[str, ResourceId]] = [
    ("tile/0/000", TileId(0, 0)),
    ("tile/0/x001/x234/067", TileId(0, 1_234_067)),
    ("tile/1/x001/067.p/3", TileId(1, 1_067, 3)),
    ("tile/63/999.p/255", TileId(63, 999, 255)),
    ("tile/entries/000.p/1", EntryBundleId(0, 1)),
    ("tile/entries/x010/000", EntryBundleId(10_000)),
    ("bodies/042", BodyBundleId(42)),
    ("bodies/042.p/200", BodyBundleId(42, 200)),
]


@pytest.mark.parametrize(("path", "resource"), PATHS)
def test_paths_are_those_of_c2sp(path: str, resource: ResourceId) -> None:
    assert parse_tile_path(path) == resource
    assert encode_tile_path(resource) == path


indexes, widths = st.integers(0, 2**63 - 1), st.integers(1, 256)


@given(
    st.builds(TileId, st.integers(0, 63), indexes, widths)
    | st.builds(EntryBundleId, indexes, widths)
    | st.builds(BodyBundleId, indexes, widths)
)
def test_every_path_comes_back_as_it_was(resource: ResourceId) -> None:
    assert parse_tile_path(encode_tile_path(resource)) == resource


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/x000/000",
        "tile/0/001/067",
        "tile/0/x001",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/03",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000/p/3",
        "tile/0/000.p/3/",
        "/tile/0/000",
        "tile/0/\u0660\u0660\u0660",
        "tile/bodies/000",
        "bodies/0/000",
        "tile/0/000?x",
        "tile/0/../000",
        "tile/0/" + "x999/" * 6 + "999",
        "tile/0/" + "x999/" * 10_000 + "999",
    ],
)
def test_nothing_else_is_a_path(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_tile_path(path)


@pytest.mark.parametrize(
    "resource",
    [
        TileId(64, 0),
        TileId(-1, 0),
        TileId(0, -1),
        TileId(0, 2**63),
        TileId(0, 0, 0),
        EntryBundleId(0, 257),
        BodyBundleId(0, -1),
    ],
)
def test_no_path_is_written_that_could_not_be_read(resource: ResourceId) -> None:
    with pytest.raises(MalformedError):
        encode_tile_path(resource)


def test_a_tree_of_70000_has_the_tiles_that_c2sp_lists() -> None:
    tiles = list(tile_ids(70_000))
    assert tiles.count(TileId(0, 273, 112)) == 1
    assert sum(tile.level == 0 and tile.width == 256 for tile in tiles) == 273
    assert [tile for tile in tiles if tile.level] == [
        TileId(1, 0),
        TileId(1, 1, 17),
        TileId(2, 0, 1),
    ]


def test_a_tree_of_256_has_a_partial_tile_above() -> None:
    assert list(tile_ids(256)) == [TileId(0, 0), TileId(1, 0, 1)]
    assert list(tile_ids(0)) == []


def test_a_tile_is_split_into_its_hashes() -> None:
    leaves = reference.leaves_of(3)
    assert parse_tile(b"".join(leaves), 3) == tuple(leaves)


@pytest.mark.parametrize("length", [0, 95, 97, 128])
def test_a_tile_of_another_width_is_refused(length: int) -> None:
    with pytest.raises(MalformedError, match="3 hashes"):
        parse_tile(bytes(length), 3)


class Tiles:
    """A log's tiles in memory."""

    def __init__(self) -> None:
        self.content: dict[tuple[int, int], bytes] = {}
        self.size = 0

    def read(self, level: int, index: int) -> bytes:
        return self.content[level, index]

    def append(self, leaves: list[bytes]) -> None:
        self.content.update(new_tiles(self.read, self.size, leaves))
        self.size += len(leaves)


def recomputed(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    """Compute all tiles from the formula of C2SP tlog-tiles."""
    tiles: dict[tuple[int, int], bytes] = {}
    for tile in tile_ids(len(leaves)):
        span = 256**tile.level
        first = tile.index * 256
        tiles[tile.level, tile.index] = b"".join(
            root_of(leaves[i * span : (i + 1) * span])
            for i in range(first, first + tile.width)
        )
    return tiles


LEAVES = reference.leaves_of(140_000)


@pytest.mark.parametrize(
    "pieces",
    [
        [1, 1, 254, 1],
        [255, 1, 1],
        [256, 256],
        [700],
        [300, 0, 300],
        [65_535, 1, 1],
        [65_536, 70_000],
        [1_000, 64_536, 66_000],
    ],
)
def test_tiles_grow_to_what_recomputing_them_gives(pieces: list[int]) -> None:
    tiles = Tiles()
    for count in pieces:
        tiles.append(LEAVES[tiles.size : tiles.size + count])
    assert tiles.content == recomputed(LEAVES[: tiles.size])


@given(st.lists(st.integers(0, 600), max_size=5))
def test_tiles_do_not_depend_on_how_leaves_arrived(pieces: list[int]) -> None:
    grown, whole = Tiles(), Tiles()
    for count in pieces:
        grown.append(LEAVES[grown.size : grown.size + count])
    whole.append(LEAVES[: sum(pieces)])
    assert grown.content == whole.content


@pytest.fixture(scope="module")
def large() -> Tiles:
    tiles = Tiles()
    tiles.append(LEAVES)
    return tiles


@pytest.mark.parametrize(
    "size", [0, 1, 2, 255, 256, 257, 511, 65_535, 65_536, 65_537, 139_999, 140_000]
)
def test_a_frontier_is_read_from_tiles(large: Tiles, size: int) -> None:
    assert frontier_from_tiles(large.read, size) == Frontier().extend(LEAVES[:size])


def test_proofs_are_built_from_tiles(large: Tiles) -> None:
    read = tile_reader(large.read)
    for index in (255, 139_999):
        built = inclusion_proof(read, leaf_index=index, tree_size=140_000)
        assert built == reference.path(index, LEAVES)
    for old_size in (256, 65_537):
        built = consistency_proof(read, old_size=old_size, new_size=140_000)
        assert built == reference.proof(old_size, LEAVES)


def test_a_tile_that_is_too_narrow_is_named() -> None:
    def narrow(_level: int, _index: int) -> bytes:
        return LEAVES[0] * 3

    with pytest.raises(BadBundleError, match=r"tile 2 .* level 0") as raised:
        new_tiles(narrow, 2 * TILE_WIDTH + 4, LEAVES[:1])
    assert (raised.value.what, raised.value.index) == ("tile", 2)
    with pytest.raises(BadBundleError, match=r"tile 0 .* level 1"):
        tile_reader(narrow)(10, 0)


@pytest.mark.parametrize("size", [-1, 2**63])
def test_no_tree_has_such_a_size(size: int) -> None:
    with pytest.raises(ValueError, match="leaves"):
        frontier_from_tiles(lambda _level, _index: b"", size)
