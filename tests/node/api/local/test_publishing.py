from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hashlight_protocol import open_receipt, parse_vkey
from support.local_api import LocalApi, Reply, record_path

if TYPE_CHECKING:
    from hashlight_node.app import RunningNode


def record(number: int, **more: object) -> dict[str, Any]:
    return {
        "type": "indicator",
        "signals": [{"type": "md5", "value": f"{number:032x}"}],
        "kind": "image",
        "source": "hotline",
        "created": "2026-11-01T00:00:00Z",
        **more,
    }


async def test_a_list_starts_with_its_key_and_a_signed_checkpoint(
    api: LocalApi,
) -> None:
    made = await api.create_list("ncii")
    assert made["origin"] == "alpha.example/hsf/v1/log/ncii/1"
    assert made["vkey"].startswith(f"{made['origin']}+")
    assert made["vkeys"] == [made["vkey"]]
    assert made["checkpoint"].startswith(f"{made['origin']}\n1\n")
    assert (made["size"], made["role"], made["state"]) == (1, "own", "active")
    assert (await api.get("/v1/lists/ncii")).json == made
    assert (await api.get("/v1/lists/alpha.example%2Fncii")).json == made
    assert (await api.get("/v1/lists")).json == {"lists": [made], "next_cursor": None}


async def test_what_the_owner_says_about_a_list_is_kept(api: LocalApi) -> None:
    meta = {"title": "é", "nested": {"a": [1, None, 1.5]}}
    reply = await api.post("/v1/lists", {"name": "ncii", "meta": meta})
    assert reply.json["meta"] == meta


async def test_a_name_is_given_once(api: LocalApi) -> None:
    await api.create_list("ncii")
    reply = await api.post("/v1/lists", {"name": "ncii"})
    assert (reply.status, reply.code) == (409, "list-exists")


async def test_an_unknown_list_is_not_found(api: LocalApi) -> None:
    for path in ("/v1/lists/none", "/v1/lists/beta.example%2Fncii"):
        assert (await api.get(path)).code == "unknown-list"
    assert (await api.post("/v1/lists/none/records", record(1))).code == "unknown-list"


async def test_one_record_and_many_are_published_alike(api: LocalApi) -> None:
    made = await api.create_list()
    one = await api.post("/v1/lists/ncii/records", record(1))
    assert one.json == {"refs": [f"{made['origin']}#1"]}
    refs = await api.publish("ncii", record(2), record(3))
    assert refs == [f"{made['origin']}#2", f"{made['origin']}#3"]
    for number in (1, 2, 3):
        assert len(await api.matches("md5", f"{number:032x}")) == 1


async def test_members_that_are_not_known_survive_in_the_bytes_that_are_signed(
    api: LocalApi,
) -> None:
    made = await api.create_list()
    extra = {"x-note": {"b": [1, 2.5, "é"], "a": None}, "case": "k9"}
    (ref,) = await api.publish("ncii", record(1, **extra))
    receipt = await api.get(record_path(ref, "receipt"))
    assert receipt.headers["Content-Type"].startswith("text/plain")
    proved = open_receipt(receipt.content, [parse_vkey(made["vkey"])])
    assert '"x-note":{"b":[1,2.5,"é"],"a":null},"case":"k9"'.encode() in proved.body
    assert b" " not in proved.body
    assert (await api.get(record_path(ref))).json["body"] == record(1, **extra)


async def test_one_bad_record_stops_all_and_is_named(api: LocalApi) -> None:
    await api.create_list()
    bad = record(3)
    bad["signals"][0]["value"] = "zz"
    reply = await api.post(
        "/v1/lists/ncii/records", {"records": [record(1), record(2), bad]}
    )
    assert (reply.status, reply.code) == (422, "bad-record")
    (fault,) = reply.json["errors"]
    assert fault["pointer"].startswith("/records/2/signals/0")
    assert (await api.get("/v1/lists/ncii")).json["size"] == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"records": []}, "empty-request"),
        ({"records": [record(1)] * 1001}, "bad-record"),
        ({"records": [record(1)], "list": "x"}, "bad-record"),
        ({"records": record(1)}, "bad-record"),
        ({"records": [1]}, "bad-record"),
        ({}, "bad-record"),
        (record(1, type="indicater"), "bad-record"),
        (record(1, type=7), "bad-record"),
        (record(1, kind="Not a token"), "bad-record"),
        (record(1, crit=["x-new"], **{"x-new": 1}), "unknown-critical"),
        (record(1, filler="x" * 17_000), "too-large"),
        ([record(1)], "malformed"),
        ("record", "malformed"),
        (None, "malformed"),
        (record(1, deep=[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]), "malformed"),
    ],
    ids=range(15),
)
async def test_what_is_no_record_is_refused_with_a_stable_code(
    api: LocalApi, body: object, code: str
) -> None:
    await api.create_list()
    reply = await api.post("/v1/lists/ncii/records", body)
    assert reply.code == code
    assert reply.status in (400, 413, 422)


