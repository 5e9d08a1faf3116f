"""The short way answers as the general way would, byte for byte, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hashlight_node.api.local.fast import FastLookups
from hashlight_node.model import Scope
from support.local_api import LocalApi, add_token
from support.made_records import md5_of

if TYPE_CHECKING:
    from aiohttp import web

    from hashlight_node.app import RunningNode
    from support.local_api import Reply

UNKNOWN = {"type": "pdq", "value": "0f" * 32}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for each request whether the short way answered it."""
    notes: list[bool] = []
    answer = FastLookups.answer

    def noting(self: FastLookups, request: web.BaseRequest) -> web.Response | None:
        response = answer(self, request)
        notes.append(response is not None)
        return response

    monkeypatch.setattr(FastLookups, "answer", noting)
    return notes


async def ask(api: LocalApi, body: object, **headers: str) -> Reply:
    return await api.post("/v1/lookup", body, headers)


async def test_only_the_first_lookup_after_a_commit_goes_the_general_way(
    taken: list[bool], node: RunningNode, api: LocalApi
) -> None:
    body = {"queries": [UNKNOWN]}
    # A job of the node may commit between two lookups; then it is done again.
    lists = 0
    while True:
        lists += 1
        await api.create_list(f"list-{lists}")
        committed = node.foundation.database.version()
        del taken[:]
        slow, fast, other = [await ask(api, body) for _ in range(3)]
        if node.foundation.database.version() == committed:
            break
    assert taken == [False, True, True]
    assert fast.content == slow.content == other.content
    assert slow.json["lists"]
    ids = {reply.headers["X-Request-Id"] for reply in (slow, fast, other)}
    assert len(ids) == 3
    assert all(len(each) == 16 for each in ids)
    varying = ("date", "x-request-id")
    same = [
        {
            name: value
            for name, value in reply.headers.items()
            if name.lower() not in varying
        }
        for reply in (slow, fast)
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    "query",
    [
        UNKNOWN,
        {"type": "pdq", "value": "0F" * 32},
        {"type": "md5", "value": "0F" * 16},
        {"value": "0f" * 20, "type": "sha1"},
        {"type": "url", "value": "https://EXAMPLE.org/a"},
    ],
)
async def test_both_ways_show_the_query_in_the_same_form(
    taken: list[bool], api: LocalApi, query: dict[str, str]
) -> None:
    slow = await ask(api, {"queries": [query]})
    fast = await ask(api, {"queries": [query]})
    assert taken[-2:] == [False, True] or taken[-2:] == [False, False]
    assert fast.status == 200, fast
    assert fast.content == slow.content


BODIES: dict[str, Any] = {
    "two queries": {"queries": [UNKNOWN, UNKNOWN]},
    "a distance": {"queries": [UNKNOWN], "max_distance": 3},
    "an unknown member": {"queries": [UNKNOWN], "more": 1},
    "an unknown member of the query": {"queries": [{**UNKNOWN, "more": 1}]},
    "other members": {"queries": [{"type": "pdq", "valu": "0f" * 32}]},
    "no signal": {"queries": [{"type": "pdq", "value": "0f"}]},
    "an unknown type": {"queries": [{"type": "x-new", "value": "0f"}]},
    "a number": {"queries": [{"type": "pdq", "value": 7}]},
    "no query": {"queries": []},
    "no list": {"queries": UNKNOWN},
    "text": {"queries": ["pdq"]},
    "a list": [UNKNOWN],
    "another member": {"query": [UNKNOWN]},
    "long": {"queries": [{"type": "pdq", "value": "0f" * 5000}]},
}


@pytest.mark.parametrize("name", BODIES)
async def test_what_is_unusual_goes_the_general_way(
    taken: list[bool], api: LocalApi, name: str
) -> None:
    await ask(api, {"queries": [UNKNOWN]})
    reply = await ask(api, BODIES[name])
    assert taken[-1] is False
    assert reply.status in (200, 422)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"queries":[{"type":"pdq","value":"\\u0030"}]}',
        b'{"queries":[],"queries":[{"type":"md5","value":"00"}]}',
    ],
)
async def test_what_is_no_json_is_refused_in_the_general_words(
    taken: list[bool], api: LocalApi, raw: bytes
) -> None:
    await ask(api, {"queries": [UNKNOWN]})
    headers = {"Content-Type": "application/json"}
    reply = await api.send("POST", "/v1/lookup", data=raw, headers=headers)
    assert taken[-1] is False
    assert reply.status in (400, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Encoding": "gzip"},
        {"Expect": "100-continue"},
        {"Authorization": "Bearer hlt_" + "A" * 43},
        {"Authorization": "Basic YTpi"},
    ],
    ids=str,
)
async def test_unusual_headers_go_the_general_way(
    taken: list[bool], api: LocalApi, headers: dict[str, str]
) -> None:
    await ask(api, {"queries": [UNKNOWN]})
    await ask(api, {"queries": [UNKNOWN]}, **headers)
    assert taken[-1] is False


async def test_other_paths_and_methods_go_the_general_way(
    taken: list[bool], api: LocalApi
) -> None:
    await ask(api, {"queries": [UNKNOWN]})
    body = {"queries": [UNKNOWN]}
    assert (await api.post("/v1/lookup?a=1", body)).status == 400
    assert (await api.send("GET", "/v1/lookup")).status == 405
    assert (await api.post("/v1/lookup/", body)).status == 404
    assert taken[-3:] == [False, False, False]


async def test_a_token_without_the_scope_gets_nowhere(
    taken: list[bool], api: LocalApi, node: RunningNode
) -> None:
    token = await add_token(node.foundation.database, Scope.AUDIT)
    caller = api.with_token(token)
    for _ in range(2):
        await caller.get("/v1/status")
        assert (await ask(caller, {"queries": [UNKNOWN]})).code == "scope-missing"
    assert not any(taken)


async def test_a_match_goes_the_general_way(taken: list[bool], api: LocalApi) -> None:
    await api.create_list()
    known = {"type": "md5", "value": md5_of(1)}
    record = {
        "type": "indicator",
        "kind": "image",
        "source": "person",
        "created": "2026-11-21T09:30:00Z",
        "signals": [known],
    }
    (ref,) = await api.publish("ncii", record)
    for _ in range(3):
        reply = await ask(api, {"queries": [known]})
        assert len(reply.json["results"][0]["matches"]) == 1
    assert not any(taken[-3:])
    body = {"ref": ref, "reason": "withdrawn"}
    assert (await api.post("/v1/lists/ncii/retract", body)).status == 201
    for _ in range(2):
        reply = await ask(api, {"queries": [known]})
        assert reply.json["results"][0]["matches"] == []
    assert taken[-1] is True


async def test_it_is_counted_like_any_other(api: LocalApi) -> None:
    for _ in range(3):
        await ask(api, {"queries": [UNKNOWN]})
    text = (await api.get("/metrics")).content.decode()
    assert 'hashlight_lookups_total{outcome="unmatched"} 3.0' in text
    labels = 'listener="local",method="POST",route="/v1/lookup",status="200"'
    assert f"hashlight_http_request_seconds_count{{{labels}}} 3.0" in text
