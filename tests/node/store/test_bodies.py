"""The quick reader of bodies says exactly what the protocol's own says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.store.bodies import read_record
from hashlight_protocol import ProtocolError, parse_record
from support.made_records import indicator

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashlight_protocol import Record

COMPACT = orjson.dumps(orjson.loads(indicator(1)))

ODD_BODIES = {
    "a repeated member": COMPACT[:-1] + b',"kind":"video"}',
    "a repeated member of the same value": COMPACT[:-1] + b',"kind":"image"}',
    "white space": COMPACT.replace(b":", b": ", 1),
    "an integer beyond 2^53": COMPACT[:-1] + b',"more":9007199254740993}',
    "an integer beyond 2^64": COMPACT[:-1] + b',"more":99999999999999999999}',
    "the largest safe integer": COMPACT[:-1] + b',"more":9007199254740991}',
    "an infinite number": COMPACT[:-1] + b',"more":1e999}',
    "a fraction": COMPACT[:-1] + b',"more":0.5}',
    "a negative zero": COMPACT[:-1] + b',"more":-0}',
    "an escaped surrogate": COMPACT[:-1] + b',"more":"\\ud800"}',
    "an escaped noncharacter": COMPACT[:-1] + b',"more":"\\ufffe"}',
    "a noncharacter": COMPACT[:-1] + ',"more":"\ufffe"}'.encode(),
    "beyond ascii": COMPACT[:-1] + ',"more":"é"}'.encode(),
    "no utf-8": COMPACT[:-1] + b',"more":"\xff"}',
    "not a number": COMPACT[:-1] + b',"more":NaN}',
    "too deep": COMPACT[:-1] + b',"more":' + b"[" * 16 + b"]" * 16 + b"}",
    "just not too deep": COMPACT[:-1] + b',"more":' + b"[" * 15 + b"]" * 15 + b"}",
    "more brackets than levels": COMPACT[:-1] + b',"more":[' + b"[],[]," * 9 + b"0]}",
    "too long": COMPACT[:-1] + b',"more":"' + b"x" * 16_384 + b'"}',
    "a byte order mark": b"\xef\xbb\xbf" + COMPACT,
    "nothing": b"",
    "cut off": COMPACT[:-1],
    "no object": b"[]",
}


def outcome(read: Callable[[bytes], Record], body: bytes) -> object:
    try:
        return read(body)
    except ProtocolError as error:
        return type(error), str(error)


@pytest.mark.parametrize("body", [COMPACT, *ODD_BODIES.values()], ids=str)
def test_odd_bodies_are_read_as_the_protocol_reads_them(body: bytes) -> None:
    assert outcome(read_record, body) == outcome(parse_record, body)


@given(
    st.dictionaries(
        st.sampled_from(["type", "kind", "source", "more", "labels", "crit"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ),
    ),
    st.booleans(),
    st.booleans(),
)
def test_any_json_is_read_as_the_protocol_reads_it(
    more: dict[str, Any], compact: bool, ascii_only: bool
) -> None:
    separators = (",", ":") if compact else None
    members = orjson.loads(COMPACT) | more
    text = json.dumps(members, separators=separators, ensure_ascii=ascii_only)
    body = text.encode("utf-8", "surrogatepass")
    assert outcome(read_record, body) == outcome(parse_record, body)
