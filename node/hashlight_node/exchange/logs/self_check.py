"""Whether our own logs stand where we signed them last.

A node that was restored from an old backup does not know it. Two others do: the
last-signed store beside its database, and the peers that have seen its logs. Both are
asked when the node starts, before anybody is answered, and the peers at every sweep. A
log that is older than what we signed is *held*: nothing is signed, and no peer is shown
it, until it is healed.

What convinces us is our own signature, never a peer's word.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from hashlight_node.exchange.errors import UnknownListError
from hashlight_node.last_signed import LastSignedError, read_signed
from hashlight_node.model import LogState, PeerState, Role
from hashlight_node.peers.errors import (
    PeerError,
    PeerMisbehavedError,
    PeerUnavailableError,
    blaming,
)
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    ProtocolError,
    frontier_from_tiles,
    open_checkpoint,
    parse_origin,
)

from .cosigning import bare_note
from .evidence import keep_evidence

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from hashlight_node.keys import Keyring
    from hashlight_node.last_signed import LastSigned, Signed
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import KnownHead, SignedCheckpoint

START_SECONDS: Final = 3.0
"""How long a start waits for what peers say; those that are slower are heard later."""

_AT_STAKE: Final = frozenset(
    {LogState.ACTIVE, LogState.ROLLED_BACK, LogState.UNCONFIRMED}
)
"""Logs in another state take no more entries, whatever was signed of them."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a log of ours stands.

    Attributes:
        state: `ACTIVE` if it may be signed.
        why: What an operator should know otherwise.
    """

    state: LogState
    why: str | None


_GOOD: Final = Verdict(LogState.ACTIVE, None)
_FORKED: Final = Verdict(
    LogState.ROLLED_BACK,
    "two histories of it were signed; it can only go on in a new epoch",
)
_UNKNOWN: Final = Verdict(
    LogState.UNCONFIRMED,
    "it is not known what was signed last, and no peer has confirmed this state",
)
_SUCCEEDED: Final = Verdict(
    LogState.ROLLED_BACK,
    "a later log of this list was signed, which the database does not have; the list "
    "can only go on in a new epoch",
)
_STALE: Final = Verdict(
    LogState.UNCONFIRMED,
    "the last-signed store is older than the database, and no peer has confirmed this "
    "state",
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What one peer said of one log.

    Attributes:
        origin: The log.
        peer_name: The peer.
        signed: The largest checkpoint of the log that it has cosigned, verified to be
            ours; None if it has none or did not answer.
        fits: Whether that checkpoint is one of the log that we have.
        is_away: Whether it did not answer, which says nothing about it.
    """

    origin: str
    peer_name: str
    signed: SignedCheckpoint | None
    fits: bool
    is_away: bool = False


