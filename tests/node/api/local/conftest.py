"""A whole node with its two listeners, and its administrator as a caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from support.local_api import LocalApi, run_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.app import RunningNode


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[RunningNode, LocalApi]]:
    async with run_node(tmp_path) as both:
        yield both


@pytest.fixture
def node(running: tuple[RunningNode, LocalApi]) -> RunningNode:
    return running[0]


@pytest.fixture
def api(running: tuple[RunningNode, LocalApi]) -> LocalApi:
    return running[1]
