"""Section `sync`: what a list costs two nodes as it grows, both on PostgreSQL.

At each size a new peer copies the whole list, and then an update of one record and one
of a thousand records are followed: bytes both ways between the two, counted by a proxy,
CPU time of both nodes, and pages that both databases touched. What both do when nothing
happens, in as long a time, is taken off. At last: what the first and the last pages of
the copy cost.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import psycopg

from benchmarks.copying import connect, copy, import_random, pages, process_of
from benchmarks.counting import counted
from benchmarks.measuring import cpu_seconds
from benchmarks.servers import LIST, free_port, record_of
from benchmarks.stores import new_postgresql, postgresql
from hashlight_node.demo.company import Company, make_company
from hashlight_node.local_client import Json, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.counting import Counter
    from benchmarks.options import Options
    from benchmarks.results import Results

_SIZES: Final = (10_112, 100_224, 1_000_064, 10_000_000)
"""All in the middle of a bundle of 256: how full the newest one is decides how many
bytes one more record costs, and how long the log is hardly does."""

_QUICK_SIZES: Final = (1152, 10_112)
_UPDATES: Final = {1: 20, 1000: 5}
_PATIENCE_SECONDS: Final = 300.0

_COUNTED_SECONDS: Final = 11.0
"""A session of PostgreSQL that is idle tells after 10 s at the latest what it read."""

_PAGES_TOUCHED: Final = (
    "SELECT blks_hit + blks_read FROM pg_stat_database"
    " WHERE datname = current_database()"
)
_LISTEN: Final = "HASHLIGHT_FEDERATION_LISTEN"


@dataclass(frozen=True, slots=True)
class _Node:
    """A company that runs, and its database."""

    company: Company
    url: str

    @property
    def pages_touched(self) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute(_PAGES_TOUCHED).fetchone()
            assert row is not None  # noqa: S101 -- it is the database we are in
            return int(row[0])

    def tidy(self) -> None:
        """Do now what the server would do by itself sometime while we measure."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")


@dataclass(frozen=True, slots=True)
class _Used:
    """What two nodes have used so far, or for something."""

    bytes: float
    owner_cpu_ms: float
    peer_cpu_ms: float
    owner_pages: float
    peer_pages: float

    def since(self, other: _Used, times: int = 1) -> _Used:
        return _Used(
            *(
                (a - b) / times
                for a, b in zip(astuple(self), astuple(other), strict=True)
            )
        )


def run(options: Options, results: Results) -> None:
    """Let a list grow, and measure at each size up to the one that is asked for."""
    sizes = _QUICK_SIZES if options.quick else _SIZES
    most = sizes[-1] if options.quick else options.sizes[0] * 1.01
    with (
        tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory,
        postgresql() as server,
    ):
        url = new_postgresql(server)
        with _behind_a_proxy(Path(directory), url) as (owner, counter):
            owner.company.client.post("/v1/lists", {"name": LIST})
            size = 0
            for wanted in (it for it in sizes if it <= most):
                row = import_random(Path(directory), owner.company, wanted - size)
                size = wanted
                results.add("sync", {"what": "import", "size": size, **row})
                print(f"  imported {row['per_second']:,.0f} a second", flush=True)
                url = new_postgresql(server)
                with _new_peer(Path(directory), f"peer-{size}.example", url) as peer:
                    connect(owner.company, peer.company)
                    copied = copy(owner.company, peer.company, size)
                    results.add("sync", copied)
                    print(f"  copied {copied['per_second']:,.0f} a second", flush=True)
                    size += _updates(owner, peer, counter, size, results)
                # Nobody is to be told any more who is not there.
                path = path_of("grants", peer.company.name, LIST)
                owner.company.client.delete(path)


def _updates(
    owner: _Node, peer: _Node, counter: Counter, size: int, results: Results
) -> int:
    """Measure updates and pages at one size; gives how many records were added."""
    for node in (owner, peer):
        node.tidy()
    results.add("sync", pages(peer.url, size))
    added = 0
    for many, times in _UPDATES.items():
        used = _measured(owner, peer, counter, many, times)
        added += many * times
        row = {"what": "update", "size": size, "kind": many}
        row |= {name: getattr(used, name) for name in _Used.__slots__}
        results.add("sync", row)
        print(
            f"  {size:,} records, {many:,} more: {used.bytes:,.0f} bytes; CPU"
            f" {used.owner_cpu_ms:.1f} and {used.peer_cpu_ms:.1f} ms; database pages"
            f" {used.owner_pages:,.0f} and {used.peer_pages:,.0f}",
            flush=True,
        )
    return added


def _measured(
    owner: _Node, peer: _Node, counter: Counter, many: int, times: int
) -> _Used:
    """Follow some updates; gives what one of them has cost."""

    def used() -> _Used:
        return _Used(
            counter.total,
            1000 * cpu_seconds([process_of(owner.company)]),
            1000 * cpu_seconds([process_of(peer.company)]),
            owner.pages_touched,
            peer.pages_touched,
        )

    def update() -> None:
        for _ in range(times):
            _wait_for(peer.company, _publish(owner.company, many))

    time.sleep(_COUNTED_SECONDS)
    before, began = used(), time.perf_counter()
    update()
    time.sleep(_COUNTED_SECONDS)
    after, seconds = used(), time.perf_counter() - began
    time.sleep(seconds)
    idle = used().since(after)
    return after.since(before).since(idle, times)


@contextmanager
def _behind_a_proxy(directory: Path, url: str) -> Iterator[tuple[_Node, Counter]]:
    owner = make_company(directory, "owner.example", "--store", url)
    real_port = free_port()
    with counted(urlsplit(owner.base).port or 0, real_port) as counter:
        # The owner is where it says only through the proxy.
        os.environ[_LISTEN] = f"127.0.0.1:{real_port}"
        try:
            owner.start()
            del os.environ[_LISTEN]
            yield _Node(owner, url), counter
        finally:
            owner.stop()


@contextmanager
def _new_peer(directory: Path, name: str, url: str) -> Iterator[_Node]:
    peer = make_company(directory, name, "--store", url)
    try:
        peer.start()
        yield _Node(peer, url)
    finally:
        peer.stop()


def _publish(owner: Company, count: int) -> bytes:
    """Publish so many records at once; gives the hash of the last."""
    digests = [secrets.token_bytes(32) for _ in range(count)]
    records = [record_of(digest) for digest in digests]
    owner.client.post(path_of("lists", LIST, "records"), {"records": records})
    return digests[-1]


def _wait_for(peer: Company, digest: bytes) -> None:
    signal: Json = {"type": "pdq", "value": digest.hex()}
    gives_up_at = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < gives_up_at:
        answer = peer.client.post("/v1/lookup", {"queries": [signal]})
        (result,) = cast("list[Json]", answer["results"])
        if result["matches"]:
            return
        time.sleep(0.05)
    message = f"the peer does not match after {_PATIENCE_SECONDS} s"
    raise RuntimeError(message)
