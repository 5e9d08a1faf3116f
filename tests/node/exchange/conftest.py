"""A node called alpha, and a simulated peer called shield that it follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.peer_simulator import PeerSimulator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def alpha(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ExchangeNode]:
    async with open_exchange_node(tmp_path / "alpha", "alpha.example", clock) as node:
        yield node


@pytest.fixture
async def shield(clock: ManualClock) -> AsyncIterator[PeerSimulator]:
    async with PeerSimulator("shield.example", clock).running() as simulator:
        simulator.create_list("ncii")
        yield simulator


@pytest.fixture
async def following(
    alpha: ExchangeNode, shield: PeerSimulator
) -> tuple[ExchangeNode, PeerSimulator]:
    """Let alpha pin shield and follow its list; nothing is copied yet."""
    await alpha.peering.add_peer(shield.base, shield.vkey)
    await alpha.peering.follow(shield.name, "ncii")
    return alpha, shield


@pytest.fixture
async def beta(clock: ManualClock) -> AsyncIterator[PeerSimulator]:
    async with PeerSimulator("beta.example", clock).running() as simulator:
        yield simulator


@pytest.fixture
def picture() -> bytes:
    """Draw a picture with enough in it to be told apart from others."""
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((256, 256))
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
