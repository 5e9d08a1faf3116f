"""A whole node, and clients of it over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from hashlight_client import AsyncClient, Client
from hashlight_node.demo.company import Company, make_company
from support.local_api import LocalApi, run_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
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


@pytest_asyncio.fixture
async def client(api: LocalApi) -> AsyncIterator[AsyncClient]:
    """Give the administrator's client of the node."""
    assert api.token is not None
    async with AsyncClient(api.base, token=api.token) as client:
        yield client


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Run a node in a process of its own, with a list `ncii`."""
    made = make_company(tmp_path_factory.mktemp("node"), "alpha.example")
    made.start()
    made.client.post("/v1/lists", {"name": "ncii"})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def sync_client(company: Company) -> Iterator[Client]:
    """Give the administrator's client for programs without asyncio."""
    with Client(f"http://{company.client.address}", token=company.client.token) as made:
        yield made
