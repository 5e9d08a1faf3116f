"""The operator's word over the API: allow list, trials, floods, clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hashlight_node.app import start_node
from hashlight_node.model import Scope
from hashlight_protocol import parse_signal
from support.clock import ManualClock
from support.local_api import LocalApi, add_token, names_of, run_node
from support.nodes import make_settings

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.app import RunningNode

MD5 = "0123456789abcdef0123456789abcdef"
PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
REVIEWED = {"level": "human", "reviewers": 1}

BLOCKING = """
[policy]
flood_matches = 3
rules = [
  { list = "memes", handling = "ignore" },
  { match = "near", handling = "block" },
  { handling = "block" },
]

[matching.thresholds]
"alpha.example/strict" = 5
"""


def record(*signals: tuple[str, str], **more: object) -> dict[str, Any]:
    claims = [{"type": kind, "value": value} for kind, value in signals]
    return {
        "type": "indicator",
        "signals": claims,
        "kind": "image",
        "source": "person",
        "created": "2026-11-01T00:00:00Z",
        "review": REVIEWED,
        **more,
    }


def flip(pdq: str, bits: int, first: int = 0) -> str:
    mask = ((1 << bits) - 1) << first
    return f"{int(pdq, 16) ^ mask:064x}"


async def look_up(api: LocalApi, kind: str, value: str) -> dict[str, Any]:
    body = {"queries": [{"type": kind, "value": value}]}
    reply = await api.post("/v1/lookup", body)
    assert reply.status == 200, reply
    result: dict[str, Any] = reply.json["results"][0]
    return result


async def allow(api: LocalApi, kind: str, value: str, **more: object) -> Any:  # noqa: ANN401 -- JSON
    reply = await api.post("/v1/allowed", {"type": kind, "value": value, **more})
    assert reply.status == 201, reply
    return reply.json


async def test_an_allowed_signal_is_ignored_until_the_entry_is_removed(
    tmp_path: Path,
) -> None:
    async with run_node(tmp_path, BLOCKING) as (_, api):
        await api.create_list()
        await api.publish("ncii", record(("pdq", PDQ), ("md5", MD5)))
        before = await look_up(api, "pdq", flip(PDQ, 3))
        (match,) = before["matches"]
        assert before["handling"] == "block"
        assert (match["rule"], match["because"]) == (1, "rule")
        assert (match["allowed"], match["flooded"]) == (False, False)
        entry = await allow(
            api, "pdq", PDQ.upper(), max_distance=10, note="our own logo"
        )
        assert entry["signal"] == {"type": "pdq", "value": PDQ}
        after = await look_up(api, "pdq", flip(PDQ, 10))
        (match,) = after["matches"]
        assert after["handling"] == match["handling"] == "ignore"
        assert (match["allowed"], match["rule"], match["because"]) == (
            True,
            None,
            "allowed",
        )
        assert len(match["records"]) == 1
        assert (await look_up(api, "md5", MD5))["handling"] == "block"
        listed = (await api.get("/v1/allowed")).json
        assert listed == {"allowed": [entry], "next_cursor": None}
        assert (await api.delete(f"/v1/allowed/{entry['id']}")).status == 204
        assert (await look_up(api, "pdq", flip(PDQ, 3)))["handling"] == "block"
        gone = await api.delete(f"/v1/allowed/{entry['id']}")
        assert (gone.status, gone.code) == (404, "not-found")


async def test_the_allow_list_outlives_a_restart(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "alpha.example")
    signal = parse_signal("md5", MD5)
    async with start_node(settings, clock=ManualClock()) as node:
        entry = await node.use_cases.policies.allow(signal, max_distance=0, note="x")
        assert node.foundation.criteria.allowed.names(signal)
    async with start_node(settings, clock=ManualClock()) as again:
        assert await again.use_cases.policies.allowed() == [entry]
        assert again.foundation.criteria.allowed.names(signal)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "md5", "value": "zz"}, "bad-signal"),
        ({"type": "md5", "value": MD5, "max_distance": 1}, "invalid-body"),
        ({"type": "pdq", "value": PDQ, "max_distance": 32}, "invalid-body"),
        ({"type": "pdq", "value": PDQ, "note": "a\nb"}, "invalid-body"),
    ],
)
async def test_what_cannot_be_allowed_is_refused(
    api: LocalApi, body: dict[str, Any], code: str
) -> None:
    reply = await api.post("/v1/allowed", body)
    assert (reply.status, reply.code) == (422, code)


async def test_who_may_read_the_allow_list_may_not_change_it(
    node: RunningNode, api: LocalApi
) -> None:
    entry = await allow(api, "md5", MD5)
    auditor = api.with_token(await add_token(node.foundation.database, Scope.AUDIT))
    assert (await auditor.get("/v1/allowed")).json["allowed"] == [entry]
    refused = await auditor.post("/v1/allowed", {"type": "md5", "value": MD5})
    assert refused.code == "scope-missing"
    assert (await auditor.delete("/v1/allowed/1")).code == "scope-missing"


async def test_a_flood_is_reviewed_and_counted_for_operators(tmp_path: Path) -> None:
    async with run_node(tmp_path, BLOCKING) as (_, api):
        await api.create_list()
        await api.publish("ncii", record(("md5", MD5)))
        seen = [await look_up(api, "md5", MD5) for _ in range(5)]
        assert [it["handling"] for it in seen] == ["block"] * 3 + ["review"] * 2
        (match,) = seen[4]["matches"]
        assert (match["flooded"], match["because"], match["rule"]) == (
            True,
            "flooded",
            2,
        )
        metrics = (await api.get("/metrics")).content.decode()
        assert "hashlight_flooded_matches_total 2.0" in metrics


async def test_a_list_has_a_threshold_of_its_own(tmp_path: Path) -> None:
    async with run_node(tmp_path, BLOCKING) as (_, api):
        for name in ("strict", "loose"):
            await api.create_list(name)
            await api.publish(name, record(("pdq", PDQ)))
        (match,) = (await look_up(api, "pdq", flip(PDQ, 5)))["matches"]
        assert names_of(match["records"], "list") == ["strict", "loose"]
        (match,) = (await look_up(api, "pdq", flip(PDQ, 6)))["matches"]
        assert names_of(match["records"], "list") == ["loose"]
        assert match["threshold"] == 31


async def test_a_policy_is_tried_without_counting(tmp_path: Path) -> None:
    async with run_node(tmp_path, BLOCKING) as (_, api):
        await api.create_list()
        await api.publish("ncii", record(("pdq", PDQ), ("md5", MD5)))
        queries = [
            {"type": "pdq", "value": flip(PDQ, 2)},
            {"type": "md5", "value": MD5},
            {"type": "md5", "value": "f" * 32},
        ]
        policy = {
            "default": "ignore",
            "rules": [{"match": "exact", "review": "human", "handling": "review"}],
        }
        body = {"policy": policy, "queries": queries}
        for _ in range(3):
            await api.post("/v1/policy/try", body)
        reply = await api.post("/v1/policy/try", body)
        near, exact, unknown = reply.json["results"]
        assert (near["now"], near["then"]) == ("block", "ignore")
        assert (near["rule"], near["because"]) == (None, "default")
        assert (exact["now"], exact["then"], exact["rule"]) == ("block", "review", 0)
        assert (unknown["now"], unknown["matches"]) == ("ignore", 0)
        assert unknown["because"] is None
        assert reply.json["counts"] == {
            "now": {"block": 2, "review": 0, "ignore": 1},
            "then": {"block": 0, "review": 1, "ignore": 2},
            "changed": 2,
        }
        same = {"default": "review", "rules": [{"handling": "block"}]}
        reply = await api.post("/v1/policy/try", {"policy": same, "queries": queries})
        assert reply.json["counts"]["changed"] == 1
        assert (await look_up(api, "md5", MD5))["matches"][0]["flooded"] is False


async def test_a_policy_that_is_none_is_refused_with_the_place(api: LocalApi) -> None:
    query = {"type": "md5", "value": MD5}
    rule = {"handling": "blok", "opinion": "sure", "lists": "x"}
    body = {"policy": {"rules": [rule]}, "queries": [query]}
    reply = await api.post("/v1/policy/try", body)
    assert reply.code == "invalid-body"
    assert set(names_of(reply.json["errors"], "pointer")) == {
        "/policy/rules/0/handling",
        "/policy/rules/0/opinion",
        "/policy/rules/0/lists",
    }
    body = {"policy": {}, "queries": [query, {"type": "md5", "value": "zz"}]}
    reply = await api.post("/v1/policy/try", body)
    assert names_of(reply.json["errors"], "pointer") == ["/queries/1"]


async def test_every_condition_of_a_rule_can_be_tried(api: LocalApi) -> None:
    await api.create_list()
    labels = [{"scheme": "ncii", "value": "adult"}]
    await api.publish("ncii", record(("md5", MD5), labels=labels))
    rule = {
        "handling": "block",
        "list": "*.example/ncii",
        "label": "ncii:*",
        "review": "human",
        "opinion": "positive",
        "match": "exact",
    }
    body = {"policy": {"rules": [rule]}, "queries": [{"type": "md5", "value": MD5}]}
    (tried,) = (await api.post("/v1/policy/try", body)).json["results"]
    assert (tried["now"], tried["then"], tried["rule"]) == ("review", "block", 0)


async def test_near_duplicates_of_several_lists_are_one_cluster(api: LocalApi) -> None:
    second, third = flip(PDQ, 20), flip(PDQ, 40)
    for name, values in (("one", (PDQ, third)), ("two", (second, third))):
        await api.create_list(name)
        await api.publish(name, *(record(("pdq", value)) for value in values))
    (retracted,) = await api.publish("one", record(("pdq", flip(PDQ, 1))))
    await api.post("/v1/lists/one/retract", {"ref": retracted, "reason": "withdrawn"})
    await api.publish("one", record(("pdq", flip(PDQ, 128))))
    reply = await api.post("/v1/clusters", {"type": "pdq", "value": PDQ})
    cluster = reply.json
    assert [
        (it["signal"]["value"], it["distance"], it["links"], it["records"], it["lists"])
        for it in cluster["members"]
    ] == [
        (PDQ, 0, 1, 1, ["alpha.example/one"]),
        (second, 20, 1, 1, ["alpha.example/two"]),
        (third, 40, 2, 2, ["alpha.example/one", "alpha.example/two"]),
    ]
    assert cluster["lists"] == [
        {"list": "alpha.example/one", "members": 2},
        {"list": "alpha.example/two", "members": 2},
    ]
    assert (cluster["threshold"], cluster["truncated"]) == (31, False)
    body = {"type": "pdq", "value": PDQ, "max_distance": 19}
    narrow = (await api.post("/v1/clusters", body)).json
    assert [it["distance"] for it in narrow["members"]] == [0]
    assert narrow["threshold"] == 19
