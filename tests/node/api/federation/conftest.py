from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from hashlight_node.app import start_node
from support.clock import ManualClock
from support.federation import World
from support.nodes import make_sender, make_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def world(tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    settings = make_settings(tmp_path, "shield.example")
    peer = make_sender(tmp_path, "beta.example", settings, clock)
    stranger = make_sender(tmp_path, "stranger.example", settings, clock)
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        start_node(settings, clock=clock) as running,
    ):
        made = World(running, settings, clock, peer, stranger, session)
        await made.pinned(peer)
        yield made
