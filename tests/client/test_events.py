"""Server-sent events, whole however they are cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_client import BadAnswerError
from hashlight_client.events import MAX_EVENT_BYTES, Event, EventReader

STREAM = (
    b": welcome\nid: 6\n\n"
    b'event: live\nid: 7\ndata: {"a":1}\n\n'
    b"\n"
    b"data: one\ndata:two\r\nretry: 5\n\r\n"
    b"event: dead\nid: 8\n\n"
    b"event: nothing"
)
EVENTS = [
    Event("", "", "6"),
    Event("live", '{"a":1}', "7"),
    Event("message", "one\ntwo", "7"),
    Event("", "", "8"),
]


def test_events_have_a_name_data_and_the_last_id() -> None:
    assert EventReader().feed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=9))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    reader = EventReader()
    places = [0, *sorted(cuts), len(STREAM)]
    found = [
        event
        for start, end in pairwise(places)
        for event in reader.feed(STREAM[start:end])
    ]
    assert found == EVENTS


@given(st.binary())
def test_nothing_breaks_it(data: bytes) -> None:
    for event in EventReader().feed(data):
        assert isinstance(event, Event)


@pytest.mark.parametrize("start", [b"", b"data: x\n", b"x"])
def test_an_event_without_end_is_refused(start: bytes) -> None:
    reader = EventReader()
    reader.feed(start)
    with pytest.raises(BadAnswerError):
        reader.feed(b"data: " + b"x" * MAX_EVENT_BYTES)


def test_an_event_of_many_lines_is_bounded_too() -> None:
    reader = EventReader()
    line = b"data: " + b"x" * 1000 + b"\n"
    with pytest.raises(BadAnswerError):
        reader.feed(line * (MAX_EVENT_BYTES // 1000))
