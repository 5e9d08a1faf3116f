"""What commonly goes wrong with a node, looked at from outside, whether it runs or not.

Nothing is changed, and nobody is asked but our own node, the database and the peers.
"""

from __future__ import annotations

import asyncio
import socket
import stat
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from hashlight_node.app.backups import foresee
from hashlight_node.app.maintenance import open_keyring
from hashlight_node.app.outbound import open_client
from hashlight_node.app.room import room_rules, store_directory
from hashlight_node.config import split_address
from hashlight_node.exchange.room import free_bytes
from hashlight_node.keys import KeyFileError
from hashlight_node.last_signed import LastSignedError
from hashlight_node.local_client import LocalClient, NodeUnreachableError, ProblemError
from hashlight_node.matching.index import kernel_name
from hashlight_node.model import PeerState, Role
from hashlight_node.peers.errors import PeerError
from hashlight_node.store import logs
from hashlight_node.store import peers as peer_store
from hashlight_node.store.backups import is_sqlite
from hashlight_node.store.database import Reader
from hashlight_node.store.errors import StoreError
from hashlight_node.store.server_settings import ServerSettings, read_server_settings
from hashlight_node.store.sqlite import database_path
from hashlight_protocol import ProtocolError

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Clock, Log, Peer
    from hashlight_node.peers.client import PeerClient

_MIB: Final = 1 << 20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_CLOCK_WARN_SECONDS: Final = 30
_CLOCK_FAIL_SECONDS: Final = 300
"""A signature that is older is refused. Source: SPEC.md#requests."""

_CONNECT_SECONDS: Final = 3


