"""Section `publish`: from a publish request on one node to a match on a peer.

Two nodes as separate processes on loopback, SQLite, one record at a time: the clock
starts before `POST /v1/lists/ncii/records` is sent on the owner's node and stops
when `POST /v1/lookup` on the peer answers with a match. In the same run, and beside
it: how long the same record takes to match on the owner's own node.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from benchmarks.measuring import percentile
from hashlight_node.demo.company import Company, make_company
from hashlight_node.local_client import Json, path_of

if TYPE_CHECKING:
    from benchmarks.options import Options
    from benchmarks.results import Results

LIST: Final = "ncii"

_RECORDS: Final = 200
_QUICK_RECORDS: Final = 20
_PATIENCE_SECONDS: Final = 30.0
_STEPS: Final = ("answered", "own node", "peer")


def run(options: Options, results: Results) -> None:
    """Publish records one by one and wait until each is found."""
    count = _QUICK_RECORDS if options.quick else _RECORDS
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory:
        owner = make_company(Path(directory), "owner.example")
        peer = make_company(Path(directory), "peer.example")
        try:
            owner.start()
            peer.start()
            _connect(owner, peer)
            times = [_one(owner, peer) for _ in range(count)]
        finally:
            peer.stop()
            owner.stop()
    for position, what in enumerate(_STEPS):
        taken = [row[position] * 1000 for row in times]
        row = {
            "what": what,
            "records": count,
            "p50_ms": percentile(taken, 50),
            "p99_ms": percentile(taken, 99),
            "max_ms": max(taken),
        }
        results.add("publish", row)
        print(f"  {what}: p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms")


def _connect(owner: Company, peer: Company) -> None:
    for here, there in ((owner, peer), (peer, owner)):
        here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
    owner.client.post("/v1/lists", {"name": LIST})
    owner.client.post("/v1/grants", {"peer": peer.name, "list": LIST})
    peer.client.post("/v1/follows", {"peer": owner.name, "list": LIST})


def _one(owner: Company, peer: Company) -> tuple[float, float, float]:
    signal: Json = {"type": "pdq", "value": secrets.token_hex(32)}
    record: Json = {
        "type": "indicator",
        "kind": "image",
        "signals": [signal],
        "labels": [{"scheme": "ncii", "value": "adult"}],
        "source": "platform",
        "review": {"level": "human"},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    started = time.perf_counter()
    owner.client.post(path_of("lists", LIST, "records"), {"records": [record]})
    answered = time.perf_counter() - started
    own = _until_matched(owner, signal, started)
    return answered, own, _until_matched(peer, signal, started)


def _until_matched(company: Company, signal: Json, started: float) -> float:
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        answer = company.client.post("/v1/lookup", {"queries": [signal]})
        (result,) = cast("list[Json]", answer["results"])
        if result["matches"]:
            return time.perf_counter() - started
    message = f"{company.name} does not match after {_PATIENCE_SECONDS} s"
    raise RuntimeError(message)
