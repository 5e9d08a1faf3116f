"""What is done to a store beside its node: opened, used, and closed again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.exchange.operating.fsck import Fsck
from hashlight_node.exchange.operating.healing import Healer, HealParts
from hashlight_node.keys import load_keyring
from hashlight_node.last_signed import LastSigned, read_newest
from hashlight_node.store.database import Database, Reader

from .keys import key_access
from .outbound import open_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.config import Settings
    from hashlight_node.keys import Keyring
    from hashlight_node.model import Clock


def open_keyring(settings: Settings) -> Keyring:
    """Read the keys of a node.

    Raises:
        KeyFileError: They cannot be used as they are.
    """
    return load_keyring(
        settings.keys.directory, settings.node.name, access=key_access(settings)
    )


@asynccontextmanager
async def opened_for_reading(settings: Settings) -> AsyncIterator[Fsck]:
    """Open a store to check it; its node may run.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        StoreError: The database cannot.
    """
    keyring = open_keyring(settings)
    database = Reader.open_reader(settings.store.url)
    try:
        directory = settings.keys.last_signed
        yield Fsck(database, keyring, last_signed=partial(read_newest, directory))
    finally:
        await database.close()


@asynccontextmanager
async def opened_for_healing(settings: Settings, clock: Clock) -> AsyncIterator[Healer]:
    """Open the store of a stopped node to mend it.

    Raises:
        KeyFileError: The keys cannot be used as they are.
        LastSignedError: What they signed last cannot be read, or the node runs.
        StoreError: The database cannot be used, or the node runs.
    """
    keyring = open_keyring(settings)
    last_signed = LastSigned.open(settings.keys.last_signed)
    try:
        database = Database.open(settings.store.url)
        try:
            timeout_seconds = settings.exchange.request_timeout_seconds
            async with open_client(
                settings, keyring, clock, timeout_seconds=timeout_seconds
            ) as client:
                yield Healer(
                    HealParts(
                        database=database,
                        keyring=keyring,
                        client=client,
                        last_signed=last_signed,
                        clock=clock,
                    )
                )
        finally:
            await database.close()
    finally:
        last_signed.close()
