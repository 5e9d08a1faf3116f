"""Make the vectors for trees, proofs, tiles and following.

Roots and proofs come from the recursive definition of RFC 6962, not from the library.
README.md says where the other cases come from.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from hashlight_protocol import (  # noqa: E402
    Frontier,
    TileId,
    encode_tile_path,
    needed_tiles,
    tile_ids,
)
from support import reference_trees as trees  # noqa: E402 -- the path has to be set first
from support.vectors import Case, b64, bad, document, good, hexes  # noqa: E402

# Published with Certificate Transparency: leaves of the tree that its tests share.
CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [trees.leaf(bytes.fromhex(text)) for text in CT_LEAVES]


def roots() -> Iterator[Case]:
    for size, root in enumerate(CT_ROOTS):
        yield good(f"{size} leaves", entries=CT_LEAVES[:size], root=root)


def inclusion_proofs() -> Iterator[Case]:
    def members(index: int, size: int, proof: tuple[bytes, ...]) -> Case:
        return {
            "leaf": LEAVES[min(index, 7)].hex(),
            "leaf_index": index,
            "tree_size": size,
            "root": CT_ROOTS[size],
            "proof": hexes(proof),
        }

    for index, size in ((0, 1), (0, 2), (1, 2), (2, 3), (0, 8), (4, 5), (5, 8), (6, 7)):
        proof = trees.path(index, LEAVES[:size])
        yield good(f"leaf {index} of {size}", **members(index, size, proof))
    proof = trees.path(5, LEAVES)
    other = trees.leaf(b"other")
    for name, case in (
        ("a hash is missing", members(5, 8, proof[:-1])),
        ("a hash too much", members(5, 8, (*proof, other))),
        ("another hash", members(5, 8, (other, *proof[1:]))),
        ("two hashes in another order", members(5, 8, (proof[1], proof[0], proof[2]))),
        ("another position", members(4, 8, proof) | {"leaf": LEAVES[5].hex()}),
        ("another size", members(5, 7, proof)),
        ("another root", members(5, 8, proof) | {"root": CT_ROOTS[7]}),
        ("outside the tree", members(8, 8, proof)),
        ("in the empty tree", members(0, 0, ())),
        ("a hash of 31 bytes", members(5, 8, (proof[0][:-1], *proof[1:]))),
    ):
        yield bad(name, "bad-proof", **case)


def consistency_proofs() -> Iterator[Case]:
    def members(old: int, new: int, proof: tuple[bytes, ...]) -> Case:
        return {
            "old_size": old,
            "old_root": CT_ROOTS[old],
            "new_size": new,
            "new_root": CT_ROOTS[new],
            "proof": hexes(proof),
        }

    for old, new in ((1, 1), (1, 2), (1, 8), (2, 5), (3, 7), (4, 8), (6, 8), (8, 8)):
        proof = trees.proof(old, LEAVES[:new])
        yield good(f"{old} to {new}", **members(old, new, proof))
    yield good("from the empty tree", **members(0, 8, ()))
    proof = trees.proof(6, LEAVES)
    other = trees.leaf(b"other")
    for name, case in (
        ("a hash is missing", members(6, 8, proof[:-1])),
        ("no hash", members(6, 8, ())),
        ("a hash too much", members(6, 8, (*proof, other))),
        ("another hash", members(6, 8, (other, *proof[1:]))),
        ("another old root", members(6, 8, proof) | {"old_root": CT_ROOTS[5]}),
        ("another new root", members(6, 8, proof) | {"new_root": CT_ROOTS[7]}),
        ("backwards", members(8, 6, proof)),
        ("a proof between equal sizes", members(8, 8, proof)),
        ("other roots for equal sizes", members(8, 8, ()) | {"new_root": CT_ROOTS[7]}),
        ("a proof from the empty tree", members(0, 8, proof)),
    ):
        yield bad(name, "bad-proof", **case)


def tiles() -> Iterator[Case]:
    for path, parts in (
        ("tile/0/000", {"kind": "tile", "level": 0, "index": 0, "width": 256}),
        (
            "tile/1/x001/067.p/3",
            {"kind": "tile", "level": 1, "index": 1_067, "width": 3},
        ),
        (
            "tile/63/999.p/255",
            {"kind": "tile", "level": 63, "index": 999, "width": 255},
        ),
        (
            "tile/0/x001/x234/067",
            {"kind": "tile", "level": 0, "index": 1_234_067, "width": 256},
        ),
        ("tile/entries/000.p/1", {"kind": "entries", "index": 0, "width": 1}),
        ("bodies/x010/000", {"kind": "bodies", "index": 10_000, "width": 256}),
    ):
        yield good(path, path=path, parts=parts)
    for path in (
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/001/067",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/03",
        "tile/0/000.p/256",
        "tile/0/000/",
        "/tile/0/000",
        "tile/bodies/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ):
        yield bad(path, "malformed", path=path)
    for size in (0, 1, 255, 256, 257, 600, 65_536):
        newest = {tile.level: encode_tile_path(tile) for tile in tile_ids(size)}
        yield good(
            f"last tile of each level, {size} leaves",
            tree_size=size,
            last_tiles=list(newest.values()),
        )


FOLLOWED = trees.leaves_of(600, "followed leaf")


def tile_content(tile: TileId) -> bytes:
    span = 256**tile.level
    first = tile.index * 256
    spans = range(first * span, (first + tile.width) * span, span)
    return b"".join(trees.root(FOLLOWED[start : start + span]) for start in spans)


def follow_case(old: int, new: int, anchor: int | None = None) -> Case:
    edge = Frontier().extend(FOLLOWED[:old])
    needed = needed_tiles(old, new, anchor)
    return {
        "old": {"tree_size": old, "hashes": hexes(edge.hashes)},
        "new": {"tree_size": new, "root": trees.root(FOLLOWED[:new]).hex()},
        "anchor": None
        if anchor is None
        else {"tree_size": anchor, "root": trees.root(FOLLOWED[:anchor]).hex()},
        "tiles": {encode_tile_path(tile): b64(tile_content(tile)) for tile in needed},
    }


def ranges() -> Iterator[Case]:
    for old, new in (
        (0, 1),
        (0, 10),
        (3, 10),
        (0, 256),
        (250, 300),
        (256, 600),
        (7, 7),
    ):
        yield good(f"{old} to {new}", **follow_case(old, new))
    yield good("300 to 600 by way of 400", **follow_case(300, 600, 400))
    yield bad(
        "back", "rollback", **follow_case(3, 10) | {"new": follow_case(0, 2)["new"]}
    )
    zeros = "00" * 32
    fork = follow_case(7, 7)
    fork["new"]["root"] = zeros
    yield bad("another root of the same size", "split-view", **fork)
    passed = follow_case(300, 600, 400)
    passed["anchor"]["root"] = zeros
    yield bad("another root on the way", "split-view", **passed)
    other = follow_case(3, 10)
    other["new"]["root"] = zeros
    yield bad("another root at the end", "bad-proof", **other)
    past = follow_case(3, 10)
    past["old"]["hashes"][0] = zeros
    yield bad("another past", "bad-bundle", **past)
    for name, error, path, size in (
        ("an altered hash of an old leaf", "bad-bundle", "tile/0/000.p/10", 0),
        ("an altered hash of a new leaf", "bad-proof", "tile/0/000.p/10", 9 * 32),
    ):
        case = follow_case(3, 10)
        altered = bytearray(tile_content(TileId(0, 0, 10)))
        altered[size] ^= 1
        case["tiles"][path] = b64(bytes(altered))
        yield bad(name, error, **case)
    case = follow_case(3, 10)
    case["tiles"]["tile/0/000.p/10"] = b64(tile_content(TileId(0, 0, 9)))
    yield bad("a tile too narrow", "bad-bundle", **case)


def build() -> dict[str, str]:
    """Give the content of every file."""
    made = {
        "roots.json": ("Merkle tree", roots()),
        "inclusion-proofs.json": ("Inclusion proofs", inclusion_proofs()),
        "consistency-proofs.json": ("Consistency proofs", consistency_proofs()),
        "tiles.json": ("Tiles", tiles()),
        "following.json": ("Following", ranges()),
    }
    return {
        name: document(f"SPEC.md, section {section}.", cases)
        for name, (section, cases) in made.items()
    }


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
