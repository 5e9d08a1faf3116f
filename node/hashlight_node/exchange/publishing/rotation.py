"""Rotation: new keys beside the old ones, then instead of them.

What is on disk says what is wanted, and `settle` makes it so, again and again: a
crash, or a signature that comes back from another machine weeks later, needs nothing
else. A new key of a log signs beside the old one, and a new witness or mirror key
cosigns beside it, from the first moment; a new HTTP key signs alone, once peers had
time to learn it. When the time of both is over, the old key leaves the document and
then the disk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import structlog

from hashlight_node.exchange.errors import UnknownListError
from hashlight_node.keys import (
    IdentityOfflineError,
    OfflineIdentity,
    SignerUnavailableError,
    http_key_id,
    signers_of,
)
from hashlight_node.model import LogState, Role
from hashlight_node.store import logs
from hashlight_protocol import (
    MalformedError,
    open_checkpoint,
    open_descriptor,
    open_list_note,
    sign_list_note,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashlight_node.exchange.logs.signing import LogSigning
    from hashlight_node.keys import Keyring, OwnDescriptor, RotatingUse, StoredKey
    from hashlight_node.model import Clock, Log
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.store.database import Connection, Database
    from hashlight_protocol import ListNote, VerifierKey

    from .publish import Publisher

_LEARNED_SECONDS: Final = 2 * 86_400
"""From when a new HTTP key signs: peers read descriptors once a day."""

_NODE_USES: Final[tuple[RotatingUse, ...]] = ("http", "witness", "mirror")

_log = structlog.get_logger()

KeyState = Literal["signs", "replaced", "waits"]
"""A key is the newest of its use, or is being replaced, or is in no document yet."""


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key as an operator sees it.

    Attributes:
        use: What it is for.
        key: The public half.
        storage: Where the private half is.
        state: Where it stands.
        published_at: When it was first in a signed document, Unix seconds.
        retires_at: When its successor stands alone, Unix seconds.
    """

    use: Literal["identity", "http", "witness", "mirror", "log"]
    key: VerifierKey
    storage: Literal["plain", "sealed", "agent", "offline"]
    state: KeyState
    published_at: int | None
    retires_at: int | None


@dataclass(frozen=True, slots=True)
class RotationParts:
    """What replacing keys needs.

    Attributes:
        database: Holds our list notes.
        keyring: The keys.
        signing: Signs the checkpoints of our logs.
        client: Signs requests with one of them.
        descriptor: Says which keys of the node count.
        publisher: Starts lists whose note came back signed.
        clock: Unix seconds.
        overlap_seconds: How long old and new count both.
        on_advanced: Told the origin of a log with another checkpoint.
    """

    database: Database
    keyring: Keyring
    signing: LogSigning
    client: PeerClient
    descriptor: OwnDescriptor
    publisher: Publisher
    clock: Clock
    overlap_seconds: int
    on_advanced: Callable[[str], None]


