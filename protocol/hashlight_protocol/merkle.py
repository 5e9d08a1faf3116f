"""Merkle trees: hashes, roots, and a tree that only knows its right edge.

Nothing here keeps a tree: a `Frontier` grows one by holding one hash for each bit of
its size.

Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves. Source: RFC 6962 section 2.1."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry into a leaf, 32 bytes.

    Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
    """
    return hashlib.sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """Hash entries into leaves; the quick way for many.

    Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
    """
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them, 32 bytes.

    Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


def _parents(nodes: Sequence[bytes]) -> list[bytes]:
    # A last node without a sibling is left out.
    sha256 = hashlib.sha256
    pairs = iter(nodes)
    return [
        sha256(b"\x01" + left + right).digest()
        for left, right in zip(pairs, pairs, strict=False)
    ]


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Compute the root of a tree from all its leaf hashes.

    Also right for the hashes of full subtrees of one size, in order.

    Args:
        hashes: 32 bytes each, first leaf first.

    Returns:
        32 bytes.

    Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
    """
    if not hashes:
        return EMPTY_ROOT
    nodes = list(hashes)
    while len(nodes) > 1:
        above = _parents(nodes)
        if len(nodes) & 1:
            above.append(nodes[-1])
        nodes = above
    return nodes[0]


def subtree_hash(hashes: Sequence[bytes]) -> bytes:
    """Compute the hash of a full subtree from the hashes at its foot.

    Args:
        hashes: A power of two of them, 32 bytes each.

    Returns:
        32 bytes.

    Raises:
        ValueError: Their number is not a power of two.

    Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
    """
    if len(hashes).bit_count() != 1:
        raise ValueError("a full subtree has a power of two of hashes")
    return root_of(hashes)


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: enough to append to it and to know its root.

    Attributes:
        size: Leaves in the tree.
        hashes: One hash for each bit of `size` that is set, of the full subtree that
            this bit stands for; largest subtree first.

    Raises:
        ValueError: The number of hashes does not follow from the size.

    Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.hashes) != self.size.bit_count():
            raise ValueError("a frontier has a hash for each bit of its size")

    @property
    def root(self) -> bytes:
        """Root of the tree, 32 bytes."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def append(self, leaf: bytes) -> Self:
        """Return the tree with one more leaf.

        Args:
            leaf: `leaf_hash` of the entry.
        """
        return self.extend_subtrees((leaf,), level=0)

    def extend(self, leaves: Sequence[bytes]) -> Self:
        """Return the tree with more leaves.

        Args:
            leaves: `leaf_hash` of each entry, in order.
        """
        return self.extend_subtrees(leaves, level=0)

    def append_subtree(self, subtree: bytes, level: int) -> Self:
        """Return the tree with 2^level more leaves, of which only the hash is known.

        Args:
            subtree: Hash of the full subtree.
            level: Its height; the size must be a multiple of 2^level.

        Raises:
            ValueError: The subtree does not fit at this size.
        """
        return self.extend_subtrees((subtree,), level=level)

    def extend_subtrees(self, subtrees: Sequence[bytes], *, level: int) -> Self:
        """Return the tree with more full subtrees of one height.

        Args:
            subtrees: Their hashes, in order.
            level: Their height; the size must be a multiple of 2^level.

        Raises:
            ValueError: Subtrees of this height do not fit at this size.

        Source: RFC 6962 section 2.1; SPEC.md#merkle-tree.
        """
        if self.size % (1 << level):
            raise ValueError("a subtree starts at a multiple of its own size")
        hashes = list(self.hashes)
        edge: list[bytes] = []
        nodes = list(subtrees)
        height = level
        while nodes:
            if self.size >> height & 1:
                nodes.insert(0, hashes.pop())
            if len(nodes) & 1:
                edge.append(nodes[-1])
            nodes = _parents(nodes)
            height += 1
        hashes.extend(reversed(edge))
        return type(self)(self.size + (len(subtrees) << level), tuple(hashes))
