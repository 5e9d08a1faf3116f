"""What docs/deploying.md tells an operator to type works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.nodes import free_port
from support.processes import python_path
from support.tools import CHECKOUT

PAGE = CHECKOUT / "docs" / "deploying.md"
PORTS = ("8440", "8441", "8450", "8451")
SETUP = 'make setup\nexport PATH="$PWD/.venv/bin:$PATH"\n'


def section(title: str) -> str:
    """Give the shell commands under a heading, as one script."""
    text = PAGE.read_text("utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


@pytest.mark.timeout(300)
def test_two_companies_exchange_with_the_very_commands(tmp_path: Path) -> None:
    script = section("Two companies on one machine")
    # What is tested is this checkout, which is set up already.
    assert script.startswith(SETUP)
    script = script.removeprefix(SETUP)
    for port in PORTS:
        assert port in script
        script = re.sub(rf"\b{port}\b", str(free_port()), script)
    program = tmp_path / "bin" / "hashlight"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hashlight_node "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-euc", script],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=python_path() | {"PATH": path},
        timeout=280,
    )
    logs = "".join(log.read_text() for log in (tmp_path / "trial").glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    before, erased = done.stdout.split("1#1", 1)
    assert "shield.example" in before
    assert "acknowledged" in erased
    assert logs.count("node has stopped") == len({"shield", "beta"})


def test_every_file_that_is_handed_over_is_named_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    deploy = CHECKOUT / "deploy"
    named = ("Dockerfile", "prepare.sh", "helm/hashlight", "nginx/hashlight.conf")
    for name in (*named, "caddy/Caddyfile", "prometheus/alerts.yml", "grafana"):
        assert name in text
    for unit in (deploy / "systemd").glob("*.timer"):
        assert unit.name in text
