"""A body of a known shape means exactly what reading it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_node.store.meanings import Meaning, meaning_of, read_meaning
from hashlight_node.store.shapes import Shapes
from hashlight_protocol import ProtocolError, parse_record

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C, D = ("0a" * 32, "1b" * 32, "2c" * 32, "3d" * 32)


def whole(body: bytes) -> Meaning:
    """Read a body with the protocol's parser alone."""
    try:
        return meaning_of(parse_record(body))
    except ProtocolError:
        return Meaning(is_valid=False)


def compact(**more: object) -> str:
    record = {
        "type": "indicator",
        "kind": "image",
        "signals": [{"type": "pdq", "value": "HASH", "quality": 90}],
        "labels": [{"scheme": "ncii", "value": "adult"}],
        "source": "platform",
        "review": {"level": "human"},
        "created": "TIME",
    }
    return json.dumps(record | more, separators=(",", ":"))


def signals(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"type": name, "value": value} for name, value in pairs]


PLAIN = compact()

KNOWN = {
    "one hash": PLAIN,
    "spaces elsewhere": PLAIN.replace('"kind":', '"kind": '),
    "two types": compact(signals=signals(("sha256", "HASH"), ("pdq", "HASH"))),
    "short hashes": compact(signals=signals(("md5", A[:32]), ("sha1", B[:40]))),
    "it replaces another": compact(replaces=7),
    "an unknown member": compact(more={"value": "x"}),
    "no labels": compact(labels=[]),
}

OTHERS = {
    "a hash in a label": compact(labels=[{"scheme": "x", "value": "HASH"}]),
    "a hash in an unknown member": compact(more={"value": "HASH"}),
    "the signal is constant": compact(
        signals=signals(("pdq", A)), more={"value": "HASH"}
    ).replace(f'"value":"{A}"', f'"value": "{A}"'),
    "an escaped name": PLAIN.replace('"value":"HASH"', '"v\\u0061lue":"HASH"'),
    "a repeated member": PLAIN.replace(
        '"value":"HASH"', '"value":"HASH","value":"HASH"'
    ),
    "a type of text": compact(signals=signals(("keyword", "HASH"))),
    "a domain": compact(signals=signals(("domain", A[:32]))),
    "the wrong length": compact(signals=signals(("md5", "HASH"))),
    "two of a type": compact(signals=signals(("pdq", "HASH"), ("pdq", B))),
    "an expiry": compact(expires="2026-06-01T00:00:00Z"),
    "a time in a label": compact(labels=[{"scheme": "x", "created": "TIME"}]),
    "a time in another object": compact(more={"created": "TIME"}),
    "no time": PLAIN.replace('"created":"TIME"', '"more":1'),
    "a hash for a time": PLAIN.replace("TIME", "HASH"),
    "a time for a hash": PLAIN.replace("HASH", "TIME"),
    "an opinion": json.dumps({"type": "opinion", "value": "HASH", "created": "TIME"}),
    "an unknown type": PLAIN.replace("indicator", "novelty"),
    "a quality below the floor": PLAIN.replace("90", "3"),
    "long": compact(more="x" * 1100),
    "nothing that varies": PLAIN.replace("HASH", "x").replace("TIME", "x"),
    "cut off": PLAIN[:-1],
    "a quotation mark in a string": PLAIN.replace("image", 'im\\"value\\":\\"HASH'),
}

TIMES = (
    "2026-01-01T00:00:00Z",
    "2026-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "2026-01-01T24:00:00Z",
)


def filled(template: str, digest: str, time: str) -> bytes:
    return template.replace("HASH", digest).replace("TIME", time).encode()


@pytest.mark.parametrize("template", [*KNOWN.values(), *OTHERS.values()])
def test_what_is_known_changes_no_meaning(template: str) -> None:
    shapes = Shapes(whole)
    for time in (TIMES[0], *TIMES):
        for digest in (A, B, C, A.upper(), D, A):
            body = filled(template, digest, time)
            assert shapes.meaning(body) in {None, whole(body)}
            assert read_meaning(body) == whole(body)


@pytest.mark.parametrize("template", KNOWN.values(), ids=KNOWN.keys())
def test_a_shape_that_came_twice_is_not_read_again(template: str) -> None:
    reading = Counting(whole)
    shapes = Shapes(reading)
    for digest in (A, B):
        assert shapes.meaning(filled(template, digest, TIMES[0])) is None
    reading.count = 0
    for digest in (C, D):
        body = filled(template, digest, TIMES[1])
        assert shapes.meaning(body) == whole(body)
    assert reading.count == 0


@pytest.mark.parametrize("template", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_shape_is_found_out_once(template: str) -> None:
    reading = Counting(whole)
    shapes = Shapes(reading)
    for digest in (A, B, C, D):
        assert shapes.meaning(filled(template, digest, TIMES[0])) is None
    assert reading.count <= 2


def test_many_shapes_are_not_kept() -> None:
    shapes = Shapes(whole)
    for number in range(5000):
        body = filled(compact(replaces=number + 1), A, TIMES[0])
        assert shapes.meaning(body) is None
        assert shapes.meaning(body) is None
    assert len(shapes) <= 4096


@given(
    st.sampled_from([*KNOWN.values(), *OTHERS.values()]),
    st.lists(
        st.tuples(
            st.text("0123456789abcdefABCDEF", min_size=30, max_size=66)
            | st.sampled_from([A, B, C]),
            st.sampled_from(TIMES),
        ),
        min_size=3,
        max_size=6,
    ),
)
def test_any_order_of_bodies_means_the_same(
    template: str, fillings: list[tuple[str, str]]
) -> None:
    shapes = Shapes(whole)
    for digest, time in fillings:
        body = filled(template, digest, time)
        assert shapes.meaning(body) in {None, whole(body)}


class Counting:
    """Counts how often something is read."""

    def __init__(self, read: Callable[[bytes], Meaning]) -> None:
        self._read = read
        self.count = 0

    def __call__(self, body: bytes) -> Meaning:
        self.count += 1
        return self._read(body)
