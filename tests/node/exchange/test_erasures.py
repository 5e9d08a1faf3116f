"""The word "erased" is believed only with an ERASE that covers the record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.exchange.logs.erasures import ErasureClaims

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), max_size=12)


@given(st.lists(st.integers(0, 70), max_size=30), RANGES)
def test_what_is_unproven_is_what_no_range_covers(
    claims: list[int], ranges: list[tuple[int, int]]
) -> None:
    memory = ErasureClaims()
    for leaf_index in claims:
        memory.claim(leaf_index)
    for first, count in ranges:
        memory.prove(first, count)

    covered = {
        index for first, count in ranges for index in range(first, first + count)
    }
    missing = [index for index in claims if index not in covered]
    assert memory.unproven() == (len(missing), min(missing, default=None))
