"""A process that is killed anywhere: what is dead is in no file and matches no more."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from hashlight_node.matching.snapshot import Flaw
from support.kept_memory import keep_memory
from support.made_records import md5_of, pdq_of
from support.processes import python_path
from support.stores import make_store

if TYPE_CHECKING:
    from pathlib import Path

# Publishes, erases and retracts without end, and writes snapshots all the time. Given a
# number, it kills itself at the call of that number that changes a file's content.
WRITER = """
import asyncio, os, pathlib, random, signal, sys
from support.kept_memory import keep_memory, resume_log
from support.made_records import indicator
from support.stored_log import present
from hashlight_node.exchange.logs.scrubbing import scrub
from hashlight_node.observability import configure_logging
from hashlight_protocol import Erase, Reason, Retract

configure_logging("error")
left = int(sys.argv[3])

def watch(owner, name):
    call = getattr(owner, name)
    def watched(*arguments):
        global left
        left -= 1
        if left == 0:
            if name == "pwrite":
                file, data, at = arguments
                call(file, data[:len(data) // 2], at)
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments)
    setattr(owner, name, watched)

async def save(memory):
    while True:
        await memory.snapshots.save()
        await asyncio.sleep(0.001)

async def main():
    chance = random.Random(int(sys.argv[3]))
    async with keep_memory(sys.argv[1], pathlib.Path(sys.argv[2])) as memory:
        log = await memory.database.write(resume_log)
        await memory.snapshots.save()
        if left:
            for owner, name in ((os, "pwrite"), (os, "fdatasync"), (os, "fsync"),
                                (pathlib.Path, "rename")):
                watch(owner, name)
        saving = asyncio.create_task(save(memory))
        alive = list(range(1, log.size))
        print("ready", flush=True)
        while True:
            numbers = range(log.size, log.size + 1 + log.size % 7)
            await memory.append(log, *(present(indicator(n)) for n in numbers))
            alive += numbers
            dead = [alive.pop(chance.randrange(len(alive))) for _ in range(2)]
            await memory.append(log, Erase(dead[0], 1, Reason.WITHDRAWN),
                                Retract(dead[1], 1, Reason.WITHDRAWN))
            await scrub(memory.database)
            print("erased", dead[0], flush=True)
            alive = [n for n in alive if n < log.size - 2 or n in numbers]

asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return make_store(tmp_path)


def run_until_killed(url: str, path: Path, at_call: int, seconds: float) -> set[int]:
    """Run the writer; give the records of which it said that they are erased."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url, str(path), str(at_call)],
        stdout=subprocess.PIPE,
        env=python_path(),
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        if not at_call:
            time.sleep(seconds)
            writer.send_signal(signal.SIGKILL)
        # It may have been killed within its last line.
        *lines, _ = writer.stdout.read().split(b"\n")
    assert writer.returncode == -signal.SIGKILL
    return {int(line.split()[1]) for line in lines}


def check_erased(path: Path, erased: set[int]) -> None:
    everything = b"".join(it.read_bytes() for it in sorted(path.parent.iterdir()))
    for number in erased:
        assert bytes.fromhex(pdq_of(number)) not in everything
        assert pdq_of(number).encode() not in everything
        assert md5_of(number).encode() not in everything


@pytest.mark.timeout(300)
async def test_what_is_live_after_any_kill_is_what_the_store_says(
    url: str, tmp_path: Path
) -> None:
    path = tmp_path / "hashlight.db.index"
    chance = random.Random(3)  # noqa: S311 - the same moments in every run
    erased: set[int] = set()
    flaws: list[Flaw | None] = []
    for at_call in (*range(1, 8), 12, 40, 0, 0):
        seconds = chance.uniform(0, 0.3)
        reported = run_until_killed(url, path, at_call, seconds)
        erased |= reported
        # What was reported is gone before anybody starts us again.
        check_erased(path, erased)
        async with keep_memory(url, path) as memory:
            flaws.append(memory.filled.flaw)
            await memory.check()
            check_erased(path, erased)
    assert len(erased) > 5
    # As good as before, or torn and refused.
    assert set(flaws) == {None, Flaw.MISSING, Flaw.DAMAGED}
