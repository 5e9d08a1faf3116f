"""The flood breaker: counts are near the truth, and memory has an end."""

from __future__ import annotations

import mmap
import multiprocessing
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.matching.flood import (
    BUFFER_BYTES,
    FloodBreaker,
    FloodCounters,
    prepare_counts,
)
from support.clock import ManualClock

HOUR = 3600


def counters(window_seconds: int = HOUR) -> FloodCounters:
    buffer = bytearray(BUFFER_BYTES)
    prepare_counts(buffer)
    return FloodCounters(buffer, window_seconds=window_seconds)


def test_matches_are_counted_signal_by_signal() -> None:
    some = counters()
    assert [some.count(1, 0) for _ in range(3)] == [1, 2, 3]
    assert some.count(2, 0) == 1
    assert some.count(1, 0) == 4


def test_a_window_that_is_over_counts_less_and_less() -> None:
    some = counters()
    for _ in range(100):
        some.count(7, 10 * HOUR)
    assert some.count(7, 11 * HOUR) == 101
    assert some.count(7, 11 * HOUR + HOUR // 2) == 2 + 50
    assert some.count(7, 12 * HOUR) == 1 + 3 - 1
    assert some.count(7, 20 * HOUR) == 1


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 400)), max_size=200))
def test_an_estimate_lies_between_one_window_and_two(
    steps: list[tuple[int, int]],
) -> None:
    some = counters(100)
    seen: list[tuple[int, int]] = []
    now = 1_700_000_000
    for signal_id, later in steps:
        now += later
        seen.append((signal_id, now))
        estimate = some.count(signal_id, now)
        running = now - now % 100
        least = sum(it == signal_id and at >= running for it, at in seen)
        most = sum(it == signal_id and at >= running - 100 for it, at in seen)
        assert least <= estimate <= most


def test_of_very_many_signals_those_that_match_most_stay_known() -> None:
    some = counters()
    busy = Counter({1: 300, 2: 200, 3: 150})
    for signal_id, count in busy.items():
        for _ in range(count):
            some.count(signal_id, 0)
    for signal_id in range(10, 100_000):
        some.count(signal_id, 0)
    assert {it: some.count(it, 0) - 1 for it in busy} == dict(busy)


def test_no_list_can_choose_signals_that_hide_each_other() -> None:
    # These ids fell into one set of the table, as long as the set was known before.
    chosen = [1000 + it for it in (0, 10946, 17711, 28657, 35422, 39603)]
    breaker = FloodBreaker(counters(), limit=100, clock=ManualClock())
    for _ in range(1000):
        for signal_id in chosen:
            breaker.is_flooded_by(signal_id)
    assert [breaker.is_flooded_by(it) for it in chosen] == [True] * 6


def test_a_flood_of_others_floods_no_signal_that_matches_seldom() -> None:
    some = counters()
    for _ in range(2):
        for signal_id in range(1, 100_000):
            some.count(signal_id, 0)
    assert max(some.count(it, 0) for it in range(1, 100_000)) <= 3


def test_a_signal_gives_way_once_its_flood_is_over() -> None:
    some = counters()
    for signal_id in range(1, 100_000):
        some.count(signal_id, 0)
        some.count(signal_id, 0)
    assert [some.count(it, 5 * HOUR) for it in range(200_000, 200_050)] == [1] * 50


def test_the_breaker_trips_after_its_limit_and_closes_again() -> None:
    clock = ManualClock()
    breaker = FloodBreaker(counters(), limit=3, clock=clock)
    assert [breaker.is_flooded_by(9) for _ in range(5)] == [False] * 3 + [True] * 2
    assert not breaker.is_flooded_by(8)
    clock.advance(3 * HOUR)
    assert not breaker.is_flooded_by(9)


def _count_elsewhere(buffer: mmap.mmap) -> None:
    shared = FloodCounters(buffer, window_seconds=HOUR)
    for _ in range(50):
        shared.count(4, 0)


def test_processes_that_share_the_buffer_count_together() -> None:
    buffer = mmap.mmap(-1, BUFFER_BYTES)
    prepare_counts(buffer)
    shared = FloodCounters(buffer, window_seconds=HOUR)
    assert shared.count(4, 0) == 1
    child = multiprocessing.get_context("fork").Process(
        target=_count_elsewhere, args=(buffer,)
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert shared.count(4, 0) == 52
