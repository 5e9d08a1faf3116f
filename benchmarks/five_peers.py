"""Section `five-peers`: how soon five peers match, while records come all the time.

Six nodes as separate processes on loopback, SQLite. The owner publishes 200 records a
second, 20 in each request; five peers follow. The clock of a request starts before it
is sent and stops, for each peer, when its lookups find the last record of it. So the
times hold the owner's commit and signature, the push, the peer's fetch, verification
and commit, and up to 20 ms until somebody asks. All share the processors of one
machine, and so does whoever asks.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from benchmarks.measuring import percentile
from benchmarks.servers import LIST, record_of
from hashlight_node.demo.company import make_company
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from benchmarks.options import Options
    from benchmarks.results import Results
    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json

_PEERS: Final = 5
_TOGETHER: Final = 20
_PERIOD_SECONDS: Final = 0.1
_REQUESTS: Final = 300
_QUICK_REQUESTS: Final = 50
_ASK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 120.0


class _Watch:
    """Asks a peer for what it does not match yet, and notes when it does."""

    def __init__(self, peer: Company) -> None:
        self._peer = peer
        self._sent: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_over = False
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def expect(self, value: str, sent_at: float) -> None:
        """Ask for a hash from now on."""
        with self._lock:
            self._sent[value] = sent_at

    def finish(self) -> None:
        """Wait until everything matches."""
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while self._sent and time.monotonic() < give_up_at:
            time.sleep(_ASK_SECONDS)
        self._is_over = True
        self._thread.join()
        if self._sent:
            message = f"{self._peer.name} still lacks {len(self._sent)} hashes"
            raise RuntimeError(message)

    def _run(self) -> None:
        while not self._is_over:
            time.sleep(_ASK_SECONDS)
            with self._lock:
                values = list(self._sent)
            if values:
                self._ask(values)

    def _ask(self, values: list[str]) -> None:
        queries = [{"type": "pdq", "value": value} for value in values]
        answer = self._peer.client.post("/v1/lookup", {"queries": queries})
        now = time.perf_counter()
        results = cast("list[Json]", answer["results"])
        with self._lock:
            for value, result in zip(values, results, strict=True):
                if result["matches"]:
                    self.seconds.append(now - self._sent.pop(value))


def run(options: Options, results: Results) -> None:
    """Publish steadily, and see when each peer matches."""
    count = _QUICK_REQUESTS if options.quick else _REQUESTS
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory:
        owner = make_company(Path(directory), "owner.example")
        peers = [
            make_company(Path(directory), f"peer-{number}.example")
            for number in range(_PEERS)
        ]
        try:
            for company in (owner, *peers):
                company.start()
            _connect(owner, peers)
            row = _publish(owner, peers, count)
        finally:
            for company in (*peers, owner):
                company.stop()
    results.add("five-peers", row)
    print(
        f"  {row['per_second']:.0f} records/s to {_PEERS} peers:"
        f" p50 {row['p50_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms"
    )


def _connect(owner: Company, peers: list[Company]) -> None:
    owner.client.post("/v1/lists", {"name": LIST})
    for peer in peers:
        for here, there in ((owner, peer), (peer, owner)):
            here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
        owner.client.post("/v1/grants", {"peer": peer.name, "list": LIST})
        peer.client.post("/v1/follows", {"peer": owner.name, "list": LIST})


def _publish(owner: Company, peers: list[Company], count: int) -> dict[str, float]:
    watches = [_Watch(peer) for peer in peers]
    began = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, began + number * _PERIOD_SECONDS - time.perf_counter()))
        digests = [secrets.token_bytes(32) for _ in range(_TOGETHER)]
        sent_at = time.perf_counter()
        owner.client.post(
            path_of("lists", LIST, "records"),
            {"records": [record_of(digest) for digest in digests]},
        )
        for watch in watches:
            watch.expect(digests[-1].hex(), sent_at)
    seconds = time.perf_counter() - began
    for watch in watches:
        watch.finish()
    taken = [1000 * it for watch in watches for it in watch.seconds]
    return {
        "peers": _PEERS,
        "per_second": count * _TOGETHER / seconds,
        "p50_ms": percentile(taken, 50),
        "p99_ms": percentile(taken, 99),
        "max_ms": max(taken),
    }
