"""Time from a publish request on one node to a match on a peer's local API.

Two nodes as separate processes on loopback, SQLite, one record at a time: the clock
starts before `POST /v1/lists/ncii/records` is sent on the owner's node and stops
when `POST /v1/lookup` on the peer answers with a match. In the same run, and beside
it: how long the same record takes to match on the owner's own node.

    make bench
    .venv/bin/python benchmarks/publish_to_matchable.py --records 200
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

from hashlight_node.demo.company import Company, make_company
from hashlight_node.local_client import Json, path_of

LIST = "ncii"
LIMIT_SECONDS = 1.0
"""What the median must stay under."""

_PATIENCE_SECONDS = 30.0


def main() -> int:
    """Run the benchmark and print one table; exit code 1 over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100)
    records = parser.parse_args().records
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory:
        owner = make_company(Path(directory), "owner.example")
        peer = make_company(Path(directory), "peer.example")
        try:
            owner.start()
            peer.start()
            _connect(owner, peer)
            times = [_one(owner, peer) for _ in range(records)]
        finally:
            peer.stop()
            owner.stop()
    print(f"{records} records, one at a time, two nodes on loopback, SQLite")
    _print_row("answered", [row[0] for row in times])
    _print_row("matchable on the own node", [row[1] for row in times])
    median = _print_row("matchable on the peer", [row[2] for row in times])
    print(f"limit for the peer's median: {LIMIT_SECONDS * 1000:.0f} ms")
    return 0 if median < LIMIT_SECONDS else 1


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
    raise SystemExit(message)


def _print_row(name: str, seconds: list[float]) -> float:
    ordered = sorted(seconds)
    median = statistics.median(ordered)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    figures = (median, p99, ordered[-1])
    shown = "  ".join(f"{value * 1000:8.1f} ms" for value in figures)
    print(f"{name:28} median, p99, max: {shown}")
    return median


if __name__ == "__main__":
    raise SystemExit(main())
