"""Asking what was known at a time in the past."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from hashlight_node.exchange.looking_up import as_of
from hashlight_node.store import changes
from hashlight_node.store import past as past_store
from hashlight_protocol import encode_timestamp
from support.clock import START, ManualClock
from support.made_records import md5_of, pdq_of

if TYPE_CHECKING:
    from hashlight_node.app import RunningNode
    from support.local_api import Json, LocalApi


def record(number: int, **members: Any) -> Json:  # noqa: ANN401
    return {
        "type": "indicator",
        "kind": "image",
        "source": "hotline",
        "created": encode_timestamp(START),
        "signals": [
            {"type": "pdq", "value": pdq_of(number)},
            {"type": "md5", "value": md5_of(number)},
        ],
        **members,
    }


def flipped(value: str, bits: int) -> str:
    number = int(value, 16) ^ ((1 << bits) - 1)
    return f"{number:064x}"


class Past:
    """Asks one node what it knew."""

    def __init__(self, node: RunningNode, api: LocalApi) -> None:
        clock = node.foundation.clock
        assert isinstance(clock, ManualClock)
        self.clock, self.api = clock, api

    async def publish(self, *records: Json) -> list[str]:
        """Publish one second later than whatever was before."""
        self.clock.advance(1)
        return await self.api.publish("ncii", *records)

    async def withdraw(self, kind: str, ref: str) -> None:
        self.clock.advance(1)
        body = {"ref": ref, "reason": "withdrawn"}
        assert (await self.api.post(f"/v1/lists/ncii/{kind}", body)).status == 201

    async def ask(self, at: int, *queries: tuple[str, str], **members: int) -> Json:
        body = {
            "queries": [{"type": name, "value": value} for name, value in queries],
            "as_of": encode_timestamp(at),
            **members,
        }
        reply = await self.api.post("/v1/lookup", body)
        assert reply.status == 200, reply
        return reply.json

    async def refs(self, at: int, *queries: tuple[str, str]) -> list[list[str]]:
        """Give the records that were found for each query."""
        answer = await self.ask(at, *queries)
        return [
            [it["ref"] for match in result["matches"] for it in match["records"]]
            for result in answer["results"]
        ]


@pytest_asyncio.fixture
async def past(node: RunningNode, api: LocalApi) -> Past:
    await api.create_list()
    return Past(node, api)


async def test_what_was_withdrawn_is_found_in_the_time_before(past: Past) -> None:
    (ref,) = await past.publish(record(1))
    (again,) = await past.publish(record(1))
    await past.withdraw("retract", ref)
    await past.withdraw("retract", again)
    queries = [("md5", md5_of(1)), ("pdq", pdq_of(1)), ("md5", md5_of(2))]
    expected = [[], [ref], [ref, again], [again], []]
    for second, refs in enumerate(expected):
        found = await past.refs(START + second, *queries)
        assert found == [refs, refs, []], second
    past.clock.advance(100)
    assert await past.refs(START + 2, *queries) == [[ref, again], [ref, again], []]


async def test_near_matches_of_dead_signals_are_measured(past: Past) -> None:
    refs = await past.publish(record(1), record(2))
    await past.withdraw("retract", refs[0])
    near = flipped(pdq_of(1), 20)
    (result,) = (await past.ask(START + 1, ("pdq", near)))["results"]
    (match,) = result["matches"]
    assert (match["distance"], match["threshold"]) == (20, 31)
    assert match["signal"]["value"] == pdq_of(1)
    assert (match["handling"], match["because"]) == ("review", "default")
    answer = await past.ask(START + 1, ("pdq", near), max_distance=19)
    assert answer["results"][0]["matches"] == []
    assert await past.refs(START + 1, ("pdq", flipped(pdq_of(2), 31))) == [[refs[1]]]


async def test_what_expired_was_live_until_then(past: Past) -> None:
    expires = encode_timestamp(START + 5)
    (ref,) = await past.publish(record(1, expires=expires))
    past.clock.advance(50)
    assert await past.refs(START + 4, ("md5", md5_of(1))) == [[ref]]
    assert await past.refs(START + 5, ("md5", md5_of(1))) == [[]]


async def test_what_was_replaced_was_live_until_then(past: Past) -> None:
    (old,) = await past.publish(record(1))
    index = int(old.rpartition("#")[2])
    (new,) = await past.publish(record(1, replaces=index))
    await past.withdraw("retract", new)
    for at, refs in ((1, [old]), (2, [new]), (3, [])):
        assert await past.refs(START + at, ("md5", md5_of(1))) == [refs]


async def test_what_was_erased_cannot_be_told_and_is_counted(past: Past) -> None:
    (ref,) = await past.publish(record(1))
    (kept,) = await past.publish(record(2))
    before = await past.ask(START + 2, ("md5", md5_of(1)))
    assert before["results"][0]["matches"]
    assert [it["erased_since"] for it in before["lists"]] == [0]
    await past.withdraw("erase", ref)
    await past.withdraw("retract", kept)
    after = await past.ask(START + 2, ("md5", md5_of(1)), ("md5", md5_of(2)))
    assert [bool(it["matches"]) for it in after["results"]] == [False, True]
    (state,) = after["lists"]
    assert state == {**before["lists"][0], "erased_since": 1}
    (now,) = (await past.ask(past.clock.now, ("md5", md5_of(1))))["lists"]
    assert (now["erased_since"], now["tree_size"]) == (0, state["tree_size"] + 2)


async def test_lists_are_shown_as_they_were(past: Past) -> None:
    await past.publish(record(1))
    (then,) = (await past.api.post("/v1/lookup", query(1))).json["lists"]
    past.clock.advance(9)
    await past.publish(record(2))
    answer = await past.ask(START + 6, ("md5", md5_of(1)))
    (state,) = answer["lists"]
    assert state == {**then, "age_seconds": 5, "erased_since": 0}
    (match,) = answer["results"][0]["matches"]
    assert match["records"][0]["tree_size"] == then["tree_size"]
    assert (await past.ask(START - 1, ("md5", md5_of(1))))["lists"] == []


def query(number: int) -> Json:
    return {"queries": [{"type": "md5", "value": md5_of(number)}]}


async def test_opinions_are_those_of_then(past: Past) -> None:
    (ref,) = await past.publish(record(1, review={"level": "human"}))
    past.clock.advance(1)
    said = await past.api.post("/v1/opinions", {"ref": ref, "stance": "dispute"})
    past.clock.advance(1)
    body = {"ref": said.json["ref"], "reason": "withdrawn"}
    assert (await past.api.post("/v1/lists/feedback/retract", body)).status == 201
    opinions = []
    for second in (1, 2, 3):
        answer = await past.ask(START + second, ("md5", md5_of(1)))
        (match,) = answer["results"][0]["matches"]
        opinions.append((match["opinion"], match["handling"]))
    assert opinions == [
        ("positive", "review"),
        ("negative", "ignore"),
        ("positive", "review"),
    ]


async def test_a_crowd_of_records_is_shown_in_part(past: Past) -> None:
    refs = await past.publish(*(record(1) for _ in range(120)))
    answer = await past.ask(START + 1, ("md5", md5_of(1)))
    (result,) = answer["results"]
    (match,) = result["matches"]
    assert [it["ref"] for it in match["records"]] == refs[:100]
    assert result["truncated"]


async def test_what_came_to_life_between_search_and_transaction_is_found(
    past: Past, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ref,) = await past.publish(record(1))
    await past.withdraw("retract", ref)
    # Memory has not heard of what the store has: it revived a moment ago.
    matcher = node.foundation.matcher
    monkeypatch.setattr(node.foundation.applied, "_followers", ())
    (again,) = await past.publish(record(1))
    assert matcher.sizes()["pdq"] == 0
    newest = await node.foundation.database.read(changes.newest_seq)
    monkeypatch.setattr(changes, "newest_seq", lambda _: newest - 2)
    assert await past.refs(START + 1, ("pdq", pdq_of(1))) == [[ref]]
    assert await past.refs(START + 3, ("pdq", pdq_of(1))) == [[again]]


async def test_what_revived_and_died_meanwhile_is_found(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ref,) = await past.publish(record(1))
    await past.withdraw("retract", ref)
    # Its page was read while it was live, which it was not during the search.
    monkeypatch.setattr(past_store, "page_dead", lambda *_, **__: ([], None))
    monkeypatch.setattr(changes, "newest_seq", lambda _: 0)
    assert await past.refs(START + 1, ("pdq", pdq_of(1))) == [[ref]]


async def test_only_the_nearest_of_many_dead_signals_are_shown(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_of, "candidate_limit", lambda _: 3)
    monkeypatch.setattr(past_store, "_SIGNALS_PAGED", 2)
    crowd = [record(1) for _ in range(9)]
    for bits, one in zip((5, 9, 2, 8, 1, 7, 4, 6, 3), crowd, strict=True):
        one["signals"][0]["value"] = flipped(pdq_of(1), bits)
    refs = await past.publish(*crowd)
    for ref in refs[:-1]:
        await past.withdraw("retract", ref)
    answer = await past.ask(START + 1, ("pdq", pdq_of(1)), ("pdq", pdq_of(7)))
    near, none = answer["results"]
    # Nearer ones died, this one did not.
    assert [it["distance"] for it in near["matches"]] == [1, 2, 3]
    assert near["truncated"]
    assert (none["matches"], none["truncated"]) == ([], False)
    monkeypatch.setattr(past_store, "_SIGNALS_PAGED", 1000)
    assert await past.ask(START + 1, ("pdq", pdq_of(1)), ("pdq", pdq_of(7))) == answer


async def test_an_erase_does_not_wait_for_a_long_look_into_the_past(
    past: Past, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, erased = await past.publish(record(1), record(2))
    await past.withdraw("retract", dead)
    begun, go_on = threading.Event(), threading.Event()
    compare = as_of._compare  # noqa: SLF001

    def held(*args: Any) -> None:  # noqa: ANN401
        begun.set()
        assert go_on.wait(20)
        compare(*args)

    monkeypatch.setattr(as_of, "_compare", held)
    asking = asyncio.create_task(past.refs(START + 1, ("pdq", pdq_of(1))))
    await asyncio.to_thread(begun.wait)
    await past.withdraw("erase", erased)
    files = node.foundation.settings.store.directory.glob("*.db*")
    assert not any(md5_of(2).encode() in it.read_bytes() for it in files)
    go_on.set()
    assert await asking == [[dead]]


async def test_few_signals_are_looked_up_in_the_past_at_once(past: Past) -> None:
    queries = [{"type": "md5", "value": md5_of(number)} for number in range(11)]
    body = {"queries": queries, "as_of": encode_timestamp(START)}
    reply = await past.api.post("/v1/lookup", body)
    assert (reply.status, reply.code) == (422, "invalid-body")
    (error,) = reply.json["errors"]
    assert error["pointer"] == "/queries"
    assert "at most 10" in str(error)
    reply = await past.api.post("/v1/lookup", {**body, "queries": queries[:10]})
    assert reply.status == 200


@pytest.mark.parametrize(
    "at", ["2025-06-15", "2025-06-15T00:00:00.5Z", "yesterday", "9999-01-01T00:00:00Z"]
)
async def test_the_past_is_a_time_that_has_been(api: LocalApi, at: str) -> None:
    reply = await api.post("/v1/lookup", {**query(1), "as_of": at})
    assert (reply.status, reply.code) == (422, "invalid-body")
    assert reply.json["errors"][0]["pointer"] == "/as_of"
