"""Everything that is live in one file, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyarrow import parquet

from hashlight_node.demo.company import Company
from support.companies import MakeCompany, cli

RECORDS = 3000


@pytest.fixture(scope="module")
def company(make_running: MakeCompany) -> Company:
    """Run a node with two lists."""
    made = make_running("alpha.example")
    for name in ("ncii", "csam"):
        cli(made, "list", "create", name)
    for first in range(0, RECORDS, 1000):
        records = [
            {
                "type": "indicator",
                "kind": "image",
                "source": "person",
                "created": "2026-11-01T00:00:00Z",
                "expires": "2999-01-01T00:00:00Z",
                "labels": [{"scheme": "ncii", "value": "adult"}],
                "signals": [
                    {"type": "pdq", "value": f"{number:064x}", "quality": 80},
                    {"type": "md5", "value": f"{number:032x}"},
                ],
            }
            for number in range(first, first + 1000)
        ]
        made.client.post("/v1/lists/ncii/records", {"records": records})
    cli(made, "publish", "csam", "--signal", f"md5:{7:032x}")
    return made


def test_ndjson_holds_what_the_node_says(company: Company, tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    answer = cli(company, "export", str(file))
    assert answer == {"signals": 2 * RECORDS, "file": str(file)}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({(it["signal"]["type"], it["signal"]["value"]) for it in lines}) == 6000
    shared = [it for it in lines if len(it["records"]) == 2]
    assert [it["signal"]["value"] for it in shared] == [f"{7:032x}"]
    assert file.stat().st_mode & 0o777 == 0o600
    only = tmp_path / "only.jsonl"
    options = ("--type", "md5", "--list", "alpha.example/csam")
    assert cli(company, "export", str(only), *options)["signals"] == 1
    # What was there is replaced.
    assert cli(company, "export", str(file), "--type", "sha1")["signals"] == 0
    assert file.read_bytes() == b""
    assert sorted(tmp_path.iterdir()) == [file, only]


def test_parquet_has_a_row_for_each_record(company: Company, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    cli(company, "export", str(file))
    table = parquet.read_table(file)
    assert table.num_rows == 2 * RECORDS + 1
    (row,) = table.filter(
        [
            x and y
            for x, y in zip(
                [it == "pdq" for it in table["type"].to_pylist()],
                [it == f"{5:064x}" for it in table["value"].to_pylist()],
                strict=True,
            )
        ]
    ).to_pylist()
    assert row.pop("ref").startswith("alpha.example/hsf/v1/log/ncii/1#")
    assert row == {
        "type": "pdq",
        "value": f"{5:064x}",
        "list": "ncii",
        "origin_node": "alpha.example",
        "tree_size": RECORDS + 1,
        "labels": ["ncii:adult"],
        "source": "person",
        "review": "none",
        "created": datetime(2026, 11, 1, tzinfo=UTC),
        "expires": datetime(2999, 1, 1, tzinfo=UTC),
        "quality": 80,
    }
    empty = tmp_path / "none.parquet"
    cli(company, "export", str(empty), "--type", "sha1")
    assert parquet.read_table(empty).num_rows == 0


def refused(company: Company, *arguments: str, code: int) -> str:
    done = company.run("export", *arguments, "--json")
    assert done.returncode == code, done.stderr
    return str(json.loads(done.stderr)["detail"])


def test_what_cannot_be_exported_leaves_no_file(
    company: Company, tmp_path: Path
) -> None:
    assert "must end in" in refused(company, str(tmp_path / "a.csv"), code=2)
    missing = tmp_path / "missing" / "a.ndjson"
    assert "No such file" in refused(company, str(missing), code=1)
    wrong = (str(tmp_path / "a.ndjson"), "--type", "NO TYPE")
    assert "type" in refused(company, *wrong, code=2)
    assert list(tmp_path.iterdir()) == []


def test_people_are_told_how_much_it_was(company: Company, tmp_path: Path) -> None:
    done = company.run("export", str(tmp_path / "a.ndjson"), "--type", "md5")
    assert done.returncode == 0
    assert "exported 3,000 signals" in done.stdout.decode()


@pytest.mark.parametrize("name", ["all.ndjson", "all.parquet"])
def test_an_export_that_is_killed_or_breaks_off_changes_nothing(
    company: Company, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"as it was")
    command = ("export", str(file), "-c", str(company.config), "--json")
    for victim in ("command", "node"):
        for left in tmp_path.glob("*.tmp"):
            left.unlink()
        # Somebody else's: it neither becomes the export nor is in its way.
        foreign = tmp_path / f"{name}.tmp"
        foreign.write_bytes(b"foreign")
        foreign.chmod(0o644)
        process = subprocess.Popen(
            [sys.executable, "-m", "hashlight_node", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while len(list(tmp_path.glob("*.tmp"))) < 2 and process.poll() is None:
            time.sleep(0.001)
        if victim == "command":
            process.kill()
        else:
            company.kill()
        process.communicate(timeout=60)
        if victim == "node":
            company.start()
        # Unless it was done before it was killed, the file is as it was.
        assert process.returncode == 0 or file.read_bytes() == b"as it was"
        file.write_bytes(b"as it was")
