from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from hashlight_node.api.local import lookup
from hashlight_node.matching.image import hash_image
from hashlight_protocol import encode_timestamp
from support.clock import START
from support.local_api import LocalApi, Reply, names_of
from support.pictures import PHOTOS, encoded, photo

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.api.local.models.lookup import ResultShown
    from hashlight_node.app import RunningNode
    from hashlight_node.matching.judging import LookupResult

MD5 = "0123456789abcdef0123456789abcdef"
PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"


def record(*signals: tuple[str, str], **more: object) -> dict[str, Any]:
    claims = [{"type": kind, "value": value} for kind, value in signals]
    return {
        "type": "indicator",
        "signals": claims,
        "kind": "image",
        "source": "person",
        "created": "2026-11-01T00:00:00Z",
        **more,
    }


def flip(pdq: str, bits: int) -> str:
    """Change that many bits, one in each hexadecimal digit."""
    return "".join(
        f"{int(digit, 16) ^ (place < bits):x}" for place, digit in enumerate(pdq)
    )


async def test_what_was_published_is_found_with_its_evidence(api: LocalApi) -> None:
    made = await api.create_list()
    labels = [{"scheme": "ncii", "value": "adult"}]
    review = {"level": "human", "reviewers": 2}
    (ref,) = await api.publish(
        "ncii", record(("pdq", PDQ), ("md5", MD5), labels=labels, review=review)
    )
    reply = await api.post(
        "/v1/lookup",
        {
            "queries": [
                {"type": "md5", "value": MD5.upper()},
                {"type": "pdq", "value": flip(PDQ, 20)},
                {"type": "md5", "value": "f" * 32},
            ]
        },
    )
    exact, near, none = reply.json["results"]
    assert exact["query"] == {"type": "md5", "value": MD5}
    (match,) = exact["matches"]
    assert (match["distance"], match["threshold"]) == (0, 0)
    assert match["opinion"] == "positive"
    assert match["records"] == [
        {
            "ref": ref,
            "list": "ncii",
            "origin_node": "alpha.example",
            "tree_size": 2,
            "labels": labels,
            "source": "person",
            "review": "human",
            "created": "2026-11-01T00:00:00Z",
            "quality": None,
        }
    ]
    (match,) = near["matches"]
    assert (match["distance"], match["threshold"]) == (20, 31)
    assert match["signal"] == {"type": "pdq", "value": PDQ}
    assert near["handling"] == "review"
    assert (none["matches"], none["handling"]) == ([], "ignore")
    (state,) = reply.json["lists"]
    assert (state["origin"], state["tree_size"]) == (made["origin"], 2)


async def test_a_smaller_distance_can_be_asked_for_and_not_a_larger_one(
    api: LocalApi,
) -> None:
    await api.create_list()
    await api.publish("ncii", record(("pdq", PDQ)))
    query = {"type": "pdq", "value": flip(PDQ, 12)}
    for max_distance, found in ((11, 0), (12, 1), (None, 1)):
        body = {"queries": [query], "max_distance": max_distance}
        reply = await api.post("/v1/lookup", body)
        assert len(reply.json["results"][0]["matches"]) == found
    reply = await api.post("/v1/lookup", {"queries": [query], "max_distance": 32})
    assert reply.json["errors"][0]["pointer"] == "/max_distance"


async def test_a_thousand_queries_are_answered_in_order(api: LocalApi) -> None:
    queries = [{"type": "md5", "value": f"{number:032x}"} for number in range(1000)]
    reply = await api.post("/v1/lookup", {"queries": queries})
    assert [result["query"] for result in reply.json["results"]] == queries
    queries.append(queries[0])
    assert (await api.post("/v1/lookup", {"queries": queries})).code == "invalid-body"


async def test_every_query_that_is_no_signal_is_named(api: LocalApi) -> None:
    queries = [
        {"type": "md5", "value": MD5},
        {"type": "md5", "value": "zz"},
        {"type": "email", "value": "somebody@example.org"},
        {"type": "x-new", "value": "anything"},
    ]
    reply = await api.post("/v1/lookup", {"queries": queries})
    assert (reply.status, reply.code) == (422, "invalid-body")
    assert names_of(reply.json["errors"], "pointer") == ["/queries/1", "/queries/2"]
    assert b"somebody" not in reply.content


