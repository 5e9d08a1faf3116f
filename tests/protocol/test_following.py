"""Following a log: honest ranges pass, everything altered is refused and named."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_RANGE,
    BadBundleError,
    BadCommitmentError,
    BadProofError,
    Body,
    BodyStatus,
    Checkpoint,
    Frontier,
    KnownHead,
    RollbackError,
    SplitViewError,
    TileId,
    TooLargeError,
    VerifiedRange,
    check_bodies,
    leaf_hashes,
    needed_tiles,
    new_tiles,
    plan_range,
    root_of,
)
from support.example_log import LIST_ID, ORIGIN, build_log

LARGEST = 70_000
ENTRIES = [b"\x01%032d" % number for number in range(LARGEST)]
LEAVES = leaf_hashes(ENTRIES)
TILES = new_tiles(lambda _level, _index: b"", 0, LEAVES)


@cache
def frontier(size: int) -> Frontier:
    return Frontier().extend(LEAVES[:size])


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, frontier(size).root)


def head(size: int) -> KnownHead:
    return KnownHead(size, frontier(size).root)


def tiles_for(needed: tuple[TileId, ...]) -> dict[TileId, bytes]:
    return {tile: TILES[tile.level, tile.index][: tile.width * 32] for tile in needed}


def bundle(new_size: int, index: int) -> list[bytes]:
    return ENTRIES[index * 256 : min(new_size, index * 256 + 256)]


@dataclass(frozen=True)
class Range:
    """Sizes that a follower may meet."""

    old: int
    new: int
    anchor: int | None

    @property
    def tiles(self) -> dict[TileId, bytes]:
        return tiles_for(needed_tiles(self.old, self.new, self.anchor))

    def plan(self, tiles: Mapping[TileId, bytes] | None = None) -> VerifiedRange:
        return plan_range(
            frontier(self.old),
            checkpoint(self.new),
            self.tiles if tiles is None else tiles,
            anchor=None if self.anchor is None else head(self.anchor),
        )


# Sizes around multiples of 256 and 65,536, where blocks and tiles end.
edges = st.builds(
    lambda base, step: base + step,
    st.sampled_from([0, 256, 512, 2_560, 65_280, 65_536, 65_792]),
    st.integers(-2, 2),
)
sizes = (edges | st.integers(0, 1_500) | st.integers(0, LARGEST)).filter(
    lambda size: 0 <= size <= LARGEST
)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    old, anchor, new = sorted(draw(st.lists(sizes, min_size=3, max_size=3)))
    return Range(old, new, anchor if draw(st.booleans()) else None)


@given(ranges())
def test_an_honest_range_passes(example: Range) -> None:
    verified = example.plan()
    assert verified.origin == ORIGIN
    assert verified.old_size == example.old
    assert verified.new_size == example.new
    assert verified.frontier == frontier(example.new)
    covered = [
        index * 256 + offset
        for index in verified.bundles
        for offset in range(verified.width(index))
    ]
    assert covered[-1:] == ([example.new - 1] if example.new > example.old else [])
    assert set(range(example.old, example.new)) <= set(covered)
    for index in (*verified.bundles[:2], *verified.bundles[-2:]):
        entries = bundle(example.new, index)
        assert verified.check_entries(index, entries) == leaf_hashes(entries)


@given(ranges(), st.data())
def test_any_altered_byte_of_a_tile_is_refused(
    example: Range, data: st.DataObject
) -> None:
    tiles = example.tiles
    assume(tiles)
    tile = data.draw(st.sampled_from(sorted(tiles, key=repr)))
    altered = bytearray(tiles[tile])
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(
        st.integers(1, 255)
    )
    with pytest.raises((BadBundleError, BadProofError)) as raised:
        example.plan(tiles | {tile: bytes(altered)})
    match raised.value:
        case BadBundleError(what=what):
            assert what == "tile"
            assert "level" in str(raised.value)
        case _:
            assert f"leaves {example.old} to {example.new}" in str(raised.value)


@given(ranges(), st.data())
def test_a_tile_of_another_width_is_refused_by_name(
    example: Range, data: st.DataObject
) -> None:
    tiles = example.tiles
    assume(tiles)
    tile = data.draw(st.sampled_from(sorted(tiles, key=repr)))
    content = data.draw(st.sampled_from([tiles[tile][:-1], tiles[tile] + bytes(32)]))
    with pytest.raises(BadBundleError, match=f"level {tile.level}") as raised:
        example.plan(tiles | {tile: content})
    assert (raised.value.what, raised.value.index) == ("tile", tile.index)


@given(ranges(), st.data())
def test_any_altered_byte_of_an_entry_is_refused_by_name(
    example: Range, data: st.DataObject
) -> None:
    verified = example.plan()
    assume(verified.bundles)
    index = data.draw(st.sampled_from(verified.bundles))
    entries = bundle(example.new, index)
    offset = data.draw(st.integers(0, len(entries) - 1))
    altered = bytearray(entries[offset])
    altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(
        st.integers(1, 255)
    )
    with pytest.raises(BadBundleError, match=r"leaf|leaves") as raised:
        verified.check_entries(
            index, [*entries[:offset], bytes(altered), *entries[offset + 1 :]]
        )
    assert (raised.value.what, raised.value.index) == ("entries", index)


def test_an_altered_entry_is_named_where_its_own_hash_is_known() -> None:
    verified = Range(0, 300, None).plan()
    entries = bundle(300, 1)
    with pytest.raises(BadBundleError, match="leaf 258 "):
        verified.check_entries(1, [*entries[:2], b"\x01other", *entries[3:]])
    with pytest.raises(BadBundleError, match="leaves 0 to 255 "):
        verified.check_entries(0, [b"\x01other", *bundle(300, 0)[1:]])


@pytest.mark.parametrize("count", [0, 43, 45, 256])
def test_a_bundle_of_another_width_is_refused(count: int) -> None:
    verified = Range(0, 300, None).plan()
    with pytest.raises(BadBundleError, match=f"{count} entries and not 44"):
        verified.check_entries(1, ENTRIES[256 : 256 + count])


def test_a_bundle_outside_the_range_is_not_checked() -> None:
    verified = Range(300, 700, None).plan()
    assert verified.bundles == range(1, 3)
    for index in (0, 3):
        with pytest.raises(ValueError, match="part of the range"):
            verified.check_entries(index, bundle(700, index))


@given(ranges())
def test_split_view_a_checkpoint_with_another_root_is_refused(example: Range) -> None:
    target = replace(checkpoint(example.new), root_hash=bytes(32))
    expected = SplitViewError if example.old == example.new else BadProofError
    with pytest.raises(expected):
        plan_range(frontier(example.old), target, example.tiles)


@given(ranges())
def test_split_view_another_past_than_ours_is_refused(example: Range) -> None:
    assume(example.old)
    own = Frontier().extend([bytes(32), *LEAVES[1 : example.old]])
    with pytest.raises((BadBundleError, BadProofError, SplitViewError)):
        plan_range(own, checkpoint(example.new), example.tiles)


@given(ranges())
def test_split_view_an_anchor_with_another_root_is_refused(example: Range) -> None:
    assume(example.anchor is not None)
    anchor = KnownHead(example.anchor or 0, bytes(32))
    with pytest.raises(SplitViewError) as raised:
        plan_range(
            frontier(example.old),
            checkpoint(example.new),
            example.tiles,
            anchor=anchor,
        )
    assert (raised.value.origin, raised.value.size) == (ORIGIN, anchor.tree_size)


@given(sizes, sizes)
def test_rollback_a_smaller_checkpoint_is_refused(first: int, second: int) -> None:
    assume(first != second)
    old, new = max(first, second), min(first, second)
    with pytest.raises(RollbackError) as raised:
        plan_range(frontier(old), checkpoint(new), {})
    assert (raised.value.known_size, raised.value.size) == (old, new)


def test_nothing_is_needed_where_nothing_is_new() -> None:
    assert needed_tiles(300, 300) == ()
    assert needed_tiles(0, 0) == ()
    verified = Range(300, 300, None).plan()
    assert list(verified.bundles) == []


def test_the_tiles_of_a_range_are_few() -> None:
    assert needed_tiles(0, 100) == (TileId(0, 0, 100),)
    assert needed_tiles(100, 200) == (TileId(0, 0, 200),)
    assert needed_tiles(100, 256) == (TileId(0, 0),)
    assert needed_tiles(256, 768) == (TileId(1, 0, 3),)
    assert needed_tiles(100, 70_000, 66_000) == (
        TileId(0, 0),
        TileId(0, 257),
        TileId(0, 273, 112),
        TileId(1, 0),
        TileId(1, 1, 17),
    )
    assert len(needed_tiles(1, 10_000_001)) == 2 + 153


@pytest.mark.parametrize(
    ("old", "new", "anchor"), [(-1, 3, None), (4, 3, None), (1, 3, 0), (1, 3, 4)]
)
def test_sizes_out_of_order_are_a_mistake(
    old: int, new: int, anchor: int | None
) -> None:
    with pytest.raises(ValueError, match="order"):
        needed_tiles(old, new, anchor)


def test_a_range_is_bounded() -> None:
    needed_tiles(5, 5 + MAX_RANGE)
    with pytest.raises(TooLargeError, match="268435456"):
        needed_tiles(5, 6 + MAX_RANGE)
    with pytest.raises(TooLargeError):
        plan_range(Frontier(), Checkpoint(ORIGIN, 2**63 - 1, bytes(32)), {})


def test_a_tile_that_was_not_fetched_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        plan_range(frontier(0), checkpoint(300), {})


EXAMPLE = build_log(9)


def check(bodies: list[Body]) -> None:
    check_bodies(LIST_ID, EXAMPLE.entries, bodies, 0)


def test_bodies_that_were_committed_to_pass() -> None:
    check(list(EXAMPLE.bodies))


@pytest.mark.parametrize("status", [BodyStatus.WITHHELD, BodyStatus.ERASED])
def test_a_body_may_be_missing(status: BodyStatus) -> None:
    check([EXAMPLE.bodies[0], Body(status), *EXAMPLE.bodies[2:]])


@pytest.mark.parametrize("position", range(1, 10))
def test_a_body_that_was_not_committed_to_is_refused_by_leaf(position: int) -> None:
    bodies = list(EXAMPLE.bodies)
    body = bodies[position]
    for altered in (
        body._replace(body=body.body + b" "),
        body._replace(salt=bytes(16)),
        bodies[position % 9 + 1],
    ):
        bodies[position] = altered
        with pytest.raises(BadCommitmentError) as raised:
            check(bodies)
        assert raised.value.leaf_index == position


def test_a_bodys_list_is_part_of_its_commitment() -> None:
    with pytest.raises(BadCommitmentError):
        check_bodies(LIST_ID + "2", EXAMPLE.entries, EXAMPLE.bodies, 0)


def test_a_record_without_a_word_about_its_body_is_refused() -> None:
    bodies = list(EXAMPLE.bodies)
    bodies[4] = Body(BodyStatus.NONE)
    with pytest.raises(BadBundleError, match="leaf 4 ") as raised:
        check(bodies)
    assert (raised.value.what, raised.value.index) == ("bodies", 0)


@pytest.mark.parametrize("status", [s for s in BodyStatus if s != BodyStatus.NONE])
def test_a_body_beside_an_entry_that_is_no_record_is_refused(
    status: BodyStatus,
) -> None:
    bodies = [EXAMPLE.bodies[1]._replace(status=status), *EXAMPLE.bodies[1:]]
    with pytest.raises(BadBundleError, match="leaf 512 ") as raised:
        check_bodies(LIST_ID, EXAMPLE.entries, bodies, 512)
    assert (raised.value.what, raised.value.index) == ("bodies", 2)


def test_more_or_fewer_bodies_than_entries_are_refused() -> None:
    for bodies in (list(EXAMPLE.bodies[:-1]), [*EXAMPLE.bodies, EXAMPLE.bodies[0]]):
        with pytest.raises(BadBundleError, match=r"bodies 0 .* and not 13"):
            check(bodies)


def test_the_example_has_the_root_it_claims() -> None:
    assert EXAMPLE.checkpoint().root_hash == root_of(EXAMPLE.leaves)
