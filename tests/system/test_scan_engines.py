"""A back catalogue by row groups: local processes and a real Dask cluster."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pyarrow as pa
import pytest
from pyarrow import parquet

from hashlight_node.demo.company import Company
from support.companies import MakeCompany, cli
from support.known_hashes import md5_of, pdq_of, records_of

Json = dict[str, Any]
KNOWN = 40
GROUP = 5000


def stored(count: int, seed: int) -> list[Json]:
    chance = random.Random(seed)  # noqa: S311  rows, no secrets
    rows: list[Json] = []
    for number in range(1, count + 1):
        pdq, md5 = chance.randbytes(32), chance.randbytes(16).hex()
        if number % 97 == 0:
            known = pdq_of(number % KNOWN)
            pdq = bytes([known[0] ^ ((1 << number % 9) - 1), *known[1:]])
        text: str | None = pdq.hex()
        if number % 501 == 0:
            md5 = md5_of(number % KNOWN).upper()
        if number % 1997 == 0:
            text = "not a hash"
        if number % 13 == 0:
            text = None
        rows.append({"photo": f"p{number}", "pdq": text, "md5": md5})
    return rows


def expected(rows: list[Json]) -> set[tuple[int, str]]:
    """Compare every cell with every known hash."""
    known = [int.from_bytes(pdq_of(number)) for number in range(KNOWN)]
    exact = {md5_of(number) for number in range(KNOWN)}
    found = set()
    for number, row in enumerate(rows, 1):
        if row["pdq"] is not None and len(row["pdq"]) == 64:
            value = int(row["pdq"], 16)
            if any((value ^ it).bit_count() <= 31 for it in known):
                found.add((number, "pdq"))
        if row["md5"].lower() in exact:
            found.add((number, "md5"))
    return found


@pytest.fixture(scope="module")
def platform(make_running: MakeCompany) -> Company:
    company = make_running("alpha.example")
    cli(company, "list", "create", "ncii")
    records = records_of(range(KNOWN))
    company.client.post("/v1/lists/ncii/records", {"records": records})
    return company


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Json]]:
    directory = tmp_path_factory.mktemp("catalogue")
    files = {}
    for seed in (1, 2):
        rows = stored(30_000, seed)
        path = directory / f"{seed}.parquet"
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=GROUP)
        files[path] = rows
    return files


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a scheduler and two workers, each a process, over TCP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    port = address.rpartition(":")[2]
    log = (tmp_path / "dask.log").open("wb")
    cli_of = (sys.executable, "-m", "distributed.cli.dask_scheduler")
    worker_of = (sys.executable, "-m", "distributed.cli.dask_worker")
    nothing = ("--no-dashboard",)
    worker = (address, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1")
    started = [
        subprocess.Popen(
            [*cli_of, "--host", "127.0.0.1", "--port", port, *nothing],
            stdout=log,
            stderr=log,
        ),
        *(
            subprocess.Popen(
                [*worker_of, *worker, *nothing, "--local-directory", str(tmp_path)],
                stdout=log,
                stderr=log,
            )
            for _ in range(2)
        ),
    ]
    with distributed.Client(address, timeout=60) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(2, timeout=60)
    yield address, started[1:]
    for process in started:
        process.kill()
        process.wait()
    log.close()


def start(company: Company, *arguments: str) -> subprocess.Popen[bytes]:
    words = ("--column", "pdq", "--column", "md5", "--id", "photo", "--json")
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "hashlight_node", "scan", *arguments, *words),
            *("-c", str(company.config)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(scan: subprocess.Popen[bytes], code: int = 0) -> Json:
    out, err = scan.communicate(timeout=100)
    assert scan.returncode == code, err.decode()
    answer: Json = json.loads(err if code else out)
    return answer


def lines_of(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def verify(output: Path, catalogue: dict[Path, list[Json]]) -> None:
    """Compare with what comparing everything gives; nothing missing, nothing twice."""
    lines = lines_of(output)
    found = [(it["file"], it["row"], it["column"]) for it in lines]
    assert sorted(found) == sorted(
        (str(path), *cell)
        for path, rows in catalogue.items()
        for cell in expected(rows)
    )
    for line in lines:
        assert line["id"] == f"p{line['row']}"
        assert line["matches"]
    rejects = lines_of(output.with_name(output.name + ".rejects"))
    assert len(rejects) == sum(
        row["pdq"] == "not a hash" for rows in catalogue.values() for row in rows
    )


def options(catalogue: dict[Path, list[Json]], output: Path, *more: str) -> list[str]:
    return [str(next(iter(catalogue)).parent), "--output", str(output), *more]


LOCAL = ("--engine", "local", "--processes", "2")


def test_processes_find_what_comparing_everything_finds(
    platform: Company, catalogue: dict[Path, list[Json]], tmp_path: Path
) -> None:
    output = tmp_path / "out.ndjson"
    answer = finish(start(platform, *options(catalogue, output, *LOCAL)))
    verify(output, catalogue)
    assert answer["rows"] == 60_000
    assert (answer["row_groups"], answer["row_groups_of_earlier_runs"]) == (12, 0)
    assert answer["as_of"] <= answer["confirmed_at"]
    assert output.stat().st_mode & 0o777 == 0o600
    # Two parts are lost, one of them by damage: only these are made again.
    parts = sorted((tmp_path / "out.ndjson.parts").glob("part-*"))
    kept = {it: it.stat().st_ino for it in parts[2:]}
    parts[0].unlink()
    parts[1].write_bytes(b"PAR1")
    output.unlink()
    answer = finish(start(platform, *options(catalogue, output, *LOCAL)))
    assert (answer["row_groups_of_earlier_runs"], answer["snapshots"]) == (10, 2)
    assert {it: it.stat().st_ino for it in parts[2:]} == kept
    verify(output, catalogue)
    other = start(
        platform, *options(catalogue, output, *LOCAL, "--column", "md5=photo")
    )
    assert "another scan" in finish(other, 2)["detail"]


def test_a_cluster_finds_the_same_though_a_worker_is_killed(
    platform: Company,
    catalogue: dict[Path, list[Json]],
    cluster: tuple[str, list[subprocess.Popen[bytes]]],
    tmp_path: Path,
) -> None:
    address, workers = cluster
    output = tmp_path / "out.ndjson"
    dask = ("--engine", "dask", "--scheduler", address)
    scan = start(platform, *options(catalogue, output, *dask))
    wait_for_parts(scan, tmp_path)
    workers[0].kill()
    answer = finish(scan)
    assert answer["row_groups"] == 12
    verify(output, catalogue)


def wait_for_parts(scan: subprocess.Popen[bytes], directory: Path) -> None:
    while not list(directory.glob("out.ndjson.parts/part-*.parquet")):
        assert scan.poll() is None, scan.communicate()
        time.sleep(0.002)


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text("ascii")
    return [int(it) for it in listed.split()]


def test_a_process_that_is_killed_loses_and_doubles_nothing(
    platform: Company, catalogue: dict[Path, list[Json]], tmp_path: Path
) -> None:
    output = tmp_path / "out.ndjson"
    scan = start(platform, *options(catalogue, output, *LOCAL))
    wait_for_parts(scan, tmp_path)
    os.kill(children(scan.pid)[0], signal.SIGKILL)
    finish(scan)
    verify(output, catalogue)


def test_what_is_withdrawn_while_a_scan_runs_is_in_no_output(
    platform: Company, catalogue: dict[Path, list[Json]], tmp_path: Path
) -> None:
    output = tmp_path / "out.ndjson"
    published = platform.client.post(
        "/v1/lists/ncii/records",
        {
            "records": [
                {
                    "type": "indicator",
                    "kind": "image",
                    "source": "person",
                    "created": "2026-11-01T00:00:00Z",
                    "signals": [{"type": "md5", "value": stored(1, 1)[0]["md5"]}],
                }
            ]
        },
    )
    found = re.search(r"alpha\.example/hsf/v1/log/ncii/1#\d+", json.dumps(published))
    assert found is not None
    scan = start(platform, *options(catalogue, output, *LOCAL))
    # The first part holds it, and was made before it was withdrawn.
    first = tmp_path / "out.ndjson.parts" / "part-00000000.parquet"
    while not first.exists():
        assert scan.poll() is None
        time.sleep(0.002)
    scan.send_signal(signal.SIGSTOP)
    candidates = parquet.read_table(first)["row"].to_pylist()
    assert 1 in candidates
    cli(platform, "retract", found[0], "--reason", "false-positive")
    scan.send_signal(signal.SIGCONT)
    answer = finish(scan)
    assert answer["withdrawn"] == 1
    verify(output, catalogue)


def test_what_cannot_be_scanned_is_said(
    platform: Company, catalogue: dict[Path, list[Json]], tmp_path: Path
) -> None:
    output = tmp_path / "out.ndjson"

    def refused(code: int, file: Path, *arguments: str) -> str:
        words = (str(file), "--output", str(output), *arguments)
        return str(finish(start(platform, *words), code)["detail"])

    good = next(iter(catalogue))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        dask = ("--engine", "dask", "--scheduler", nobody)
        assert "no Dask scheduler" in refused(1, good, *dask)
    assert "--scheduler" in refused(2, good, "--engine", "dask")
    assert "--scheduler" in refused(2, good, *LOCAL, "--scheduler", nobody)
    assert "belong to" in refused(2, good, "--processes", "2")
    assert "No such file" in refused(1, tmp_path / "none", *LOCAL)
    table = tmp_path / "a.csv"
    table.write_text("pdq,md5,photo\n")
    assert ".parquet" in refused(2, table, *LOCAL)
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1")
    assert "no Parquet" in refused(1, broken, *LOCAL)
    parquet.write_table(pa.table({"x": [1]}), broken)
    assert "no column" in refused(2, broken, *LOCAL)
    assert not output.exists()
    output = tmp_path / "other.ndjson"
    output.write_text("precious")
    assert "--restart" in refused(2, good, *LOCAL)
    assert output.read_text() == "precious"


def test_a_damaged_row_group_is_named_and_the_others_are_scanned(
    platform: Company, tmp_path: Path
) -> None:
    rows = stored(3 * GROUP, 1)
    file, output = tmp_path / "a.parquet", tmp_path / "out.ndjson"
    parquet.write_table(
        pa.Table.from_pylist(rows),
        file,
        row_group_size=GROUP,
        write_page_checksum=True,
    )
    with parquet.ParquetFile(file) as opened:
        column = opened.metadata.row_group(1).column(1)
        place = column.data_page_offset + column.total_compressed_size // 2
    with file.open("r+b") as written:
        written.seek(place)
        written.write(b"\xff" * 64)
    said = finish(start(platform, str(file), "--output", str(output), *LOCAL), 1)
    assert "1 row groups cannot be read, the first is number 1" in said["detail"]
    cells = {it for it in expected(rows) if not GROUP < it[0] <= 2 * GROUP}
    assert {(it["row"], it["column"]) for it in lines_of(output)} == cells
