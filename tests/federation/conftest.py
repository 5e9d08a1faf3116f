"""Nodes that live as long as a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.running_companies import MakeCompany, RunningCompany, start_company


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
