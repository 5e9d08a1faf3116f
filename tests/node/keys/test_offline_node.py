"""A running node whose identity key is on another machine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from hashlight_node.app import RunningNode, start_node
from hashlight_node.keys import (
    IdentityOfflineError,
    KeyAccess,
    KeyExistsError,
    KeyFileError,
    load_keyring,
)
from hashlight_node.keys.ceremony import (
    encode_signed,
    parse_request,
    sign_request_of,
)
from hashlight_node.keys.files import StoredKey, read_key
from hashlight_node.keys.identity import write_identity_vkey
from hashlight_protocol import MalformedError, open_descriptor
from support.clock import ManualClock
from support.made_records import indicators
from support.nodes import make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.config import Settings

NAME = "shield.example"
DAY = 86_400


def detach(settings: Settings, desk: Path) -> StoredKey:
    """Take the identity key away; gives it as the desk has it."""
    here = settings.keys.directory / "identity.key"
    write_identity_vkey(settings.keys.directory, read_key(here, KeyAccess()).key)
    return read_key(here.rename(desk / "identity.key"), KeyAccess())


@asynccontextmanager
async def offline_node(
    directory: Path, clock: ManualClock
) -> AsyncIterator[tuple[RunningNode, StoredKey]]:
    settings = make_settings(directory, NAME)
    identity = detach(settings, directory)
    async with start_node(settings, clock=clock) as node:
        yield node, identity


async def ceremony(node: RunningNode, identity: StoredKey) -> None:
    rotation = node.use_cases.rotation
    request = parse_request(await rotation.request())
    signed = encode_signed(sign_request_of(request, identity.signer, {}))
    await rotation.accept(signed)


async def test_a_node_is_not_described_before_it_was_signed_for(
    tmp_path: Path,
) -> None:
    async with offline_node(tmp_path, ManualClock()) as (node, identity):
        url = f"http://127.0.0.1:{node.federation_port}/.well-known/hsf"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                assert answer.status == 503
                assert "Retry-After" in answer.headers
            await ceremony(node, identity)
            async with session.get(url) as answer:
                raw = await answer.read()
        assert open_descriptor(raw, identity.key).version == 1


async def test_lists_and_rotations_wait_and_take_effect_with_the_signature(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with offline_node(tmp_path, clock) as (node, identity):
        publisher, rotation = node.use_cases.publisher, node.use_cases.rotation
        await ceremony(node, identity)
        for _ in range(2):
            with pytest.raises(IdentityOfflineError):
                await publisher.create_list("ncii", {"title": "A list"})
        await ceremony(node, identity)
        await publisher.publish("ncii", indicators(1))
        with pytest.raises(IdentityOfflineError):
            await rotation.rotate("log", "ncii")
        # The new key signs beside the old one already; peers do not mind.
        await publisher.publish("ncii", indicators(1, first=1))
        await ceremony(node, identity)
        states = [one.state for one in await rotation.keys() if one.use == "log"]
        assert states == ["replaced", "signs"]
        clock.advance(31 * DAY)
        await rotation.settle_quietly()
        states = [one.state for one in await rotation.keys() if one.use == "log"]
        assert states == ["replaced", "signs"], "until the desk agreed"
        await ceremony(node, identity)
        states = [one.state for one in await rotation.keys() if one.use == "log"]
        assert states == ["signs"]
        await publisher.publish("ncii", indicators(1, first=2))


async def test_a_list_that_was_signed_for_once_is_not_started_twice(
    tmp_path: Path,
) -> None:
    async with offline_node(tmp_path, ManualClock()) as (node, identity):
        await ceremony(node, identity)
        with pytest.raises(IdentityOfflineError):
            await node.use_cases.publisher.create_list("ncii", {})
        await ceremony(node, identity)
        keyring = node.foundation.keyring
        with pytest.raises(KeyExistsError):
            keyring.create_log(f"{NAME}/hsf/v1/log/ncii/1")


async def test_a_node_with_its_identity_asks_nobody(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, NAME)
    async with start_node(settings, clock=ManualClock()) as node:
        with pytest.raises(MalformedError, match="on this machine"):
            await node.use_cases.rotation.request()
        with pytest.raises(MalformedError, match="on this machine"):
            await node.use_cases.rotation.accept(b"")


async def test_the_identity_that_comes_back_must_be_the_right_one(
    tmp_path: Path,
) -> None:
    settings = make_settings(tmp_path, NAME)
    detach(settings, tmp_path)
    directory = settings.keys.directory
    with pytest.raises(KeyFileError, match=r"identity key of shield\.example"):
        load_keyring(directory, "other.example")
    other = make_settings(tmp_path, "other.example").keys.directory / "identity.key"
    text = other.read_text("ascii").replace("other.example", NAME)
    (directory / "identity.key").write_text(text, "ascii")
    (directory / "identity.key").chmod(0o600)
    with pytest.raises(KeyFileError, match=r"not the key that identity\.vkey names"):
        load_keyring(directory, NAME)
