"""Files of signals, row by row: what is read, and why the rest is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashlight_node.cli.import_rows import Row, read_rows
from hashlight_node.cli.session import UsageError

CREATED = "2026-01-01T00:00:00Z"
PDQ = "f8" * 32
MD5 = "00112233445566778899aabbccddeeff"


def rows_of(tmp_path: Path, name: str, data: bytes) -> list[Row]:
    file = tmp_path / name
    file.write_bytes(data)
    return list(read_rows(file, created=CREATED))


def test_the_signals_of_a_row_are_one_record(tmp_path: Path) -> None:
    header = "pdq,md5,quality,label,source,review,created,expires\n"
    cells = f"{PDQ.upper()},{MD5},90,ncii:adult;stopncii:nude,person,human,{CREATED},"
    (row,) = rows_of(tmp_path, "a.csv", (header + cells).encode())
    assert row.reason == ""
    assert row.record == {
        "type": "indicator",
        "kind": "image",
        "signals": [
            {"type": "pdq", "value": PDQ, "quality": 90},
            {"type": "md5", "value": MD5},
        ],
        "labels": [
            {"scheme": "ncii", "value": "adult"},
            {"scheme": "stopncii", "value": "nude"},
        ],
        "source": "person",
        "review": {"level": "human"},
        "created": CREATED,
    }


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (f"{PDQ},49,,", "below 50"),
        (f"{PDQ},high,,", "quality is not a number"),
        ("zz,,,", "/signals/0"),
        (f"{PDQ},,nolabel,", "not SCHEME:VALUE"),
        (f"{PDQ},,", "3 cells under 4 columns"),
        (f"{PDQ},,,2026-13-01T00:00:00Z", "/expires"),
        (",90,,", "/signals"),
        ('"' + PDQ, "not CSV"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason(
    tmp_path: Path, cells: str, reason: str
) -> None:
    header = "pdq,quality,label,expires\n"
    (row,) = rows_of(tmp_path, "a.csv", (header + cells + "\n").encode())
    assert row.record is None
    assert reason in row.reason


def test_bytes_that_are_no_text_reject_their_row_only(tmp_path: Path) -> None:
    data = b"md5,label\n" + f"{MD5},ncii:\xff\n".encode("latin-1") + MD5.encode() + b","
    bad, good = rows_of(tmp_path, "a.csv", data)
    assert bad.record is None
    assert good.record is not None


@pytest.mark.parametrize("header", ["", "sha9", "label,source", "md5,md5"])
def test_a_header_without_known_signals_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(UsageError):
        rows_of(tmp_path, "a.csv", header.encode())


def test_only_csv_and_ndjson_are_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        rows_of(tmp_path, "a.txt", b"")


def test_ndjson_holds_record_bodies(tmp_path: Path) -> None:
    good = (
        '{"type":"indicator","kind":"image","signals":[{"type":"md5","value":"'
        + MD5
        + '"}],"source":"ngo","created":"'
        + CREATED
        + '","labels":[],"review":{"level":"none"},"x_later":1}'
    )
    lines = [good, "[]", "{", '{"a":1,"a":2}', good[:-1] + ',"pad":"' + "x" * 20_000]
    rows = rows_of(tmp_path, "a.ndjson", "\n\n".join(lines).encode())
    assert rows[0].record is not None
    assert rows[0].record["x_later"] == 1
    assert rows[1:]
    assert all(row.record is None and row.reason for row in rows[1:])
