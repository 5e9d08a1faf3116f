"""The snapshot file: what is written is read, what is damaged is refused."""

from __future__ import annotations

import hashlib
import os
import random
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hashlight_node.matching.matcher import Rows
from hashlight_node.matching.snapshot import (
    Flaw,
    Head,
    SnapshotError,
    SnapshotFile,
    TooScatteredError,
    decode,
    encode,
    head_of,
)
from hashlight_node.model import FeedMark

if TYPE_CHECKING:
    from pathlib import Path

MARK = FeedMark(2**40, 2**41 + 1, 2**42 + 7)


def make_rows(pdq: int, exact: int, *, seed: int = 1) -> Rows:
    """Make rows with ids in no order, some of them huge."""
    chance = np.random.default_rng(seed)
    ids = chance.permutation(np.arange(1, pdq + exact + 1)) * 3
    if len(ids):
        ids[0] += 2**50
    return Rows(
        pdq_ids=ids[:pdq],
        pdq_hashes=chance.integers(0, 256, (pdq, 32), dtype=np.uint8),
        exact_digests=chance.integers(-(2**63), 2**63, exact, dtype=np.int64),
        exact_ids=ids[pdq:],
        exact_sizes={},
    )


def content_of(rows: Rows) -> tuple[dict[int, bytes], dict[int, int]]:
    hashes = map(bytes, rows.pdq_hashes)
    return (
        dict(zip(rows.pdq_ids.tolist(), hashes, strict=True)),
        dict(zip(rows.exact_ids.tolist(), rows.exact_digests.tolist(), strict=True)),
    )


def written(rows: Rows) -> bytes:
    return b"".join(encode(head_of(rows, MARK, written_at=99), rows))


def save(path: Path, rows: Rows) -> SnapshotFile:
    path.write_bytes(written(rows))
    return SnapshotFile.open(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.index"


@pytest.mark.parametrize(
    ("pdq", "exact"), [(0, 0), (1, 0), (0, 1), (1639, 4096), (70_000, 40_000)]
)
def test_what_is_written_is_read(path: Path, pdq: int, exact: int) -> None:
    rows = make_rows(pdq, exact)
    raw = written(rows)
    head, found = decode(raw)
    assert head == Head(MARK, pdq, exact, 99)
    assert len(raw) == head.total_bytes
    assert content_of(found) == content_of(rows)
    assert found.pdq_ids.tolist() == sorted(rows.pdq_ids.tolist())
    file = save(path, rows)
    assert file.head == head
    assert content_of(file.load()) == content_of(rows)
    file.close()


def test_small_ids_may_come_in_a_small_type(path: Path) -> None:
    rows = make_rows(10, 10)
    narrow = rows._replace(
        pdq_ids=np.arange(2**32 - 10, 2**32, dtype=np.uint32),
        exact_ids=np.arange(10, dtype=np.uint32) + 1,
    )
    found = decode(written(narrow))[1]
    assert found.pdq_ids.tolist() == narrow.pdq_ids.tolist()
    file = save(path, narrow)
    file.wipe([2**32 - 1, 3])
    assert len(file.load().pdq_ids) == 9
    file.close()


def test_every_damaged_byte_is_found() -> None:
    raw = bytearray(written(make_rows(3000, 200)))
    chance = random.Random(4)  # noqa: S311 - the same bytes in every run
    places = [*range(128), *chance.sample(range(128, len(raw)), 200), len(raw) - 1]
    for at in places:
        bit = 1 << chance.randrange(8)
        raw[at] ^= bit
        with pytest.raises(SnapshotError):
            decode(bytes(raw))
        raw[at] ^= bit
    decode(bytes(raw))


@pytest.mark.parametrize("length", [0, 8, 127, 128, 129, -1])
def test_a_file_of_another_length_is_refused(path: Path, length: int) -> None:
    raw = written(make_rows(2000, 2000))
    path.write_bytes(raw[:length])
    with pytest.raises(SnapshotError) as caught:
        SnapshotFile.open(path)
    assert caught.value.flaw in {Flaw.OTHER_VERSION, Flaw.DAMAGED}
    with pytest.raises(SnapshotError):
        decode(raw + b"\0")


def _signed(head: bytes) -> bytes:
    return head + hashlib.sha256(head).digest()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (8, b"\0\0\2\0"),  # Blocks of another size.
        (12, b"\1"),  # Something that is not known yet.
        (40, b"\xff" * 8),  # More rows than there can be.
        (48, b"\xff" * 8),
    ],
)
def test_a_head_that_we_do_not_know_is_refused(at: int, value: bytes) -> None:
    head = bytearray(written(make_rows(1, 1))[:96])
    head[at : at + len(value)] = value
    with pytest.raises(SnapshotError) as caught:
        Head.parse(_signed(bytes(head)))
    assert caught.value.flaw is Flaw.OTHER_VERSION


@pytest.mark.parametrize("ids", [[3, 3], [0x8000_0000_0000_0000]])
def test_rows_out_of_order_are_refused(ids: list[int]) -> None:
    rows = make_rows(0, 0)._replace(
        exact_ids=np.array(ids, dtype=np.uint64).view(np.int64),
        exact_digests=np.zeros(len(ids), dtype=np.int64),
    )
    raw = b"".join(encode(head_of(rows, MARK, written_at=0), rows))
    if len(ids) == 1:
        body = np.array([-2], dtype="<i8").tobytes() + bytes(8)
        raw = raw[:128] + body + hashlib.sha256(body).digest()
    with pytest.raises(SnapshotError) as caught:
        decode(raw)
    assert caught.value.flaw is Flaw.DAMAGED