class Mark(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found.

    Attributes:
        name: What was looked at.
        mark: How it stands.
        detail: What was seen.
        advice: What to do; empty if nothing.
    """

    name: str
    mark: Mark
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class _Store:
    logs: tuple[Log, ...]
    peers: tuple[Peer, ...]


async def examine(settings: Settings, config: Path, clock: Clock) -> list[Found]:
    """Look at everything that can be looked at.

    Args:
        settings: The node's, which could be read.
        config: The file that they are from.
        clock: Unix seconds.
    """
    found = [Found("configuration", Mark.OK, str(config))]
    found += _files(settings, config)
    keyring = _keys(settings, found)
    store = await _store(settings, found)
    found += _database(settings)
    is_up = await asyncio.to_thread(_node, settings, found)
    found += _listeners(settings, is_up=is_up)
    found += _room(settings)
    found.append(_kernel())
    if store is not None:
        found += _last_signed(settings, store)
        if keyring is not None:
            found += _log_keys(keyring, store)
            found += await _peers(settings, keyring, store, clock)
    return found


def _files(settings: Settings, config: Path) -> list[Found]:
    """Look whether others may read or change what is ours."""
    private = [config.resolve().parent / "admin.token", settings.keys.last_signed]
    if is_sqlite(settings.store.url):
        private.append(database_path(settings.store.url))
    open_ones = [it for it in private if it.exists() and it.stat().st_mode & _OTHERS]
    if config.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        open_ones.append(config)
    if not open_ones:
        return [
            Found("permissions", Mark.OK, "only the owner can read what is private")
        ]
    return [
        Found("permissions", Mark.FAIL, f"{it} is open to others", f"chmod go= {it}")
        for it in open_ones
    ]


def _keys(settings: Settings, found: list[Found]) -> Keyring | None:
    try:
        keyring = open_keyring(settings)
    except KeyFileError as error:
        found.append(
            Found("keys", Mark.FAIL, str(error), "restore the keys from their backup")
        )
        return None
    found.append(Found("keys", Mark.OK, f"of {keyring.node}"))
    return keyring


async def _store(settings: Settings, found: list[Found]) -> _Store | None:
    try:
        database = Reader.open_reader(settings.store.url)
    except StoreError as error:
        found.append(
            Found("schema", Mark.FAIL, str(error), "see the message; then start again")
        )
        return None
    try:
        listed = await database.read(logs.list_logs)
        peers = await database.read(peer_store.list_peers)
    finally:
        await database.close()
    found.append(Found("schema", Mark.OK, "the one that this release works with"))
    return _Store(tuple(listed), tuple(peers))


def _database(settings: Settings) -> list[Found]:
    if is_sqlite(settings.store.url):
        return [Found("database", Mark.OK, "SQLite, settings are made by the node")]
    try:
        server = read_server_settings(settings.store.url)
    except StoreError as error:
        return [Found("database", Mark.FAIL, str(error), "is the server running?")]
    return _server(server)


def _server(server: ServerSettings) -> list[Found]:
    found = [Found("database", Mark.OK, f"PostgreSQL {server.version}")]
    if server.encoding != "UTF8":
        said = f"the encoding is {server.encoding}"
        found.append(Found("database", Mark.FAIL, said, "create it with UTF8"))
    for name, is_on in (
        ("fsync", server.fsync),
        ("full_page_writes", server.full_page_writes),
    ):
        if not is_on:
            said = f"{name} is off: a power cut can destroy or roll back the store"
            found.append(Found("database", Mark.FAIL, said, f"set {name} = on"))
    if server.synchronous_commit == "off":
        said = "synchronous_commit is off; the node sets it on for itself"
        advice = "set synchronous_commit = on"
        found.append(Found("database", Mark.WARN, said, advice))
    if not server.data_checksums:
        said = "data_checksums are off: damage is noticed by `hashlight fsck` only"
        found.append(Found("database", Mark.WARN, said, "pg_checksums --enable"))
    return found


def _node(settings: Settings, found: list[Found]) -> bool:
    """Ask our own node how it is."""
    local = LocalClient(settings.local.listen, "", timeout_seconds=_CONNECT_SECONDS)
    try:
        ready = local.get("/readyz")
    except NodeUnreachableError:
        found.append(Found("node", Mark.OK, "does not run"))
        return False
    except (ProblemError, ValueError):
        said = f"something that is not ready answers at {settings.local.listen}"
        found.append(Found("node", Mark.FAIL, said, "look into its log"))
        return True
    is_held = ready.get("signing") == "held"
    found.append(Found("node", Mark.OK, "runs, lookups are answered"))
    if is_held:
        said = "a list of ours is not signed"
        found.append(Found("node", Mark.FAIL, said, "hashlight recover"))
    return True


def _listeners(settings: Settings, *, is_up: bool) -> list[Found]:
    look = _connect if is_up else _bind
    return [
        look(name, listen)
        for name, listen in (
            ("federation", settings.federation.listen),
            ("local", settings.local.listen),
        )
    ]


def _connect(name: str, listen: str) -> Found:
    try:
        with socket.create_connection(split_address(listen), _CONNECT_SECONDS):
            return Found(f"{name} listener", Mark.OK, f"{listen} takes connections")
    except OSError as error:
        said = f"{listen}: {error.strerror or error}"
        return Found(f"{name} listener", Mark.FAIL, said, "look into the node's log")


def _bind(name: str, listen: str) -> Found:
    host, port = split_address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            said = f"{listen}: {error.strerror or error}"
            advice = "stop what listens there, or change the settings"
            return Found(f"{name} listener", Mark.FAIL, said, advice)
    return Found(f"{name} listener", Mark.OK, f"{listen} is free")


def _room(settings: Settings) -> list[Found]:
    rules, directory = room_rules(settings), store_directory(settings)
    try:
        free = free_bytes(directory)
    except OSError as error:
        return [Found("disk", Mark.FAIL, f"{directory}: {error.strerror}")]
    said = f"{free // _MIB:,} MiB are free at {directory}"
    if free < rules.stop_bytes:
        return [Found("disk", Mark.FAIL, said, "make room: no new content is taken")]
    if free < rules.warn_bytes:
        return [Found("disk", Mark.WARN, said, "make room soon")]
    return [Found("disk", Mark.OK, said)]


def _kernel() -> Found:
    name = kernel_name()
    if name == "c":
        return Found("matching", Mark.OK, "the compiled kernel is used")
    advice = "install with a C compiler to search faster"
    return Found("matching", Mark.WARN, f"the {name} kernel is used", advice)


def _last_signed(settings: Settings, store: _Store) -> list[Found]:
    try:
        guard = foresee(settings, store.logs)
    except (LastSignedError, ProtocolError, OSError) as error:
        advice = "see Backup and recovery in docs/operating.md"
        return [Found("last signed", Mark.FAIL, str(error), advice)]
    wrong = [it for it in guard if it.needs_recovery]
    if not wrong:
        return [Found("last signed", Mark.OK, f"{len(guard)} lists stand where signed")]
    return [
        Found(
            "last signed",
            Mark.FAIL,
            f"{it.origin} is {it.verdict}: {it.size} here, {it.signed_size} signed",
            "start the node, then hashlight recover",
        )
        for it in wrong
    ]


def _log_keys(keyring: Keyring, store: _Store) -> list[Found]:
    return [
        Found(
            "keys",
            Mark.FAIL,
            f"there is no key for {log.origin}",
            "restore it from the backup of the keys",
        )
        for log in store.logs
        if log.role is Role.OWN and not keyring.has_log(log.origin)
    ]


async def _peers(
    settings: Settings, keyring: Keyring, store: _Store, clock: Clock
) -> list[Found]:
    asked = [
        it for it in store.peers if it.state is PeerState.ACTIVE and it.is_dialable
    ]
    async with open_client(
        settings, keyring, clock, timeout_seconds=_CONNECT_SECONDS
    ) as client:
        looks = [_peer(client, it, clock) for it in asked]
        found = await asyncio.gather(*looks)
    return [one for some in found for one in some]


async def _peer(client: PeerClient, peer: Peer, clock: Clock) -> list[Found]:
    name = f"peer {peer.name}"
    try:
        _, headers, _ = await client.request("GET", f"{peer.base}/.well-known/hsf")
    except (PeerError, ProtocolError) as error:
        advice = "see When a peer misbehaves in docs/operating.md"
        return [Found(name, Mark.WARN, str(error), advice)]
    reached = Found(name, Mark.OK, f"answers at {peer.base}")
    offset = _offset(headers.get("date", ""), clock())
    if offset is None or abs(offset) < _CLOCK_WARN_SECONDS:
        return [reached]
    mark = Mark.FAIL if abs(offset) >= _CLOCK_FAIL_SECONDS else Mark.WARN
    said = f"its clock is {offset:+} s from ours"
    advice = "if it is so with all peers, set our clock"
    return [reached, Found("clock", mark, f"{peer.name}: {said}", advice)]


def _offset(date: str, now: int) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp()) - now
    except (ValueError, TypeError):
        return None
