"""A node in trouble: what is repeated, how often, and when a client gives up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_client import (
    AsyncClient,
    BadAnswerError,
    NodeUnreachableError,
    ProblemError,
    Retries,
    lines,
)
from hashlight_client.retrying import parse_retry_after
from support.nodes import until
from support.scripted_server import HANG_UP, Script, answer, chunks, scripted

TOKEN = "hlt_" + "x" * 43
QUICK = Retries(
    patience_seconds=20, first_pause_seconds=0.001, longest_pause_seconds=0.01
)
FOUND = orjson.dumps(
    {
        "results": [
            {
                "query": {"type": "md5", "value": "00"},
                "handling": "ignore",
                "matches": [],
                "truncated": False,
            }
        ],
        "lists": [],
    }
)
RATE_LIMITED = answer(
    429,
    b'{"type":"hsf:rate-limited","title":"Too many requests"}',
    "Retry-After: 0",
)


def client_of(script: Script, retries: Retries = QUICK) -> AsyncClient:
    return AsyncClient(script.base, token=TOKEN, retries=retries)


async def test_whatever_passes_is_repeated_until_it_succeeds() -> None:
    troubles = (
        RATE_LIMITED,
        answer(503),
        HANG_UP,
        answer(502, b"<html>a proxy</html>"),
        chunks(b'{"results', is_whole=False),
    )
    async with scripted(*troubles, answer(200, FOUND)) as script:
        async with client_of(script) as client:
            assert not (await client.lookup("md5:00")).is_known
        assert len(script.requests) == 6
        assert len({it.partition(b"\r\n\r\n")[2] for it in script.requests}) == 1


async def test_a_publication_is_repeated_under_one_key() -> None:
    made = answer(201, b'{"refs":["a/hsf/v1/log/b/1#1"]}')
    async with scripted(answer(503), HANG_UP, made, made) as script:
        async with client_of(script) as client:
            await client.publish("b", [{}])
            await client.publish("b", [{}])
        keys = [script.header(number, "Idempotency-Key") for number in range(4)]
    assert keys[0]
    assert keys[0] == keys[1] == keys[2]
    assert keys[3] not in keys[:3]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
async def test_a_refusal_for_good_is_not_repeated(status: int) -> None:
    async with scripted(answer(status), answer(200, FOUND)) as script:
        async with client_of(script) as client:
            with pytest.raises(ProblemError) as refused:
                await client.lookup("md5:00")
        assert refused.value.status == status
        assert len(script.requests) == 1


async def test_a_node_that_asks_for_more_than_our_patience_is_believed() -> None:
    busy = answer(429, b"{}", "Retry-After: 3600")
    async with scripted(busy, answer(200, FOUND)) as script:
        async with client_of(script) as client:
            with pytest.raises(ProblemError) as refused:
                await client.lookup("md5:00")
        assert refused.value.retry_after_seconds == 3600
        assert len(script.requests) == 1


async def test_without_patience_there_is_one_attempt() -> None:
    async with scripted(HANG_UP, answer(200, FOUND)) as script:
        async with client_of(script, Retries(patience_seconds=0)) as client:
            with pytest.raises(NodeUnreachableError):
                await client.lookup("md5:00")
        assert len(script.requests) == 1


async def test_a_node_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async with (
        scripted() as script,
        AsyncClient(
            script.base,
            token=TOKEN,
            timeout_seconds=0.05,
            retries=Retries(patience_seconds=0),
        ) as client,
    ):
        with pytest.raises(NodeUnreachableError):
            await client.lookup("md5:00")


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"<html>"),
        answer(200, b"[]"),
        answer(200, b"{}"),
        answer(200, b'{"results":[{}],"lists":[]}'),
        answer(200, b'{"results":[1],"lists":[]}'),
        answer(302, b"", "Location: http://elsewhere.example/"),
    ],
)
async def test_what_is_no_node_is_one_error(said: bytes) -> None:
    async with scripted(said) as script, client_of(script) as client:
        with pytest.raises(BadAnswerError):
            await client.lookup("md5:00")


async def test_a_node_that_answers_too_few_queries_is_not_believed() -> None:
    async with (
        scripted(answer(200, FOUND), answer(200, FOUND)) as script,
        AsyncClient(
            script.base, token=TOKEN, retries=QUICK, batch_seconds=0.001
        ) as client,
    ):
        asked = [client.lookup("md5:00"), client.lookup("md5:01")]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(result, BadAnswerError)


async def test_a_bulk_lookup_that_breaks_off_is_repeated_whole() -> None:
    line = b'{"index":0,"handling":"review","matches":[],"truncated":false}\n'
    broken, whole = chunks(line, is_whole=False), chunks(line, line, is_whole=True)
    async with scripted(broken, whole) as script, client_of(script) as client:
        assert len(await client.lookup_pdq(bytes(64))) == 2
        with pytest.raises(ValueError, match="32 bytes"):
            await client.lookup_pdq(b"short")


async def test_a_bulk_lookup_of_many_hashes_takes_several_requests() -> None:
    line = b'{"index":5,"handling":"review","matches":[],"truncated":false}\n'
    answers = [answer(200, line)] * 3
    async with scripted(*answers) as script, client_of(script) as client:
        found = await client.lookup_pdq(bytes(32 * 70_000), max_distance=3)
        assert [it.index for it in found] == [5, 32_773, 65_541]
        assert b"max_distance=3" in script.requests[0]


async def test_an_export_that_breaks_off_is_an_error() -> None:
    line = b'{"signal":{"type":"md5","value":"00"},"records":[]}\n'
    for said, error in (
        (chunks(line, is_whole=False), NodeUnreachableError),
        (chunks(line, b"{", is_whole=True), BadAnswerError),
        (chunks(b"\n", is_whole=True), BadAnswerError),
    ):
        async with scripted(said) as script, client_of(script) as client:
            with pytest.raises(error):
                _ = [it async for it in client.export()]


@given(
    failures=st.integers(0, 10_000),
    asked=st.none() | st.floats(0, 1e6),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_pauses_grow_to_a_limit_and_never_undercut_what_was_asked(
    failures: int, asked: float | None, chance: float
) -> None:
    retries = Retries()
    pause = retries.pause_seconds(failures, asked, chance)
    assert pause >= (asked or 0)
    assert pause <= (asked or 0) + 1.5 * retries.longest_pause_seconds


def test_pauses_double() -> None:
    retries = Retries(first_pause_seconds=1, longest_pause_seconds=5)
    assert [retries.pause_seconds(it, None, 0.5) for it in range(4)] == [1, 2, 4, 5]


@pytest.mark.parametrize("text", [None, "soon", "-1", "1.5", "Sat, 99 Nov 2026"])
def test_nonsense_in_retry_after_counts_as_nothing(text: str | None) -> None:
    assert parse_retry_after(text) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after("120") == 120
    later = datetime.now(UTC) + timedelta(hours=1)
    found = parse_retry_after(format_datetime(later, usegmt=True))
    assert found is not None
    assert 3500 < found <= 3600
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:37") == 0


async def test_a_line_that_is_far_too_long_is_no_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 10)
    async with (
        scripted(chunks(b"x" * 8, b"x" * 8, is_whole=True)) as script,
        client_of(script) as client,
    ):
        with pytest.raises(BadAnswerError, match="too long"):
            _ = [it async for it in client.export_lines()]


async def test_closing_ends_lookups_that_are_under_way() -> None:
    async with scripted() as script:
        client = AsyncClient(
            script.base, token=TOKEN, retries=QUICK, batch_seconds=0.001
        )
        waiting = asyncio.create_task(client.lookup("md5:00"))
        await until(lambda: bool(script.requests))
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_a_status_of_a_later_day_has_a_name_too() -> None:
    assert str(ProblemError(499, {})) == "error"
    assert str(ProblemError(404, {})) == "Not Found"
