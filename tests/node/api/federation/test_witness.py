"""Announcing checkpoints, as C2SP's tlog-witness has it, and reading them back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from hashlight_node.api.authentication import CONCURRENT_REQUESTS
from hashlight_node.app import RunningNode, start_node
from hashlight_node.exchange.answering.witness import Witness
from hashlight_node.store import deliveries, logs
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    ED25519,
    AddCheckpoint,
    Checkpoint,
    Ed25519Signer,
    append_signatures,
    encode_add_checkpoint,
    encode_vkey,
    origin_hash,
    sign_checkpoint,
    verify_cosignature,
)
from support.federation import World
from support.made_records import indicators
from support.nodes import Sender, make_settings, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.store.database import Connection
    from support.federation import Answer

PUSH = "/hsf/v1/witness/add-checkpoint"
ORIGIN = "owner.example/hsf/v1/log/own/1"


@dataclass(frozen=True)
class Owned:
    """The node under test, and a real node that owns a log it may have."""

    world: World
    owner: RunningNode
    sender: Sender

    async def checkpoint(self) -> bytes:
        found = await self.owner.foundation.database.read(
            lambda conn: logs.find_log(conn, ORIGIN)
        )
        assert found is not None
        assert found.checkpoint is not None
        return found.checkpoint

    async def push(
        self, note: bytes, *, old_size: int = 0, proof: tuple[bytes, ...] = ()
    ) -> Answer:
        return await self.send(
            encode_add_checkpoint(AddCheckpoint(old_size, proof, note))
        )

    async def send(self, body: bytes) -> Answer:
        return await self.world.ask(PUSH, sender=self.sender, method="POST", body=body)

    def sign(self, size: int, root: bytes) -> bytes:
        signer = self.owner.foundation.keyring.log(ORIGIN)
        return sign_checkpoint(Checkpoint(ORIGIN, size, root), (signer,))


@pytest.fixture
async def owned(world: World, tmp_path: Path) -> AsyncIterator[Owned]:
    settings = make_settings(tmp_path, "owner.example")
    async with start_node(settings, clock=world.clock) as owner:
        vkeys = [
            encode_vkey(node.foundation.keyring.identity.key)
            for node in (world.running, owner)
        ]
        await owner.use_cases.publisher.create_list("own", {})
        await world.running.use_cases.peering.add_peer(settings.node.base, vkeys[1])
        await owner.use_cases.peering.add_peer(world.settings.node.base, vkeys[0])
        # Granted in the store alone: through the use case the owner would push itself.
        await owner.foundation.database.write(
            lambda conn: _grant(conn, world.settings.node.name)
        )
        sender = Sender(
            owner.foundation.keyring,
            settings.node.base,
            world.settings.node.authority,
            world.clock,
        )
        yield Owned(world, owner, sender)


def signed_by_nobody(origin: str) -> bytes:
    """Sign a checkpoint with a key that the log's owner never had."""
    signer = Ed25519Signer(origin, ED25519, b"\x07" * 32)
    return sign_checkpoint(Checkpoint(origin, 1, b"\x01" * 32), (signer,))


def _grant(conn: Connection, peer_name: str) -> None:
    peer = peer_store.find_peer(conn, peer_name)
    assert peer is not None
    peer_store.insert_grant(conn, peer.peer_id, "own", 1)


async def test_a_consistent_checkpoint_is_cosigned(owned: Owned) -> None:
    note = await owned.checkpoint()
    answer = await owned.push(note)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "private, no-store"
    key = owned.world.running.foundation.keyring.witness.key
    signed_at = verify_cosignature(append_signatures(note, answer.body), key)
    assert signed_at == owned.world.clock()


async def test_a_proof_from_another_size_is_answered_with_the_known_one(
    owned: Owned,
) -> None:
    note = await owned.checkpoint()
    first = await owned.push(note, old_size=1)
    assert (first.status, first.body) == (409, b"0\n")
    assert first.headers["Content-Type"] == "text/x.tlog.size"
    assert (await owned.push(note)).status == 200
    second = await owned.push(note)
    assert (second.status, second.body) == (409, b"1\n")
    assert (await owned.push(note, old_size=1)).status == 200


async def test_a_split_view_is_refused_and_kept_as_evidence(owned: Owned) -> None:
    assert (await owned.push(await owned.checkpoint())).status == 200
    answer = await owned.push(owned.sign(1, b"\x01" * 32), old_size=1)
    assert (answer.status, answer.problem) == (409, "split-view")
    database = owned.world.running.foundation.database
    (evidence,) = await database.read(deliveries.list_evidence)
    assert (evidence.peer_name, evidence.code) == ("owner.example", "split-view")


