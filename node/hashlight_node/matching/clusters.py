"""Near duplicates: which known hashes hang together, each near some other.

They are linked, never merged: every signal keeps its own records. A cluster shows an
operator that what several lists report separately is one picture in several copies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hashlight_node.matching.index import Found

MAX_MEMBERS: Final = 1000
"""Largest cluster that is shown whole; a template that many pictures share has more."""

_TOGETHER: Final = 32
"""Members whose neighbours are searched at a time; bounds what is held meanwhile."""


@dataclass(frozen=True, slots=True)
class Member:
    """A known hash of a cluster.

    Attributes:
        signal_id: Its signal.
        value: The hash, in hexadecimal.
        distance: From the hash that was asked about, in bits.
        links: Members on the way from there, this one included.
    """

    signal_id: int
    value: str
    distance: int
    links: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Everything that is linked to one hash.

    Attributes:
        members: Fewest links first, then nearest.
        truncated: There may be more.
    """

    members: tuple[Member, ...]
    truncated: bool


def find_cluster(
    search: Callable[[bytes, int], list[Found]],
    asked: bytes,
    *,
    max_members: int = MAX_MEMBERS,
) -> Cluster:
    """Walk from a hash to its neighbours, to theirs, and on.

    Args:
        search: Gives for several hashes (32 bytes each) at most so many neighbours.
        asked: Where to begin, 32 bytes; need not be known itself.
        max_members: Where to end.
    """
    walk = _Walk(asked, max_members)
    frontier = [asked]
    while frontier and not walk.truncated:
        walk.links += 1
        beyond: list[bytes] = []
        for start in range(0, len(frontier), _TOGETHER):
            hashes = b"".join(frontier[start : start + _TOGETHER])
            for found in search(hashes, max_members + 1):
                beyond += walk.take(found)
        frontier = beyond
    members = walk.members.values()
    nearest = sorted(members, key=lambda it: (it.links, it.distance, it.value))
    return Cluster(tuple(nearest), walk.truncated)


class _Walk:
    """What was reached so far."""

    def __init__(self, asked: bytes, max_members: int) -> None:
        self.members: dict[int, Member] = {}
        self.links = 0
        self.truncated = False
        self._asked = int.from_bytes(asked)
        self._max_members = max_members

    def take(self, found: Found) -> list[bytes]:
        """Take what is new of one hash's neighbours, and give their hashes."""
        new = [hit for hit in found.hits if hit.signal_id not in self.members]
        room = self._max_members - len(self.members)
        self.truncated |= found.truncated or len(new) > room
        for hit in new[:room]:
            distance = (self._asked ^ int.from_bytes(hit.digest)).bit_count()
            value = hit.digest.hex()
            member = Member(hit.signal_id, value, distance, self.links)
            self.members[hit.signal_id] = member
        return [hit.digest for hit in new[:room]]