class SelfCheck:
    """Finds out whether our logs are older than what we signed of them.

    Args:
        database: The store.
        client: Asks the peers.
        keyring: Knows the keys of our logs.
        last_signed: What was signed last.
        clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        client: PeerClient,
        keyring: Keyring,
        last_signed: LastSigned,
        clock: Clock,
    ) -> None:
        self._database = database
        self._client = client
        self._keyring = keyring
        self._last_signed = last_signed
        self._clock = clock

    async def settle(self) -> None:
        """Hold every log of ours against the last-signed store; at the start.

        Raises:
            LastSignedError: The store is damaged, or cannot be written.
        """
        await self._database.write(self._settle)

    async def ask_at_start(self) -> None:
        """Ask peers, those that answer within a few seconds."""
        await self.ask(seconds=START_SECONDS)

    async def ask(
        self, list_name: str | None = None, *, seconds: float | None = None
    ) -> list[Heard]:
        """Ask peers for the largest checkpoints of our logs that they have seen.

        A log that is larger at a peer, with our signature, is held from then on. One
        of which we do not know what was signed last is signed again if a peer that has
        seen it confirms what we have, and none of those who answer knows better.

        Args:
            list_name: One of our lists; all if None.
            seconds: How long to wait for answers; as long as a request may take if
                None.

        Returns:
            What was heard.
        """
        questions = await self._database.read(lambda conn: _questions(conn, list_name))
        asked = [self._ask(peer, origin) for peer, origin in questions]
        heard = await _within(seconds, asked)
        confirmed = {one.origin for one in heard if one.fits}
        if confirmed:
            await self._database.write(lambda conn: self._confirm(conn, confirmed))
        return heard

    async def ask_peer(self, peer: Peer, origin: str) -> Heard:
        """Ask one peer about one log, because it seems to know better."""
        return await self._ask(peer, origin)

    def open(self, raw: bytes, origin: str) -> SignedCheckpoint:
        """Read a checkpoint that claims to be one of ours.

        Raises:
            ProtocolError: It is none, or we did not sign it.
        """
        # Retired keys too: what they signed was signed.
        return open_checkpoint(raw, self._keyring.log_keys(origin), origin=origin)

    async def judge(self, peer_name: str, signed: SignedCheckpoint) -> bool:
        """Hold a checkpoint of ours that a peer has against the log that we have.

        Args:
            peer_name: Who has it.
            signed: With the log's own signature, which was verified.

        Returns:
            Whether it is one of the log that we have. If not, the log is held.
        """
        origin = signed.checkpoint.origin
        # Read after the answer came: until then the log may have grown.
        fits = await self._database.read(
            lambda conn: _fits(conn, _own(conn, origin), signed.head)
        )
        if not fits:
            await self._database.write(
                lambda conn: self._hold(conn, peer_name, origin, signed)
            )
        return fits

    async def vouch(self, list_name: str) -> None:
        """Sign a log again although no peer confirms what we have: the operator does.

        Only where it is not known what was signed last. Against our own signature
        nobody's word counts.
        """

        def write(conn: Connection) -> None:
            for log in _held(conn, list_name):
                if log.state is LogState.UNCONFIRMED and log.checkpoint is not None:
                    _log.warning(
                        "operator vouches for a log that no peer has confirmed",
                        list=log.list_name,
                        size=log.checkpoint_size,
                    )
                    self._last_signed.learn(log.checkpoint)
                    self.mark(conn, log)

        await self._database.write(write)

    def mark(self, conn: Connection, log: Log) -> Verdict:
        """Write down how a log stands, as of this write transaction."""
        verdict = self._verdict(conn, log)
        if (log.state, log.error) != (verdict.state, verdict.why):
            logs.set_log_state(conn, log.log_id, verdict.state, verdict.why)
        if log.state is not verdict.state:
            _tell(log, verdict, self._last_signed.newest(log.origin))
        return verdict

    # --------------------------------------------------------- inside a transaction

    def _settle(self, conn: Connection) -> None:
        own = [log for log in logs.list_logs(conn, Role.OWN) if log.checkpoint]
        for log in own:
            self._check_store(log.origin)
            if log.state in _AT_STAKE:
                self._resolve(log)
                self.mark(conn, log)
        for origin in self._last_signed.origins() - {log.origin for log in own}:
            _log.error("a log that was signed is not in the database", origin=origin)

    def _check_store(self, origin: str) -> None:
        """Refuse a store with a checkpoint that we never signed: it is damaged."""
        newest = self._last_signed.newest(origin)
        if newest is None:
            return
        try:
            self.open(newest.note, origin)
        except ProtocolError as error:
            message = f"what was signed last of {origin} is damaged ({error})"
            raise LastSignedError(self._keyring.directory, message) from error

    def _resolve(self, log: Log) -> None:
        """Finish what a crash between the file and the commit left behind."""
        prepared = self._last_signed.prepared(log.origin)
        if prepared is None:
            return
        if prepared.head == _head(log):
            self._last_signed.settle(log.origin)
        elif _is_at(log, self._last_signed.newest(log.origin)):
            self._last_signed.discard(log.origin)

    def _verdict(self, conn: Connection, log: Log) -> Verdict:
        newest = self._last_signed.newest(log.origin)
        if self._last_signed.contradiction(log.origin) is not None:
            return _FORKED
        if newest is None:
            return _UNKNOWN
        if self.is_lost(conn, log):
            return _SUCCEEDED
        return _compare(conn, log, newest.head)

    def is_lost(self, conn: Connection, log: Log) -> bool:
        """Tell whether the list went on in a log that the database does not know."""
        later = (parse_origin(one) for one in self._last_signed.origins())
        return any(
            name.list_name == log.list_name
            and name.epoch > log.epoch
            and logs.find_log(conn, name.origin) is None
            for name in later
        )

    def _hold(
        self, conn: Connection, peer_name: str, origin: str, signed: SignedCheckpoint
    ) -> None:
        log = _own(conn, origin)
        note = bare_note(signed)
        newest = self._last_signed.newest(origin)
        if signed.head.tree_size <= log.checkpoint_size:
            if not _fits(conn, log, signed.head):
                self._last_signed.contradict(note)
        elif newest is None or newest.head.tree_size < signed.head.tree_size:
            self._last_signed.learn(note)
        if log.state is not LogState.ROLLED_BACK:
            _log.error(
                "a peer has a checkpoint of ours that we do not have",
                peer=peer_name,
                list=log.list_name,
                size=log.checkpoint_size,
                new_size=signed.head.tree_size,
            )
        if log.state in _AT_STAKE:
            self.mark(conn, log)

    def _confirm(self, conn: Connection, origins: set[str]) -> None:
        for origin in origins:
            log = _own(conn, origin)
            # Not any more, if one of those who were asked knew better.
            if log.state is LogState.UNCONFIRMED and log.checkpoint is not None:
                self._last_signed.learn(log.checkpoint)
                self.mark(conn, log)

    # -------------------------------------------------------------------- asking

    async def _ask(self, peer: Peer, origin: str) -> Heard:
        try:
            signed = await self._fetch(peer, origin)
        except PeerMisbehavedError as error:
            await self._blame(peer, origin, error)
            return Heard(origin, peer.name, None, fits=False)
        except PeerUnavailableError:
            return Heard(origin, peer.name, None, fits=False, is_away=True)
        except (PeerError, ProtocolError):
            # Without a checkpoint of this log, or not to be asked at its base.
            return Heard(origin, peer.name, None, fits=False)
        fits = await self.judge(peer.name, signed)
        return Heard(origin, peer.name, signed, fits=fits)

    async def _fetch(self, peer: Peer, origin: str) -> SignedCheckpoint:
        raw = await self._client.fetch_witness_checkpoint(peer, origin)
        with blaming(peer.name, f"witness checkpoint of {origin}", raw):
            return self.open(raw, origin)

    async def _blame(self, peer: Peer, origin: str, error: PeerMisbehavedError) -> None:
        def keep(conn: Connection) -> None:
            name = _own(conn, origin).list_name
            keep_evidence(conn, peer, name, error, now=self._clock())

        await self._database.write(keep)


def _own(conn: Connection, origin: str) -> Log:
    log = logs.find_log(conn, origin)
    if log is None or log.role is not Role.OWN:
        raise UnknownListError(origin)
    return log


def _held(conn: Connection, list_name: str | None) -> list[Log]:
    return [
        log
        for log in logs.list_logs(conn, Role.OWN)
        if log.is_held and list_name in {None, log.list_name}
    ]


def _head(log: Log) -> KnownHead:
    """Read what the newest checkpoint in the database says.

    Not size and root of the log: while it is healed it has entries beyond them.
    """
    return read_signed(log.checkpoint or b"").head


def _is_at(log: Log, signed: Signed | None) -> bool:
    return signed is not None and signed.head == _head(log)


def _fits(conn: Connection, log: Log, head: KnownHead) -> bool:
    """Tell whether a tree is one that our log has gone through."""
    if head.tree_size > log.checkpoint_size:
        return False
    if head.tree_size == log.checkpoint_size:
        return head == _head(log)
    tiles = logs.tile_fetcher(conn, log.log_id)
    return frontier_from_tiles(tiles, head.tree_size).root == head.root_hash


def _compare(conn: Connection, log: Log, signed: KnownHead) -> Verdict:
    size = log.checkpoint_size
    if signed.tree_size > size:
        why = f"size {signed.tree_size} was signed, the database is at {size}"
        return Verdict(LogState.ROLLED_BACK, why)
    if not _fits(conn, log, signed):
        return _FORKED
    return _GOOD if signed.tree_size == size else _STALE


def _questions(conn: Connection, list_name: str | None) -> list[tuple[Peer, str]]:
    """Say whom to ask about which log: those who may have it, or once had."""
    return [
        (peer, log.origin)
        for log in logs.list_logs(conn, Role.OWN)
        if log.state in _AT_STAKE and list_name in {None, log.list_name}
        for peer in who_knows(conn, log)
    ]


def who_knows(conn: Connection, log: Log) -> list[Peer]:
    """List the peers that may have a log of ours, or once had it.

    No others are asked: they would learn that there is such a list.
    """
    return [
        peer
        for peer in peer_store.list_peers(conn)
        if peer.state is PeerState.ACTIVE
        and (
            peer_store.has_grant(conn, peer.peer_id, log.list_name)
            or deliveries.delivered_size(conn, log.log_id, peer.peer_id)
        )
    ]


async def _within(
    seconds: float | None, asked: Sequence[Coroutine[Any, Any, Heard]]
) -> list[Heard]:
    """Wait for answers, and give those that came in time."""
    tasks = [asyncio.create_task(one) for one in asked]
    if not tasks:
        return []
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    return [task.result() for task in tasks if task in done]


def _tell(log: Log, verdict: Verdict, newest: Signed | None) -> None:
    if verdict.state is LogState.ACTIVE:
        _log.info("a log of ours is signed again", list=log.list_name)
        return
    _log.error(
        "a log of ours is not signed any more, run recover",
        list=log.list_name,
        state=verdict.state.value,
        size=log.checkpoint_size,
        new_size=None if newest is None else newest.head.tree_size,
    )
