from __future__ import annotations

from typing import Any

import pytest

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


async def test_a_sighting_is_published_in_a_list_of_its_own(api: LocalApi) -> None:
    ref = await publish_one(api)
    said = await api.post("/v1/sightings", sighting(ref, signal="md5"))
    assert said.json == {"ref": "alpha.example/hsf/v1/log/sightings/1#1"}
    shown = (await api.get(record_path(said.json["ref"]))).json
    assert shown["body"] == {"type": "sighting", **sighting(ref), "signal": "md5"}


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
