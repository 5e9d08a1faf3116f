"""What was signed last is kept outside the database; nothing else is extended."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hashlight_node.last_signed import (
    LastSigned,
    LastSignedError,
    LastSignedInUseError,
    NotNewestError,
    read_signed,
)
from hashlight_protocol import (
    EMPTY_ROOT,
    Checkpoint,
    Ed25519Signer,
    KnownHead,
    origin_hash,
    sign_checkpoint,
)
from support.processes import python_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
OTHER = "shield.example/hsf/v1/log/other/1"
EMPTY = KnownHead(0, EMPTY_ROOT)


def note(size: int, *, origin: str = ORIGIN, branch: int = 0) -> bytes:
    signer = Ed25519Signer(origin, 1, bytes(32))
    root = bytes([branch]) * 30 + size.to_bytes(2, "big")
    return sign_checkpoint(Checkpoint(origin, size, root), (signer,))


def head(size: int) -> KnownHead:
    return read_signed(note(size)).head


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LastSigned]:
    opened = LastSigned.open(tmp_path / "last-signed")
    yield opened
    opened.close()


def reopen(store: LastSigned, tmp_path: Path) -> LastSigned:
    store.close()
    return LastSigned.open(tmp_path / "last-signed")


def path_of(tmp_path: Path, kind: str, origin: str = ORIGIN) -> Path:
    return tmp_path / "last-signed" / f"{origin_hash(origin)}.{kind}"


def sign(store: LastSigned, old: KnownHead, size: int) -> None:
    store.prepare(note(size), extends=old)
    store.settle(ORIGIN)


def test_what_is_prepared_counts_once_it_is_settled(
    store: LastSigned, tmp_path: Path
) -> None:
    store.prepare(note(1), extends=EMPTY)
    assert store.newest(ORIGIN) is None
    assert store.prepared(ORIGIN) == read_signed(note(1))
    assert path_of(tmp_path, "prepared").read_bytes() == note(1)
    store.settle(ORIGIN)
    assert store.newest(ORIGIN) == read_signed(note(1))
    assert store.prepared(ORIGIN) is None
    assert path_of(tmp_path, "signed").read_bytes() == note(1)
    assert not path_of(tmp_path, "prepared").exists()
    store.settle(ORIGIN)
    assert store.origins() == {ORIGIN}


def test_both_phases_are_there_after_a_restart(
    store: LastSigned, tmp_path: Path
) -> None:
    sign(store, EMPTY, 1)
    store.prepare(note(2), extends=head(1))
    again = reopen(store, tmp_path)
    assert again.newest(ORIGIN) == read_signed(note(1))
    assert again.prepared(ORIGIN) == read_signed(note(2))
    again.discard(ORIGIN)
    assert not path_of(tmp_path, "prepared").exists()
    again.close()


def test_nothing_is_prepared_that_does_not_extend_what_was_signed(
    store: LastSigned,
) -> None:
    sign(store, EMPTY, 5)
    for old in (EMPTY, head(4), head(6), KnownHead(5, bytes(32))):
        with pytest.raises(NotNewestError) as caught:
            store.prepare(note(9), extends=old)
        assert caught.value.newest == head(5)
    assert store.prepared(ORIGIN) is None


def test_a_log_of_which_nothing_is_known_can_only_begin(store: LastSigned) -> None:
    with pytest.raises(NotNewestError) as caught:
        store.prepare(note(9), extends=head(8))
    assert caught.value.newest is None
    store.prepare(note(1, origin=OTHER), extends=EMPTY)


def test_a_transaction_that_failed_leaves_nothing_in_the_way(store: LastSigned) -> None:
    sign(store, EMPTY, 5)
    store.prepare(note(9), extends=head(5))
    store.prepare(note(7), extends=head(5))
    assert store.prepared(ORIGIN) == read_signed(note(7))


def test_a_transaction_may_sign_twice(store: LastSigned) -> None:
    """The second extends the first, and neither counts before the commit."""
    sign(store, EMPTY, 5)
    store.prepare(note(6), extends=head(5))
    store.prepare(note(7), extends=head(6))
    assert store.newest(ORIGIN) == read_signed(note(5))
    store.settle(ORIGIN)
    assert store.newest(ORIGIN) == read_signed(note(7))


def test_what_the_disk_did_not_let_settle_is_settled_by_the_next(
    store: LastSigned, tmp_path: Path
) -> None:
    sign(store, EMPTY, 5)
    store.prepare(note(6), extends=head(5))
    away = tmp_path / "away"
    path_of(tmp_path, "prepared").rename(away)
    with pytest.raises(LastSignedError):
        store.settle(ORIGIN)
    away.rename(path_of(tmp_path, "prepared"))
    store.prepare(note(7), extends=head(6))
    assert store.newest(ORIGIN) == read_signed(note(6))
    assert store.prepared(ORIGIN) == read_signed(note(7))


def test_what_a_peer_has_of_ours_counts_as_signed(
    store: LastSigned, tmp_path: Path
) -> None:
    sign(store, EMPTY, 5)
    store.prepare(note(6), extends=head(5))
    store.learn(note(20))
    again = reopen(store, tmp_path)
    assert again.newest(ORIGIN) == read_signed(note(20))
    assert again.prepared(ORIGIN) is None
    again.close()


def test_after_a_contradiction_nothing_is_signed_any_more(
    store: LastSigned, tmp_path: Path
) -> None:
    sign(store, EMPTY, 5)
    store.contradict(note(4, branch=1))
    again = reopen(store, tmp_path)
    assert again.contradiction(ORIGIN) == read_signed(note(4, branch=1))
    with pytest.raises(NotNewestError):
        again.prepare(note(6), extends=head(5))
    again.close()


def test_two_processes_on_one_identity(store: LastSigned, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from hashlight_node.last_signed import LastSigned;"
        "LastSigned.open(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "last-signed")]

    def second() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command, env=python_path(), capture_output=True, check=False
        )

    refused = second()
    assert refused.returncode == 1
    assert b"LastSignedInUseError" in refused.stderr
    assert b"would fork its logs" in refused.stderr
    with pytest.raises(LastSignedInUseError):
        LastSigned.open(tmp_path / "last-signed")
    store.close()
    assert second().returncode == 0


def test_a_file_that_was_cut_off_while_it_was_written_is_forgotten(
    store: LastSigned, tmp_path: Path
) -> None:
    sign(store, EMPTY, 5)
    path_of(tmp_path, "draft").write_bytes(note(6)[:20])
    again = reopen(store, tmp_path)
    assert again.newest(ORIGIN) == read_signed(note(5))
    assert not path_of(tmp_path, "draft").exists()
    again.close()


@pytest.mark.parametrize("content", [b"", b"garbage", note(5, origin=OTHER)])
def test_a_damaged_store_is_refused(
    store: LastSigned, tmp_path: Path, content: bytes
) -> None:
    path_of(tmp_path, "signed").write_bytes(content)
    with pytest.raises(LastSignedError) as caught:
        reopen(store, tmp_path)
    assert caught.value.path == path_of(tmp_path, "signed")
    # The lock is given back: a mended one can be opened.
    path_of(tmp_path, "signed").unlink()
    LastSigned.open(tmp_path / "last-signed").close()


def test_a_store_that_cannot_be_written_signs_nothing(
    store: LastSigned, tmp_path: Path
) -> None:
    (tmp_path / "last-signed" / "lock").unlink()
    (tmp_path / "last-signed").rmdir()
    with pytest.raises(LastSignedError):
        store.prepare(note(1), extends=EMPTY)
    assert store.prepared(ORIGIN) is None
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LastSignedError):
        LastSigned.open(tmp_path / "file")
