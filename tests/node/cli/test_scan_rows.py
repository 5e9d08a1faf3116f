"""Files of stored hashes, and what a scan does where something is missing."""

from __future__ import annotations

import json
import sys
from datetime import UTC, time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import hashlight_client
from hashlight_node.cli import scan_queries
from hashlight_node.cli.calling import translated
from hashlight_node.cli.exporting import export_file
from hashlight_node.cli.scan_files import ScanFiles
from hashlight_node.cli.scan_rows import blocks, open_source
from hashlight_node.cli.session import CommandError
from hashlight_node.local_client import (
    LocalClient,
    NodeUnreachableError,
    ProblemError,
)

WHAT = {"sha256": "00"}
LOCAL = LocalClient("127.0.0.1:1", "hlt_x")


@pytest.mark.parametrize("after", [0, 1, 6, 7, 8, 20, 21, 29, 30, 31])
@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
def test_rows_are_the_same_wherever_reading_begins(
    tmp_path: Path, name: str, after: int
) -> None:
    file = tmp_path / name
    values = [f"v{number}" for number in range(1, 31)]
    if name == "a.csv":
        file.write_text("x,y\n" + "".join(f"{it},\n" for it in values))
    elif name == "a.ndjson":
        file.write_text("".join(f'{{"x":"{it}"}}\n' for it in values))
    else:
        parquet.write_table(
            pa.table({"y": values, "x": values}), file, row_group_size=7
        )
    source = open_source(file)
    assert source.count(file.read_bytes().count(b"\n")) == 30
    found = [(it.number, list(it.cells)) for it in source.rows(["x"], after=after)]
    assert found == [(number, [f"v{number}"]) for number in range(after + 1, 31)]
    sizes = [len(it) for it in blocks(source.rows(["x"], after=after), 8)]
    assert sum(sizes) == max(0, 30 - after)
    assert all(size == 8 for size in sizes[:-1])


def test_without_pyarrow_parquet_is_refused_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    file = tmp_path / "a.parquet"
    with pytest.raises(CommandError, match=r"hashlight\[parquet\]"):
        open_source(file)
    with pytest.raises(Exception):  # noqa: B017, PT011 -- typer's way to leave
        export_file(file)
    assert "hashlight[parquet]" in capsys.readouterr().err


def test_what_a_scan_added_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    source, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.touch()
    with ScanFiles(output, source, WHAT, restart=False) as files:
        files.add(8, b"one\n", b"", handlings={"review": 1}, rejected=0)
        files.add(16, b"", b"bad\n", handlings={}, rejected=1)
    # What a killed run wrote behind its last state is cut off.
    for file in (output, files.rejects):
        with file.open("ab") as torn:
            torn.write(b"half a li")
    with ScanFiles(output, source, WHAT, restart=False) as files:
        assert files.progress.rows == 16
        assert (output.read_bytes(), files.rejects.read_bytes()) == (b"one\n", b"bad\n")
        files.add(24, b"two\n", b"", handlings={"block": 1}, rejected=0)
        files.finish()
        assert files.progress.handlings == {"block": 1, "review": 1}
    assert output.read_bytes() == b"one\ntwo\n"
    with ScanFiles(output, source, WHAT, restart=True) as files:
        assert (files.progress.rows, output.read_bytes()) == (0, b"")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (hashlight_client.NodeUnreachableError("http://a", "x"), NodeUnreachableError),
        (hashlight_client.ProblemError(429, {"type": "hsf:busy"}), ProblemError),
        (hashlight_client.BadAnswerError("x"), CommandError),
    ],
)
def test_errors_of_the_client_are_reported_like_others(
    raised: Exception, expected: type[Exception]
) -> None:
    with pytest.raises(expected), translated(LOCAL):
        raise raised


def test_whatever_identifies_a_row_is_written() -> None:
    odd = {"a\udce9": [2**70, (True, None, 1.5, 7)], 3: time(1, 2, tzinfo=UTC)}
    assert json.loads(scan_queries.line_of({"id": odd})) == {
        "id": {
            "a\ufffd": [str(2**70), [True, None, 1.5, 7]],
            "3": "01:02:00+00:00",
        }
    }
