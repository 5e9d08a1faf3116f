"""Grants with a scope: given, shown, tried before they are given, and explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from support.clock import ManualClock
from support.made_records import labelled, md5_of
from support.peer_simulator import PeerSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.local_api import LocalApi

ADULT = {"labels": ["ncii:adult"]}
PEER = "shield.example"


@pytest_asyncio.fixture
async def shield() -> AsyncIterator[PeerSimulator]:
    simulator = PeerSimulator(PEER, ManualClock())
    async with simulator.running():
        yield simulator


@pytest_asyncio.fixture
async def refs(api: LocalApi, shield: PeerSimulator) -> list[str]:
    """Publish four records, two of them `ncii:adult`, for a peer that is pinned."""
    await api.post("/v1/peers", {"base": shield.base, "vkey": shield.vkey})
    await api.create_list()
    return await api.publish(
        "ncii",
        json.loads(labelled(0, "ncii:adult")),
        json.loads(labelled(1, "ncii:child", "iwf:A")),
        json.loads(labelled(2, "ncii:adult", types=("md5", "pdq"))),
        json.loads(labelled(3)),
    )


async def grant(api: LocalApi, scope: object = None) -> Any:  # noqa: ANN401 -- JSON
    body = {"peer": PEER, "list": "ncii", "scope": scope}
    reply = await api.post("/v1/grants", body)
    assert reply.status == 201, reply
    return reply.json


async def preview(api: LocalApi, **body: object) -> Any:  # noqa: ANN401 -- JSON
    reply = await api.post("/v1/grants/preview", {"peer": PEER, "list": "ncii", **body})
    assert reply.status == 200, reply
    return reply.json


async def explain(api: LocalApi, ref: str, **body: object) -> Any:  # noqa: ANN401 -- JSON
    reply = await api.post("/v1/grants/explain", {"peer": PEER, "ref": ref, **body})
    assert reply.status == 200, reply
    return reply.json


@pytest.mark.usefixtures("refs")
async def test_a_grant_says_how_far_it_goes_wherever_it_is_shown(api: LocalApi) -> None:
    scope = {"labels": ["iwf:A", "ncii:*"], "signals": ["pdq"], "about": PEER}
    made = await grant(api, {**scope, "labels": ["ncii:*", "iwf:A"]})
    assert made["scope"] == scope
    assert (await api.get("/v1/grants")).json["grants"] == [made]
    shown = (await api.get(f"/v1/peers/{PEER}")).json
    row = {name: made[name] for name in ("list", "granted_at", "scope", "relay")}
    assert shown["grants"] == [row]
    (peer,) = (await api.get("/v1/status")).json["peers"]
    assert peer["grants"] == [row]

    assert (await grant(api))["scope"] is None
    assert (await api.get(f"/v1/peers/{PEER}")).json["grants"][0]["scope"] is None


@pytest.mark.usefixtures("refs")
@pytest.mark.parametrize(
    ("scope", "status", "code"),
    [
        ({}, 400, "malformed"),
        ({"labels": ["*"]}, 400, "malformed"),
        ({"labels": ["ncii:adult", "ncii:adult"]}, 400, "malformed"),
        ({"signals": ["PDQ"]}, 400, "malformed"),
        ({"labels": [f"a:{n}" for n in range(65)]}, 400, "malformed"),
        # Opinions about a third node are nobody else's business.
        ({"about": "other.example"}, 400, "malformed"),
        ({"moon": "full"}, 422, "invalid-body"),
        ({"labels": "ncii:*"}, 422, "invalid-body"),
    ],
)
async def test_a_scope_that_is_none_is_refused(
    api: LocalApi, scope: object, status: int, code: str
) -> None:
    body = {"peer": PEER, "list": "ncii", "scope": scope}
    reply = await api.post("/v1/grants", body)
    assert (reply.status, reply.code) == (status, code)
    assert (await api.get("/v1/grants")).json["grants"] == []


async def test_a_preview_tells_what_a_peer_would_see_and_changes_nothing(
    api: LocalApi, refs: list[str]
) -> None:
    await api.post("/v1/lists/ncii/retract", {"ref": refs[3], "reason": "expired"})
    found = await preview(api, scope=ADULT)

    assert (found["is_granted"], found["present"]) == (False, None)
    assert found["proposed"] == ADULT
    assert found["live"] == {"shown": 2, "hidden": 1}
    assert (found["newly_shown"], found["no_longer_shown"]) == (2, 0)
    assert found["counts"] == {
        "states": {
            "live": {"shown": 2, "hidden": 1},
            "retracted": {"shown": 0, "hidden": 1},
        },
        "labels": {
            "iwf:A": {"shown": 0, "hidden": 1},
            "ncii:adult": {"shown": 2, "hidden": 0},
            "ncii:child": {"shown": 0, "hidden": 1},
        },
        "signal_types": {
            "md5": {"shown": 2, "hidden": 2},
            "pdq": {"shown": 1, "hidden": 0},
        },
        "sources": {"hotline": {"shown": 2, "hidden": 2}},
        "about": {},
    }
    assert found["examples"]["shown"] == [refs[0], refs[2]]
    assert found["examples"]["hidden"] == [refs[1], refs[3]]
    assert (await api.get("/v1/grants")).json["grants"] == []


async def test_a_preview_holds_no_value(api: LocalApi, refs: list[str]) -> None:
    del refs
    body = {"peer": PEER, "list": "ncii"}
    answer = (await api.post("/v1/grants/preview", body)).content.decode()
    for number in range(4):
        assert md5_of(number) not in answer


async def test_a_preview_compares_with_the_grant_that_there_is(
    api: LocalApi, refs: list[str]
) -> None:
    await grant(api, ADULT)
    found = await preview(api, scope={"labels": ["ncii:child", "iwf:*"]}, examples=1)
    assert (found["is_granted"], found["present"]) == (True, ADULT)
    assert (found["newly_shown"], found["no_longer_shown"]) == (1, 2)
    assert found["examples"]["newly_shown"] == [refs[1]]
    assert found["examples"]["no_longer_shown"] == [refs[0]]
    assert found["examples"]["hidden"] == [refs[0]]
    same = await preview(api, scope=ADULT, examples=0)
    assert (same["newly_shown"], same["no_longer_shown"]) == (0, 0)
    assert same["examples"]["shown"] == []


async def test_what_is_erased_or_about_others_is_previewed_too(
    api: LocalApi, refs: list[str]
) -> None:
    await api.post("/v1/lists/ncii/erase", {"ref": refs[0]})
    await api.create_list("feedback")
    about = [f"{name}/hsf/v1/log/own/1#1" for name in (PEER, "other.example")]
    for ref in about:
        opinion = {"type": "opinion", "ref": ref, "stance": "dispute"}
        await api.publish("feedback", opinion)

    erased = await preview(api)
    assert erased["counts"]["states"]["erased"] == {"shown": 0, "hidden": 1}
    assert erased["newly_shown"] == 3
    feedback = await preview(api, list="feedback", scope={"about": PEER})
    assert feedback["counts"]["about"] == {
        "other.example": {"shown": 0, "hidden": 1},
        PEER: {"shown": 1, "hidden": 0},
    }
    assert feedback["counts"]["sources"] == {}


async def test_it_is_explained_why_a_record_is_shown_or_not(
    api: LocalApi, refs: list[str]
) -> None:
    ungranted = await explain(api, refs[0])
    assert (ungranted["is_shown"], ungranted["obstacles"]) == (False, ["no-grant"])
    assert ungranted["scope"] is None
    await grant(api, {**ADULT, "signals": ["md5"]})

    shown = await explain(api, refs[0])
    assert (shown["is_shown"], shown["obstacles"], shown["state"]) == (True, [], "live")
    assert shown["facts"] == {
        "labels": ["ncii:adult"],
        "signals": ["md5"],
        "about": None,
    }
    assert (await explain(api, refs[1]))["obstacles"] == ["labels"]
    assert (await explain(api, refs[2]))["obstacles"] == ["signals"]
    proposed = await explain(api, refs[1], scope={"signals": ["pdq"], "about": PEER})
    assert proposed["obstacles"] == ["signals", "about"]

    await api.post("/v1/lists/ncii/erase", {"ref": refs[0]})
    erased = await explain(api, refs[0])
    assert (erased["obstacles"], erased["facts"]) == (["erased"], None)
    await api.send("POST", f"/v1/peers/{PEER}/quarantine")
    assert (await explain(api, refs[2]))["obstacles"] == ["quarantined", "signals"]


@pytest.mark.usefixtures("refs")
async def test_what_is_not_there_is_neither_previewed_nor_explained(
    api: LocalApi,
) -> None:
    for body, code in (
        ({"peer": "no.example", "list": "ncii"}, "unknown-peer"),
        ({"peer": PEER, "list": "none"}, "unknown-list"),
        ({"peer": PEER, "list": "ncii", "scope": {}}, "malformed"),
        ({"peer": PEER, "list": "ncii", "examples": 1_001}, "invalid-body"),
    ):
        assert (await api.post("/v1/grants/preview", body)).code == code
    own = "alpha.example/hsf/v1/log/ncii/1#"
    for body, code in (
        ({"peer": "no.example", "ref": f"{own}1"}, "unknown-peer"),
        ({"peer": PEER, "ref": f"{own}99"}, "unknown-record"),
        ({"peer": PEER, "ref": f"{PEER}/hsf/v1/log/ncii/1#1"}, "unknown-record"),
    ):
        assert (await api.post("/v1/grants/explain", body)).code == code
