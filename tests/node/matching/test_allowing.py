"""The allow list: exactly what the operator named, and no further."""

from __future__ import annotations

import random

from hashlight_node.matching.allowing import AllowList
from hashlight_node.model import AllowedSignal
from hashlight_protocol import Signal

BLANK = "0f" * 32
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def entry(kind: str, value: str, reach: int = 0) -> AllowedSignal:
    return AllowedSignal(1, Signal(kind, value), reach, "", 0)


def flip(value: str, bits: int, seed: int = 0) -> str:
    places = random.Random(seed).sample(range(256), bits)  # noqa: S311 -- no secret
    return f"{int(value, 16) ^ sum(1 << it for it in places):064x}"


def test_an_empty_list_allows_nothing() -> None:
    allowed = AllowList()
    assert not allowed.covers(Signal("pdq", BLANK))
    assert not allowed.names(Signal("md5", MD5))
    assert len(allowed) == 0


def test_an_entry_without_reach_is_itself_alone() -> None:
    allowed = AllowList([entry("pdq", BLANK), entry("md5", MD5)])
    assert allowed.covers(Signal("pdq", BLANK))
    assert allowed.covers(Signal("md5", MD5))
    assert not allowed.covers(Signal("pdq", flip(BLANK, 1)))
    assert not allowed.covers(Signal("sha1", MD5))
    assert len(allowed) == 2


def test_each_entry_reaches_as_far_as_it_says() -> None:
    other = flip(BLANK, 128)
    allowed = AllowList([entry("pdq", BLANK, 10), entry("pdq", other, 31)])
    for seed in range(20):
        for value, reach in ((BLANK, 10), (other, 31)):
            assert allowed.covers(Signal("pdq", flip(value, reach, seed)))
            assert not allowed.covers(Signal("pdq", flip(value, reach + 1, seed)))


def test_reach_covers_queries_and_names_no_other_signal() -> None:
    allowed = AllowList([entry("pdq", BLANK, 10)])
    assert allowed.names(Signal("pdq", BLANK))
    assert not allowed.names(Signal("pdq", flip(BLANK, 1)))


def test_replacing_counts_at_once() -> None:
    allowed = AllowList([entry("md5", MD5)])
    allowed.replace([entry("pdq", BLANK, 1)])
    assert not allowed.covers(Signal("md5", MD5))
    assert allowed.covers(Signal("pdq", flip(BLANK, 1)))
