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
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg

from benchmarks.copying import connect, copy, import_random, pages
from benchmarks.measuring import cpu_seconds
from benchmarks.servers import LIST, record_of
from benchmarks.stores import new_postgresql, postgresql
from hashlight_node.demo.company import make_company
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
    from hashlight_node.model import Log
    from hashlight_protocol import VerifiedRange

_ROWS: Final = 100_000
_QUICK_ROWS: Final = 10_000
_TIMES: Final = 3
_BATCH: Final = 5120
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
        owner.client.post("/v1/lists", {"name": LIST})
        published = import_random(directory, owner, count)
        results.add("ingest", {"what": "import", "size": count, **published})
        print(f"  imported {published['per_second']:,.0f} a second", flush=True)
        late.start()
        connect(owner, late)
        row = copy(owner, late, count)
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
    row = pages(f"sqlite:///{late.directory / 'hashlight.db'}", count)
    results.add("ingest", row)
    first, last = row["first_us"], row["last_us"]
    print(f"  a page: first {first:.0f} µs, last {last:.0f} µs")
