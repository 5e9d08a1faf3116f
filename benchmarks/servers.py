"""Starts the servers that are compared over HTTP, and fills ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from benchmarks.hashes import load
from benchmarks.measuring import children_of
from hashlight_node.demo.company import make_company
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hashlight_node.local_client import LocalClient

LIST: Final = "ncii"

_BATCH: Final = 1000
_START_SECONDS: Final = 900.0
_SHOWN_EVERY: Final = 100_000


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is running.

    Attributes:
        address: Where it listens.
        process: Its first process; all others descend from it.
        token: For our API.
    """

    address: tuple[str, int]
    process: int
    token: str = ""


@contextmanager
def our_node(hashes: Path, *, config: str = "") -> Iterator[tuple[Server, float]]:
    """Run a node that has published all hashes, one record each, on a list of its own.

    Args:
        hashes: File of hashes.
        config: TOML that is added to the node's configuration.

    Yields:
        The node, and how many records a second it has published.
    """
    with tempfile.TemporaryDirectory(prefix="hashlight-bench-") as directory:
        company = make_company(Path(directory), "bench.example", policy=config)
        others = set(children_of(os.getpid()))
        company.start()
        try:
            rate = _publish(company.client, hashes)
            host, _, port = company.client.address.rpartition(":")
            (process,) = set(children_of(os.getpid())) - others
            yield Server((host, int(port)), process, company.client.token), rate
        finally:
            company.stop()


def _publish(client: LocalClient, file: Path) -> float:
    hashes = load(file)
    client.post("/v1/lists", {"name": LIST})
    started = time.perf_counter()
    for first in range(0, len(hashes), _BATCH):
        records = [record_of(row.tobytes()) for row in hashes[first : first + _BATCH]]
        client.post(path_of("lists", LIST, "records"), {"records": records})
        if first and first % _SHOWN_EVERY == 0:
            print(f"  published {first:,}", flush=True)
    return len(hashes) / (time.perf_counter() - started)


def record_of(digest: bytes) -> dict[str, object]:
    """Make a record with one PDQ hash, as `POST /v1/lists/{list}/records` takes it."""
    return {
        "type": "indicator",
        "kind": "image",
        "signals": [{"type": "pdq", "value": digest.hex()}],
        "labels": [{"scheme": "ncii", "value": "adult"}],
        "source": "platform",
        "review": {"level": "human"},
        "created": "2026-01-01T00:00:00Z",
    }


@contextmanager
def peer_service(hashes: Path) -> Iterator[Server]:
    """Run `peer_service` under gunicorn, one worker, connections kept open."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
        # The plain worker closes each connection; this one serves the peer better.
        *("--workers", "1", "--worker-class", "gthread", "--threads", "1"),
        *("--keep-alive", "60", "--timeout", "0", "--log-level", "warning"),
        f"benchmarks.peer_service:make_app({str(hashes)!r})",
    ]
    # faiss starts a thread for each core otherwise, which wait busily for each other.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
    try:
        _wait_for(port, process)
        yield Server(("127.0.0.1", port), process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < give_up_at:
        with suppress(OSError, HTTPException):
            connection = HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
            connection.request("GET", "/status")
            connection.getresponse().read()
            connection.close()
            return
        time.sleep(0.1)
    message = "the peer's service did not start"
    raise RuntimeError(message)


def free_port() -> int:
    """Give a port of this machine that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])