async def upload(api: LocalApi, data: bytes, content_type: str = "image/jpeg") -> Reply:
    return await api.send(
        "POST", "/v1/lookup/image", data=data, headers={"Content-Type": content_type}
    )


async def test_a_copy_of_a_published_picture_is_found(api: LocalApi) -> None:
    original = PHOTOS[0].read_bytes()
    hashes = hash_image(original)
    await api.create_list()
    claims = (("pdq", hashes.pdq), ("sha256", hashes.sha256))
    await api.publish("ncii", record(*claims))
    copy = encoded(photo(PHOTOS[0].stem), "JPEG", quality=60)
    answer = (await upload(api, copy)).json
    assert answer["image"]["quality"] >= 50
    by_type = {row["query"]["type"]: row["matches"] for row in answer["results"]}
    assert len(by_type["pdq"]) == 1
    assert by_type["sha256"] == []
    answer = (await upload(api, original, "image/*")).json
    assert answer["image"] == {
        "pdq": hashes.pdq,
        "quality": hashes.quality,
        "md5": hashes.md5,
        "sha1": hashes.sha1,
        "sha256": hashes.sha256,
    }
    by_type = {row["query"]["type"]: row["matches"] for row in answer["results"]}
    assert len(by_type["sha256"]) == 1


async def test_a_form_is_the_same_as_the_bare_picture(api: LocalApi) -> None:
    data = PHOTOS[0].read_bytes()
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("note", "x")
    form.add_field("image", data, filename="p.jpg", content_type="image/jpeg")
    sent = await api.send("POST", "/v1/lookup/image", data=form)
    assert sent.json == (await upload(api, data)).json


async def test_nothing_of_a_picture_is_stored(
    api: LocalApi, node: RunningNode, tmp_path: Path
) -> None:
    data = PHOTOS[0].read_bytes()
    hashes = hash_image(data)
    assert (await upload(api, data)).status == 200
    traces = (hashes.pdq, hashes.md5, hashes.sha256)
    needles = [trace.encode() for trace in traces] + [
        bytes.fromhex(trace) for trace in traces
    ]
    assert node.jobs.done() is False
    for content in _contents_below(tmp_path):
        assert not any(needle in content for needle in needles)


def _contents_below(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("data", "code", "status"),
    [
        (b"", "not-an-image", 422),
        (b"GIF89a", "not-an-image", 422),
        (PHOTOS[0].read_bytes()[:5000], "image-truncated", 422),
        (encoded(photo().resize((1, 1)).resize((64, 64)), "PNG"), None, 422),
    ],
    ids=["empty", "a header only", "cut off", "one colour"],
)
async def test_what_cannot_be_hashed_is_refused_with_the_reason(
    api: LocalApi, data: bytes, code: str | None, status: int
) -> None:
    reply = await upload(api, data)
    assert reply.status == status
    assert reply.code == (code or "image-quality-too-low")


async def test_a_large_answer_says_what_a_small_one_says(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.create_list()
    await api.publish("ncii", record(("pdq", PDQ), ("md5", MD5)))
    queries = [{"type": "pdq", "value": flip(PDQ, 1)}, {"type": "md5", "value": MD5}]
    now = {"queries": queries}
    then = {"queries": queries, "as_of": encode_timestamp(START)}
    small = [(await api.post("/v1/lookup", it)).json["results"] for it in (now, then)]
    here = threading.get_ident()
    written: list[bool] = []
    show = lookup.show_result

    def noting(result: LookupResult) -> ResultShown:
        written.append(threading.get_ident() == here)
        return show(result)

    monkeypatch.setattr(lookup, "_FEW_PARTS", 1)
    monkeypatch.setattr(lookup, "show_result", noting)
    large = [(await api.post("/v1/lookup", it)).json["results"] for it in (now, then)]
    assert large == small
    assert written == [False] * 4
