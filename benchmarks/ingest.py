"""Section `ingest`: how fast records go into a store, and a whole list to a new peer.

Three things. First, in this process: bundles are verified and applied, on SQLite and on
PostgreSQL, beside what the same databases take for a table with a unique column when
rows are put into it the plain way. Then a new peer copies a whole list from another
node. At last, from that copy: what its first and its last pages cost.
"""

from __future__ import annotations

import gc
import json
import secrets
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import psycopg

from benchmarks.measuring import children_of, cpu_seconds
from benchmarks.servers import LIST, record_of
from benchmarks.stores import new_postgresql, postgresql
from hashlight_node.demo.company import Company, make_company
from hashlight_node.exchange.following.copying import Batch
from hashlight_node.exchange.following.transfer import RawBundle, verify_bundle
from hashlight_node.exchange.logs.erasures import ErasureClaims
from hashlight_node.model import Role
from hashlight_node.store import logs, records
from hashlight_node.store.backends import backend_of
from hashlight_node.store.migrate import migrate
from hashlight_protocol import (
    TILE_WIDTH,
    Body,
    BodyStatus,
    Checkpoint,
    Frontier,
    Meta,
    commit,
    encode_body_bundle,
    encode_entry,
    encode_entry_bundle,
    leaf_hashes,
    needed_tiles,
    new_tiles,
    parse_origin,
    plan_range,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from benchmarks.options import Options
    from benchmarks.results import Results
    from benchmarks.stores import Postgresql
    from hashlight_node.local_client import Json
    from hashlight_node.model import Log
    from hashlight_protocol import VerifiedRange

_ROWS: Final = 100_000
_QUICK_ROWS: Final = 10_000
_TIMES: Final = 3
_BATCH: Final = 5120
_PAGES: Final = 60
_PATIENCE_SECONDS: Final = 1800.0
_ORIGIN: Final = f"bench.example/hsf/v1/log/{LIST}/1"
_RAW_TABLE: Final = "CREATE TABLE raw (value text PRIMARY KEY, body bytea NOT NULL)"


class Spent(NamedTuple):
    """What something took: wall time, our CPU time, that of the database's server."""

    seconds: float
    own: float
    server: float


def run(options: Options, results: Results) -> None:
    """Measure stores, then a list from node to node."""
    rows = _QUICK_ROWS if options.quick else _ROWS
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory:
        made = _Made(rows)
        gc.collect()
        gc.freeze()
        with postgresql() as server:
            for number in range(_TIMES):
                sqlite = Path(directory, f"{number}.db")
                _show(results, "raw", "SQLite", rows, _raw_sqlite(sqlite, made))
                _show(results, "raw", "PostgreSQL", rows, _raw_server(server, made))
                url = f"sqlite:///{directory}/{number}-node.db"
                _show(results, "verified", "SQLite", rows, _node(url, made, ()))
                spent = _node(new_postgresql(server), made, server.processes)
                _show(results, "verified", "PostgreSQL", rows, spent)
        _bootstrap(Path(directory), options, results)


class _Made:
    """A log with records of random hashes, as it goes over the wire."""

    def __init__(self, count: int) -> None:
        list_id = parse_origin(_ORIGIN).list_id
        entries, bodies = [encode_entry(Meta(_ORIGIN))], [Body(BodyStatus.NONE)]
        self.values = [secrets.token_bytes(32) for _ in range(count)]
        for value in self.values:
            body, salt = json.dumps(record_of(value), separators=(",", ":")), b"s" * 16
            bodies.append(Body(BodyStatus.PRESENT, salt, body.encode()))
            entries.append(b"\1" + commit(list_id, salt, body.encode()))
        self.bodies = [it.body for it in bodies[1:]]
        self.bundles = [
            RawBundle(
                first // TILE_WIDTH,
                encode_entry_bundle(entries[first : first + TILE_WIDTH]),
                encode_body_bundle(bodies[first : first + TILE_WIDTH]),
            )
            for first in range(0, len(entries), TILE_WIDTH)
        ]
        self.span = _plan(leaf_hashes(entries))


def _plan(hashes: Sequence[bytes]) -> VerifiedRange:
    def nothing(level: int, index: int) -> bytes:
        raise KeyError(level, index)

    size, stored = len(hashes), new_tiles(nothing, 0, hashes)
    tiles = {
        it: stored[it.level, it.index][: it.width * 32] for it in needed_tiles(0, size)
    }
    root = Frontier().extend(hashes).root
    return plan_range(Frontier(), Checkpoint(_ORIGIN, size, root), tiles)


def _timed(work: Callable[[], object], server: Sequence[int] = ()) -> Spent:
    began, own, other = time.perf_counter(), time.process_time(), cpu_seconds(server)
    work()
    return Spent(
        time.perf_counter() - began,
        time.process_time() - own,
        cpu_seconds(server) - other,
    )


def _node(url: str, made: _Made, server: Sequence[int]) -> Spent:
    """Verify and apply all bundles, as a follower does, in a new database."""
    migrate(url)
    writer = backend_of(url).open_writer()
    with writer.transaction() as conn:
        log = logs.insert_log(
            conn, origin=_ORIGIN, role=Role.FOLLOWED, meta={}, created_at=0
        )

    def work() -> None:
        claims, batch, frontier, grown = ErasureClaims(), Batch(0), Frontier(), log
        for raw in made.bundles:
            batch.add(verify_bundle("bench", made.span, raw, claims))
            if len(batch.raw) >= _BATCH or raw is made.bundles[-1]:
                with writer.transaction() as conn:
                    grown, frontier = _apply(conn, grown, frontier, batch)
                batch = Batch(frontier.size)

    try:
        return _timed(work, server)
    finally:
        writer.close()


def _apply(
    conn: Connection, log: Log, frontier: Frontier, batch: Batch
) -> tuple[Log, Frontier]:
    grown = frontier.extend(batch.leaf_hashes)
    stored = logs.append_verified(
        conn, log, batch.raw, batch.leaf_hashes, root_hash=grown.root
    )
    records.apply_entries(
        conn,
        stored,
        batch.first_index,
        batch.entries,
        batch.bodies,
        now=1,
        meanings=batch.meanings,
    )
    return stored, grown


def _raw_rows(made: _Made) -> list[list[tuple[str, bytes]]]:
    rows = [
        (value.hex(), body)
        for value, body in zip(made.values, made.bodies, strict=True)
    ]
    return [rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH)]


