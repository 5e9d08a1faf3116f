"""When parts of the index are written anew as one, and which."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from hashlight_node.matching.index.delta import Delta
from hashlight_node.matching.index.kernel import Kernel
from hashlight_node.matching.index.layout import DIGEST_BYTES, allocate
from hashlight_node.matching.index.segment import (
    Segment,
    build_segment,
    sort_rows,
    with_tables,
)

Part = Segment | Delta


@dataclass(frozen=True, slots=True)
class Sizes:
    """When rows move. The defaults are measured, see docs/adr/0050.

    Attributes:
        delta_rows: Rows of a delta; more make every query slower.
        bulk_rows: From so many rows added at once on they become a segment of
            their own.
        segment_rows: Rows of a segment at most: a merge needs as much memory again.
        growth: Every segment is so many times larger than all smaller ones
            together; so there are few, and a row moves seldom.
        waiting_deltas: Full deltas that may wait for a merge under way; the next
            one makes the writer itself write them as a segment.
        min_dead: A segment is written anew without its removed rows if these are
            so many and more than a quarter.
    """

    delta_rows: int = 16384
    bulk_rows: int = 4096
    segment_rows: int = 1 << 24
    growth: int = 4
    waiting_deltas: int = 3
    min_dead: int = 4096


def plan(
    segments: Sequence[Segment], full_deltas: Sequence[Delta], sizes: Sizes
) -> list[Part]:
    """Choose the parts that should become one.

    Args:
        segments: All there are.
        full_deltas: Those that take no more rows.
        sizes: The rules.

    Returns:
        Parts to merge; none if all is well. One segment alone is to lose its
        removed rows.
    """
    ascending = sorted(segments, key=lambda it: it.live)
    pending = sum(it.live for it in full_deltas)
    smaller = list(accumulate((it.live for it in ascending), initial=pending))
    count = max(
        (
            at + 1
            for at, it in enumerate(ascending)
            if 0 < smaller[at] * sizes.growth > it.live
            and smaller[at + 1] <= sizes.segment_rows
        ),
        default=0,
    )
    chosen: list[Part] = [*full_deltas, *ascending[:count]]
    if not chosen:
        chosen.extend([it for it in ascending if is_worn(it, sizes)][:1])
    return chosen


def is_worn(segment: Segment, sizes: Sizes) -> bool:
    """Tell whether a segment has lost so much that it is worth writing anew."""
    return segment.dead >= sizes.min_dead and segment.dead * 3 > segment.live


def merge(kernel: Kernel, parts: Sequence[Part]) -> Segment | None:
    """Write the live rows of some parts as one segment; None if there are none.

    A row that is removed meanwhile may be in it. Its hash must not be wiped before
    this returns, or it would be in it as another.
    """
    rows, ids = zip(*(part.live_rows() for part in parts), strict=True)
    if not any(len(some) for some in ids):
        return None
    if len(parts) == 1:
        return build_segment(kernel, rows[0], ids[0])
    # Apart from other memory, so that it is given back whole when this is done.
    shape = sum(map(len, rows)), DIGEST_BYTES
    joined = np.concatenate(rows, out=allocate(shape, np.uint8))
    ordered = sort_rows(kernel, joined, np.concatenate(ids))
    # The tables take three times as much, beside those of all parts.
    del joined, rows, ids
    return with_tables(kernel, *ordered)
