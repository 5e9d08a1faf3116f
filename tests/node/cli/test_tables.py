"""Tables for people."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from hashlight_node.cli.tables import print_rows


def test_a_table_says_yes_and_no_and_nothing_for_what_is_missing() -> None:
    written = StringIO()
    rows = [
        {"peer": "a.example", "is_allowed": True, "note": None},
        {"peer": "b.example", "is_allowed": False},
    ]

    print_rows(Console(file=written, width=80), rows, "peer", "is_allowed", "note")

    heading, *lines = written.getvalue().splitlines()
    assert heading.split() == ["peer", "is", "allowed", "note"]
    assert [line.split() for line in lines] == [
        ["a.example", "yes"],
        ["b.example", "no"],
    ]
