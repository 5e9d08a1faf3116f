"""Inclusion and consistency proofs: every honest one passes, no other one does."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    EMPTY_ROOT,
    BadProofError,
    HashReader,
    consistency_proof,
    inclusion_proof,
    subtree_hash,
    subtree_proof,
    verify_consistency,
    verify_inclusion,
    verify_subtree,
)
from support import reference_trees as reference

LARGEST = 70
LEAVES = reference.leaves_of(LARGEST)
ROOTS = [reference.root(LEAVES[:size]) for size in range(LARGEST + 1)]


def reader_of(leaves: Sequence[bytes]) -> HashReader:
    def read(level: int, index: int) -> bytes:
        part = leaves[index << level : index + 1 << level]
        assert len(part) == 1 << level
        return subtree_hash(part)

    return read


READ = reader_of(LEAVES)


@pytest.mark.parametrize("tree_size", range(1, LARGEST + 1))
def test_inclusion_proofs_follow_the_recursive_definition(tree_size: int) -> None:
    for index in range(tree_size):
        built = inclusion_proof(READ, leaf_index=index, tree_size=tree_size)
        assert built == reference.path(index, LEAVES[:tree_size])
        verify_inclusion(
            LEAVES[index],
            built,
            leaf_index=index,
            tree_size=tree_size,
            root_hash=ROOTS[tree_size],
        )


@pytest.mark.parametrize("new_size", range(LARGEST + 1))
def test_consistency_proofs_follow_the_recursive_definition(new_size: int) -> None:
    for old_size in range(new_size + 1):
        built = consistency_proof(READ, old_size=old_size, new_size=new_size)
        if old_size:
            assert built == reference.proof(old_size, LEAVES[:new_size])
        verify_consistency(
            built,
            old_size=old_size,
            old_root=ROOTS[old_size],
            new_size=new_size,
            new_root=ROOTS[new_size],
        )


def is_included(
    proof: Sequence[bytes], index: int, size: int, leaf: bytes, root: bytes
) -> bool:
    try:
        verify_inclusion(leaf, proof, leaf_index=index, tree_size=size, root_hash=root)
    except BadProofError:
        return False
    return True


def is_consistent(
    proof: Sequence[bytes], sizes: tuple[int, int], roots: tuple[bytes, bytes]
) -> bool:
    try:
        verify_consistency(
            proof,
            old_size=sizes[0],
            old_root=roots[0],
            new_size=sizes[1],
            new_root=roots[1],
        )
    except BadProofError:
        return False
    return True


def alterations(proof: Sequence[bytes]) -> list[list[bytes]]:
    """Give every proof that has one hash more, less, or altered."""
    hashes = list(proof)
    other = reference.leaf(b"another")
    return [
        [*hashes, other],
        [other, *hashes],
        *([*hashes[:i], *hashes[i + 1 :]] for i in range(len(hashes))),
        *([*hashes[:i], other, *hashes[i + 1 :]] for i in range(len(hashes))),
        *([*hashes[:i], hashes[i][:-1], *hashes[i + 1 :]] for i in range(len(hashes))),
    ]


@pytest.mark.parametrize("tree_size", [1, 2, 3, 7, 8, 21, 64, 70])
def test_no_other_inclusion_proof_passes(tree_size: int) -> None:
    root = ROOTS[tree_size]
    for index in range(tree_size):
        proof = inclusion_proof(READ, leaf_index=index, tree_size=tree_size)
        for altered in alterations(proof):
            assert not is_included(altered, index, tree_size, LEAVES[index], root)
        for other in range(tree_size + 1):
            is_own = other == index
            assert is_included(proof, other, tree_size, LEAVES[index], root) == is_own
        assert not is_included(proof, index, tree_size, reference.leaf(b""), root)
        assert not is_included(proof, index, tree_size, LEAVES[index], EMPTY_ROOT)


@pytest.mark.parametrize("new_size", [1, 2, 3, 7, 8, 21, 64, 70])
def test_no_other_consistency_proof_passes(new_size: int) -> None:
    for old in range(1, new_size + 1):
        sizes, roots = (old, new_size), (ROOTS[old], ROOTS[new_size])
        proof = consistency_proof(READ, old_size=old, new_size=new_size)
        assert is_consistent(proof, sizes, roots)
        for altered in alterations(proof):
            assert not is_consistent(altered, sizes, roots)
        assert not is_consistent(proof, sizes, (EMPTY_ROOT, roots[1]))
        assert not is_consistent(proof, sizes, (roots[0], EMPTY_ROOT))


def test_any_tree_follows_the_empty_one() -> None:
    assert is_consistent((), (0, 7), (EMPTY_ROOT, ROOTS[7]))
    assert is_consistent((), (0, 0), (EMPTY_ROOT, EMPTY_ROOT))
    assert not is_consistent((), (0, 7), (ROOTS[1], ROOTS[7]))
    assert not is_consistent((ROOTS[7],), (0, 7), (EMPTY_ROOT, ROOTS[7]))


@pytest.mark.parametrize(
    ("old_size", "new_size"), [(-1, 3), (4, 3), (1, 2**63), (-2, -1)]
)
def test_sizes_out_of_order_are_never_consistent(old_size: int, new_size: int) -> None:
    assert not is_consistent((), (old_size, new_size), (ROOTS[1], ROOTS[1]))


@pytest.mark.parametrize(
    ("index", "tree_size"), [(-1, 3), (3, 3), (0, 0), (0, 2**63), (2**64, 2**64 + 1)]
)
def test_a_leaf_outside_the_tree_is_never_included(index: int, tree_size: int) -> None:
    assert not is_included((), index, tree_size, LEAVES[0], LEAVES[0])


def test_a_proof_longer_than_any_tree_is_refused() -> None:
    with pytest.raises(BadProofError, match="more than 63"):
        verify_inclusion(
            LEAVES[0],
            [LEAVES[1]] * 64,
            leaf_index=0,
            tree_size=2**63 - 1,
            root_hash=ROOTS[1],
        )


def test_the_longest_proofs_have_63_hashes() -> None:
    size = 2**63 - 1
    inclusion = inclusion_proof(
        lambda _level, _i: LEAVES[0], leaf_index=0, tree_size=size
    )
    consistency = consistency_proof(
        lambda _level, _i: LEAVES[0], old_size=1, new_size=size
    )
    assert len(inclusion) == len(consistency) == 63


@given(
    st.lists(st.binary(min_size=32, max_size=32), max_size=70),
    st.integers(-1, 2**64),
    st.integers(-1, 2**64),
)
def test_made_up_proofs_are_refused_whatever_their_shape(
    proof: list[bytes], first: int, second: int
) -> None:
    other = reference.leaf(b"another")
    if second != 1:
        assert not is_included(proof, first, second, other, LEAVES[0])
    if first not in {0, second}:
        assert not is_consistent(proof, (first, second), (other, LEAVES[0]))


@pytest.mark.parametrize(("index", "tree_size"), [(-1, 3), (3, 3)])
def test_no_proof_is_built_for_a_leaf_outside(index: int, tree_size: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        inclusion_proof(READ, leaf_index=index, tree_size=tree_size)


def test_no_proof_is_built_from_larger_to_smaller() -> None:
    with pytest.raises(ValueError, match="larger"):
        consistency_proof(READ, old_size=4, new_size=3)


def blocks_of(tree_size: int) -> Iterator[range]:
    """Give every block of leaves that one node stands for, by descending the tree."""
    waiting = [range(tree_size)]
    while waiting:
        block = waiting.pop()
        yield block
        if len(block) > 1:
            middle = block.start + reference.split(len(block))
            waiting += [range(block.start, middle), range(middle, block.stop)]


@pytest.mark.parametrize("tree_size", range(1, LARGEST + 1))
def test_subtree_proofs_follow_the_recursive_definition(tree_size: int) -> None:
    for block in blocks_of(tree_size):
        built = subtree_proof(READ, leaves=block, tree_size=tree_size)
        leaves = LEAVES[:tree_size]
        assert built == reference.subtree_proof(block.start, block.stop, leaves)
        verify_subtree(
            reference.root(LEAVES[block.start : block.stop]),
            built,
            leaves=block,
            tree_size=tree_size,
            root_hash=ROOTS[tree_size],
        )


@pytest.mark.parametrize("tree_size", range(1, 20))
def test_a_block_that_no_node_stands_for_is_refused(tree_size: int) -> None:
    nodes = set(blocks_of(tree_size))
    for start in range(-1, tree_size + 2):
        for end in range(start, tree_size + 2):
            block = range(start, end)
            if block in nodes:
                continue
            with pytest.raises(ValueError, match="no node"):
                subtree_proof(READ, leaves=block, tree_size=tree_size)
            with pytest.raises(BadProofError, match="no node"):
                verify_subtree(
                    *(bytes(32), ()),
                    leaves=block,
                    tree_size=tree_size,
                    root_hash=ROOTS[tree_size],
                )


@given(data=st.data(), size=st.integers(2, LARGEST))
def test_any_other_subtree_proof_is_refused(data: st.DataObject, size: int) -> None:
    block = data.draw(st.sampled_from(list(blocks_of(size))))
    subtree = reference.root(LEAVES[block.start : block.stop])
    proof = subtree_proof(READ, leaves=block, tree_size=size)
    flipped = (bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]) if proof else ()
    other_block = data.draw(st.sampled_from(list(blocks_of(size))))
    for other, hashes, leaves, root in (
        (subtree, (*proof, LEAVES[0]), block, ROOTS[size]),
        (subtree, proof[:-1] if proof else (LEAVES[0],), block, ROOTS[size]),
        (subtree, flipped or (LEAVES[0],), block, ROOTS[size]),
        (subtree, proof, block, ROOTS[size - 1]),
        (bytes(32), proof, block, ROOTS[size]),
        (subtree, (b"short",), block, ROOTS[size]),
        (subtree, (LEAVES[0],) * 64, block, ROOTS[size]),
        *([] if other_block == block else [(subtree, proof, other_block, ROOTS[size])]),
    ):
        with pytest.raises(BadProofError):
            verify_subtree(other, hashes, leaves=leaves, tree_size=size, root_hash=root)
