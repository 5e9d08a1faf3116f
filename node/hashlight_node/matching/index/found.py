"""What a search gives."""

from typing import NamedTuple


class Hit(NamedTuple):
    """A signal near the query.

    Attributes:
        distance: Differing bits, 0 to 256.
        signal_id: Its id.
        digest: Its hash, 32 bytes.
    """

    distance: int
    signal_id: int
    digest: bytes


class Found(NamedTuple):
    """What one query found.

    Attributes:
        hits: Nearest first, then by signal id.
        truncated: There are more than the limit allowed; these are the nearest.
    """

    hits: list[Hit]
    truncated: bool
