"""Nodes inside the test's own process, and senders that sign as peers would."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hashlight_node.config import Settings, initial_config, load_settings
from hashlight_node.keys import Keyring, create_keyring, publish_descriptor
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    Descriptor,
    HttpKey,
    HttpRequest,
    encode_vkey,
    open_descriptor,
    sign_request,
)

from .stores import store_section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hashlight_node.model import Peer
    from hashlight_node.store.database import Connection

    from .clock import ManualClock


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10
) -> None:
    """Wait for a condition that must come true."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(0.02)


_given: deque[int] = deque(maxlen=1000)


def free_port() -> int:
    """Give a port of loopback on which nobody listens now.

    Below those that the system gives to connections: one of them could take it before
    the node listens. Not by `random`, which hypothesis seeds: processes that test at
    the same time would draw the same ports. None of the last ones again: whoever asked
    for those may not listen yet, a node asks for two at once.
    """
    while True:
        port = 10_240 + secrets.randbelow(32_768 - 10_240)
        if port in _given:
            continue
        _given.append(port)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def make_settings(directory: Path, name: str, extra: str = "") -> Settings:
    """Make a node's files as `hashlight init` does, on free ports of loopback.

    Args:
        directory: Parent of the node's own directory.
        name: Node name.
        extra: TOML appended to its configuration.
    """
    home = directory / name
    home.mkdir(mode=0o700)
    base, local = f"http://127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = home / "hashlight.toml"
    text = initial_config(name, base, local) + store_section(home) + extra
    config.write_text(text, encoding="utf-8")
    settings = load_settings(config, {})
    create_keyring(settings.keys.directory, name)
    return settings


@dataclass(frozen=True)
class Sender:
    """A node that exists only as its keys.

    Attributes:
        keyring: Its keys.
        base: Where its descriptor says it is.
        authority: Whom it sends requests to.
        clock: When it signs.
    """

    keyring: Keyring
    base: str
    authority: str
    clock: ManualClock

    @property
    def name(self) -> str:
        """Its node name."""
        return self.keyring.node

    def headers(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "text/plain; charset=utf-8",
        key_id: str | None = None,
        authority: str | None = None,
    ) -> dict[str, str]:
        """Sign a request to the node under test."""
        request = HttpRequest(method, authority or self.authority, path, body)
        return sign_request(
            request,
            content_type=content_type if body else None,
            key_id=key_id or f"{self.name}#{self.keyring.http_key_id}",
            signer=self.keyring.http,
            now=self.clock(),
        )

    def descriptor(self, *http_keys: HttpKey) -> bytes:
        """Say who it is, with other HTTP keys if some are given."""
        own = HttpKey(self.keyring.http_key_id, self.keyring.http.key.public_key)
        draft = Descriptor(
            name=self.name,
            version=0,
            base=self.base,
            http_keys=http_keys or (own,),
            witness=self.keyring.witness.key,
            mirror=self.keyring.mirror.key,
            limits={},
        )
        return publish_descriptor(self.keyring, draft)

    def pin(self, conn: Connection) -> Peer:
        """Make it a peer of the node whose store this is."""
        raw = self.descriptor()
        return peer_store.insert_peer(
            conn,
            name=self.name,
            base=self.base,
            identity_vkey=encode_vkey(self.keyring.identity.key),
            descriptor=raw,
            descriptor_version=open_descriptor(raw, self.keyring.identity.key).version,
            added_at=self.clock(),
        )


def make_sender(
    directory: Path, name: str, settings: Settings, clock: ManualClock
) -> Sender:
    """Make keys for a node that sends requests to the one with these settings."""
    keyring = create_keyring(directory / f"{name}-keys", name)
    # A port on which nobody answers: what is sent there fails at once.
    base = f"http://127.0.0.1:{free_port()}"
    return Sender(keyring, base, settings.node.authority, clock)
