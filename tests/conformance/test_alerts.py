"""The alert rules ask for metrics that there are, at the times that are the default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from hashlight_node.config import ExchangeSettings
from hashlight_node.exchange.following.freshness import Freshness
from hashlight_node.metrics import Metrics

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yml"

METRIC = r"(?:hashlight|node)_[a-z_]+|\bup\b"
# What the node does not say about itself, and who says it, with which labels.
FOREIGN = {
    "up": {"job", "instance"},
    "node_filesystem_avail_bytes": {"mountpoint", "instance", "fstype", "device"},
}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def metrics() -> dict[str, set[str]]:
    """Give the labels of every metric by the name that Prometheus knows it by."""
    registry = Metrics(version="0", spec_version="0").registry
    found: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:  # noqa: SLF001 -- asked nowhere else
        labels = set(getattr(collector, "_labelnames", ()))
        for name in registry._collector_to_names[collector]:  # noqa: SLF001
            found[name] = labels
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_every_metric_and_label_of_a_rule_exists(rule: dict[str, Any]) -> None:
    (name,) = set(re.findall(METRIC, rule["expr"])) - {"node_filesystem_size_bytes"}
    known = metrics() | FOREIGN
    assert name in known
    text = "".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.([a-z_]+)", text)) <= known[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_no_alert_has_the_name_of_another() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def test_the_rules_follow_the_settings() -> None:
    by_name = {rule["alert"]: rule["expr"] for rule in rules()}
    seconds = ExchangeSettings().withdrawal_alert_hours * 3600
    assert by_name["HashlightWithdrawalUnacknowledged"].endswith(f" > {seconds}")
    steps = {
        "HashlightCopyUnconfirmed": Freshness.WARN,
        "HashlightCopyNotRelayed": Freshness.NO_RELAY,
        "HashlightCopyStale": Freshness.STALE,
    }
    for alert, step in steps.items():
        assert by_name[alert] == f"hashlight_copy_freshness == {step.value}"
