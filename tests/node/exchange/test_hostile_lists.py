"""One list's records make no batch blind for another's, and none expensive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node import model
from hashlight_node.model import Handling
from hashlight_protocol import (
    Indicator,
    Review,
    Signal,
    SignalClaim,
    encode_record,
    parse_signal,
)
from support.clock import START

if TYPE_CHECKING:
    from support.exchange_node import ExchangeNode

ASKED = "00" * 32


def near_asked(*bits: int) -> str:
    return f"{sum(1 << bit for bit in bits):064x}"


def others(count: int) -> list[Signal]:
    """Give hashes that are near nothing."""
    return [
        Signal("pdq", (bytes([at % 256, at // 256, 7, 9]) * 8).hex())
        for at in range(count)
    ]


def record(*values: str, expires_at: int | None = None, kind: str = "image") -> bytes:
    claims = tuple(SignalClaim(parse_signal("pdq", value)) for value in values)
    return encode_record(
        Indicator(
            signals=claims,
            kind=kind,
            source="hotline",
            created_at=START - 1000,
            review=Review("human"),
            expires_at=expires_at,
        )
    )


async def publish(node: ExchangeNode, list_name: str, *bodies: bytes) -> None:
    await node.publisher.create_list(list_name, {})
    await node.publisher.publish(list_name, list(bodies))


async def test_records_that_expired_hide_nothing_from_a_batch(
    alpha: ExchangeNode,
) -> None:
    await publish(alpha, "honest", record(near_asked(100, 101, 102, 103)))
    flood = [record(near_asked(bit), expires_at=START - 10) for bit in range(20)]
    await publish(alpha, "flood", *flood)
    query = Signal("pdq", ASKED)
    (single,) = (await alpha.lookup.lookup([query], max_distance=None)).results
    batch = [query, *others(999)]
    found = (await alpha.lookup.lookup(batch, max_distance=None)).results
    assert found[0] == single
    assert len(single.matches) == 1
    assert {it.handling for it in found[1:]} == {Handling.IGNORE}
    digests = bytes.fromhex("".join(it.value for it in batch[:512]))
    (line,) = await alpha.lookup.lookup_hashes(digests, max_distance=None)
    assert (line.position, line.result) == (0, single)


async def test_a_batch_that_cannot_tell_never_says_ignore(alpha: ExchangeNode) -> None:
    flood = [record(near_asked(bit), expires_at=START - 10) for bit in range(21)]
    await publish(alpha, "flood", *flood)
    queries = [Signal("pdq", ASKED)] * 1000
    found = (await alpha.lookup.lookup(queries, max_distance=None)).results
    assert {(it.handling, it.truncated) for it in found} == {(Handling.REVIEW, True)}
    lines = await alpha.lookup.lookup_hashes(bytes(32 * 1000), max_distance=None)
    assert [it.result for it in lines] == list(found)


async def test_what_a_call_reads_and_shows_is_bounded(
    alpha: ExchangeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MAX_RECORDS_A_CALL", 40)
    values = [near_asked(bit) for bit in range(5)]
    flood = [record(*values, kind=f"kind{at}") for at in range(30)]
    await publish(alpha, "flood", *flood)
    await publish(alpha, "honest", record(values[0]))
    query = Signal("pdq", ASKED)
    (single,) = (await alpha.lookup.lookup([query], max_distance=None)).results
    assert [len(it.records) for it in single.matches] == [8] * 5
    lists = {it.list_name for it in single.matches[0].records}
    assert lists == {"flood", "honest"}
    assert single.truncated
    batch = (await alpha.lookup.lookup([query] * 4, max_distance=None)).results
    assert [[len(it.records) for it in one.matches] for one in batch] == [[2] * 5] * 4
    assert all(it.truncated for it in batch)
