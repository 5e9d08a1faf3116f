"""Roots and frontiers, held against RFC 6962 and its best known tree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    leaf_hashes,
    node_hash,
    root_of,
    subtree_hash,
)
from support import reference_trees as reference

# The tree of eight leaves that Certificate Transparency's implementations share.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]

LEAVES = reference.leaves_of(1_200)


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root_of(leaf_hashes(CT_LEAVES[:size])) == CT_ROOTS[size]


def test_leaves_and_nodes_are_hashed_apart() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert left == reference.leaf(b"a")
    assert node_hash(left, right) == reference.node(left, right)
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize("size", range(70))
def test_roots_follow_the_recursive_definition(size: int) -> None:
    assert root_of(LEAVES[:size]) == reference.root(LEAVES[:size])


def test_the_hash_of_a_full_subtree_is_its_root() -> None:
    assert subtree_hash(LEAVES[:256]) == reference.root(LEAVES[:256])


@pytest.mark.parametrize("count", [0, 3, 255])
def test_a_subtree_that_is_not_full_has_no_hash(count: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        subtree_hash(LEAVES[:count])


def test_an_empty_frontier_has_the_empty_root() -> None:
    assert Frontier().root == EMPTY_ROOT == CT_ROOTS[0]


def test_appending_leaf_by_leaf_gives_every_root() -> None:
    frontier = Frontier()
    for size in range(1, 300):
        frontier = frontier.append(LEAVES[size - 1])
        assert frontier.size == size
        assert frontier.root == reference.root(LEAVES[:size])


@given(st.lists(st.integers(0, 300), max_size=4))
def test_appending_in_pieces_gives_the_same_tree(pieces: list[int]) -> None:
    frontier = Frontier()
    for count in pieces:
        end = frontier.size + count
        frontier = frontier.extend(LEAVES[frontier.size : end])
    assert frontier.size == sum(pieces)
    assert frontier.root == root_of(LEAVES[: sum(pieces)])
    assert frontier == Frontier().extend(LEAVES[: sum(pieces)])


@given(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9))
def test_appending_subtrees_is_appending_their_leaves(
    level: int, before: int, after: int
) -> None:
    width = 1 << level
    old, new = before * width, (before + after) * width
    subtrees = [
        subtree_hash(LEAVES[start : start + width]) for start in range(old, new, width)
    ]
    frontier = Frontier().extend(LEAVES[:old])
    whole = Frontier().extend(LEAVES[:new])
    assert frontier.extend_subtrees(subtrees, level=level) == whole
    for subtree in subtrees:
        frontier = frontier.append_subtree(subtree, level)
    assert frontier == whole


def test_a_subtree_does_not_fit_at_any_other_place() -> None:
    frontier = Frontier().append(LEAVES[0])
    with pytest.raises(ValueError, match="multiple"):
        frontier.append_subtree(LEAVES[1], 1)


def test_a_frontier_needs_one_hash_for_each_bit_of_its_size() -> None:
    with pytest.raises(ValueError, match="each bit"):
        Frontier(3, (LEAVES[0],))


def test_a_frontier_stays_small_however_large_the_tree() -> None:
    frontier = Frontier(2**62, (LEAVES[0],)).append(LEAVES[1])
    assert frontier.size == 2**62 + 1
    assert frontier.root == node_hash(LEAVES[0], LEAVES[1])