def _raw_sqlite(file: Path, made: _Made) -> Spent:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_RAW_TABLE)

    def work() -> None:
        for rows in _raw_rows(made):
            with connection:
                connection.executemany("INSERT OR IGNORE INTO raw VALUES (?, ?)", rows)

    spent = _timed(work)
    connection.close()
    return spent


def _raw_server(server: Postgresql, made: _Made) -> Spent:
    url = new_postgresql(server)
    with psycopg.connect(url) as connection:
        connection.execute(_RAW_TABLE)
        connection.commit()

        def work() -> None:
            for rows in _raw_rows(made):
                connection.cursor().executemany(
                    "INSERT INTO raw VALUES (%s, %s) ON CONFLICT DO NOTHING", rows
                )
                connection.commit()

        return _timed(work, server.processes)


def _show(results: Results, what: str, store: str, rows: int, spent: Spent) -> None:
    row: dict[str, object] = {
        "what": what,
        "store": store,
        "size": rows,
        "per_second": rows / spent.seconds,
        "per_cpu_second": rows / spent.own,
        "per_cpu_second_with_server": rows / (spent.own + spent.server),
    }
    results.add("ingest", row)
    print(
        f"  {what}, {store}: {row['per_second']:,.0f}/s,"
        f" {row['per_cpu_second']:,.0f} per CPU second of ours,"
        f" {row['per_cpu_second_with_server']:,.0f} with the server's",
        flush=True,
    )


def _bootstrap(directory: Path, options: Options, results: Results) -> None:
    count = options.sizes[0]
    owner = make_company(directory, "owner.example")
    late = make_company(directory, "late.example")
    owner.start()
    try:
        published = _import(directory, owner, count)
        results.add("ingest", {"what": "import", "size": count, **published})
        print(f"  imported {published['per_second']:,.0f} a second", flush=True)
        late.start()
        row = _copy(owner, late, count)
    finally:
        late.stop()
        owner.stop()
    results.add("ingest", row)
    print(
        f"  {count:,} records in {row['seconds']:.1f} s, peak of the node"
        f" {row['peak_mb']} MB, with its helper {row['peak_mb_with_helper']} MB;"
        f" {row['per_cpu_second']:,.0f} per CPU second",
        flush=True,
    )
    _pages(late, results)


