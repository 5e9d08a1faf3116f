"""Merkle trees written down as RFC 6962 defines them: recursive, slow and obvious.

The library computes the same things level by level; the tests hold it against these.
"""

import hashlib
from collections.abc import Sequence


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(count: int) -> int:
    """Give the largest power of two smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return node(root(leaves[:middle]), root(leaves[middle:]))


def path(index: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return ()
    middle = split(len(leaves))
    if index < middle:
        return (*path(index, leaves[:middle]), root(leaves[middle:]))
    return (*path(index - middle, leaves[middle:]), root(leaves[:middle]))


def proof(old_size: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """PROOF of RFC 6962, section 2.1.2."""
    return _subproof(old_size, leaves, is_old_tree=True)


def _subproof(
    size: int, leaves: Sequence[bytes], *, is_old_tree: bool
) -> tuple[bytes, ...]:
    if size == len(leaves):
        return () if is_old_tree else (root(leaves),)
    middle = split(len(leaves))
    if size <= middle:
        lower = _subproof(size, leaves[:middle], is_old_tree=is_old_tree)
        return (*lower, root(leaves[middle:]))
    upper = _subproof(size - middle, leaves[middle:], is_old_tree=False)
    return (*upper, root(leaves[:middle]))


def subtree_proof(start: int, end: int, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """SUBTREE_PROOF of the draft that C2SP tlog-mirror names, for any subtree."""
    return _subtree_proof(start, end, leaves, is_known=True)


def _subtree_proof(
    start: int, end: int, leaves: Sequence[bytes], *, is_known: bool
) -> tuple[bytes, ...]:
    if (start, end) == (0, len(leaves)):
        return () if is_known else (root(leaves),)
    middle = split(len(leaves))
    left, right = leaves[:middle], leaves[middle:]
    if end <= middle:
        return (*_subtree_proof(start, end, left, is_known=is_known), root(right))
    if start >= middle:
        start, end = start - middle, end - middle
        return (*_subtree_proof(start, end, right, is_known=is_known), root(left))
    upper = _subtree_proof(0, end - middle, right, is_known=False)
    return (*upper, root(left))


def leaves_of(count: int, name: str = "leaf") -> list[bytes]:
    """Give the leaf hashes of a made-up log."""
    return [leaf(f"{name} {index}".encode()) for index in range(count)]
