"""Nodes to verify, real ones and one that can lie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.clock import ManualClock
from support.running_companies import MakeCompany, RunningCompany, start_company
from verifier.verifiable_simulator import VerifiableSimulator


@pytest.fixture
async def make_company(tmp_path: Path) -> AsyncIterator[MakeCompany]:
    """Give a function that starts a node; all are stopped at the end."""
    companies: list[RunningCompany] = []

    async def make(name: str) -> RunningCompany:
        company = await start_company(tmp_path, name)
        companies.append(company)
        return company

    yield make
    for company in companies:
        await company.stop()


@pytest.fixture
async def shield() -> AsyncIterator[VerifiableSimulator]:
    async with VerifiableSimulator("shield.example", ManualClock()).running() as node:
        assert isinstance(node, VerifiableSimulator)
        node.create_list("ncii")
        yield node


@pytest.fixture
async def beta() -> AsyncIterator[VerifiableSimulator]:
    async with VerifiableSimulator("beta.example", ManualClock()).running() as node:
        assert isinstance(node, VerifiableSimulator)
        yield node