def _import(directory: Path, owner: Company, count: int) -> dict[str, float]:
    """Publish a file with `hashlight import`."""
    owner.client.post("/v1/lists", {"name": LIST})
    file = directory / "hashes.csv"
    with file.open("w") as out:
        out.write("pdq,quality,label\n")
        for _ in range(count):
            out.write(f"{secrets.token_hex(32)},100,ncii:adult\n")
    began = time.perf_counter()
    done = owner.run("import", LIST, str(file), "--json")
    seconds = time.perf_counter() - began
    if done.returncode or json.loads(done.stdout)["published"] != count:
        raise RuntimeError(done.stderr.decode())
    return {"seconds": seconds, "per_second": count / seconds}


def _copy(owner: Company, late: Company, count: int) -> Json:
    """Let a new peer follow the list, and look at it until it has everything."""
    process, other = _process_of(late), _process_of(owner)
    for here, there in ((owner, late), (late, owner)):
        here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
    owner.client.post("/v1/grants", {"peer": late.name, "list": LIST})
    cpu, others, began = (
        cpu_seconds([process]),
        cpu_seconds([other]),
        time.perf_counter(),
    )
    late.client.post("/v1/follows", {"peer": owner.name, "list": LIST})
    helper = 0
    while time.perf_counter() - began < _PATIENCE_SECONDS:
        helper = max(helper, *(_peak_mb(it) for it in children_of(process)), 0)
        lists = cast("list[Json]", late.client.get("/v1/status")["lists"])
        if any(cast("int", it["checkpoint_size"]) > count for it in lists):
            break
        time.sleep(0.2)
    seconds = time.perf_counter() - began
    return {
        "what": "bootstrap",
        "size": count,
        "seconds": seconds,
        "per_second": count / seconds,
        "per_cpu_second": count / (cpu_seconds([process]) - cpu),
        "owner_per_cpu_second": count / (cpu_seconds([other]) - others),
        "peak_mb": _peak_mb(process),
        "peak_mb_with_helper": _peak_mb(process) + helper,
    }


def _process_of(company: Company) -> int:
    process = company._process  # noqa: SLF001 -- ours, and asked here only
    assert process is not None  # noqa: S101 -- it was started above
    return process.pid


def _peak_mb(process: int) -> int:
    """Tell the most memory that a process has had, files that it maps included."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except FileNotFoundError:
        return 0
    sizes = [int(it.split()[1]) for it in lines if it.startswith("VmHWM:")]
    return sizes[0] // 1024 if sizes else 0


def _pages(late: Company, results: Results) -> None:
    """Read the first and the last bundles of a copy, as they are served."""
    backend = backend_of(f"sqlite:///{late.directory / 'hashlight.db'}")
    with backend.reader_engine(1).connect() as conn:
        (log,) = logs.list_logs(conn, Role.FOLLOWED)
        last = log.checkpoint_size // TILE_WIDTH - _PAGES
        taken = {"first": _read(conn, log.log_id, 0)}
        taken["last"] = _read(conn, log.log_id, last)
        taken["first"] = min(taken["first"], _read(conn, log.log_id, 0))
        taken["last"] = min(taken["last"], _read(conn, log.log_id, last))
    row = {
        "what": "pages",
        "size": log.checkpoint_size,
        "first_us": taken["first"],
        "last_us": taken["last"],
        "ratio": taken["last"] / taken["first"],
    }
    results.add("ingest", row)
    print(f"  a page: first {taken['first']:.0f} µs, last {taken['last']:.0f} µs")


def _read(conn: Connection, log_id: int, first: int) -> float:
    times = []
    for index in range(first, first + _PAGES):
        began = time.perf_counter()
        logs.read_entry_bundle(conn, log_id, index, TILE_WIDTH)
        records.read_bodies(conn, log_id, index, TILE_WIDTH)
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
