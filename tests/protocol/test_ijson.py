"""JSON with one meaning: what is read, what is refused, and at what cost."""

import json
import time
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol.errors import MalformedError, TooLargeError
from hashlight_protocol.ijson import (
    DEFAULT_MAX_DEPTH,
    MAX_SAFE_INTEGER,
    JsonValue,
    parse_ijson,
)

LIMIT = 1 << 20

# Everything I-JSON allows: characters without surrogates and noncharacters, integers
# that a double holds, finite floats.
characters = st.characters(
    exclude_categories=["Cs"],
    exclude_characters=[
        *map(chr, range(0xFDD0, 0xFDF0)),
        *(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)),
    ],
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(characters, max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def depth_of(value: JsonValue) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


@given(json_values, st.booleans())
def test_whatever_i_json_allows_comes_back_as_it_was(
    value: JsonValue, ensure_ascii: bool
) -> None:
    raw = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    assert parse_ijson(raw, max_bytes=LIMIT, max_depth=64) == value


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    try:
        value = parse_ijson(raw, max_bytes=LIMIT)
    except MalformedError:
        return
    assert value == json.loads(raw)


@given(st.text('[]{}":,\\u0123456789dDeE.-+ \n', max_size=40))
def test_texts_that_almost_are_json_are_read_or_refused(text: str) -> None:
    try:
        value = parse_ijson(text.encode(), max_bytes=LIMIT)
    except MalformedError:
        return
    assert value == json.loads(text)


@given(json_values, st.integers(0, 8))
def test_nesting_is_counted_as_a_reader_would_count_it(
    value: JsonValue, max_depth: int
) -> None:
    raw = json.dumps(value).encode()
    if depth_of(value) <= max_depth:
        assert parse_ijson(raw, max_bytes=LIMIT, max_depth=max_depth) == value
        return
    with pytest.raises(MalformedError, match="nested"):
        parse_ijson(raw, max_bytes=LIMIT, max_depth=max_depth)


def test_brackets_inside_strings_are_no_nesting() -> None:
    text = "[{" * 40 + '\\" }]'
    raw = json.dumps([text]).encode()
    assert parse_ijson(raw, max_bytes=LIMIT) == [text]


def test_many_brackets_side_by_side_are_no_nesting() -> None:
    raw = b"[" + b"[]," * 99 + b"{}]"
    assert parse_ijson(raw, max_bytes=LIMIT, max_depth=2) == [[]] * 99 + [{}]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no JSON at character 0"),
        (b"{} {}", "no JSON at character 3"),
        (b"\xef\xbb\xbf{}", "no JSON at character 0"),
        ("{}".encode("utf-16"), "no UTF-8 at byte 0"),
        (b'"\xed\xa0\x80"', "no UTF-8 at byte 1"),
        (b'"\xc0\x80"', "no UTF-8 at byte 1"),
        (b'{"a":1,"a":1}', "a member is repeated"),
        (b'[{"a":{"b":1,"\\u0062":2}}]', "a member is repeated"),
        (b"9007199254740992", "an integer is beyond 2^53-1"),
        (b"-9007199254740992", "an integer is beyond 2^53-1"),
        (b"1" * 4301, "a number is too long"),
        (b"1." + b"0" * 100, "a number is too long"),
        (b"1e400", "a number is beyond the range of a double"),
        (b"-1e400", "a number is beyond the range of a double"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b'"\x00"', "no JSON at character 1"),
        (b'"\n"', "no JSON at character 1"),
        (b'"\\ud800"', "a string holds a surrogate or a noncharacter"),
        (b'{"\\udc00\\ud800":1}', "a string holds a surrogate or a noncharacter"),
        (b'"\\uffff"', "a string holds a surrogate or a noncharacter"),
        ('"\U0001ffff"'.encode(), "a string holds a surrogate or a noncharacter"),
        ('"\ufdd0"'.encode(), "a string holds a surrogate or a noncharacter"),
        (b"01", "no JSON at character 1"),
        (b"+1", "no JSON at character 0"),
        (b"1.", "no JSON at character 1"),
        (b"[1,]", "no JSON at character"),
        (b"{'a':1}", "no JSON at character 1"),
        (b"/**/1", "no JSON at character 0"),
        (b"[" * 17 + b"]" * 17, "it is nested more than 16 deep"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(
    raw: bytes, reason: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_ijson(raw, max_bytes=LIMIT, what="thing")
    assert caught.value.what == "thing"
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"9007199254740991", MAX_SAFE_INTEGER),
        (b"-9007199254740991", -MAX_SAFE_INTEGER),
        (b" \t\r\n[1.5e3]\n", [1500.0]),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\x00"),
        (b'"\\"\\\\"', '"\\'),
        (b"1e-400", 0.0),
        (b"[" * 16 + b"]" * 16, json.loads("[" * 16 + "]" * 16)),
    ],
)
def test_the_edges_of_what_is_allowed_are_read(raw: bytes, value: object) -> None:
    assert parse_ijson(raw, max_bytes=LIMIT) == value


def test_an_integer_and_a_float_stay_apart() -> None:
    value: Any = parse_ijson(b"[1,1.0,true]", max_bytes=LIMIT)
    assert [type(element) for element in value] == [int, float, bool]


def test_size_is_judged_before_anything_is_read() -> None:
    assert parse_ijson(b'"' + b"a" * 8 + b'"', max_bytes=10) == "a" * 8
    with pytest.raises(TooLargeError) as caught:
        parse_ijson(b"\xff" * 11, max_bytes=10, what="thing")
    assert (caught.value.what, caught.value.limit) == ("thing", 10)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * LIMIT,
        b'{"a":' * (LIMIT // 5),
        b'"' + b'\\"' * (LIMIT // 2 - 1),
        b"[" * 20 + b'"' * LIMIT,
        b"[" * 20 + b"\\" * LIMIT,
        b"9" * LIMIT,
        b"0." + b"9" * LIMIT,
        b"[" + b"1e9," * (LIMIT // 4),
        b"{" + b'"a":1,' * (LIMIT // 6) + b'"a":1}',
    ],
    ids=count(),
)
def test_a_mebibyte_of_malice_is_refused_in_bounded_time(raw: bytes) -> None:
    started_at = time.perf_counter()
    with pytest.raises(MalformedError):
        parse_ijson(raw, max_bytes=LIMIT * 2)
    # A tenth of a second on an idle machine; what is not linear takes hours.
    assert time.perf_counter() - started_at < 20


def test_the_usual_depth_leaves_room_above_a_record() -> None:
    assert DEFAULT_MAX_DEPTH >= 4
