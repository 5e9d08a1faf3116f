"""Proofs: that a leaf or a block of leaves is part of a tree, or a tree of another.

Whoever builds a proof gives a `HashReader`, so that nothing here needs to know where
a tree is kept.

Source: RFC 6962 section 2.1, RFC 9162 section 2.1; SPEC.md#inclusion-proofs,
SPEC.md#consistency-proofs and SPEC.md#subtree-proofs.
"""

from collections.abc import Callable, Sequence

from hashlight_protocol._text import HASH_BYTES, MAX_TREE_SIZE
from hashlight_protocol.errors import BadProofError
from hashlight_protocol.merkle import EMPTY_ROOT, node_hash

HashReader = Callable[[int, int], bytes]
"""Gives the hash of the full subtree (level, index): leaves index * 2^level and on."""

MAX_PROOF_HASHES = 63
"""Most hashes in a proof, for any tree size below 2^63. Source: SPEC.md#limits."""


def _check_proof(proof: Sequence[bytes]) -> None:
    if len(proof) > MAX_PROOF_HASHES:
        raise BadProofError(f"it has more than {MAX_PROOF_HASHES} hashes")
    if any(len(sibling) != HASH_BYTES for sibling in proof):
        raise BadProofError("a hash is not 32 bytes long")


def verify_inclusion(
    leaf: bytes,
    proof: Sequence[bytes],
    *,
    leaf_index: int,
    tree_size: int,
    root_hash: bytes,
) -> None:
    """Check that a leaf is part of the tree that a checkpoint commits to.

    Args:
        leaf: `leaf_hash` of the entry, 32 bytes.
        proof: Sibling hashes on the way up, nearest to the leaf first, 32 bytes
            each. Their number follows from the next two arguments, 63 at most.
        leaf_index: Position of the leaf in the log, counted from 0.
        tree_size: Leaves in the tree; greater than `leaf_index`.
        root_hash: Root of that tree, 32 bytes, from a verified checkpoint.

    Raises:
        BadProofError: The hashes do not combine to `root_hash`, there are too few
            or too many of them, or `leaf_index` lies outside the tree.

    Source: RFC 9162 section 2.1.3.2; SPEC.md#inclusion-proofs.
    """
    _check_proof(proof)
    if not 0 <= leaf_index < tree_size <= MAX_TREE_SIZE:
        raise BadProofError("the leaf lies outside the tree")
    if _fold_inclusion(leaf, proof, leaf_index, tree_size - 1) != root_hash:
        raise BadProofError("it does not lead to the root")


def _fold_inclusion(
    node: bytes, proof: Sequence[bytes], index: int, last: int
) -> bytes:
    # `index` is the node's position on its level, `last` that of the level's last.
    for sibling in proof:
        if last == 0:
            raise BadProofError("it has too many hashes")
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            # At the right edge, levels without a sibling have no hash in the proof.
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        index >>= 1
        last >>= 1
    if last:
        raise BadProofError("it has too few hashes")
    return node


def _is_node(start: int, end: int, tree_size: int) -> bool:
    # Whether one node of the tree stands for exactly these leaves.
    if not 0 <= start < end <= tree_size <= MAX_TREE_SIZE:
        return False
    width = 1 << (end - start - 1).bit_length()
    return start % width == 0 and (end - start == width or end == tree_size)


def verify_subtree(
    subtree: bytes,
    proof: Sequence[bytes],
    *,
    leaves: range,
    tree_size: int,
    root_hash: bytes,
) -> None:
    """Check that a block of leaves is part of the tree that a checkpoint commits to.

    Only for blocks that one node of the tree stands for: as many leaves as a power of
    two, or fewer at the right edge, beginning at a multiple of that power.

    Args:
        subtree: Root over the leaves of the block, 32 bytes.
        proof: Sibling hashes on the way up, 32 bytes each, 63 at most.
        leaves: Leaf indexes of the block.
        tree_size: Leaves in the tree.
        root_hash: Root of that tree, 32 bytes, from a verified checkpoint.

    Raises:
        BadProofError: The hashes do not combine to `root_hash`, there are too few
            or too many of them, or the block is no such block.

    Source: C2SP tlog-mirror; SPEC.md#subtree-proofs.
    """
    _check_proof(proof)
    if not _is_node(leaves.start, leaves.stop, tree_size):
        raise BadProofError("no node of the tree stands for the leaves")
    height = (len(leaves) - 1).bit_length()
    index, last = leaves.start >> height, (tree_size - 1) >> height
    if _fold_inclusion(subtree, proof, index, last) != root_hash:
        raise BadProofError("it does not lead to the root")