async def post_with_key(api: LocalApi, key: str, *records: dict[str, Any]) -> Reply:
    path = "/v1/lists/ncii/records"
    return await api.post(path, {"records": list(records)}, {"Idempotency-Key": key})


async def test_a_request_repeated_with_its_key_is_done_once(api: LocalApi) -> None:
    await api.create_list()
    first = await post_with_key(api, "k-1", record(1), record(2))
    again = await post_with_key(api, '"k-1"', record(1), record(2))
    assert (again.status, again.json) == (first.status, first.json)
    assert (await api.get("/v1/lists/ncii")).json["size"] == 3


async def test_a_key_that_comes_with_another_request_is_refused(api: LocalApi) -> None:
    await api.create_list()
    await api.create_list("other")
    await post_with_key(api, "k", record(1))
    reply = await post_with_key(api, "k", record(2))
    assert (reply.status, reply.code) == (422, "idempotency-conflict")
    reply = await api.post(
        "/v1/lists/other/records", {"records": [record(1)]}, {"Idempotency-Key": "k"}
    )
    assert reply.code == "idempotency-conflict"


async def test_two_callers_may_choose_the_same_key(api: LocalApi) -> None:
    await api.create_list()
    made = await api.post("/v1/tokens", {"label": "x", "scopes": ["publish"]})
    await post_with_key(api, "k", record(1))
    other = api.with_token(made.json["token"])
    assert (await post_with_key(other, "k", record(2))).status == 201


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 129, '"a', "é"])
async def test_a_key_of_another_form_is_refused(api: LocalApi, key: str) -> None:
    await api.create_list()
    reply = await post_with_key(api, key, record(1))
    assert (reply.status, reply.code) == (400, "invalid-parameter")


async def test_a_retracted_record_stops_matching_and_says_why(api: LocalApi) -> None:
    made = await api.create_list()
    (ref,) = await api.publish("ncii", record(1))
    body = {"ref": ref, "reason": "false-positive"}
    done = await api.post("/v1/lists/ncii/retract", body)
    answer = {"ref": f"{made['origin']}#2", "record": ref}
    assert (done.status, done.json) == (201, answer)
    assert await api.matches("md5", f"{1:032x}") == []
    shown = (await api.get(record_path(ref))).json
    assert (shown["state"], shown["reason"]) == ("retracted", "false-positive")
    assert shown["withdrawn_by"] == done.json["ref"]
    assert shown["body"] == record(1)


async def test_an_erased_record_is_gone_and_its_place_is_known(api: LocalApi) -> None:
    await api.create_list()
    (ref,) = await api.publish("ncii", record(1))
    done = await api.post("/v1/lists/ncii/erase", {"ref": ref})
    assert await api.matches("md5", f"{1:032x}") == []
    shown = (await api.get(record_path(ref))).json
    assert (shown["state"], shown["reason"]) == ("erased", "withdrawn")
    assert shown["body"] is None
    assert (await api.get(record_path(ref, "receipt"))).code == "erased"
    erasure = (await api.get(record_path(ref, "erasure"))).json
    assert erasure["erased_by"] == done.json["ref"]
    assert (erasure["peers"], erasure["is_complete"]) == ([], True)


async def test_a_record_is_withdrawn_through_its_own_list_only(
    api: LocalApi,
) -> None:
    await api.create_list("ncii")
    await api.create_list("other")
    (ref,) = await api.publish("ncii", record(1))
    reply = await api.post("/v1/lists/other/retract", {"ref": ref, "reason": "expired"})
    assert (reply.code, reply.json["errors"][0]["pointer"]) == ("invalid-body", "/ref")
    unknown = ref.replace("#1", "#7")
    reply = await api.post("/v1/lists/ncii/erase", {"ref": unknown})
    assert (reply.status, reply.code) == (404, "unknown-record")
    assert len(await api.matches("md5", f"{1:032x}")) == 1


async def test_a_withdrawal_needs_a_known_reason(api: LocalApi) -> None:
    await api.create_list()
    (ref,) = await api.publish("ncii", record(1))
    for body in ({"ref": ref}, {"ref": ref, "reason": "because"}):
        reply = await api.post("/v1/lists/ncii/retract", body)
        assert reply.json["errors"][0]["pointer"] == "/reason"


async def test_a_restarted_client_can_repeat_a_withdrawal(
    api: LocalApi, node: RunningNode
) -> None:
    await api.create_list()
    (ref,) = await api.publish("ncii", record(1))
    headers = {"Idempotency-Key": "w"}
    replies = [
        await api.post("/v1/lists/ncii/erase", {"ref": ref}, headers) for _ in range(2)
    ]
    assert replies[0].json == replies[1].json
    assert node.jobs.done() is False
