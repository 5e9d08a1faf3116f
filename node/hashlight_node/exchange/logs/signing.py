"""Signing our own checkpoints: the key of a log and what it signed last, together.

There is no other way to a signature of a log of ours, so nothing is signed that does
not extend what was signed last, whatever database this node was started with.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from hashlight_node.exchange.errors import RolledBackError, UnconfirmedError
from hashlight_node.keys import signers_of
from hashlight_node.last_signed import NotNewestError, read_signed
from hashlight_node.model import LogState
from hashlight_node.store.database import on_commit
from hashlight_protocol import EMPTY_ROOT, KnownHead, sign_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashlight_node.keys import Keyring
    from hashlight_node.last_signed import LastSigned
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from hashlight_protocol import Checkpoint, Signer

    Signers = Sequence[Signer]

_EMPTY: Final = KnownHead(0, EMPTY_ROOT)


class LogSigning:
    """Signs checkpoints of our logs.

    Args:
        keyring: Has the keys of the logs.
        last_signed: Knows what they signed last.

    Attributes:
        keyring: The same, for what else is signed.
    """

    def __init__(self, keyring: Keyring, last_signed: LastSigned) -> None:
        self.keyring = keyring
        self._last_signed = last_signed

    def require(self, log: Log) -> None:
        """Refuse at once what `sign` would refuse in the end.

        Raises:
            RolledBackError: The log is older than what was signed last.
            UnconfirmedError: It is not known what was signed last.
        """
        if log.state is LogState.ROLLED_BACK:
            raise RolledBackError(log.list_name)
        if log.state is LogState.UNCONFIRMED:
            raise UnconfirmedError(log.list_name)

    def sign(self, conn: Connection, log: Log, checkpoint: Checkpoint) -> bytes:
        """Sign the checkpoint of a log that has grown.

        What is signed is on disk beside the database before this returns, and counts
        as signed once the transaction is committed.

        Args:
            conn: The write transaction in which the log grows.
            log: The log before it grew.
            checkpoint: Of the tree that it has now.

        Returns:
            The note.

        Raises:
            RolledBackError: Something else was signed last.
            UnconfirmedError: It is not known what was.
            LastSignedError: It could not be written down; nothing is signed.
        """
        return self._sign(
            conn, log, checkpoint, signers_of(self.keyring.log(log.origin))
        )

    def sign_again(
        self, conn: Connection, log: Log, checkpoint: Checkpoint, signers: Signers
    ) -> bytes:
        """Sign the checkpoint that a log has with other keys: the tree is the same.

        Args:
            conn: A write transaction.
            log: The log.
            checkpoint: Its newest, verified.
            signers: The keys that count from now on.

        Raises:
            RolledBackError: As `sign` does, as all others.
        """
        return self._sign(conn, log, checkpoint, signers)

    def _sign(
        self, conn: Connection, log: Log, checkpoint: Checkpoint, signers: Signers
    ) -> bytes:
        note = sign_checkpoint(checkpoint, signers)
        # The tree may have grown since in this transaction; nothing of it is signed.
        before = _EMPTY if log.checkpoint is None else read_signed(log.checkpoint).head
        try:
            self._last_signed.prepare(note, extends=before)
        except NotNewestError as error:
            if error.newest is None:
                raise UnconfirmedError(log.list_name) from error
            raise RolledBackError(log.list_name) from error
        on_commit(conn, partial(self._last_signed.settle, log.origin))
        return note
