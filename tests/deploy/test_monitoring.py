"""Rules and dashboard ask a running node for series that it really has."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from hashlight_node.demo.company import make_company
from support.tools import CHECKOUT, tool

RULES = CHECKOUT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = CHECKOUT / "deploy" / "grafana" / "hashlight.json"
NAME = r"hashlight_[a-z_]+"


def panels() -> list[dict[str, Any]]:
    found = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def expressions() -> list[str]:
    rules = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return shown + [rule["expr"] for group in rules for rule in group["rules"]]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    company = make_company(tmp_path_factory.mktemp("scraped"), "shield.example")
    company.start()
    try:
        url = f"http://{company.client.address}/metrics"
        with urllib.request.urlopen(url) as answer:
            yield answer.read().decode()
    finally:
        company.stop()


def test_every_name_in_rules_and_dashboard_is_one_of_a_running_node(
    scraped: str,
) -> None:
    known: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", scraped, re.MULTILINE):
        parts = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        known.update(name + part for part in parts)
    asked = {name for it in expressions() for name in re.findall(NAME, it)}
    assert len(asked) > 20
    assert asked <= known


def test_everything_that_a_node_says_is_shown(scraped: str) -> None:
    shown = " ".join(target["expr"] for it in panels() for target in it["targets"])
    said = {
        name
        for name in re.findall(r"^# TYPE (hashlight_\S+)", scraped, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert {name for name in said if name not in shown} == set()


def test_panels_have_places_and_numbers_of_their_own() -> None:
    numbers = [panel["id"] for panel in panels()]
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(set(numbers)) == len(numbers)
    assert len(set(places)) == len(places)


def test_prometheus_can_read_what_the_dashboard_asks(tmp_path: Path) -> None:
    """A rule file of all its expressions, checked by Prometheus itself."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$instance", "all")}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    command = [tool("promtool"), "check", "rules", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_wake_people_when_they_should() -> None:
    promtool, folder = tool("promtool"), RULES.parent
    for arguments in (
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ):
        done = subprocess.run(
            [promtool, *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text("utf-8"))
    tried = (RULES.parent / "alerts.test.yml").read_text("utf-8")
    assert [alert for alert in alerts if alert not in tried] == []
