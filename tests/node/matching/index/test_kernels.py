"""The compiled kernel refuses what does not fit, and both kernels can be chosen."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from hashlight_node.matching.index import Hit, PdqIndex, kernel_name
from hashlight_node.matching.index.delta import Delta
from hashlight_node.matching.index.kernel import VARIABLE, chosen_kernel, load_kernel
from hashlight_node.matching.index.layout import DEAD, PADDING, allocate
from hashlight_node.matching.index.segment import Segment, build_segment
from support.hamming import KERNELS, digests, kernel

ROWS = np.frombuffer(b"".join(digests(50, seed=1)), np.uint8).reshape(-1, 32)
IDS = np.arange(50, dtype=np.uint32)
ZEROS = bytes(32)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_can_be_forced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = kernel(name)
    monkeypatch.setenv(VARIABLE, name)
    assert chosen_kernel() is wanted
    assert kernel_name() == name
    assert PdqIndex().stats().kernel == name


def test_an_unknown_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(ValueError, match="neither c nor numpy"):
        chosen_kernel()


def test_without_a_compiled_kernel_numpy_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_name: str) -> None:
        raise ImportError

    load_kernel.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", fail)
        assert kernel_name(load_kernel("")) == "numpy"
        with pytest.raises(ImportError):
            load_kernel("c")
    load_kernel.cache_clear()


def test_both_kernels_make_the_same_tables() -> None:
    generator = np.random.default_rng(2)
    rows = generator.integers(0, 256, (5000, 32), dtype=np.uint8)
    rows[:2000, :20] = 0
    rows[4000:] = rows[:1000]
    ids = generator.integers(0, 9, 5000).astype(np.uint32)
    made = [build_segment(kernel(name), rows, ids).arrays for name in KERNELS]
    for compiled, plain in zip(*made, strict=True):
        assert np.array_equal(compiled, plain)


@pytest.mark.parametrize("name", KERNELS)
def test_every_row_of_a_segment_can_be_found_but_removed_ones(name: str) -> None:
    segment = build_segment(kernel(name), ROWS, IDS)
    for signal_id, row in enumerate(ROWS):
        at = segment.find(kernel(name), signal_id, row.tobytes())
        assert segment.arrays[1][at] == signal_id
        assert segment.find(kernel(name), signal_id + 1, row.tobytes()) == -1
        segment.kill(at)
        segment.wipe(at)
        assert segment.find(kernel(name), signal_id, row.tobytes()) == -1


class Counted(np.ndarray[Any, np.dtype[np.uint32]]):
    """An array that counts how often it is read."""

    reads = 0

    @override
    def __getitem__(self, at: Any) -> Any:
        type(self).reads += 1
        return super().__getitem__(at)


def orders(count: int) -> dict[str, list[int]]:
    shuffled = np.random.default_rng(3).permutation(count).tolist()
    return {
        "ascending": list(range(count)),
        "descending": list(range(count))[::-1],
        "shuffled": shuffled,
    }


@pytest.mark.parametrize("order", orders(0))
def test_rows_are_removed_in_any_order_without_walks_over_dead_ones(
    order: str,
) -> None:
    count = 20_000
    rows = np.random.default_rng(1).integers(0, 256, (count, 32), dtype=np.uint8)
    made = build_segment(kernel("numpy"), rows, np.arange(count, dtype=np.uint32))
    sorted_rows, ids = made.arrays[0].copy(), made.arrays[1].copy()
    counted = ids.copy().view(Counted)
    segment = Segment((made.arrays[0], counted, *made.arrays[2:]))
    Counted.reads = 0
    for at in orders(count)[order][:10_000]:
        digest = sorted_rows[at].tobytes()
        assert segment.find(kernel("numpy"), int(ids[at]), digest) == at
        segment.kill(at)
        segment.wipe(at)
    assert Counted.reads < 10_000 * 60


@pytest.mark.parametrize("order", orders(0))
@pytest.mark.parametrize("crowd", [0, 31, 32])
def test_both_kernels_pass_over_dead_rows_alike(order: str, crowd: int) -> None:
    count = 3000
    rows = np.random.default_rng(1).integers(0, 256, (count, 32), dtype=np.uint8)
    rows[:, :crowd] = 7
    ids = np.arange(count, dtype=np.uint32)
    compiled, plain = (build_segment(kernel(name), rows, ids) for name in KERNELS)
    sorted_rows, sorted_ids = plain.arrays[0].copy(), plain.arrays[1].copy()
    for turn, at in enumerate(orders(count)[order]):
        for name, segment in zip(KERNELS, (compiled, plain), strict=True):
            digest, signal_id = sorted_rows[at].tobytes(), int(sorted_ids[at])
            assert segment.find(kernel(name), signal_id, digest) == at
            segment.kill(at)
            segment.wipe(at)
            assert segment.find(kernel(name), signal_id, digest) == -1
        if turn % 1000 == 0:
            known = np.zeros((2, count), np.uint8)
            compiled.mark_known(kernel(KERNELS[0]), sorted_rows, sorted_ids, known[0])
            plain.mark_known(kernel(KERNELS[1]), sorted_rows, sorted_ids, known[1])
            assert np.array_equal(known[0], plain.arrays[1] != DEAD)
            assert np.array_equal(known[0], known[1])
        assert np.array_equal(compiled.skips, plain.skips)


@pytest.mark.parametrize("skip", [0, 1, 49, 50, 2**31, DEAD])
def test_no_skip_leads_out_of_the_rows(skip: int) -> None:
    for name in KERNELS:
        segment = build_segment(kernel(name), ROWS, IDS)
        for at in range(0, 50, 2):
            segment.kill(at)
        segment.skips[:] = skip
        for signal_id, row in enumerate(ROWS):
            assert segment.find(kernel(name), signal_id, row.tobytes()) < 50
        segment.arrays[1][:] = DEAD
        assert segment.find(kernel(name), 0, ZEROS) == -1


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((bytes(31), 31, 5), "32 bytes"),
        ((bytes(33), 31, 5), "32 bytes"),
        ((ZEROS, -1, 5), "256"),
        ((ZEROS, 257, 5), "256"),
        ((ZEROS, 31, 0), "at least 1"),
    ],
)
def test_a_query_outside_its_range_is_refused(
    name: str, arguments: tuple[bytes, int, int], message: str
) -> None:
    index = PdqIndex(kernel=kernel(name))
    query, max_distance, limit = arguments
    with pytest.raises(ValueError, match=message):
        index.search(query, max_distance, limit=limit)
    with pytest.raises(ValueError, match=message):
        index.search_many(query, max_distance, limit=limit)


@pytest.mark.parametrize("name", KERNELS)
def test_a_search_takes_one_query_and_not_two(name: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PdqIndex(kernel=kernel(name)).search(bytes(64), 31, limit=1)


def altered(arrays: tuple[Any, ...], at: int, array: object) -> tuple[Any, ...]:
    return (*arrays[:at], array, *arrays[at + 1 :])


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize(
    "wrong",
    [
        lambda it: it.ravel()[:-1],
        lambda it: it.astype(np.int64),
        lambda it: it.ravel()[::2],
        lambda _: b"",
        lambda _: None,
    ],
    ids=["short", "wide", "strided", "empty", "none"],
)
def test_a_view_of_arrays_that_do_not_fit_is_refused(
    at: int, wrong: Callable[[Any], object]
) -> None:
    compiled = kernel("c")
    arrays = build_segment(compiled, ROWS, IDS).arrays
    compiled.View((arrays,), (), Hit)
    parts: Any = (altered(arrays, at, wrong(arrays[at])),)
    with pytest.raises((ValueError, TypeError, BufferError)):
        compiled.View(parts, (), Hit)


@pytest.mark.parametrize("at", range(4))
def test_a_view_of_a_delta_that_does_not_fit_is_refused(at: int) -> None:
    compiled = kernel("c")
    arrays = Delta(10).arrays
    compiled.View((), (arrays,), Hit)
    for wrong in (arrays[at].ravel()[:-1], arrays[at].astype(np.float64)):
        parts: Any = (altered(arrays, at, wrong),)
        with pytest.raises((ValueError, BufferError)):
            compiled.View((), parts, Hit)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ([], (), tuple),
        ((), [], tuple),
        ((), (), list),
        ((), (), 5),
        ((5,), (), tuple),
    ],
    ids=str,
)
def test_a_view_is_made_of_tuples_and_gives_tuples(arguments: tuple[Any, ...]) -> None:
    compiled: Any = kernel("c")
    with pytest.raises(TypeError):
        compiled.View(*arguments)


def test_a_view_takes_no_names_and_bounds_a_delta() -> None:
    compiled: Any = kernel("c")
    with pytest.raises(TypeError, match="keyword"):
        compiled.View((), (), tuple, segments=())
    with pytest.raises(ValueError, match="too many"):
        compiled.View((), (Delta(2**16).arrays,), tuple)


@pytest.mark.parametrize("function", ["sort", "build", "insert", "find", "mark_known"])
def test_arrays_that_do_not_fit_are_refused(function: str) -> None:
    compiled: Any = kernel("c")
    rows, ids, offsets, following, postings = build_segment(compiled, ROWS, IDS).arrays
    fitting: tuple[Any, ...] = {
        "sort": (ROWS, IDS, rows.copy(), ids.copy()),
        "build": (rows, offsets.copy(), following.copy(), postings.copy()),
        "insert": (*Delta(10).arrays, 1, ZEROS),
        "find": (rows, ids, np.zeros(50, np.uint32), 1, ZEROS),
        "mark_known": (
            *(rows, ids, np.zeros(50, np.uint32)),
            *(ROWS, IDS, np.zeros(50, np.uint8)),
        ),
    }[function]
    call = getattr(compiled, function)
    call(*fitting)
    with pytest.raises(TypeError):
        call()
    for at, argument in enumerate(fitting):
        if isinstance(argument, np.ndarray):
            wrong_ones = [argument.ravel()[:-1], argument.astype(np.float32), None]
            if argument.size > 1:
                wrong_ones.append(np.repeat(argument.ravel(), 2)[::2])
            for wrong in wrong_ones:
                with pytest.raises((ValueError, TypeError, BufferError)):
                    call(*altered(fitting, at, wrong))
        elif isinstance(argument, bytes):
            with pytest.raises(ValueError, match="fit"):
                call(*altered(fitting, at, argument[1:]))
        else:
            with pytest.raises(TypeError):
                call(*altered(fitting, at, "1"))


def test_what_is_only_read_may_be_read_only_and_the_rest_may_not() -> None:
    compiled = kernel("c")
    rows, ids = np.zeros_like(ROWS), np.zeros_like(IDS)
    assert not ROWS.flags.writeable
    assert compiled.sort(ROWS, IDS, rows, ids) == 50
    ids.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        compiled.sort(ROWS, IDS, rows, ids)


def test_a_full_delta_takes_no_more() -> None:
    compiled = kernel("c")
    delta = Delta(1)
    delta.add(compiled, 1, ZEROS)
    assert delta.is_full
    with pytest.raises(ValueError, match="fit"):
        compiled.insert(*delta.arrays, 2, ZEROS)


@pytest.mark.parametrize("value", [0, 1, 49, 50, 51, 2**31, DEAD])
def test_no_content_of_the_tables_leads_out_of_them(value: int) -> None:
    compiled = kernel("c")
    rows, ids, offsets, following, postings = build_segment(compiled, ROWS, IDS).arrays
    generator = np.random.default_rng(value)
    offsets[:] = generator.choice([0, 20, 50, value], offsets.shape)
    postings[:] = generator.choice([0, 49, value], postings.shape)
    delta = Delta(60)
    for signal_id, row in enumerate(ROWS):
        delta.add(compiled, signal_id, row.tobytes())
    records, delta_ids, heads, count = delta.arrays
    records[:, 32:] = generator.integers(0, 256, (60, 32))
    heads[:] = generator.choice([0, 1, 50, min(value, 2**16 - 1)], heads.shape)
    count[0] = value
    arrays = (rows, ids, offsets, following, postings)
    view = compiled.View((arrays,), ((records, delta_ids, heads, count),), Hit)
    for query in (ROWS[0].tobytes(), ZEROS):
        for max_distance in (0, 15, 31, 100, 256):
            found, _ = view.search(query, max_distance, 5)
            assert all(isinstance(it, Hit) for it in found)


def test_large_arrays_are_zero_and_writable() -> None:
    array = allocate((3, 1 << 20), np.uint32)
    assert array.shape == (3, 1 << 20)
    assert not array.any()
    array[2, -1] = 7
    assert array.ctypes.data % (1 << 21) == 0


@pytest.mark.parametrize("name", KERNELS)
def test_a_hash_takes_at_most_140_bytes(name: str) -> None:
    count = 600_000
    rows = np.random.default_rng(1).integers(0, 256, (count, 32), dtype=np.uint8)
    size = PdqIndex.from_rows(np.arange(count), rows, kernel=kernel(name)).stats()
    # What does not grow with them: offsets of one segment, and a delta.
    fixed = 16 * 65537 * 4 + 2 * PADDING + Delta(16384).size_bytes
    assert size.size_bytes - fixed == 128 * count
    assert 128 + fixed / 1_000_000 <= 140