def test_what_is_wiped_is_gone_from_the_file_and_the_rest_is_as_it_was(
    path: Path,
) -> None:
    rows = make_rows(9000, 5000)
    hashes, digests = content_of(rows)
    file = save(path, rows)
    chance = random.Random(5)  # noqa: S311 - the same choices in every run
    known = [*hashes, *digests]
    for share in (1, 1, 300, 5000):
        dead = chance.sample(known, share)
        file.wipe([*dead, 1, 2**62])
        # Again, and what is not there: nothing happens.
        file.wipe(dead)
        raw = path.read_bytes()
        for signal_id in dead:
            known.remove(signal_id)
            if signal_id in hashes:
                assert hashes.pop(signal_id) not in raw
            else:
                digest = digests.pop(signal_id).to_bytes(8, "little", signed=True)
                assert digest not in raw
        assert content_of(file.load()) == (hashes, digests)
    file.wipe(())
    file.close()
    again = SnapshotFile.open(path)
    assert content_of(again.load()) == (hashes, digests)
    again.close()


def test_a_long_range_is_wiped_with_few_reads_and_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(30_000, 30_000)
    file = save(path, rows)
    calls: list[str] = []
    for name in ("pread", "pwrite", "fdatasync"):
        _count_calls(monkeypatch, name, calls)
    ids = sorted([*rows.pdq_ids.tolist(), *rows.exact_ids.tolist()])
    dead = ids[1000:31_000]
    # In each section half of them, in the order of their ids.
    with pytest.raises(TooScatteredError):
        file.wipe(dead, max_blocks=10)
    assert content_of(file.load()) == content_of(rows)
    assert calls.count("pwrite") == 0
    file.wipe(dead, max_blocks=30)
    kept = set(ids) - set(dead)
    found = file.load()
    assert {*found.pdq_ids.tolist(), *found.exact_ids.tolist()} == kept
    assert calls.count("pread") < 100
    assert calls.count("fdatasync") == 2
    file.close()


def _count_calls(monkeypatch: pytest.MonkeyPatch, name: str, calls: list[str]) -> None:
    call = getattr(os, name)

    def counted(*arguments: object) -> object:
        calls.append(name)
        return call(*arguments)

    monkeypatch.setattr(os, name, counted)


def test_neighbours_are_wiped_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(20_000, 0)
    file = save(path, rows)
    calls: list[str] = []
    _count_calls(monkeypatch, "pwrite", calls)
    file.wipe(sorted(rows.pdq_ids.tolist())[5000:15_000])
    # Values, marks, and a check for each block of them.
    assert len(calls) < 20
    assert len(file.load().pdq_ids) == 10_000
    file.close()


def test_a_file_that_was_cut_cannot_be_wiped(path: Path) -> None:
    rows = make_rows(20_000, 0)
    file = save(path, rows)
    os.truncate(path, 1000)
    with pytest.raises(OSError, match="shorter"):
        file.wipe(rows.pdq_ids.tolist())
    file.close()


def test_wiping_everything_leaves_nothing(path: Path) -> None:
    rows = make_rows(2000, 2000)
    file = save(path, rows)
    file.wipe([*rows.pdq_ids.tolist(), *rows.exact_ids.tolist()])
    found = file.load()
    assert (len(found.pdq_ids), len(found.exact_ids)) == (0, 0)
    file.close()


def test_a_hash_of_zeros_is_a_hash(path: Path) -> None:
    rows = make_rows(2, 0)._replace(pdq_hashes=np.zeros((2, 32), dtype=np.uint8))
    file = save(path, rows)
    assert len(file.load().pdq_ids) == 2
    file.wipe([int(rows.pdq_ids[0])])
    assert file.load().pdq_ids.tolist() == [int(rows.pdq_ids[1])]
    file.close()


class Killed(BaseException):
    """Stands for the end of the process."""


def wipe_torn(file: SnapshotFile, dead: list[int], survived: int) -> bool:
    """Wipe, but let only so many writes pass and tear the next; tell if all passed."""
    write, left = os.pwrite, iter(range(survived))

    def tear(number: int, data: bytes, at: int) -> int:
        if next(left, None) is not None:
            return write(number, data, at)
        write(number, data[: len(data) // 2], at)
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", tear)
        try:
            file.wipe(dead)
        except Killed:
            return False
    return True


def test_who_is_killed_while_wiping_leaves_what_is_refused_or_as_before(
    path: Path,
) -> None:
    rows = make_rows(5000, 3000)
    before = content_of(rows)
    dead = [int(rows.pdq_ids[7]), int(rows.exact_ids[9]), int(rows.pdq_ids[70])]
    refused = 0
    for survived in count():
        file = save(path, rows)
        is_done = wipe_torn(file, dead, survived)
        file.close()
        again = SnapshotFile.open(path)
        try:
            found = content_of(again.load())
        except SnapshotError:
            refused += 1
        else:
            assert is_done or found == before
        # Whatever was torn: the next start wipes it.
        again.wipe(dead)
        again.close()
        raw = path.read_bytes()
        assert not any(before[0][it] in raw for it in dead[::2])
        if is_done:
            break
    assert refused > 6
