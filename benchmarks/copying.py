"""A list goes from one node to another: publishing it, copying it, reading it back."""

from __future__ import annotations

import json
import secrets
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from benchmarks.measuring import children_of, cpu_seconds
from benchmarks.servers import LIST
from hashlight_node.model import Role
from hashlight_node.store import logs, records
from hashlight_node.store.backends import backend_of
from hashlight_protocol import TILE_WIDTH

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json

_PAGES: Final = 60
_LOOKS_EVERY_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 7200.0


def import_random(directory: Path, owner: Company, count: int) -> dict[str, object]:
    """Publish so many random hashes with `hashlight import`, and time that."""
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


def connect(owner: Company, peer: Company) -> None:
    """Let two companies know each other, and the one have the other's list."""
    for here, there in ((owner, peer), (peer, owner)):
        here.client.post("/v1/peers", {"base": there.base, "vkey": there.vkey})
    owner.client.post("/v1/grants", {"peer": peer.name, "list": LIST})


def copy(owner: Company, late: Company, count: int) -> dict[str, object]:
    """Let a new peer follow the list, and look at it until it has everything.

    Args:
        owner: Whose list it is; it knows the peer.
        late: The peer.
        count: Records of the list.

    Returns:
        What it took: time, CPU time of both nodes without their databases, and the
        most memory that the peer's node had.
    """
    process, other = process_of(late), process_of(owner)
    cpu, others = cpu_seconds([process]), cpu_seconds([other])
    began = time.perf_counter()
    late.client.post("/v1/follows", {"peer": owner.name, "list": LIST})
    helper = 0
    while not _has(late, count):
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            message = f"the peer has not all after {_PATIENCE_SECONDS} s"
            raise RuntimeError(message)
        helper = max(helper, *(_peak_mb(it) for it in children_of(process)), 0)
        time.sleep(_LOOKS_EVERY_SECONDS)
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


def _has(late: Company, count: int) -> bool:
    lists = cast("list[Json]", late.client.get("/v1/status")["lists"])
    return any(cast("int", it["checkpoint_size"]) > count for it in lists)


def process_of(company: Company) -> int:
    """Give the number of a company's process, which must have been started."""
    process = company._process  # noqa: SLF001 -- ours, and asked here only
    assert process is not None  # noqa: S101 -- it was started
    return process.pid


def _peak_mb(process: int) -> int:
    """Tell the most memory that a process has had, files that it maps included."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [int(it.split()[1]) for it in lines if it.startswith("VmHWM:")]
    return sizes[0] // 1024 if sizes else 0


def pages(url: str, count: int) -> dict[str, object]:
    """Read the first and the last bundles of a copy, as they are served.

    Args:
        url: The peer's database.
        count: Records of the list.
    """
    with backend_of(url).reader_engine(1).connect() as conn:
        (log,) = logs.list_logs(conn, Role.FOLLOWED)
        last = log.checkpoint_size // TILE_WIDTH - _PAGES
        taken = [
            (_read(conn, log.log_id, 0), _read(conn, log.log_id, last))
            for _ in range(2)
        ]
    first_us, last_us = (min(it) for it in zip(*taken, strict=True))
    return {
        "what": "pages",
        "size": count,
        "first_us": first_us,
        "last_us": last_us,
        "ratio": last_us / first_us,
    }


def _read(conn: Connection, log_id: int, first: int) -> float:
    times = []
    for index in range(max(first, 0), first + _PAGES):
        began = time.perf_counter()
        logs.read_entry_bundle(conn, log_id, index, TILE_WIDTH)
        records.read_bodies(conn, log_id, index, TILE_WIDTH)
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