def verify_consistency(
    proof: Sequence[bytes],
    *,
    old_size: int,
    old_root: bytes,
    new_size: int,
    new_root: bytes,
) -> None:
    """Check that a tree was only appended to.

    Args:
        proof: Hashes in the order of RFC 6962, 32 bytes each, 63 at most; empty if
            the old tree is empty or the sizes are equal.
        old_size: Leaves in the old tree.
        old_root: Root of the old tree, 32 bytes.
        new_size: Leaves in the new tree, `old_size` or more.
        new_root: Root of the new tree, 32 bytes.

    Raises:
        BadProofError: The old tree is not shown to be a prefix of the new one.

    Source: RFC 9162 section 2.1.4.2; SPEC.md#consistency-proofs.
    """
    _check_proof(proof)
    if not 0 <= old_size <= new_size <= MAX_TREE_SIZE:
        raise BadProofError("the old tree is larger than the new one")
    if old_size in {0, new_size}:
        _verify_trivial(proof, old_size, old_root, new_size, new_root)
        return
    # A full old tree is itself the first hash, so the proof leaves it out.
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    if not path:
        raise BadProofError("it has too few hashes")
    old_root_found, new_root_found = _fold_consistency(path, old_size, new_size)
    if old_root_found != old_root:
        raise BadProofError("it does not lead to the old root")
    if new_root_found != new_root:
        raise BadProofError("it does not lead to the new root")


def _verify_trivial(
    proof: Sequence[bytes],
    old_size: int,
    old_root: bytes,
    new_size: int,
    new_root: bytes,
) -> None:
    if proof:
        raise BadProofError("it has too many hashes")
    if old_size == new_size and old_root != new_root:
        raise BadProofError("the roots of one size differ")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise BadProofError("the old root is not that of the empty tree")


def _fold_consistency(
    path: Sequence[bytes], old_size: int, new_size: int
) -> tuple[bytes, bytes]:
    index, last = old_size - 1, new_size - 1
    while index & 1:
        index >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise BadProofError("it has too many hashes")
        if index & 1 or index == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        index >>= 1
        last >>= 1
    if last:
        raise BadProofError("it has too few hashes")
    return old, new


def _range_root(read: HashReader, start: int, end: int) -> bytes:
    # Root over leaves start to end, where start is a multiple of a power of two that
    # is not smaller than the range; so the range splits into full subtrees, each
    # smaller than the one before.
    subtrees: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        subtrees.append(read(level, start >> level))
        start += 1 << level
    root = subtrees.pop()
    for left in reversed(subtrees):
        root = node_hash(left, root)
    return root


def inclusion_proof(
    read: HashReader, *, leaf_index: int, tree_size: int
) -> tuple[bytes, ...]:
    """Build the proof that `verify_inclusion` checks.

    Args:
        read: Source of subtree hashes.
        leaf_index: Position of the leaf.
        tree_size: Leaves in the tree.

    Returns:
        At most 63 hashes, nearest to the leaf first.

    Raises:
        ValueError: The leaf lies outside the tree.

    Source: RFC 6962 section 2.1.1; SPEC.md#inclusion-proofs.
    """
    if not 0 <= leaf_index < tree_size:
        raise ValueError("the leaf lies outside the tree")
    proof: list[bytes] = []
    start, end = 0, tree_size
    while end - start > 1:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if leaf_index < middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start = middle
    return tuple(reversed(proof))


def subtree_proof(
    read: HashReader, *, leaves: range, tree_size: int
) -> tuple[bytes, ...]:
    """Build the proof that `verify_subtree` checks.

    Args:
        read: Source of subtree hashes.
        leaves: Leaf indexes of the block.
        tree_size: Leaves in the tree.

    Returns:
        At most 63 hashes, nearest to the block first.

    Raises:
        ValueError: No node of the tree stands for the block.

    Source: C2SP tlog-mirror; SPEC.md#subtree-proofs.
    """
    if not _is_node(leaves.start, leaves.stop, tree_size):
        raise ValueError("no node of the tree stands for the leaves")
    proof: list[bytes] = []
    start, end = 0, tree_size
    while (start, end) != (leaves.start, leaves.stop):
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if leaves.stop <= middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start = middle
    return tuple(reversed(proof))


def consistency_proof(
    read: HashReader, *, old_size: int, new_size: int
) -> tuple[bytes, ...]:
    """Build the proof that `verify_consistency` checks.

    Args:
        read: Source of subtree hashes.
        old_size: Leaves in the old tree.
        new_size: Leaves in the new tree, `old_size` or more.

    Returns:
        At most 63 hashes; none if the old tree is empty or the sizes are equal.

    Raises:
        ValueError: The old tree is larger than the new one.

    Source: RFC 6962 section 2.1.2; SPEC.md#consistency-proofs.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError("the old tree is larger than the new one")
    if old_size == 0:
        return ()
    proof: list[bytes] = []
    start, end = 0, new_size
    while end != old_size:
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        if old_size <= middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start = middle
    # A subtree that starts at 0 is the old tree itself, which the verifier knows.
    if start:
        proof.append(_range_root(read, start, end))
    return tuple(reversed(proof))
