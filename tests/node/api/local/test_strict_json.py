"""The fast way to read JSON must judge every text as the protocol's parser does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.api.errors import InvalidBodyError
from hashlight_node.api.local.models.lookup import LookupRequest
from hashlight_node.api.local.strict_json import (
    parse_any,
    parse_closed,
    pointer_of,
    validate,
)
from hashlight_protocol import JsonValue, MalformedError, parse_ijson

_SAFE_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
_VALUES = st.recursive(
    st.none() | st.booleans() | _SAFE_INTEGERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
# Pieces of JSON in any order: mostly broken, sometimes with repeated members.
_PIECES = st.sampled_from(
    [
        *[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            '"a"',
            '"b"',
            '"\\u0061"',
            '"é"',
            '"',
            "0",
            "-1",
            "1.5",
            "true",
            "null",
            "NaN",
            "\\",
        ],
        *(" ", "\n", "\x00", "\ufeff", "\ufdd0"),
    ]
)


def strictly(raw: bytes) -> JsonValue:
    return parse_ijson(raw, max_bytes=len(raw), max_depth=16)


def _judge(parse: object, raw: bytes) -> object:
    try:
        return parse(raw)  # type: ignore[operator]
    except MalformedError:
        return MalformedError


@given(
    value=_VALUES,
    form=st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}]),
    ascii_only=st.booleans(),
)
def test_both_ways_read_the_same_values(
    value: object, form: dict[str, Any], *, ascii_only: bool
) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, **form).encode(
        "utf-8", "surrogatepass"
    )
    expected = _judge(strictly, raw)
    assert _judge(parse_closed, raw) == expected
    assert _judge(parse_any, raw) == expected


@given(pieces=st.lists(_PIECES, max_size=12))
def test_both_ways_refuse_the_same_texts(pieces: list[str]) -> None:
    raw = "".join(pieces).encode()
    expected = _judge(strictly, raw)
    assert _judge(parse_closed, raw) == expected
    assert _judge(parse_any, raw) == expected


@given(raw=st.binary(max_size=64))
def test_both_ways_judge_any_bytes_alike(raw: bytes) -> None:
    expected = _judge(strictly, raw)
    assert _judge(parse_closed, raw) == expected
    assert _judge(parse_any, raw) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"queries":[],"queries":[]}',
        '{"a":{"b":1,"b":1}}',
        '{"a":1,"\\u0061":2}',
        '{"a" : "x" , "a" : "x"}',
        '[{"a":""},{"b":"","b":""}]',
    ],
)
def test_a_repeated_member_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_closed(text.encode())


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 2000])
def test_deep_nesting_is_refused_without_a_crash(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_closed(raw)


@pytest.mark.parametrize("number", ["1e400", "9" * 400, "1.0", "true", '"3"', "-1"])
def test_a_number_that_is_not_one_of_the_model_is_refused(number: str) -> None:
    raw = f'{{"queries":[{{"type":"md5","value":"a"}}],"max_distance":{number}}}'
    with pytest.raises((InvalidBodyError, MalformedError)):
        validate(LookupRequest, parse_closed(raw.encode()))


def test_faults_name_their_places_and_not_the_values() -> None:
    told = "5ec2e7"
    value = parse_closed(
        json.dumps(
            {"queries": [{"type": "md5", "value": 7, told[:3]: told}, told]}
        ).encode()
    )
    with pytest.raises(InvalidBodyError) as caught:
        validate(LookupRequest, value)
    pointers = {fault.pointer for fault in caught.value.faults}
    assert pointers == {"/queries/0/value", "/queries/0/5ec", "/queries/1"}
    assert told not in str([fault.reason for fault in caught.value.faults])


def test_a_thousand_faults_are_told_as_twenty() -> None:
    value = parse_closed(json.dumps({"queries": [{}] * 1000}).encode())
    with pytest.raises(InvalidBodyError) as caught:
        validate(LookupRequest, value)
    assert len(caught.value.faults) == 20


def test_pointers_are_escaped_and_bounded() -> None:
    assert pointer_of(["a/b", 0, "c~d"]) == "/a~1b/0/c~0d"
    assert len(pointer_of(["x" * 10_000])) == 200


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [15, 16, 17, 18])
def test_nesting_ends_where_the_protocol_says(opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    raw = (opening * depth + '"a"' + closing * depth).encode()
    assert _judge(parse_any, raw) == _judge(strictly, raw)


@pytest.mark.parametrize(
    "number", ["9007199254740991", "9007199254740993", "1e999", "-0", "1e5", "1.50"]
)
def test_numbers_are_those_of_the_protocol(number: str) -> None:
    raw = f'{{"a":{number}}}'.encode()
    assert _judge(parse_any, raw) == _judge(strictly, raw)
