"""Companies as separate processes, made and run with the command line alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from hashlight_node.demo.company import Company, make_company
from support.companies import MakeCompany, cli, introduce
from support.stores import init_options


@pytest.fixture(scope="module")
def make_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCompany]:
    """Make companies that run until the module's tests have ended."""
    made: list[Company] = []

    def make(name: str) -> Company:
        directory = tmp_path_factory.mktemp("company")
        company = make_company(directory, name, *init_options(directory))
        made.append(company)
        company.start()
        return company

    yield make
    for company in made:
        company.stop()


@pytest.fixture(scope="module")
def pair(make_running: MakeCompany) -> tuple[Company, Company]:
    """Give a hotline and a platform that follows its list `ncii`."""
    hotline, platform = make_running("shield.example"), make_running("beta.example")
    introduce(hotline, platform)
    cli(hotline, "list", "create", "ncii")
    cli(hotline, "grant", platform.name, "ncii")
    cli(platform, "follow", hotline.name, "ncii")
    return hotline, platform


@pytest.fixture
def md5() -> str:
    """Give a signal that no other test publishes."""
    return f"md5:{secrets.token_hex(16)}"
