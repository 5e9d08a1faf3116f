"""What a process that stands by does with the store that another process writes.

It keeps its own last-signed store up to what the one that leads has signed. So if it
takes the lead, it knows what was signed last, and a database that is older than that
was restored, whoever signed it.

It also wakes peers that wait for news of a log, whichever process brought the news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.last_signed import read_signed
from hashlight_node.model import Role
from hashlight_node.store import logs
from hashlight_protocol import ProtocolError, frontier_from_tiles, open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.exchange.notices import Notices
    from hashlight_node.keys import Keyring
    from hashlight_node.last_signed import LastSigned
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection, Reader


def learn_signed(conn: Connection, keyring: Keyring, last_signed: LastSigned) -> None:
    """Learn what other processes of this node have signed of its logs.

    What is newer than we know, extends it and is signed by our keys. Nothing else: what
    does not fit, or is older, is for the self-check to judge.

    Args:
        conn: In a transaction.
        keyring: Knows the keys of our logs.
        last_signed: Of this machine.

    Raises:
        LastSignedError: The disk does not take it.
    """
    for log in logs.list_logs(conn, Role.OWN):
        if log.checkpoint is None or not keyring.has_log(log.origin):
            continue
        if _extends(conn, log, last_signed):
            try:
                open_checkpoint(
                    log.checkpoint, keyring.log_keys(log.origin), origin=log.origin
                )
            except ProtocolError:
                continue
            last_signed.learn(log.checkpoint)


def _extends(conn: Connection, log: Log, last_signed: LastSigned) -> bool:
    """Tell whether a log of ours goes on where we know it to end."""
    newest = last_signed.newest(log.origin)
    if newest is None:
        return True
    head = read_signed(log.checkpoint or b"").head
    if head == newest.head:
        # The same tree. What was prepared here was never committed, or is known.
        return last_signed.prepared(log.origin) is not None
    if head.tree_size <= newest.head.tree_size:
        return False
    tiles = logs.tile_fetcher(conn, log.log_id)
    before = frontier_from_tiles(tiles, newest.head.tree_size)
    return before.root == newest.head.root_hash


def unsigned_logs(conn: Connection, keyring: Keyring) -> Sequence[str]:
    """List logs of ours that go on and whose keys this process does not have."""
    return [
        log.origin
        for log in logs.list_logs(conn, Role.OWN)
        if log.counts_until is None and not keyring.has_log(log.origin)
    ]


class Waker:
    """Wakes long polls when the store says that a log has another checkpoint.

    Args:
        database: The store, written by another process.
        notices: Where peers wait.
    """

    def __init__(self, database: Reader, notices: Notices) -> None:
        self._database = database
        self._notices = notices
        self._seen: dict[str, bytes | None] = {}

    async def look(self) -> None:
        """Look once; to be called after a commit."""
        now = await self._database.read(_checkpoints)
        for origin, note in now.items():
            if self._seen.get(origin) != note:
                self._notices.wake(origin)
        self._seen = now


def _checkpoints(conn: Connection) -> dict[str, bytes | None]:
    """Give of each log what peers are shown of it."""
    return {
        log.origin: log.mirror_checkpoint or log.checkpoint
        for log in logs.list_logs(conn)
    }
