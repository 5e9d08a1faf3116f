from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from hashlight_node.api.errors import InvalidParameterError
from hashlight_node.api.local.paging import encode_cursor, number_key, read_page


@given(
    numbers=st.sets(st.integers(1, 2**63 - 1), max_size=30),
    limit=st.integers(1, 7),
)
def test_pages_put_together_are_the_whole_list_in_order(
    numbers: set[int], limit: int
) -> None:
    seen: list[int] = []
    cursor: str | None = None
    while True:
        query = MultiDict({"limit": str(limit)})
        if cursor is not None:
            query["cursor"] = cursor
        rows, cursor = read_page("peers", query).cut(numbers, number_key)
        assert len(rows) <= limit
        seen += rows
        if cursor is None:
            break
    assert seen == sorted(numbers)


def test_rows_that_come_and_go_between_pages_do_not_shift_the_others() -> None:
    page = read_page("peers", MultiDict({"limit": "2"}))
    rows, cursor = page.cut(["a", "c", "e", "g"], str)
    assert rows == ["a", "c"]
    assert cursor is not None
    later = read_page("peers", MultiDict({"cursor": cursor}))
    assert later.cut(["b", "e", "f", "g"], str) == (["e", "f", "g"], None)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "a",
        "\ud800",
        "\x00",
        "x" * 2000,
        base64.urlsafe_b64encode(b"\xff\xff").decode(),
        base64.urlsafe_b64encode(b"peers\n").decode().rstrip("="),
        encode_cursor("lists", "a"),
        encode_cursor("peers", "a") + "=",
        # Another spelling of the same bytes: the last character's spare bits.
        encode_cursor("peers", "a")[:-1] + "F",
    ],
)
def test_a_cursor_that_this_list_did_not_give_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidParameterError):
        read_page("peers", MultiDict({"cursor": cursor}))


@pytest.mark.parametrize("limit", ["", "0", "-1", "1001", "1e2", "٣", " 1", "1_0"])
def test_a_limit_outside_its_range_is_refused(limit: str) -> None:
    with pytest.raises(InvalidParameterError):
        read_page("peers", MultiDict({"limit": limit}))


def test_parameters_that_are_repeated_or_unknown_are_refused() -> None:
    for query in (
        MultiDict([("limit", "1"), ("limit", "1")]),
        MultiDict([("offset", "1")]),
    ):
        with pytest.raises(InvalidParameterError):
            read_page("peers", query)


def test_an_operation_that_lists_nothing_takes_no_parameters() -> None:
    with pytest.raises(InvalidParameterError):
        read_page(None, MultiDict({"limit": "1"}))
    assert read_page(None, MultiDict()).kind == ""