async def test_a_proof_that_does_not_hold_is_refused(owned: Owned) -> None:
    assert (await owned.push(await owned.checkpoint())).status == 200
    forged = owned.sign(2, b"\x01" * 32)
    answer = await owned.push(forged, old_size=1, proof=(b"\x02" * 32,))
    assert (answer.status, answer.problem) == (422, "bad-proof")


async def test_an_old_size_beyond_the_checkpoint_is_malformed(owned: Owned) -> None:
    answer = await owned.push(await owned.checkpoint(), old_size=2)
    assert (answer.status, answer.problem) == (400, "malformed")


async def test_a_checkpoint_that_the_log_did_not_sign_is_refused(owned: Owned) -> None:
    note = await owned.checkpoint()
    text, _, signature = note.partition(b"\n\n")
    unsigned = text.replace(b"\n1\n", b"\n2\n") + b"\n\n" + signature
    answer = await owned.push(unsigned)
    assert (answer.status, answer.problem) == (403, "bad-signature")
    answer = await owned.push(signed_by_nobody(ORIGIN))
    assert (answer.status, answer.problem) == (403, "unknown-key")


async def test_logs_that_are_not_the_senders_are_unknown(owned: Owned) -> None:
    for origin in (
        "owner.example/hsf/v1/log/none/1",
        "owner.example/hsf/v1/log/own/2",
        "shield.example/hsf/v1/log/own/1",
        "beta.example/hsf/v1/log/own/1",
    ):
        answer = await owned.push(signed_by_nobody(origin))
        told = (origin, answer.status, answer.problem)
        assert told == (origin, 404, "unknown-log")


async def test_a_body_that_is_no_submission_is_malformed(owned: Owned) -> None:
    note = await owned.checkpoint()
    for body in (b"", b"old 0\n", b"old 00\n\n" + note, b"\xff\n\n" + note, note):
        answer = await owned.send(body)
        assert (body, answer.status, answer.problem) == (body, 400, "malformed")


async def test_other_methods_are_not_for_pushing(owned: Owned) -> None:
    answer = await owned.world.ask(PUSH, sender=owned.sender)
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


async def test_the_owner_reads_back_what_was_cosigned(owned: Owned) -> None:
    path = f"/hsf/v1/witness/{origin_hash(ORIGIN)}/checkpoint"
    before = await owned.world.ask(path, sender=owned.sender)
    assert (before.status, before.problem) == (404, "unknown-log")
    note = await owned.checkpoint()
    await owned.push(note)
    answer = await owned.world.ask(path, sender=owned.sender)
    assert answer.status == 200
    assert answer.body.startswith(note.partition(b"\n\n")[0])
    verify_cosignature(answer.body, owned.world.running.foundation.keyring.witness.key)


async def test_the_owner_waits_for_the_acknowledgement(owned: Owned) -> None:
    path = f"/hsf/v1/mirror/{origin_hash(ORIGIN)}/checkpoint"
    before = await owned.world.ask(path, sender=owned.sender)
    assert (before.status, before.problem) == (404, "unknown-log")
    node = owned.world.running
    await node.use_cases.peering.follow("owner.example", "own")
    await node.use_cases.follower.sync("owner.example", "own")
    first = await owned.world.ask(path, sender=owned.sender)
    verify_cosignature(first.body, node.foundation.keyring.mirror.key)
    await owned.owner.use_cases.publisher.publish("own", indicators(2))
    tag = first.headers["ETag"]
    answer = await owned.world.ask(
        path, sender=owned.sender, If_None_Match=tag, Prefer="wait=20"
    )
    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert b"\n3\n" in answer.body


async def test_what_is_no_origin_hash_is_not_found(world: World) -> None:
    for name in ("A" * 64, "a" * 63, "a" * 65, "g" * 64):
        for part in ("witness", "mirror"):
            answer = await world.ask(f"/hsf/v1/{part}/{name}/checkpoint")
            assert (name, answer.status, answer.problem) == (name, 404, "not-found")


async def test_work_counts_for_a_caller_that_has_hung_up(
    owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = asyncio.Event()
    begun: list[None] = []

    async def endless(*_: object) -> bytes:
        begun.append(None)
        await released.wait()
        return b""

    monkeypatch.setattr(Witness, "add_checkpoint", endless)
    pushes = [asyncio.create_task(owned.send(b"x")) for _ in range(CONCURRENT_REQUESTS)]
    await until(lambda: len(begun) == CONCURRENT_REQUESTS)
    for push in pushes:
        push.cancel()
    await asyncio.wait(pushes)
    await asyncio.sleep(0.2)
    grants = "/hsf/v1/grants"
    answer = await owned.world.ask(grants, sender=owned.sender)
    assert (answer.status, answer.problem) == (429, "rate-limited")
    released.set()

    async def has_room() -> bool:
        return (await owned.world.ask(grants, sender=owned.sender)).status == 200

    await until(has_room)
