"""Companies as separate processes, made and run with the command line alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hashlight_node.demo.company import Company, make_company
from support.companies import MakeCompany, cli, introduce


@pytest.fixture
def make_running(tmp_path: Path) -> Iterator[MakeCompany]:
    """Make companies that run until the test ends."""
    made: list[Company] = []

    def make(name: str) -> Company:
        company = make_company(tmp_path, name)
        made.append(company)
        company.start()
        return company

    yield make
    for company in made:
        company.stop()


@pytest.fixture
def pair(make_running: MakeCompany) -> tuple[Company, Company]:
    """Give a hotline and a platform that follows its list `ncii`."""
    hotline, platform = make_running("shield.example"), make_running("beta.example")
    introduce(hotline, platform)
    cli(hotline, "list", "create", "ncii")
    cli(hotline, "grant", platform.name, "ncii")
    cli(platform, "follow", hotline.name, "ncii")
    return hotline, platform
