"""The client and a real node, over HTTP."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import hashlight_client
from hashlight_client import (
    AsyncClient,
    Client,
    ClosedError,
    NodeUnreachableError,
    ProblemError,
    Record,
    Retries,
    Signal,
)
from support.clock import START
from support.nodes import free_port
from support.pictures import PHOTOS

if TYPE_CHECKING:
    from support.local_api import LocalApi

TOKEN = "hlt_" + "x" * 43
ONCE = Retries(patience_seconds=0)


def indicator(*signals: str, **more: object) -> dict[str, Any]:
    claims = [asdict(Signal.parse(text)) for text in signals]
    return {
        "type": "indicator",
        "kind": "image",
        "source": "person",
        "created": "2026-11-01T00:00:00Z",
        "signals": claims,
        **more,
    }


def md5(number: int) -> str:
    return f"md5:{number:032x}"


async def test_what_is_published_is_looked_up(
    api: LocalApi, client: AsyncClient
) -> None:
    await api.create_list()
    label = {"scheme": "ncii", "value": "adult", "jurisdiction": "GB"}
    (ref,) = await client.publish("ncii", [indicator(md5(1), labels=[label])])
    result = await client.lookup(md5(1))
    assert result.is_known
    assert result.handling == "review"
    assert result.query == Signal("md5", f"{1:032x}")
    (match,) = result.matches
    assert (match.distance, match.opinion, match.allowed) == (0, "seed", False)
    assert (match.rule, match.because) == (None, "default")
    (record,) = match.records
    assert record == Record(
        ref=ref,
        list="ncii",
        origin_node="alpha.example",
        tree_size=2,
        labels=(hashlight_client.Label("ncii", "adult", "GB"),),
        source="person",
        review="none",
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
        quality=None,
    )
    unknown = await client.lookup(Signal("md5", "f" * 32))
    assert (unknown.is_known, unknown.handling) == (False, "ignore")


async def test_more_queries_than_a_request_takes_are_answered_in_order(
    api: LocalApi, client: AsyncClient
) -> None:
    await api.create_list()
    await client.publish(
        "ncii", [indicator(md5(number)) for number in range(0, 900, 3)]
    )
    answer = await client.lookup_many(md5(number) for number in range(2500))
    known = [place for place, it in enumerate(answer.results) if it.is_known]
    assert known == list(range(0, 900, 3))
    assert [it.origin for it in answer.lists] == ["alpha.example/hsf/v1/log/ncii/1"]
    # Long values fill a request before a thousand of them do.
    notes = [f"x-note:{'x' * 3000}{number}" for number in range(700)]
    assert len((await client.lookup_many(notes)).results) == 700
    assert (await client.lookup_many([])).results == ()


async def test_more_queries_about_the_past_than_a_request_takes_are_answered(
    api: LocalApi, client: AsyncClient
) -> None:
    await api.create_list()
    await client.publish("ncii", [indicator(md5(number)) for number in (3, 24)])
    then = datetime.fromtimestamp(START, UTC)
    answer = await client.lookup_many(map(md5, range(25)), as_of=then)
    assert [at for at, it in enumerate(answer.results) if it.is_known] == [3, 24]


async def test_concurrent_lookups_share_requests(api: LocalApi) -> None:
    await api.create_list()
    assert api.token is not None
    async with AsyncClient(api.base, token=api.token, batch_seconds=0.001) as client:
        await client.publish("ncii", [indicator(md5(number)) for number in range(9)])
        asked = [client.lookup(md5(number)) for number in range(2100)]
        results = await asyncio.gather(*asked)
        narrow = await client.lookup(md5(1), max_distance=0)
    assert [it.is_known for it in results] == [number < 9 for number in range(2100)]
    assert narrow.is_known
    metrics = (await api.get("/metrics")).content.decode()
    requests = next(
        float(line.split()[-1])
        for line in metrics.splitlines()
        if "_count{" in line and 'route="/v1/lookup"' in line
    )
    assert requests == 4  # three of the crowd, and the narrow one


async def test_long_queries_fill_a_request_before_a_thousand_do(api: LocalApi) -> None:
    assert api.token is not None
    async with AsyncClient(api.base, token=api.token, batch_seconds=0.001) as client:
        asked = [client.lookup(f"x-note:{'x' * 3900}{number}") for number in range(500)]
        results = await asyncio.gather(*asked)
    assert [it.query.value[3900:] for it in results] == list(map(str, range(500)))


async def test_a_query_that_is_refused_does_not_fail_its_neighbours(
    api: LocalApi,
) -> None:
    await api.create_list()
    assert api.token is not None
    async with AsyncClient(api.base, token=api.token, batch_seconds=0.001) as client:
        await client.publish("ncii", [indicator(md5(1))])
        # More than the node names in one answer.
        bad = [client.lookup(f"md5:bad{number}") for number in range(50)]
        results = await asyncio.gather(
            client.lookup(md5(1)), *bad, client.lookup(md5(2)), return_exceptions=True
        )
    first, *refused, last = results
    assert isinstance(first, hashlight_client.Result)
    assert first.is_known
    assert isinstance(last, hashlight_client.Result)
    assert not last.is_known
    assert all(isinstance(it, ProblemError) and it.status == 422 for it in refused)


async def test_a_caller_that_stops_waiting_does_not_disturb_the_others(
    api: LocalApi,
) -> None:
    assert api.token is not None
    async with AsyncClient(api.base, token=api.token, batch_seconds=0.05) as client:
        impatient = asyncio.create_task(client.lookup(md5(1)))
        patient = asyncio.create_task(client.lookup(md5(2)))
        await asyncio.sleep(0)
        impatient.cancel()
        assert not (await patient).is_known
        assert impatient.cancelled()
        left = asyncio.create_task(client.lookup(md5(3)))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await left


async def test_a_picture_is_looked_up_by_all_its_hashes(
    api: LocalApi, client: AsyncClient
) -> None:
    data = PHOTOS[0].read_bytes()
    await api.create_list()
    asked = await client.lookup_image(data, content_type="image/jpeg")
    assert asked.handling == "ignore"
    await client.publish("ncii", [indicator(f"sha256:{asked.image.sha256}")])
    again = await client.lookup_image(data)
    assert again.handling == "review"
    assert again.image == asked.image
    assert [it.query.type for it in again.results if it.is_known] == ["sha256"]


async def test_records_are_taken_back_and_spoken_about(
    api: LocalApi, client: AsyncClient
) -> None:
    await api.create_list()
    first, second = await client.publish("ncii", [indicator(md5(1)), indicator(md5(2))])
    now = datetime(2026, 11, 1, tzinfo=UTC)
    said = await client.opinion(first, "dispute", reason="not-abusive")
    await client.sighting(first, "matched", count=3, between=(now, now))
    assert said.startswith("alpha.example/hsf/v1/log/feedback/")
    assert (await client.lookup(md5(1))).matches[0].opinion == "negative"
    assert await client.retract(first, reason="false-positive") != first
    assert await client.erase(second) != second
    answer = await client.lookup_many([md5(1), md5(2)])
    assert not any(it.is_known for it in answer.results)


async def test_a_repeated_key_publishes_once(
    api: LocalApi, client: AsyncClient
) -> None:
    await api.create_list()
    once = await client.publish("ncii", [indicator(md5(1))], idempotency_key="case-1")
    again = await client.publish("ncii", [indicator(md5(1))], idempotency_key="case-1")
    other = await client.publish("ncii", [indicator(md5(1))])
    assert once == again != other


async def test_everything_live_is_exported(api: LocalApi, client: AsyncClient) -> None:
    await api.create_list()
    refs = await client.publish(
        "ncii", [indicator(md5(number)) for number in range(50)]
    )
    found = [it async for it in client.export(signal_type="md5", list_name="ncii")]
    values = {it.records[0].ref: it.signal.value for it in found}
    assert values == {ref: f"{number:032x}" for number, ref in enumerate(refs)}
    assert [it async for it in client.export(signal_type="sha1")] == []


async def test_a_refusal_says_what_is_wrong_and_never_the_value(
    client: AsyncClient,
) -> None:
    with pytest.raises(ProblemError) as refused:
        await client.lookup("md5:secret-value")
    assert (refused.value.status, refused.value.code) == (422, "invalid-body")
    assert refused.value.problem["errors"][0]["pointer"] == "/queries/0"
    assert "secret-value" not in str(refused.value)


async def test_nobody_at_the_address_is_one_error(api: LocalApi) -> None:
    base = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(base, token=TOKEN, retries=ONCE) as client:
        with pytest.raises(NodeUnreachableError) as missing:
            await client.lookup(md5(1))
    assert missing.value.base == base
    assert TOKEN not in str(missing.value)
    with pytest.raises(ClosedError):
        await client.lookup(md5(1))
    async with AsyncClient(api.base, token=TOKEN, retries=ONCE) as stranger:
        with pytest.raises(ProblemError, match="token") as refused:
            await stranger.lookup(md5(1))
    assert refused.value.code == "token-invalid"


@pytest.mark.parametrize("base", ["127.0.0.1:8441", "ftp://a", "http://a/b", "http://"])
def test_an_address_that_is_none_is_refused_at_once(base: str) -> None:
    with pytest.raises(ValueError, match="http"):
        AsyncClient(base, token=TOKEN)


@pytest.mark.parametrize("ref", ["", "a#1", "a/hsf/v1/log/b#1", "a/hsf/v2/log/b/1#1"])
async def test_a_reference_that_is_none_is_refused_here(ref: str) -> None:
    client = AsyncClient(token=TOKEN)
    with pytest.raises(ValueError, match="reference"):
        await client.erase(ref)


async def test_times_need_a_zone() -> None:
    client = AsyncClient(token=TOKEN)
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 -- the mistake that is tested
    with pytest.raises(ValueError, match="time zone"):
        await client.lookup(md5(1), as_of=naive)


@pytest.mark.parametrize("text", ["", "md5", "md5:", ":x"])
def test_a_signal_has_a_type_and_a_value(text: str) -> None:
    with pytest.raises(ValueError, match="TYPE:VALUE"):
        Signal.parse(text)
    assert Signal.parse("url:http://a").value == "http://a"


def test_programs_without_asyncio_have_the_same_methods() -> None:
    asynchronous = dict(inspect.getmembers(AsyncClient, inspect.isfunction))
    synchronous = dict(inspect.getmembers(Client, inspect.isfunction))
    public = {name for name in asynchronous if not name.startswith("_")}
    assert public == {name for name in synchronous if not name.startswith("_")}
    for name in public | {"__init__"}:
        ours, theirs = (
            inspect.signature(methods[name]) for methods in (synchronous, asynchronous)
        )
        assert ours.parameters == theirs.parameters, name


def test_a_program_without_asyncio_does_all_that(sync_client: Client) -> None:
    client = sync_client
    first, second, third = client.publish(
        "ncii", [indicator(md5(number)) for number in (1, 2, 3)]
    )
    assert client.lookup(md5(1)).is_known
    known = client.lookup_many(map(md5, range(1, 5))).results
    assert [it.is_known for it in known] == [True, True, True, False]
    (raw,) = client.lookup_json([Signal.parse(md5(1))])
    assert raw["matches"][0]["records"][0]["ref"] == first
    assert client.lookup_pdq(bytes(64)) == []
    assert client.lookup_pdq_lines(bytes(32), max_distance=0) == []
    now = datetime(2026, 11, 1, tzinfo=UTC)
    client.opinion(first, "affirm")
    client.sighting(first, "matched", count=1, between=(now, now))
    client.retract(second)
    client.erase(third)
    exported = [it.signal.value for it in client.export(signal_type="md5")]
    assert exported == [f"{1:032x}"]
    assert client.lookup_image(PHOTOS[0].read_bytes()).handling == "ignore"
    with pytest.raises(ProblemError):
        client.lookup("md5:bad")


def test_a_closed_client_says_so() -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", token=TOKEN, retries=ONCE)
    with pytest.raises(NodeUnreachableError):
        list(client.export())
    client.close()
    client.close()
    with pytest.raises(ClosedError):
        client.lookup(md5(1))


def test_closing_ends_what_other_threads_wait_for() -> None:
    patient = Retries(patience_seconds=3600, first_pause_seconds=3600)
    client = Client(f"http://127.0.0.1:{free_port()}", token=TOKEN, retries=patient)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.lookup, md5(1))
        while not waiting.running():
            pass
        client.close()
        with pytest.raises(ClosedError):
            waiting.result(30)


def test_the_package_exports_what_it_says() -> None:
    assert sorted(hashlight_client.__all__) == sorted(set(hashlight_client.__all__))
    assert all(hasattr(hashlight_client, name) for name in hashlight_client.__all__)
