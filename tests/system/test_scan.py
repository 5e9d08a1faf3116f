"""A platform's stored hashes against a node, killed and run again."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from hashlight_node.demo.company import Company
from support.companies import MakeCompany, cli
from support.known_hashes import md5_of, pdq_of, records_of

Json = dict[str, Any]
SEED = 4711
KNOWN = 60
ROWS = 60_000


def near(digest: bytes, bits: int) -> bytes:
    return bytes([digest[0] ^ ((1 << bits) - 1), *digest[1:]])


@pytest.fixture(scope="module")
def platform(make_running: MakeCompany) -> Company:
    """Run a node that knows some hashes."""
    company = make_running("alpha.example")
    cli(company, "list", "create", "ncii")
    for number in range(KNOWN):
        signals = (f"pdq:{pdq_of(number).hex()}", f"md5:{md5_of(number)}")
        named = [word for signal in signals for word in ("--signal", signal)]
        if number % 20 == 0:
            cli(company, "publish", "ncii", *named)
    records = records_of(number for number in range(KNOWN) if number % 20)
    company.client.post("/v1/lists/ncii/records", {"records": records})
    return company


def stored(count: int) -> list[Json]:
    """Make rows: here and there one that is known, near by or that is no hash."""
    chance = random.Random(SEED)  # noqa: S311  rows, no secrets
    rows: list[Json] = []
    for number in range(1, count + 1):
        row: Json = {
            "photo": f"p{number}",
            "pdq": chance.randbytes(32).hex(),
            "md5": chance.randbytes(16).hex(),
        }
        if number % 97 == 0:
            row["pdq"] = near(pdq_of(number % KNOWN), number % 9).hex()
        if number % 501 == 0:
            row["md5"] = md5_of(number % KNOWN).upper()
        if number % 997 == 0:
            row["pdq"] = "not a hash"
        if number % 13 == 0:
            row["md5"] = None
        rows.append(row)
    return rows


def write_csv(path: Path, rows: Sequence[Json]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("photo", "pdq", "md5"))
        writer.writeheader()
        writer.writerows(rows)


def write_ndjson(path: Path, rows: Sequence[Json]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_parquet(path: Path, rows: Sequence[Json]) -> None:
    # Hashes as bytes where they are hashes, as pipelines often store them.
    binary = [{**row, "md5": row["md5"] and bytes.fromhex(row["md5"])} for row in rows]
    parquet.write_table(pa.Table.from_pylist(binary), path, row_group_size=7000)


def lines_of(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", write_csv),
        ("a.ndjson", write_ndjson),
        ("a.parquet", write_parquet),
    ],
)
def test_every_known_row_is_found_whatever_the_format(
    platform: Company,
    tmp_path: Path,
    name: str,
    write: Callable[[Path, Sequence[Json]], None],
) -> None:
    rows = stored(20_000)
    file, output = tmp_path / name, tmp_path / "out.ndjson"
    write(file, rows)
    columns = ("--column", "pdq", "--column", "md5", "--id", "photo")
    answer = cli(platform, "scan", str(file), *columns, "--output", str(output))
    expected = {(number, "pdq") for number in range(97, 20_001, 97) if number % 997} | {
        (number, "md5") for number in range(501, 20_001, 501) if number % 13
    }
    found = lines_of(output)
    places = [(line["row"], line["column"]) for line in found]
    assert set(places) == expected
    assert places == sorted(places, key=lambda it: (it[0], it[1] == "md5"))
    for line in found:
        assert line["id"] == f"p{line['row']}"
        assert line["handling"] == "review"
        distances = [match["distance"] for match in line["matches"]]
        assert distances == [line["row"] % 9 if line["column"] == "pdq" else 0]
    rejects = lines_of(Path(str(answer["rejects_file"])))
    assert rejects == [
        {"row": number, "column": "pdq", "reason": rejects[0]["reason"]}
        for number in range(997, 20_001, 997)
    ]
    assert "64 hex digits" in rejects[0]["reason"]
    assert answer["rows"] == 20_000
    assert answer["matches"] == len(found)
    assert answer["handlings"] == {"review": len(found)}
    assert answer["rejected"] == len(rejects)
    for private in (output, Path(str(answer["rejects_file"]))):
        assert private.stat().st_mode & 0o777 == 0o600


def start_scan(platform: Company, file: Path, output: Path) -> subprocess.Popen[bytes]:
    columns = ("--column", "pdq", "--column", "md5")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "hashlight_node", "scan", str(file), *columns),
            *("--output", str(output), "-c", str(platform.config), "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(scan: subprocess.Popen[bytes]) -> Json:
    out, err = scan.communicate(timeout=300)
    assert scan.returncode == 0, err.decode()
    answer: Json = json.loads(out)
    return answer


@pytest.mark.timeout(600)
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_scan_that_is_killed_again_and_again_ends_like_one_that_is_not(
    platform: Company,
    tmp_path: Path,
    write: Callable[[Path, Sequence[Json]], None],
) -> None:
    file = tmp_path / f"a.{write.__name__.removeprefix('write_')}"
    write(file, stored(ROWS))
    whole, pieces = tmp_path / "whole.ndjson", tmp_path / "pieces.ndjson"
    expected = finish(start_scan(platform, file, whole))
    chance = random.Random(os.urandom(8))  # noqa: S311  a schedule, not a secret
    state = tmp_path / "pieces.ndjson.state"
    kills = 0
    while True:
        before = state.read_bytes() if state.exists() else b""
        scan = start_scan(platform, file, pieces)
        while scan.poll() is None:
            if state.exists() and state.read_bytes() != before:
                # It has got on; now at any moment.
                time.sleep(chance.uniform(0, 0.3))
                break
            time.sleep(0.002)
        scan.kill()
        answer = scan.communicate(timeout=60)[0]
        if scan.returncode == 0:
            break
        kills += 1
    assert kills >= 1
    assert json.loads(answer) == {
        **expected,
        "output": str(pieces),
        "rejects_file": f"{pieces}.rejects",
    }
    assert pieces.read_bytes() == whole.read_bytes()
    rejects = tmp_path / "pieces.ndjson.rejects"
    assert rejects.read_bytes() == (tmp_path / "whole.ndjson.rejects").read_bytes()
    # Once more: it is done, and says so without asking again.
    assert finish(start_scan(platform, file, pieces)) == json.loads(answer)
    assert pieces.read_bytes() == whole.read_bytes()


@pytest.mark.timeout(300)
def test_a_scan_waits_for_a_node_that_is_restarted(
    platform: Company, tmp_path: Path
) -> None:
    file, output = tmp_path / "a.ndjson", tmp_path / "out.ndjson"
    rows = stored(ROWS)
    write_ndjson(file, rows)
    scan = start_scan(platform, file, output)
    state = tmp_path / "out.ndjson.state"
    while not state.exists() or json.loads(state.read_text())["progress"]["rows"] == 0:
        assert scan.poll() is None
        time.sleep(0.01)
    platform.kill()
    platform.start()
    answer = finish(scan)
    assert answer["rows"] == ROWS
    assert answer["matches"] == len(lines_of(output)) > ROWS // 97


def refused(company: Company, *arguments: str, code: int = 2) -> str:
    done = company.run("scan", *arguments, "--json")
    assert done.returncode == code, done.stderr
    return str(json.loads(done.stderr)["detail"])


def test_what_cannot_be_scanned_is_refused_before_anything_is_written(
    platform: Company, tmp_path: Path
) -> None:
    output = tmp_path / "out.ndjson"
    to = ("--output", str(output))

    def file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    good = file("good.csv", "pdq,other\n")
    assert "must end in" in refused(platform, file("a.txt", ""), *to)
    assert "no header" in refused(platform, file("empty.csv", ""), *to)
    assert "--column" in refused(platform, file("b.csv", "x,y\n"), *to)
    assert "--column" in refused(platform, file("c.ndjson", ""), *to)
    assert "'z'" in refused(platform, good, *to, "--column", "pdq=z")
    assert "'z'" in refused(platform, good, *to, "--id", "z")
    assert "TYPE=NAME" in refused(platform, good, *to, "--column", "P Q=pdq")
    twice = ("--column", "pdq", "--column", "pdq")
    assert "once" in refused(platform, good, *to, *twice)
    missing = str(tmp_path / "missing.csv")
    assert "No such file" in refused(platform, missing, *to, code=1)
    no_parquet = file("d.parquet", "PAR1")
    assert "no Parquet" in refused(platform, no_parquet, *to, code=1)
    assert "Is a directory" in refused(
        platform, good, "--output", str(tmp_path), code=1
    )
    assert not output.exists()


def test_an_output_belongs_to_one_scan(platform: Company, tmp_path: Path) -> None:
    file, output = tmp_path / "a.ndjson", tmp_path / "out.ndjson"
    write_ndjson(file, stored(600))
    options = (str(file), "--column", "md5", "--output", str(output))
    first = cli(platform, "scan", *options)
    assert first["matches"] == 1
    other = "is of another scan"
    assert other in refused(platform, *options, "--max-distance", "3")
    assert other in refused(platform, *options, "--column", "pdq")
    kept = output.read_bytes()
    with output.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another scan" in refused(platform, *options, code=1)
    output.write_bytes(b"")
    assert "shorter" in refused(platform, *options, code=1)
    state = tmp_path / "out.ndjson.state"
    state.write_bytes(b"{")
    assert other in refused(platform, *options)
    assert cli(platform, "scan", *options, "--restart") == first
    assert output.read_bytes() == kept
    with file.open("a") as more:
        more.write('{"md5":"' + md5_of(1) + '"}\n')
    assert other in refused(platform, *options)


def test_a_scan_destroys_no_file_that_is_not_its_own(
    platform: Company, tmp_path: Path
) -> None:
    file = tmp_path / "a.ndjson"
    write_ndjson(file, stored(600))
    before = file.read_bytes()
    options = (str(file), "--column", "md5", "--restart", "--output")
    for suffix in ("", ".rejects", ".state", ".state.tmp"):
        same = tmp_path / f"same.ndjson{suffix}"
        for make in (same.symlink_to, same.hardlink_to):
            make(file)
            said = refused(platform, *options, str(tmp_path / "same.ndjson"))
            assert "the file that is scanned" in said
            assert file.read_bytes() == before
            same.unlink()
    assert "is scanned" in refused(platform, *options, str(file))
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_of_no_scan_is_overwritten_only_if_that_is_said(
    platform: Company, tmp_path: Path
) -> None:
    file, output = tmp_path / "a.ndjson", tmp_path / "out.ndjson"
    write_ndjson(file, stored(600))
    options = (str(file), "--column", "md5", "--output", str(output))
    for name in ("out.ndjson.rejects", "out.ndjson"):
        precious = tmp_path / name
        precious.write_text("precious")
        precious.chmod(0o644)
        assert "--restart" in refused(platform, *options)
        assert precious.read_text() == "precious"
        assert precious.stat().st_mode & 0o777 == 0o644
    draft = tmp_path / "out.ndjson.state.tmp"
    draft.write_text("left by a kill")
    draft.chmod(0o644)
    answer = cli(platform, "scan", *options, "--restart")
    assert answer["matches"] == len(lines_of(output)) == 1
    written = sorted(it for it in tmp_path.iterdir() if it != file)
    assert [it.name for it in written] == [
        "out.ndjson",
        "out.ndjson.rejects",
        "out.ndjson.state",
    ]
    assert {it.stat().st_mode & 0o777 for it in written} == {0o600}


def test_cells_and_names_that_are_no_utf8_stop_no_scan(
    platform: Company, tmp_path: Path
) -> None:
    file, output = tmp_path / "a.csv", tmp_path / "out.ndjson"
    rows = f"caf\xe9,{md5_of(1)}\nok,{md5_of(2)}\nok,\xe9\n"
    file.write_bytes(f"n\xe9,h\xe9\n{rows}".encode("latin-1"))
    column, name = "md5=h\udce9", "n\udce9"
    options = (str(file), "--column", column, "--id", name, "--output", str(output))
    answer = cli(platform, "scan", *options)
    assert [(it["id"], it["column"]) for it in lines_of(output)] == [
        ("caf\ufffd", "h\ufffd"),
        ("ok", "h\ufffd"),
    ]
    rejects = lines_of(tmp_path / "out.ndjson.rejects")
    assert [(it["row"], it["column"]) for it in rejects] == [(3, "h\ufffd")]
    assert cli(platform, "scan", *options) == answer


def test_rows_that_cannot_be_read_are_reported_by_their_number(
    platform: Company, tmp_path: Path
) -> None:
    ndjson, output = tmp_path / "a.ndjson", tmp_path / "out.ndjson"
    good = json.dumps({"hash": md5_of(1), "id": {"deep": 1}})
    lines = [good, "{", "", "[]", '{"hash":7}', "x" * 17_000_000, '{"hash":""}', good]
    ndjson.write_text("\n".join(lines))
    options = ("--column", "md5=hash", "--id", "id")
    answer = cli(platform, "scan", str(ndjson), *options, "--output", str(output))
    assert [(it["row"], it["id"]) for it in lines_of(output)] == [
        (1, {"deep": 1}),
        (8, {"deep": 1}),
    ]
    rejects = lines_of(Path(str(answer["rejects_file"])))
    assert [(it["row"], it["column"]) for it in rejects] == [
        (2, None),
        (4, None),
        (5, "hash"),
        (6, None),
        (7, "hash"),
    ]
    assert answer["rows"] == 8
    table = tmp_path / "a.csv"
    table.write_bytes(
        f"md5,x\n{md5_of(1)},1\n{md5_of(1)}\n\n\xff,1\n,\n".encode("latin-1")
        + b'"'
        + b"x" * 200_000
        + b'",1\n'
        + md5_of(2).encode()
        + b",1\n"
    )
    answer = cli(platform, "scan", str(table), "--output", str(tmp_path / "b.ndjson"))
    assert [it["row"] for it in lines_of(tmp_path / "b.ndjson")] == [1, 7]
    rejects = lines_of(Path(str(answer["rejects_file"])))
    assert [it["row"] for it in rejects] == [2, 4, 6]


def test_people_see_what_a_scan_found(platform: Company, tmp_path: Path) -> None:
    file, output = tmp_path / "a.ndjson", tmp_path / "out.ndjson"
    write_ndjson(file, stored(1000))
    columns = ("--column", "md5", "--column", "pdq")
    done = platform.run("scan", str(file), *columns, "--output", str(output))
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert "1,000 rows, 11 matches (11 review)" in said
    assert "1 cells rejected" in said


def test_a_scan_without_a_node_fails(platform: Company, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    write_ndjson(file, stored(10))
    options = (str(file), "--column", "md5", "--output", str(tmp_path / "out.ndjson"))
    token = platform.config.parent / "admin.token"
    kept = token.read_text()
    token.write_text("hlt_" + "x" * 43)
    try:
        assert "token" in refused(platform, *options, code=1)
    finally:
        token.write_text(kept)
