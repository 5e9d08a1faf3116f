"""Section `scan`: a platform's stored hashes against a node's lists, engine by engine.

A node publishes 100,000 PDQ hashes. A Parquet file has a million others, and every
thousandth row one of the node's. `hashlight scan` goes through it three times: asking
the node about every row, in two processes of this machine, and on a Dask cluster of a
scheduler and two workers, which run here as well and are started for it. All three must
find the same rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.servers import LIST, free_port, record_of
from hashlight_node.demo.company import make_company
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.options import Options
    from benchmarks.results import Results
    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json

_LISTED: Final = 100_000
_ROWS: Final = 1_000_000
_QUICK: Final = 10
_EVERY: Final = 1000
_BATCH: Final = 1000
_GROUP_ROWS: Final = 50_000
_PROCESSES: Final = 2


def run(options: Options, results: Results) -> None:
    """Scan one file with every engine."""
    part = _QUICK if options.quick else 1
    listed, rows = _LISTED // part, _ROWS // part
    rng = np.random.default_rng(8)
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as name:
        directory = Path(name)
        hashes = rng.integers(0, 256, (listed, 32), dtype=np.uint8)
        catalogue = directory / "catalogue.parquet"
        _write(catalogue, hashes, rows, rng)
        company = make_company(directory, "platform.example")
        company.start()
        try:
            _publish(company, hashes)
            with _cluster(directory) as address:
                engines = {
                    "each row asked of the node": (),
                    "processes of one machine": (
                        *("--engine", "local", "--processes", str(_PROCESSES)),
                    ),
                    "Dask": ("--engine", "dask", "--scheduler", address),
                }
                for kind, words in engines.items():
                    row = _scan(company, catalogue, rows, words)
                    results.add("scan", {"kind": kind, "size": rows, **row})
                    print(f"  {kind}: {row['per_second']:,.0f} rows/s", flush=True)
        finally:
            company.stop()


def _write(
    file: Path, hashes: NDArray[np.uint8], count: int, rng: np.random.Generator
) -> None:
    stored = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    stored[::_EVERY] = hashes[rng.integers(0, len(hashes), len(stored[::_EVERY]))]
    text = pa.array([row.tobytes().hex() for row in stored])
    number = pa.array([str(it) for it in range(count)])
    table = pa.table({"photo": number, "pdq": text})
    parquet.write_table(table, file, row_group_size=_GROUP_ROWS)


def _publish(company: Company, hashes: NDArray[np.uint8]) -> None:
    company.client.post("/v1/lists", {"name": LIST})
    path = path_of("lists", LIST, "records")
    for first in range(0, len(hashes), _BATCH):
        records = [record_of(row.tobytes()) for row in hashes[first : first + _BATCH]]
        company.client.post(path, {"records": records})


def _scan(
    company: Company, file: Path, count: int, words: tuple[str, ...]
) -> dict[str, float]:
    output = file.with_name("matches.ndjson")
    columns = ("--column", "pdq", "--id", "photo", "--output", str(output))
    began = time.perf_counter()
    done = company.run("scan", str(file), *columns, *words, "--restart", "--json")
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    lines = output.read_text("utf-8").splitlines()
    found = {cast("Json", json.loads(line))["row"] for line in lines}
    wanted = set(range(1, count + 1, _EVERY))
    if found != wanted:
        message = f"found {len(found)} rows, not the {len(wanted)} that there are"
        raise RuntimeError(message)
    return {"seconds": seconds, "per_second": count / seconds}


@contextmanager
def _cluster(directory: Path) -> Iterator[str]:
    """Run a scheduler and two workers of one thread each, over TCP."""
    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"
    worker = ("dask_worker", address, "--no-nanny", "--nthreads", "1")
    started = [
        _start("dask_scheduler", "--host", "127.0.0.1", "--port", port),
        *(
            _start(*worker, "--local-directory", str(directory))
            for _ in range(_PROCESSES)
        ),
    ]
    try:
        _wait(address)
        yield address
    finally:
        for process in started:
            process.terminate()
            process.wait()


def _start(command: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{command}", *words, "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait(address: str) -> None:
    import distributed  # noqa: PLC0415  takes seconds, which no other section needs

    with distributed.Client(address, timeout=60) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(_PROCESSES, timeout=60)
