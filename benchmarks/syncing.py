"""Section `sync`: what a peer fetches and computes for one new record as a log grows.

A peer follows a list whose owner publishes more and more. At each size: how fast the
peer copies and verifies what is new, and what a single new record costs it then:
bytes both ways between them, counted by a proxy, and CPU time of the peer's process.
At the end a second peer copies the whole list at once.
"""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from benchmarks.counting import counted
from benchmarks.measuring import children_of, cpu_seconds
from benchmarks.servers import LIST, free_port, record_of
from hashlight_node.demo.company import Company, make_company
from hashlight_node.local_client import Json, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.counting import Counter
    from benchmarks.options import Options
    from benchmarks.results import Results

_SIZES: Final = (128, 1152, 10_112, 100_224)
"""All in the middle of a bundle of 256: how full the newest one is decides how many
bytes one more record costs, and how long the log is hardly does."""

_QUICK_SIZES: Final = (128, 1152)
_SINGLE_RECORDS: Final = 7
_BATCH: Final = 1000
_QUIET_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 300.0
_LISTEN: Final = "HASHLIGHT_FEDERATION_LISTEN"


def run(options: Options, results: Results) -> None:
    """Let a log grow, and measure at each size."""
    with (
        tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory,
        _two_companies(Path(directory)) as (owner, peer, counter, process),
    ):
        size = 0
        for wanted in _QUICK_SIZES if options.quick else _SIZES:
            cpu, started = cpu_seconds([process]), time.perf_counter()
            copied = wanted - size
            _publish(owner, peer, copied)
            seconds = time.perf_counter() - started
            cpu = cpu_seconds([process]) - cpu
            sent, used = zip(
                *(_one(owner, peer, counter, process) for _ in range(_SINGLE_RECORDS)),
                strict=True,
            )
            size = wanted + _SINGLE_RECORDS
            row = {
                "what": "update",
                "size": wanted,
                "copied_per_second": copied / seconds,
                "copied_per_cpu_second": copied / cpu if cpu else None,
                "update_bytes": statistics.median(sent),
                "update_cpu_ms": 1000 * statistics.mean(used),
            }
            results.add("sync", row)
            print(
                f"  {wanted:,} records: one more costs {row['update_bytes']:,.0f} bytes"
                f" and {row['update_cpu_ms']:.1f} ms of CPU",
                flush=True,
            )
        _bootstrap(Path(directory), owner, size, results)


def _bootstrap(directory: Path, owner: Company, size: int, results: Results) -> None:
    """Have a new peer follow the list, and time until it has all of it."""
    digest = _publish(owner, owner, 1)
    late = make_company(directory, "late.example")
    others = set(children_of(os.getpid()))
    late.start()
    try:
        (process,) = set(children_of(os.getpid())) - others
        cpu, started = cpu_seconds([process]), time.perf_counter()
        for here, there in ((owner, late), (late, owner)):
            here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
        owner.client.post("/v1/grants", {"peer": late.name, "list": LIST})
        late.client.post("/v1/follows", {"peer": owner.name, "list": LIST})
        _wait_for(late, digest)
        seconds = time.perf_counter() - started
        row = {
            "what": "bootstrap",
            "size": size + 1,
            "seconds": seconds,
            "per_second": (size + 1) / seconds,
            "per_cpu_second": (size + 1) / (cpu_seconds([process]) - cpu),
        }
    finally:
        late.stop()
    results.add("sync", row)
    print(f"  a new peer copies {row['per_second']:,.0f} records a second")


@contextmanager
def _two_companies(
    directory: Path,
) -> Iterator[tuple[Company, Company, Counter, int]]:
    owner = make_company(directory, "owner.example")
    peer = make_company(directory, "peer.example")
    real_port = free_port()
    with counted(urlsplit(owner.base).port or 0, real_port) as counter:
        try:
            # The owner is where it says only through the proxy.
            os.environ[_LISTEN] = f"127.0.0.1:{real_port}"
            owner.start()
            del os.environ[_LISTEN]
            others = set(children_of(os.getpid()))
            peer.start()
            (process,) = set(children_of(os.getpid())) - others
            _connect(owner, peer)
            yield owner, peer, counter, process
        finally:
            peer.stop()
            owner.stop()


def _connect(owner: Company, peer: Company) -> None:
    for here, there in ((owner, peer), (peer, owner)):
        here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
    owner.client.post("/v1/lists", {"name": LIST})
    owner.client.post("/v1/grants", {"peer": peer.name, "list": LIST})
    peer.client.post("/v1/follows", {"peer": owner.name, "list": LIST})


def _publish(owner: Company, peer: Company, count: int) -> bytes:
    """Publish so many records and wait until the peer has the last; gives that."""
    last = b""
    for first in range(0, count, _BATCH):
        digests = [secrets.token_bytes(32) for _ in range(min(_BATCH, count - first))]
        records = [record_of(digest) for digest in digests]
        owner.client.post(path_of("lists", LIST, "records"), {"records": records})
        last = digests[-1]
    _wait_for(peer, last)
    return last


def _one(
    owner: Company, peer: Company, counter: Counter, process: int
) -> tuple[int, float]:
    """Publish one record; gives bytes and CPU seconds until all is quiet again."""
    time.sleep(_QUIET_SECONDS)
    sent, cpu = counter.total, cpu_seconds([process])
    _publish(owner, peer, 1)
    time.sleep(_QUIET_SECONDS)
    return counter.total - sent, cpu_seconds([process]) - cpu


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
