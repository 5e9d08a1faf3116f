"""Running the verifier: as a program of its own, or here when many runs are needed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verifier.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

TESTS = Path(__file__).resolve().parents[1]
OUR_PACKAGES = [
    "hashlight_client",
    "hashlight_migrations",
    "hashlight_node",
    "hashlight_protocol",
]
ALONE = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({OUR_PACKAGES}))
runpy.run_module("verifier", run_name="__main__", alter_sys=True)
"""
"""Runs it where each `import` of a package of this project fails."""


@dataclass(frozen=True)
class Verdict:
    """How a run ended."""

    code: int
    report: dict[str, Any]

    @property
    def log(self) -> dict[str, Any]:
        """What is said about the only log."""
        (log,) = self.report["logs"]
        return dict(log)

    @property
    def refusal(self) -> tuple[str, str]:
        """The resource that does not verify and the rule that it breaks."""
        assert self.code == 3, self.report
        return self.report["resource"], self.report["code"]


async def run_program(*arguments: str) -> Verdict:
    """Run it as its user would, and where no package of this project is installed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", ALONE, *arguments, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(TESTS), "PATH": os.environ["PATH"]},
    )
    out, err = await process.communicate()
    assert err == b"", err.decode()
    assert process.returncode is not None
    return Verdict(process.returncode, json.loads(out))


async def run_here(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> Verdict:
    """Run its command line in a thread, beside a node in this process."""
    capsys.readouterr()
    code = await asyncio.to_thread(main, [*arguments, "--json"])
    return Verdict(code, json.loads(capsys.readouterr().out))
