"""Section `http`: lookups per second and core, ours and the field's design.

What counts is the CPU time of a server's processes, so that neither the client nor
the number of cores is in it: requests answered / CPU seconds used = requests a
second that one core gives.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from benchmarks.contenders import is_installed
from benchmarks.hashes import THRESHOLD, load, prepare
from benchmarks.measuring import cpu_seconds, percentile
from benchmarks.servers import our_node, peer_service
from benchmarks.wire import RefusedError, put_load, request

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.hashes import Hashes
    from benchmarks.options import Options
    from benchmarks.results import Results
    from benchmarks.servers import Server

_CONNECTIONS: Final = 8
_BULK_CONNECTIONS: Final = 2  # more would only queue, or be shed
_SECONDS: Final = 6.0
_QUICK_SECONDS: Final = 1.0
_WARM_UP_SECONDS: Final = 0.5
_DIFFERENT: Final = 4096
_BULK: Final = 1000
_BULKS: Final = 8
_HITS_IN_BULK: Final = 10


class Mix(NamedTuple):
    """One kind of load.

    Attributes:
        what: Its name in results.
        requests: Sent in turn.
        hashes_a_request: So many are looked up at once.
        expects: What the last answer must contain, or the figures mean nothing.
    """

    what: str
    requests: list[bytes]
    hashes_a_request: int
    expects: bytes


def run(options: Options, results: Results) -> None:
    """Measure both servers over the smallest size: filling ours takes long."""
    size = options.sizes[0]
    files = prepare(options.data, "uniform", size)
    stored, queries = load(files[0]), load(files[1])
    misses = np.ascontiguousarray(queries[0::2])  # planted ones are at odd places
    hits = np.ascontiguousarray(stored[:_DIFFERENT])
    seconds = _QUICK_SECONDS if options.quick else _SECONDS
    _measure_peer(files[0], (misses, hits), seconds, results)
    with our_node(files[0]) as (node, rate):
        results.add("http", {"what": "publish", "size": size, "per_second": rate})
        for mix in our_mixes(node.token, misses, hits):
            _measure("ours", node, mix, seconds, size, results)


def _measure_peer(
    file: Path, queries: tuple[Hashes, Hashes], seconds: float, results: Results
) -> None:
    if not is_installed("reference"):
        print("  !! threatexchange is not installed: the peer is LEFT OUT")
        return
    with peer_service(file) as server:
        for mix in peer_mixes(*queries):
            _measure("peer", server, mix, seconds, len(load(file)), results)


def peer_mixes(misses: Hashes, hits: Hashes) -> list[Mix]:
    """Ask as HMA is asked."""

    def ask(digest: bytes) -> bytes:
        path = f"/m/lookup?signal_type=pdq&signal={digest.hex()}"
        return request("GET", path, headers={})

    return [
        Mix("miss", [ask(it.tobytes()) for it in misses], 1, b"[]"),
        Mix("hit", [ask(it.tobytes()) for it in hits], 1, b"ncii"),
    ]


def our_mixes(token: str, misses: Hashes, hits: Hashes) -> list[Mix]:
    """Ask our API in each of its ways."""
    bearer = {"Authorization": f"Bearer {token}"}
    as_json = {**bearer, "Content-Type": "application/json"}
    as_bytes = {**bearer, "Content-Type": "application/octet-stream"}

    def ask(hashes: Hashes) -> bytes:
        queries = [{"type": "pdq", "value": it.tobytes().hex()} for it in hashes]
        body = json.dumps({"queries": queries}).encode()
        return request("POST", "/v1/lookup", headers=as_json, body=body)

    def ask_bulk(hashes: Hashes) -> bytes:
        body = hashes.tobytes()
        return request("POST", "/v1/lookup/pdq", headers=as_bytes, body=body)

    bulks = [_bulk(misses, hits, number) for number in range(_BULKS)]
    return [
        Mix("miss", [ask(it[np.newaxis]) for it in misses], 1, b'"matches":[]'),
        Mix("hit", [ask(it[np.newaxis]) for it in hits], 1, b'"distance":0'),
        Mix("batch", [ask(it) for it in bulks], _BULK, b'"distance":0'),
        Mix("bulk", [ask_bulk(it) for it in bulks], _BULK, b'"distance":0'),
    ]


def _bulk(misses: Hashes, hits: Hashes, number: int) -> Hashes:
    """Put some hits among misses, as a platform's uploads have them, or rather more."""
    chosen = np.arange(_BULK) + number * _BULK
    some = misses[chosen % len(misses)]
    some[:: _BULK // _HITS_IN_BULK] = hits[chosen[:_HITS_IN_BULK] % len(hits)]
    return some


def _measure(
    name: str, server: Server, mix: Mix, seconds: float, size: int, results: Results
) -> None:
    connections = _CONNECTIONS if mix.hashes_a_request == 1 else _BULK_CONNECTIONS
    asked = partial(put_load, server.address, mix.requests, connections=connections)
    try:
        asked(seconds=_WARM_UP_SECONDS)
        before = cpu_seconds([server.process])
        load = asked(seconds=seconds)
    except RefusedError as error:
        print(f"  !! {name} does not answer {mix.what}: {error}: LEFT OUT")
        return
    cpu = cpu_seconds([server.process]) - before
    if mix.expects not in load.last:
        message = f"{name} answered {mix.what} with something else than expected"
        raise RuntimeError(message)
    count = len(load.milliseconds)
    row = {
        "what": mix.what,
        "contender": name,
        "size": size,
        "threshold": THRESHOLD,
        "connections": connections,
        "requests": count,
        "requests_per_second": count / load.seconds,
        "hashes_per_core_second": count * mix.hashes_a_request / cpu,
        "cores_used": cpu / load.seconds,
        "p50_ms": percentile(load.milliseconds, 50),
        "p99_ms": percentile(load.milliseconds, 99),
    }
    results.add("http", row)
    print(
        f"  {name} {mix.what}: {row['hashes_per_core_second']:,.0f} hashes a second"
        f" and core, p50 {row['p50_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms",
        flush=True,
    )