class KeyRotation:
    """Replaces the keys of this node while it runs."""

    def __init__(self, parts: RotationParts) -> None:
        self._parts = parts
        self._keyring = parts.keyring
        self._lock = asyncio.Lock()

    async def keys(self) -> tuple[KeyView, ...]:
        """List every key, with what it is doing."""
        return await asyncio.to_thread(self._view)

    async def rotate(
        self, use: RotatingUse, list_name: str | None, ssh_key: str | None = None
    ) -> tuple[KeyView, ...]:
        """Make a new key and let it count beside the old one.

        Args:
            use: Which.
            list_name: For `log`, one of our lists.
            ssh_key: Take this key of the agent instead of making one.

        Returns:
            All keys.

        Raises:
            UnknownListError: This node has no such list.
            BadKeyError: `ssh_key` is not a public key that proves anything.
            KeyFileError: The new key cannot be written.
            IdentityOfflineError: The key is made; the document that names it has to
                be signed on another machine.
            SignerUnavailableError: The agent does not sign with it; it is not used.
        """
        async with self._lock:
            origin = await self._origin(use, list_name)
            await asyncio.to_thread(self._rotate, use, origin, ssh_key)
            _log.info("key is made", state=use)
            await self._settle()
        return await self.keys()

    async def retire(
        self, use: RotatingUse, list_name: str | None
    ) -> tuple[KeyView, ...]:
        """Let the newest key of a use stand alone now, before the overlap is over.

        Peers that have not read the newest document refuse what they are sent until
        they do. With one key there is nothing to retire, and nothing happens.

        Raises:
            UnknownListError: This node has no such list.
            IdentityOfflineError: The document without the old key has to be signed on
                another machine.
        """
        async with self._lock:
            origin = await self._origin(use, list_name)
            keys = self._keyring.stored(use, origin)
            journal = self._keyring.journal
            if len(keys) > 1 and journal.published_at(keys[-1].key) is not None:
                await asyncio.to_thread(journal.age, keys[-1].key)
            await self._settle()
        return await self.keys()

    async def settle(self) -> None:
        """Bring documents, keys and what signs into line with each other.

        Raises:
            IdentityOfflineError: A document has to be signed on another machine;
                everything else is done.
        """
        async with self._lock:
            await self._settle()

    async def settle_quietly(self) -> None:
        """Settle; if a key that is needed is elsewhere, say so in the log."""
        try:
            await self.settle()
        except SignerUnavailableError:
            _log.error("a key cannot sign now", job="keys")
        except IdentityOfflineError:
            _log.warning("a document has to be signed: hashlight key export-request")

    async def request(self) -> bytes:
        """Write down what has to be signed on the machine with the identity key.

        Raises:
            MalformedError: The identity key is on this machine.
        """
        identity = self._offline()
        return await asyncio.to_thread(identity.request)

    async def accept(self, signed: bytes) -> tuple[KeyView, ...]:
        """Take documents that were signed on another machine into effect.

        Raises:
            ProtocolError: They are not what this node asked for, or not signed.
        """
        identity = self._offline()
        async with self._lock:
            notes = await asyncio.to_thread(identity.accept, signed)
            for raw in notes:
                if raw.startswith(b"hsf-list/"):
                    await self._start_list(open_list_note(raw, identity.key))
            await self._settle()
        return await self.keys()

    def _offline(self) -> OfflineIdentity:
        identity = self._keyring.identity
        if not isinstance(identity, OfflineIdentity):
            raise MalformedError("request", "the identity key is on this machine")
        return identity

    async def _start_list(self, note: ListNote) -> None:
        """Do what `create_list` could not; a list that there is stays as it is."""
        known = await self._parts.database.read(
            lambda conn: logs.find_own_log(conn, note.node, note.list_name)
        )
        if known is None:
            await self._parts.publisher.create_list(note.list_name, note.meta)

    async def _origin(self, use: RotatingUse, list_name: str | None) -> str | None:
        if use != "log":
            return None
        name = list_name or ""
        log = await self._parts.database.read(
            lambda conn: logs.find_own_log(conn, self._keyring.node, name)
        )
        if log is None:
            raise UnknownListError(name)
        return log.origin

    def _rotate(
        self, use: RotatingUse, origin: str | None, ssh_key: str | None
    ) -> None:
        made = self._keyring.rotate(use, origin, ssh_key)
        if ssh_key is not None:
            try:
                made.signer.sign(b"hashlight tries a key\n")
            except Exception:
                self._keyring.drop([made])
                raise

    async def _settle(self) -> None:
        waits: IdentityOfflineError | None = None
        try:
            await asyncio.to_thread(self._settle_node)
        except IdentityOfflineError as error:
            waits = error
        own = await self._parts.database.read(
            lambda conn: logs.list_logs(conn, Role.OWN)
        )
        for log in own:
            try:
                await self._settle_log(log)
            except IdentityOfflineError as error:
                waits = error
        self._choose_http()
        if waits is not None:
            raise waits

    def _settle_node(self) -> None:
        keyring, now = self._keyring, self._parts.clock()
        old = {use: self._retirable(use) for use in _NODE_USES}
        http = [one.key for one in keyring.stored("http") if one not in old["http"]]
        document = self._parts.descriptor.renew(tuple(http))
        if document is None:
            return
        self._forget("descriptor", document.version)
        keyring.journal.publish((*http, document.witness, document.mirror), now)
        # Only after the document without them is signed and kept.
        retired = [one for keys in old.values() for one in keys]
        if retired:
            keyring.drop(retired)
            _log.info("keys are retired", state="descriptor")

    def _choose_http(self) -> None:
        """Sign requests with the newest key that peers had time to learn."""
        raw = self._parts.descriptor.read()
        if raw is None:
            return
        keyring = self._keyring
        said = open_descriptor(raw, keyring.identity.key).http_keys
        points = {key.public_key for key in said}
        named = [o for o in keyring.stored("http") if o.key.public_key in points]
        if not named:
            return
        learned = [one for one in named if self._age(one.key) >= _LEARNED_SECONDS]
        chosen = learned[-1] if learned else named[0]
        keyring.choose_http(chosen.key)
        self._parts.client.sign_with(http_key_id(chosen.key), chosen.signer)

    async def _settle_log(self, log: Log) -> None:
        keyring, origin = self._keyring, log.origin
        if log.state is not LogState.ACTIVE or not keyring.has_log(origin):
            return
        old = self._retirable("log", origin)
        wanted = [one for one in keyring.stored("log", origin) if one not in old]
        changed = await self._parts.database.write(
            lambda conn: self._name(conn, log, wanted)
        )
        published = await self._parts.database.read(
            lambda conn: logs.find_log(conn, origin)
        )
        if published is not None:
            self._forget(f"list-{log.list_name}", published.list_note_version)
        keys = [one.key for one in wanted]
        await asyncio.to_thread(keyring.journal.publish, keys, self._parts.clock())
        if old:
            await asyncio.to_thread(keyring.drop, old)
            _log.info("keys are retired", list=log.list_name)
        if changed:
            self._parts.on_advanced(origin)

    def _name(self, conn: Connection, log: Log, wanted: Sequence[StoredKey]) -> bool:
        """Say in the list note which keys count, and sign the checkpoint with them."""
        keyring = self._keyring
        latest = logs.find_log(conn, log.origin)
        if latest is None or latest.list_note is None or latest.checkpoint is None:
            return False
        if latest.is_held:
            return False  # Nothing of it is signed, not even with another key.
        note = open_list_note(latest.list_note, keyring.identity.key)
        vkeys = tuple(one.key for one in wanted)
        renewed = replace(
            note,
            logs=tuple(
                replace(one, vkeys=vkeys) if one.origin == log.origin else one
                for one in note.logs
            ),
        )
        if renewed == note:
            return False
        renewed = replace(renewed, version=note.version + 1)
        raw = sign_list_note(renewed, keyring.identity)
        for one in logs.logs_of_list(conn, latest.node, latest.list_name):
            logs.set_list_note(conn, one.log_id, raw, renewed.version)
        # The same tree again: whoever reads the newest note knows a key that signed it.
        known = open_checkpoint(
            latest.checkpoint, keyring.log_keys(log.origin), origin=log.origin
        )
        signers = [one for key in wanted for one in signers_of(key.signer)]
        logs.set_checkpoint(
            conn,
            latest,
            self._parts.signing.sign_again(conn, latest, known.checkpoint, signers),
            latest.checkpoint_size,
            mirror_checkpoint=None,
            verified_at=self._parts.clock(),
        )
        return True

    def _retirable(
        self, use: RotatingUse, origin: str | None = None
    ) -> list[StoredKey]:
        """List the keys whose successor is published long enough."""
        keys = self._keyring.stored(use, origin)
        if len(keys) > 1 and self._age(keys[-1].key) >= self._parts.overlap_seconds:
            return keys[:-1]
        return []

    def _age(self, key: VerifierKey) -> int:
        published_at = self._keyring.journal.published_at(key)
        return -1 if published_at is None else self._parts.clock() - published_at

    def _forget(self, subject: str, version: int) -> None:
        """Drop a signature that is in effect, so that it cannot be used again."""
        identity = self._keyring.identity
        if isinstance(identity, OfflineIdentity):
            identity.forget(subject, version)

    def _view(self) -> tuple[KeyView, ...]:
        identity = self._keyring.identity
        is_here = not isinstance(identity, OfflineIdentity)
        views = [
            KeyView(
                "identity",
                identity.key,
                self._keyring.identity_storage,
                "signs" if is_here else "waits",
                None,
                None,
            )
        ]
        for use in _NODE_USES:
            views += self._views_of(use, self._keyring.stored(use))
        origins = dict.fromkeys(one.name for one in self._keyring.stored("log"))
        for origin in origins:
            views += self._views_of("log", self._keyring.stored("log", origin))
        return tuple(views)

    def _views_of(self, use: RotatingUse, keys: Sequence[StoredKey]) -> list[KeyView]:
        journal = self._keyring.journal
        newest_at = journal.published_at(keys[-1].key)
        retires_at = (
            None if newest_at is None else newest_at + self._parts.overlap_seconds
        )
        views: list[KeyView] = []
        for one in keys:
            published_at = journal.published_at(one.key)
            is_newest = one is keys[-1]
            waits = published_at is None and len(keys) > 1
            state: KeyState = "signs" if is_newest else "replaced"
            views.append(
                KeyView(
                    use,
                    one.key,
                    one.storage,
                    "waits" if is_newest and waits else state,
                    published_at,
                    None if is_newest else retires_at,
                )
            )
        return views
