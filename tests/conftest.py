"""What holds for every test: reproducible properties, and no silent gaps."""

import importlib.util
import os

import pytest
from hypothesis import settings

# Time limits per example fail on a busy machine and say nothing about the code;
# pytest-timeout ends what hangs. In CI a red run must be red again when repeated.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud that PDQ went uncompared, which a count of skips would hide."""
    if importlib.util.find_spec("pdqhash") is not None:
        return
    reports = (it for some in terminalreporter.stats.values() for it in some)
    where = "tests/node/matching/"
    if any(getattr(report, "nodeid", "").startswith(where) for report in reports):
        terminalreporter.section("NOT TESTED: PDQ against the reference", sep="!")
        terminalreporter.line(
            "The reference implementation is not installed, so nothing compared our "
            "hashes with it. `make oracle` installs it; it needs a C++ compiler."
        )
