"""Memory is filled from a snapshot only where that gives what the store holds."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from hashlight_node.exchange.looking_up import snapshots as exchange_snapshots
from hashlight_node.exchange.looking_up.snapshots import discard
from hashlight_node.matching.snapshot import Flaw, SnapshotFile
from hashlight_node.model import SignalChange
from hashlight_node.store import changes, signals
from hashlight_protocol import Erase, Reason, Retract
from support.clock import START
from support.kept_memory import keep_memory, resume_log
from support.made_records import indicator, pdq_of
from support.stored_log import StoredLog, present
from support.stores import back_up, make_store, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.kept_memory import KeptMemory


@pytest.fixture
def url(tmp_path: Path) -> str:
    return make_store(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hashlight.db.index"


def is_in(path: Path, number: int) -> bool:
    return bytes.fromhex(pdq_of(number)) in path.read_bytes()


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names_beside(path: Path) -> list[str]:
    return [it.name for it in path.parent.glob("*.index*")]


def is_anywhere(path: Path, ending: str) -> bool:
    return any(it.endswith(ending) for it in names_beside(path))


def put_in_the_way(path: Path) -> None:
    path.mkdir()
    (path / "something").touch()


async def start(memory: KeptMemory, count: int) -> StoredLog:
    log = await memory.database.write(resume_log)
    await memory.append(log, *(present(indicator(n)) for n in range(count)))
    return log


async def test_a_node_starts_with_what_its_snapshot_says(url: str, path: Path) -> None:
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.MISSING
        assert not await memory.snapshots.save()
        await start(memory, 30)
        assert await memory.snapshots.save()
        assert not await memory.snapshots.save()
        assert mode_of(path) == 0o600
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        assert memory.matcher.sizes() == {"pdq": 30, "md5": 30}
        await memory.check()
        # There is nothing new to write.
        assert not await memory.snapshots.save()


async def test_what_changed_since_is_applied(url: str, path: Path) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 20)
        await memory.append(log, Retract(2, 2, Reason.WITHDRAWN))
        await memory.snapshots.save()
        await memory.append(log, Retract(5, 3, Reason.WITHDRAWN))
        await memory.append(log, Erase(8, 3, Reason.WITHDRAWN))
        await memory.append(log, *(present(indicator(n)) for n in (1, 2, 40, 41)))
        await memory.append(log, Erase(24, 1, Reason.WITHDRAWN))
        await memory.check()
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        await memory.check()
        assert await memory.snapshots.save()
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        await memory.check()


async def test_what_dies_is_wiped_at_once_and_what_died_meanwhile_at_the_next_start(
    url: str, path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 10)
        await memory.snapshots.save()
        await memory.append(log, Retract(1, 1, Reason.WITHDRAWN))
        assert [n for n in range(10) if is_in(path, n)] == [*range(1, 10)]
        # Killed between the commit and what follows it.
        await memory.database.write(
            lambda conn: log.append(conn, Erase(2, 2, Reason.WITHDRAWN))
        )
        assert is_in(path, 2)
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        assert [n for n in range(10) if is_in(path, n)] == [*range(3, 10)]
        await memory.check()


async def test_what_dies_while_a_snapshot_is_written_is_not_in_it(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    write = exchange_snapshots._write  # noqa: SLF001

    def held(draft: Path, pieces: Iterator[bytes]) -> int:
        file = write(draft, pieces)
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return file

    async with keep_memory(url, path) as memory:
        log = await start(memory, 10)
        monkeypatch.setattr(exchange_snapshots, "_write", held)
        for dead, is_cancelled in ((3, False), (5, True)):
            writing.clear()
            go_on.clear()
            saving = asyncio.create_task(memory.snapshots.save())
            await writing.wait()
            # What is being written has no name yet.
            assert not is_anywhere(path, ".new")
            await memory.append(log, Erase(dead, 1, Reason.WITHDRAWN))
            if is_cancelled:
                saving.cancel()
            go_on.set()
            await asyncio.wait((saving,))
            if is_cancelled:
                # It goes on by itself; whoever closes waits for it.
                await memory.snapshots.close()
            assert not is_in(path, dead - 1)
            assert is_in(path, 0)
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        await memory.check()


async def test_what_dies_and_comes_back_before_the_copy_is_taken_stays(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 3)
        take = memory.snapshots._take  # noqa: SLF001

        async def die_and_revive() -> object:
            await memory.append(log, Retract(1, 1, Reason.WITHDRAWN))
            await memory.append(log, present(indicator(0)))
            return await take()

        monkeypatch.setattr(memory.snapshots, "_take", die_and_revive)
        assert await memory.snapshots.save()
        assert is_in(path, 0)
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        await memory.check()


def _break_block(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[200] ^= 1
    path.write_bytes(raw)


def _break_head(path: Path) -> None:
    path.write_bytes(b"something else".ljust(300, b"."))


def _make_unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("harm", "flaw"),
    [
        (_break_block, Flaw.DAMAGED),
        (_break_head, Flaw.OTHER_VERSION),
        (_make_unreadable, Flaw.UNREADABLE),
    ],
)
async def test_a_snapshot_that_cannot_be_used_is_deleted_and_the_store_is_read(
    url: str, path: Path, harm: Callable[[Path], None], flaw: Flaw
) -> None:
    async with keep_memory(url, path) as memory:
        await start(memory, 10)
        await memory.snapshots.save()
    harm(path)
    path.with_name(f"{path.name}.new").touch()
    with capture_logs() as lines:
        async with keep_memory(url, path) as memory:
            assert memory.filled.flaw is flaw
            assert names_beside(path) == []
            await memory.check()
            assert await memory.snapshots.save()
    assert [it["code"] for it in lines] == [flaw]
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None


async def test_a_snapshot_of_another_history_is_not_used(
    url: str, path: Path, tmp_path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 2)
    newer = tmp_path / "newer"
    back_up(tmp_path)
    async with keep_memory(url, path) as memory:
        await memory.append(log, present(indicator(7)), now=START + 5)
        await memory.snapshots.save()
    shutil.copy(path, newer)
    # The database comes back from a backup, and goes on differently.
    restore(tmp_path)
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.OTHER_HISTORY
        log = await memory.database.write(resume_log)
        await memory.append(log, present(indicator(8)), now=START + 9)
    shutil.copy(newer, path)
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.OTHER_HISTORY
        await memory.check()


async def test_a_snapshot_that_is_not_what_the_store_holds_is_not_used(
    url: str, path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        await start(memory, 5)
        memory.matcher.apply([SignalChange(1, "md5", "0" * 32, live=True)])
        memory.matcher.apply([SignalChange(9999, "pdq", "0" * 64, live=True)])
        await memory.snapshots.save()
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.INCOMPLETE
        await memory.check()


async def test_a_snapshot_that_is_too_old_is_not_used(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_snapshots, "_FEW_CHANGES", 5)
    async with keep_memory(url, path) as memory:
        log = await start(memory, 2)
        await memory.snapshots.save()
        await memory.append(log, *(present(indicator(n)) for n in range(10, 13)))
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.TOO_OLD
        await memory.check()
        # And when the feed has forgotten what came after it.
        await memory.snapshots.save()
        await memory.append(log, present(indicator(20)), now=START + 50)
        await memory.append(log, present(indicator(21)), now=START + 99)
        await memory.database.write(
            lambda conn: changes.prune_changes(conn, START + 99)
        )
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.OTHER_HISTORY
        await memory.check()


async def test_a_disk_that_is_full_leaves_the_old_snapshot(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 5)
        await memory.snapshots.save()
        await memory.append(log, present(indicator(9)))

        def refuse(_: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(os, "fsync", refuse)
            assert not await memory.snapshots.save()
        assert [it["code"] for it in lines] == ["storage-full"]
        assert names_beside(path) == [path.name]
        await memory.append(log, Erase(1, 1, Reason.WITHDRAWN))
        assert not is_in(path, 0)
        assert await memory.snapshots.save()


async def test_a_snapshot_that_cannot_be_wiped_is_deleted(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 5)
        await memory.snapshots.save()

        def refuse(*_: object) -> int:
            raise OSError(errno.EIO, "broken")

        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(os, "pwrite", refuse)
            await memory.append(log, Erase(1, 1, Reason.WITHDRAWN))
        assert [it["code"] for it in lines] == ["storage-error"]
        assert names_beside(path) == []
        await memory.append(log, Erase(2, 1, Reason.WITHDRAWN))
        assert await memory.snapshots.save()
        await memory.append(log, Erase(3, 1, Reason.WITHDRAWN))
        assert [n for n in range(5) if is_in(path, n)] == [3, 4]


async def test_a_snapshot_of_which_too_much_dies_is_deleted_before_anybody_is_told(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_snapshots, "_WIPED_BLOCKS", 0)
    async with keep_memory(url, path) as memory:
        log = await start(memory, 5)
        await memory.snapshots.save()
        with capture_logs() as lines:
            await memory.append(log, Erase(1, 1, Reason.WITHDRAWN))
        assert [it["log_level"] for it in lines] == ["info"]
        assert names_beside(path) == []
        await memory.append(log, Erase(2, 1, Reason.WITHDRAWN))
        assert await memory.snapshots.save()
        assert [n for n in range(5) if is_in(path, n)] == [2, 3, 4]
        # Killed before the wipe: at a start nobody waits, however much there is.
        await memory.database.write(
            lambda conn: log.append(conn, Erase(3, 1, Reason.WITHDRAWN))
        )
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        assert [n for n in range(5) if is_in(path, n)] == [3, 4]
        await memory.check()


async def test_lookups_do_not_wait_for_the_wipe_but_the_writer_does(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiping, go_on = threading.Event(), threading.Event()
    wipe = SnapshotFile.wipe

    def held(self: SnapshotFile, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        wiping.set()
        assert go_on.wait(10)
        wipe(self, *args, **kwargs)

    async with keep_memory(url, path) as memory:
        log = await start(memory, 5)
        await memory.snapshots.save()
        monkeypatch.setattr(SnapshotFile, "wipe", held)
        appending = asyncio.create_task(
            memory.append(log, Erase(1, 1, Reason.WITHDRAWN))
        )
        await asyncio.to_thread(wiping.wait)
        for _ in range(5):
            sizes = await asyncio.wait_for(
                memory.database.read_settled(signals.count_live), 5
            )
            assert sizes == {"pdq": 4, "md5": 4} == memory.matcher.sizes()
        assert is_in(path, 0)
        assert not appending.done()
        go_on.set()
        await appending
        assert not is_in(path, 0)


async def test_a_store_that_is_older_than_its_feed_gets_a_snapshot(
    url: str, path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        log = await start(memory, 5)
        await memory.append(log, Retract(1, 1, Reason.WITHDRAWN))
        # As after the migration that brought the feed.
        await memory.database.write(
            lambda conn: conn.execute(text("DELETE FROM signal_changes"))
        )
        assert await memory.snapshots.save()
        assert not await memory.snapshots.save()
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        assert await memory.database.read(changes.newest_seq) == 1
        await memory.check()
        await memory.append(log, Erase(2, 1, Reason.WITHDRAWN))
        assert [n for n in range(5) if is_in(path, n)] == [2, 3, 4]
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None
        await memory.check()


async def test_a_draft_that_cannot_take_its_place_is_closed_and_deleted(
    url: str, path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        await start(memory, 5)
        put_in_the_way(path)
        assert not await memory.snapshots.save()
        assert names_beside(path) == [path.name]


async def test_where_files_must_have_names_a_draft_has_one(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_snapshots, "_UNNAMED", os.O_CREAT)
    async with keep_memory(url, path) as memory:
        log = await start(memory, 5)
        assert await memory.snapshots.save()
        await memory.append(log, Erase(1, 1, Reason.WITHDRAWN))
        assert await memory.snapshots.save()
        assert names_beside(path) == [path.name]
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is None


def test_a_snapshot_that_nobody_keeps_is_discarded(path: Path) -> None:
    discard(path)
    path.touch()
    path.with_name(f"{path.name}.new").touch()
    discard(path)
    assert list(path.parent.iterdir()) == []


async def test_a_snapshot_is_read_by_others_as_it_is_on_disk(
    url: str, path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        await start(memory, 5)
        await memory.snapshots.save()
        async with memory.snapshots.export() as pieces:
            assert b"".join(pieces) == content_of(path)
        file = SnapshotFile.open(path)
        assert file.head.written_at == START
        file.close()


async def test_a_snapshot_that_went_after_it_was_read_is_written_anew(
    url: str, path: Path
) -> None:
    async with keep_memory(url, path) as memory:
        await start(memory, 3)
        await memory.snapshots.save()
    async with keep_memory(url, path) as memory:
        await memory.snapshots.close()
        discard(path)
        # As for a node whose memory another process filled.
        await memory.database.read(
            lambda conn: memory.snapshots.adopt(conn, memory.filled)
        )
        assert await memory.snapshots.save()
        assert names_beside(path) == [path.name]


async def test_a_snapshot_that_the_disk_does_not_give_is_not_used(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keep_memory(url, path) as memory:
        await start(memory, 3)
        await memory.snapshots.save()

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", refuse)
    async with keep_memory(url, path) as memory:
        assert memory.filled.flaw is Flaw.UNREADABLE
        await memory.check()
