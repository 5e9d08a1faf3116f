"""systemd takes the units, finds them well locked up, and they start what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hashlight_node.cli.main import app
from hashlight_node.demo.company import make_company
from support.processes import python_path
from support.tools import CHECKOUT, tool

UNITS = CHECKOUT / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
PROGRAM = "/opt/hashlight/.venv/bin/hashlight"
# systemd's scale goes from 0, locked up, to 10; without any hardening it says 9.2.
MOST_EXPOSED = 1.5


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give the units with a program that is there."""
    for unit in UNITS.iterdir():
        text = unit.read_text("utf-8").replace(PROGRAM, sys.executable)
        (tmp_path / unit.name).write_text(text, "utf-8")
    return tmp_path


def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    units = [str(unit) for unit in sorted(installed.iterdir())]
    command = [tool("systemd-analyze"), "verify", "--man=no", *units]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "hashlight" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: str(path.stem))
def test_a_service_is_locked_up(service: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, str(service)], check=True, capture_output=True, text=True
    )
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: str(path.stem))
def test_a_service_runs_a_command_that_there_is(service: Path) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", service.read_text("utf-8"), re.MULTILINE)
    program, command, *_ = shlex.split(line)
    assert program == PROGRAM
    known = getattr(typer.main.get_command(app), "commands", {})
    if command in {"backup", "fsck"} and command not in known:
        pytest.skip(f"`hashlight {command}` is not part of this version yet")
    assert command in known


def test_every_timer_starts_a_service_and_every_job_has_a_timer() -> None:
    timers = {timer.stem for timer in UNITS.glob("*.timer")}
    jobs = {it.stem for it in SERVICES if "Type=oneshot" in it.read_text("utf-8")}
    assert timers == jobs != set()


def test_jobs_are_locked_up_as_the_node_is() -> None:
    def locks(service: Path) -> set[str]:
        names = r"(?:Protect|Private|Restrict|SystemCall|No|Cap|Lock|Memory)\w+=.*"
        return set(re.findall(names, service.read_text("utf-8")))

    node = locks(UNITS / "hashlight.service")
    for service in SERVICES:
        assert locks(service) <= node


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_node_needs_no_memory_that_is_written_and_run(tmp_path: Path) -> None:
    """What `MemoryDenyWriteExecute=yes` forbids, forbidden by the kernel itself."""
    company = make_company(tmp_path, "shield.example")
    script = (
        "import ctypes, runpy, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        "sys.argv = ['hashlight', *sys.argv[1:]]\n"
        "runpy.run_module('hashlight_node', run_name='__main__')\n"
    )
    picture = CHECKOUT / "node/hashlight_node/demo/photos/cat.jpg"
    for arguments in (["hash", str(picture)], ["migrate", "-c", str(company.config)]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            check=False,
            capture_output=True,
            env=python_path(),
        )
        if done.returncode == 77:
            pytest.skip("this kernel is older than 6.3 and cannot forbid it")
        assert done.returncode == 0, done.stderr
