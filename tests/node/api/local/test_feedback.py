from __future__ import annotations

from typing import Any

import pytest

from hashlight_node.app import RunningNode
from support.local_api import LocalApi, record_path

MD5 = "0123456789abcdef0123456789abcdef"


async def publish_one(api: LocalApi) -> str:
    await api.create_list()
    (ref,) = await api.publish(
        "ncii",
        {
            "type": "indicator",
            "signals": [{"type": "md5", "value": MD5}],
            "kind": "image",
            "source": "person",
            "created": "2026-11-01T00:00:00Z",
        },
    )
    return ref


def sighting(ref: str, **more: object) -> dict[str, Any]:
    return {
        "ref": ref,
        "outcome": "blocked",
        "count": 3,
        "first_at": "2026-11-01T00:00:00Z",
        "last_at": "2026-11-02T00:00:00Z",
        **more,
    }


async def test_an_opinion_is_published_in_a_list_of_our_own_and_counts_at_once(
    api: LocalApi,
) -> None:
    ref = await publish_one(api)
    assert (await api.matches("md5", MD5))[0]["opinion"] == "seed"
    body = {"ref": ref, "stance": "dispute", "reason": "not-violating", "tags": ["a"]}
    said = await api.post("/v1/opinions", body)
    assert said.json == {"ref": "alpha.example/hsf/v1/log/feedback/1#1"}
    shown = (await api.get(record_path(ref))).json
    assert shown["opinion"] == "negative"
    assert shown["opinions"] == [
        {
            "node": "alpha.example",
            "ref": said.json["ref"],
            "signal": None,
            "stance": "dispute",
            "reason": "not-violating",
        }
    ]
    (match,) = await api.matches("md5", MD5)
    assert (match["opinion"], match["handling"]) == ("negative", "ignore")


async def test_a_second_opinion_goes_into_the_same_list(api: LocalApi) -> None:
    ref = await publish_one(api)
    for stance in ("unsure", "affirm"):
        reply = await api.post("/v1/opinions", {"ref": ref, "stance": stance})
        assert reply.status == 201
    assert (await api.get("/v1/lists/feedback")).json["size"] == 3
    assert (await api.get(record_path(ref))).json["opinion"] == "positive"


async def test_sightings_are_added_up_and_published_together(
    api: LocalApi, node: RunningNode
) -> None:
    ref = await publish_one(api)
    for _ in range(2):
        said = await api.post("/v1/sightings", sighting(ref, signal="md5"))
        assert (said.status, said.json) == (202, {"counted": 1})
    many = {"sightings": [sighting(ref), sighting(ref, outcome="removed")]}
    assert (await api.post("/v1/sightings/batch", many)).json == {"counted": 2}
    assert (await api.get("/v1/lists/sightings")).status == 404

    assert await node.use_cases.feedback.publish_sightings() == 3

    assert (await api.get("/v1/lists/sightings")).json["size"] == 4
    shown = (await api.get(record_path(ref))).json["sightings"]
    assert [(it["outcome"], it["count"]) for it in shown] == [
        ("blocked", 9),
        ("removed", 3),
    ]
    (row,) = (await api.get("/v1/lists/ncii/feedback")).json["feedback"]
    assert (row["ref"], row["sightings"]) == (ref, shown)


async def test_feedback_about_a_list_comes_in_pages(api: LocalApi) -> None:
    refs = [await publish_one(api)]
    for number in range(2):
        body = {
            "type": "indicator",
            "signals": [{"type": "md5", "value": f"{number:032x}"}],
            "kind": "image",
            "source": "person",
            "created": "2026-11-01T00:00:00Z",
        }
        refs += await api.publish("ncii", body)
    for ref in (refs[0], refs[2]):
        await api.post("/v1/opinions", {"ref": ref, "stance": "affirm"})
    found, path = [], "/v1/lists/ncii/feedback?limit=1"
    while path:
        page = (await api.get(path)).json
        found += [row["ref"] for row in page["feedback"]]
        cursor = page["next_cursor"]
        path = f"/v1/lists/ncii/feedback?limit=1&cursor={cursor}" if cursor else ""
    assert found == [refs[0], refs[2]]
    assert (await api.get("/v1/lists/none/feedback")).code == "unknown-list"


async def test_a_case_is_ended_and_what_goes_on_matching_is_said(
    api: LocalApi,
) -> None:
    other = await publish_one(api)
    body = {
        "type": "indicator",
        "signals": [{"type": "md5", "value": MD5}],
        "kind": "image",
        "source": "person",
        "created": "2026-11-01T00:00:00Z",
        "case": "anna",
    }
    (ref,) = await api.publish("ncii", body)
    reply = await api.post("/v1/cases/withdraw", {"case": "anna"})
    assert reply.json == {
        "withdrawn": [
            {"ref": ref, "withdrawn_by": "alpha.example/hsf/v1/log/ncii/1#3"}
        ],
        "still_asserted": [{"type": "md5", "refs": [other]}],
    }
    assert (await api.get(record_path(ref))).json["state"] == "erased"
    again = await api.post("/v1/cases/withdraw", {"case": "anna"})
    assert (again.status, again.code) == (404, "unknown-case")
    wrong = await api.post("/v1/cases/withdraw", {"case": "a b"})
    assert wrong.code == "invalid-body"


async def test_feedback_repeated_with_its_key_is_said_once(api: LocalApi) -> None:
    ref = await publish_one(api)
    body = {"ref": ref, "stance": "affirm"}
    headers = {"Idempotency-Key": "o"}
    first = await api.post("/v1/opinions", body, headers)
    assert (await api.post("/v1/opinions", body, headers)).json == first.json
    assert (await api.get("/v1/lists/feedback")).json["size"] == 2


async def test_feedback_about_nothing_is_refused_and_starts_no_list(
    api: LocalApi,
) -> None:
    ref = "shield.example/hsf/v1/log/ncii/1#1"
    reply = await api.post("/v1/opinions", {"ref": ref, "stance": "affirm"})
    assert (reply.status, reply.code) == (404, "unknown-record")
    assert (await api.post("/v1/sightings", sighting(ref))).code == "unknown-record"
    assert (await api.get("/v1/lists")).json["lists"] == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/opinions", {"stance": "hate"}, 422),
        ("/v1/opinions", {"stance": "affirm", "reason": "a whole sentence"}, 422),
        ("/v1/opinions", {"stance": "affirm", "tags": ["x"] * 17}, 422),
        ("/v1/opinions", {"stance": "affirm", "comment": "x"}, 422),
        ("/v1/opinions", {"stance": "affirm", "ref": "x#1"}, 422),
        ("/v1/sightings", {"count": 0}, 422),
        ("/v1/sightings", {"count": 2**63}, 422),
        ("/v1/sightings", {"count": True}, 422),
        ("/v1/sightings", {"count": 1.0}, 422),
        ("/v1/sightings", {"first_at": "2026-13-01T00:00:00Z"}, 400),
        ("/v1/sightings", {"first_at": "2026-11-03T00:00:00Z"}, 422),
    ],
    ids=range(11),
)
async def test_feedback_that_says_nothing_clear_is_refused(
    api: LocalApi, path: str, body: dict[str, object], status: int
) -> None:
    ref = await publish_one(api)
    whole = sighting(ref) if path == "/v1/sightings" else {"ref": ref}
    reply = await api.post(path, whole | body)
    assert reply.status == status
    assert reply.code in ("invalid-body", "bad-record", "malformed")
