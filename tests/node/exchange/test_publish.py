"""Publishing: all or nothing, signed, findable, and harmless to repeat."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hashlight_node.exchange.errors import (
    EmptyRequestError,
    ForeignRecordError,
    IdempotencyConflictError,
    ListExistsError,
    ListInactiveError,
    UnknownListError,
    UnknownRecordError,
)
from hashlight_node.exchange.publishing.publish import IdempotencyKey, WithdrawalKind
from hashlight_node.keys import KeyExistsError
from hashlight_node.model import LogState, RecordState
from hashlight_node.store import logs, tokens
from hashlight_protocol import (
    BadRecordError,
    BodyStatus,
    Erase,
    MalformedError,
    Meta,
    Reason,
    RecordEntry,
    Ref,
    Retract,
    commit,
    leaf_hashes,
    list_id,
    open_checkpoint,
    open_list_note,
    open_receipt,
    parse_entry,
    parse_entry_bundle,
    root_of,
)
from support.clock import ManualClock
from support.exchange_node import ExchangeNode, open_exchange_node
from support.made_records import indicator, indicators
from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ncii/1"


@pytest.fixture
async def listed(alpha: ExchangeNode) -> ExchangeNode:
    await alpha.publisher.create_list("ncii", {"title": "a list"})
    return alpha


async def all_entries(node: ExchangeNode, origin: str = ORIGIN) -> list[bytes]:
    log = await node.log(origin)
    found: list[bytes] = []
    for index in range(-(-log.tree_size // 256)):
        width = min(256, log.tree_size - index * 256)
        raw = await node.read(
            lambda conn, i=index, w=width: logs.read_entry_bundle(  # type: ignore[misc]
                conn, log.log_id, i, w
            )
        )
        assert raw is not None
        found.extend(parse_entry_bundle(raw, width))
    return found


async def token_id(node: ExchangeNode) -> int:
    token = await node.database.write(
        lambda conn: tokens.insert_token(conn, "test", [], os.urandom(32), 0)
    )
    return token.token_id


async def test_a_new_list_begins_with_meta_and_a_signed_checkpoint(
    alpha: ExchangeNode,
) -> None:
    log = await alpha.publisher.create_list("ncii", {"title": "a list"})

    assert (log.origin, log.tree_size, log.checkpoint_size) == (ORIGIN, 1, 1)
    (entry,) = await all_entries(alpha)
    assert entry == b'\0{"hsf":1,"origin":"%s","prev":null}' % ORIGIN.encode()
    assert parse_entry(entry, leaf_index=0) == Meta(ORIGIN)
    assert log.checkpoint is not None
    key = alpha.keyring.log(ORIGIN).key
    signed = open_checkpoint(log.checkpoint, [key], origin=ORIGIN)
    assert signed.checkpoint.root_hash == root_of(leaf_hashes([entry]))
    assert await alpha.notices.pushes.take() == ORIGIN


async def test_a_new_list_is_described_in_a_note_by_the_identity_key(
    listed: ExchangeNode,
) -> None:
    raw = (await listed.log(ORIGIN)).list_note
    assert raw is not None
    note = open_list_note(raw, listed.keyring.identity.key)
    assert note.meta == {"title": "a list"}
    assert [(log.origin, log.state) for log in note.logs] == [(ORIGIN, "active")]
    assert note.logs[0].vkeys == (listed.keyring.log(ORIGIN).key,)


async def test_a_list_is_created_once(listed: ExchangeNode) -> None:
    with pytest.raises(ListExistsError):
        await listed.publisher.create_list("ncii", {})


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "a" * 65])
async def test_a_list_needs_a_plain_name(alpha: ExchangeNode, name: str) -> None:
    with pytest.raises(MalformedError):
        await alpha.publisher.create_list(name, {})


async def test_a_list_whose_key_has_signed_before_cannot_begin_again(
    tmp_path: Path, clock: ManualClock, listed: ExchangeNode
) -> None:
    """The database was lost, the keys were not: peers may remember the old log."""
    other = tmp_path / "again"
    async with open_exchange_node(other, "alpha.example", clock) as again:
        again.keyring.create_log(ORIGIN)
        with pytest.raises(KeyExistsError):
            await again.publisher.create_list("ncii", {})
        with pytest.raises(UnknownListError):
            await again.publisher.publish("ncii", indicators(1))
    assert (await listed.log(ORIGIN)).tree_size == 1


async def test_published_records_are_in_the_signed_log_and_match_here(
    listed: ExchangeNode,
) -> None:
    refs = await listed.publisher.publish("ncii", indicators(300))

    assert refs == tuple(Ref(ORIGIN, n) for n in range(1, 301))
    log = await listed.log(ORIGIN)
    entries = await all_entries(listed)
    assert log.checkpoint is not None
    key = listed.keyring.log(ORIGIN).key
    signed = open_checkpoint(log.checkpoint, [key], origin=ORIGIN)
    assert (signed.checkpoint.tree_size, signed.checkpoint.root_hash) == (
        301,
        root_of(leaf_hashes(entries)),
    )
    assert [await listed.matches(n) for n in (0, 299, 300)] == [1, 1, 0]


async def test_each_entry_commits_to_its_body_with_a_salt_of_its_own(
    listed: ExchangeNode,
) -> None:
    body = indicator(1)
    await listed.publisher.publish("ncii", [body, body])
    entries = await all_entries(listed)
    salts = set()
    for index in (1, 2):
        record = await listed.record(ORIGIN, index)
        salts.add(record.salt)
        assert record.body == body
        commitment = commit(list_id("alpha.example", "ncii"), record.salt, body)
        assert parse_entry(entries[index], leaf_index=index) == RecordEntry(commitment)
    assert len(salts) == 2


async def test_one_bad_body_publishes_nothing(listed: ExchangeNode) -> None:
    bodies = [indicator(1), b'{"type":"indicator"}', indicator(2)]
    with pytest.raises(BadRecordError):
        await listed.publisher.publish("ncii", bodies)
    assert (await listed.log(ORIGIN)).tree_size == 1
    assert await listed.matches(1) == 0


async def test_nothing_cannot_be_published(listed: ExchangeNode) -> None:
    with pytest.raises(EmptyRequestError):
        await listed.publisher.publish("ncii", [])


async def test_only_an_existing_list_takes_records(listed: ExchangeNode) -> None:
    with pytest.raises(UnknownListError):
        await listed.publisher.publish("other", indicators(1))


async def test_a_frozen_list_takes_nothing(listed: ExchangeNode) -> None:
    log = await listed.log(ORIGIN)
    await listed.database.write(
        lambda conn: logs.set_log_state(conn, log.log_id, LogState.FROZEN, None)
    )
    with pytest.raises(ListInactiveError):
        await listed.publisher.publish("ncii", indicators(1))


async def test_concurrent_publishing_makes_one_consistent_log(
    listed: ExchangeNode,
) -> None:
    batches = [indicators(7, first=100 * n) for n in range(20)]
    done = await asyncio.gather(
        *(listed.publisher.publish("ncii", batch) for batch in batches)
    )
    indexes = [ref.leaf_index for refs in done for ref in refs]
    assert sorted(indexes) == list(range(1, 141))
    log = await listed.log(ORIGIN)
    assert log.root_hash == root_of(leaf_hashes(await all_entries(listed)))


async def test_a_repeated_request_has_one_effect_and_the_same_answer(
    listed: ExchangeNode,
) -> None:
    key = IdempotencyKey("once", await token_id(listed), bytes(32))
    first = await listed.publisher.publish("ncii", indicators(3), idempotency=key)
    again = await listed.publisher.publish("ncii", indicators(3), idempotency=key)
    assert again == first
    assert (await listed.log(ORIGIN)).tree_size == 4


async def test_concurrent_repetitions_have_one_effect(listed: ExchangeNode) -> None:
    key = IdempotencyKey("once", await token_id(listed), bytes(32))
    answers = await asyncio.gather(
        *(
            listed.publisher.publish("ncii", indicators(1), idempotency=key)
            for _ in range(32)
        )
    )
    assert len(set(answers)) == 1
    assert (await listed.log(ORIGIN)).tree_size == 2


async def test_a_key_does_not_serve_two_requests(listed: ExchangeNode) -> None:
    owner = await token_id(listed)
    first = IdempotencyKey("once", owner, bytes(32))
    other = IdempotencyKey("once", owner, b"\1" * 32)
    await listed.publisher.publish("ncii", indicators(1), idempotency=first)
    with pytest.raises(IdempotencyConflictError):
        await listed.publisher.publish("ncii", indicators(2), idempotency=other)


async def test_the_same_key_of_two_tokens_is_two_keys(listed: ExchangeNode) -> None:
    for _ in range(2):
        key = IdempotencyKey("once", await token_id(listed), bytes(32))
        await listed.publisher.publish("ncii", indicators(1), idempotency=key)
    assert (await listed.log(ORIGIN)).tree_size == 3


async def test_a_retracted_record_matches_no_more(listed: ExchangeNode) -> None:
    (ref,) = await listed.publisher.publish("ncii", [indicator(1)])
    done = await listed.publisher.withdraw(ref, "retract", Reason.FALSE_POSITIVE)

    assert done == Ref(ORIGIN, 2)
    entries = await all_entries(listed)
    assert parse_entry(entries[2], leaf_index=2) == Retract(1, 1, Reason.FALSE_POSITIVE)
    assert await listed.matches(1) == 0
    record = await listed.record(ORIGIN, 1)
    assert (record.state, record.withdrawn_by) == (RecordState.RETRACTED, 2)
    assert record.status is BodyStatus.PRESENT


async def test_a_replaced_record_is_retracted_by_the_log_itself(
    listed: ExchangeNode,
) -> None:
    (old,) = await listed.publisher.publish("ncii", [indicator(1)])
    (new,) = await listed.publisher.publish("ncii", [indicator(2, replaces=1)])

    entries = await all_entries(listed)
    assert parse_entry(entries[3], leaf_index=3) == Retract(1, 1, Reason.SUPERSEDED)
    assert (old.leaf_index, new.leaf_index, len(entries)) == (1, 2, 4)
    # A follower who never sees the replacement must not match the replaced one either.
    await listed.publisher.withdraw(new, "erase", Reason.WITHDRAWN)
    assert (await listed.matches(1), await listed.matches(2)) == (0, 0)


async def test_a_replacement_of_nothing_retracts_nothing(listed: ExchangeNode) -> None:
    await listed.publisher.publish("ncii", [indicator(1, replaces=7)])
    assert len(await all_entries(listed)) == 2


async def test_an_erased_record_leaves_no_byte(
    listed: ExchangeNode, tmp_path: Path
) -> None:
    body = indicator(1, kind="the-kind-that-will-be-erased")
    (ref,) = await listed.publisher.publish("ncii", [body])
    salt = (await listed.record(ORIGIN, 1)).salt
    await listed.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)

    entries = await all_entries(listed)
    assert parse_entry(entries[2], leaf_index=2) == Erase(1, 1, Reason.WITHDRAWN)
    assert await listed.matches(1) == 0
    for path in (tmp_path / "alpha").glob("hashlight.db*"):
        content = path.read_bytes()
        assert b"the-kind-that-will-be-erased" not in content
        assert salt not in content


@pytest.mark.parametrize(
    ("kinds", "size"),
    [
        (("retract", "retract"), 3),
        (("erase", "erase"), 3),
        (("erase", "retract"), 3),
        (("retract", "erase"), 4),
    ],
)
async def test_withdrawing_again_adds_nothing_unless_it_is_more(
    listed: ExchangeNode, kinds: tuple[WithdrawalKind, WithdrawalKind], size: int
) -> None:
    (ref,) = await listed.publisher.publish("ncii", [indicator(1)])
    done = [
        await listed.publisher.withdraw(ref, kind, Reason.WITHDRAWN) for kind in kinds
    ]
    assert (await listed.log(ORIGIN)).tree_size == size
    assert (done[0] == done[1]) == (size == 3)


async def test_a_repeated_withdrawal_has_one_effect(listed: ExchangeNode) -> None:
    (ref,) = await listed.publisher.publish("ncii", [indicator(1)])
    key = IdempotencyKey("once", await token_id(listed), bytes(32))
    done = {
        await listed.publisher.withdraw(ref, "erase", Reason.EXPIRED, idempotency=key)
        for _ in range(3)
    }
    assert done == {Ref(ORIGIN, 2)}


@pytest.mark.parametrize("index", [0, 2, 999])
async def test_only_records_can_be_withdrawn(listed: ExchangeNode, index: int) -> None:
    (ref,) = await listed.publisher.publish("ncii", [indicator(1)])
    await listed.publisher.withdraw(ref, "retract", Reason.WITHDRAWN)
    with pytest.raises(UnknownRecordError):
        await listed.publisher.withdraw(Ref(ORIGIN, index), "erase", Reason.WITHDRAWN)


async def test_a_record_of_a_log_we_do_not_know_cannot_be_withdrawn(
    listed: ExchangeNode,
) -> None:
    unknown = Ref("beta.example/hsf/v1/log/ncii/1", 1)
    with pytest.raises(UnknownRecordError):
        await listed.publisher.withdraw(unknown, "retract", Reason.WITHDRAWN)


async def test_a_record_of_a_peer_cannot_be_withdrawn(
    following: tuple[ExchangeNode, PeerSimulator],
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    (index,) = log.publish([indicator(1)])
    await alpha.follower.sync("shield.example", "ncii")
    with pytest.raises(ForeignRecordError):
        await alpha.publisher.withdraw(
            Ref(log.origin, index), "erase", Reason.WITHDRAWN
        )
    assert await alpha.matches(1) == 1


async def test_what_is_published_survives_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    where = tmp_path / "restarted"
    async with open_exchange_node(where, "alpha.example", clock) as node:
        await node.publisher.create_list("ncii", {})
        await node.publisher.publish("ncii", indicators(3))
    async with open_exchange_node(where, "alpha.example", clock) as node:
        assert await node.matches(2) == 1
        (ref,) = await node.publisher.publish("ncii", [indicator(9)])
        assert ref.leaf_index == 4


async def test_a_receipt_proves_a_published_record_offline(
    listed: ExchangeNode,
) -> None:
    refs = await listed.publisher.publish("ncii", indicators(300))
    key = listed.keyring.log(ORIGIN).key
    for ref in (refs[0], refs[150], refs[-1]):
        raw = await listed.inspect.receipt(ref)
        verified = open_receipt(raw, [key])
        assert verified.receipt.leaf_index == ref.leaf_index
        assert verified.body == indicator(ref.leaf_index - 1)


async def test_a_heartbeat_announces_the_newest_checkpoint_again(
    listed: ExchangeNode,
) -> None:
    await listed.notices.pushes.take()
    await listed.publisher.heartbeat(ORIGIN)
    assert await listed.notices.pushes.take() == ORIGIN
    assert (await listed.log(ORIGIN)).tree_size == 1
