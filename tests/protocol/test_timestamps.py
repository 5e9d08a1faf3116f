"""Instants have one text each."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol.errors import MalformedError
from hashlight_protocol.timestamps import (
    MAX_TIMESTAMP,
    encode_timestamp,
    parse_timestamp,
)


@given(st.integers(0, MAX_TIMESTAMP))
def test_every_second_has_a_text_that_leads_back_to_it(seconds: int) -> None:
    text = encode_timestamp(seconds)
    assert text == datetime.fromtimestamp(seconds, UTC).isoformat()[:19] + "Z"
    assert parse_timestamp(text) == seconds


@given(st.text(max_size=24) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        seconds = parse_timestamp(text)
    except MalformedError:
        return
    assert encode_timestamp(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T12:00:00Z", 951_825_600),
        ("9999-12-31T23:59:59Z", MAX_TIMESTAMP),
    ],
)
def test_known_instants(text: str, seconds: int) -> None:
    assert parse_timestamp(text) == seconds
    assert encode_timestamp(seconds) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T10:00:00.5Z",
        "2026-11-21T10:00:00+00:00",
        "2026-11-21T10:00:00z",
        "2026-11-21t10:00:00Z",
        "2026-11-21 10:00:00Z",
        "2026-11-21T10:00:00",
        "2026-11-21T24:00:00Z",
        "2026-11-21T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "2026-13-10T00:00:00Z",
        "2026-11-31T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2026-11-21T10:00:00Z\n",
        "\uff12026-11-21T10:00:00Z",
        "2026-W47-6T10:00:00Z",
    ],
)
def test_second_spellings_and_times_that_never_were_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_timestamp(text)


@pytest.mark.parametrize("seconds", [-1, MAX_TIMESTAMP + 1])
def test_instants_outside_the_years_1970_to_9999_have_no_text(seconds: int) -> None:
    with pytest.raises(MalformedError, match="year"):
        encode_timestamp(seconds)
