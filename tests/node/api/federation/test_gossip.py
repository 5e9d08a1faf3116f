"""Comparing checkpoints and taking evidence, over HTTP."""

from __future__ import annotations

import pytest

from hashlight_node.store import forks
from hashlight_protocol import (
    MAX_EVIDENCE_BYTES,
    ForkEvidence,
    encode_fork_evidence,
    open_descriptor,
    parse_checkpoint,
    parse_note,
    verify_cosignature,
)
from support.federation import Answer, World
from support.nodes import Sender

from .test_witness import ORIGIN, Owned, owned, signed_by_nobody

__all__ = ["owned"]

COMPARE = "/hsf/v1/witness/compare"
EVIDENCE = "/hsf/v1/evidence"


async def post(
    world: World,
    path: str,
    body: bytes,
    *,
    sender: Sender | None = None,
    content_type: str = "text/plain; charset=utf-8",
) -> Answer:
    signed = (sender or world.peer).headers(
        "POST", path, body, content_type=content_type
    )
    return await world.send("POST", path, signed, body)


async def test_the_descriptor_offers_both(world: World) -> None:
    answer = await world.send("GET", "/.well-known/hsf")
    key = world.running.foundation.keyring.identity.key
    assert open_descriptor(answer.body, key).features == (
        "evidence",
        "gossip",
        "relay",
        "upload",
    )


async def test_strangers_cannot_compare(world: World) -> None:
    for path in (COMPARE, EVIDENCE):
        answer = await post(world, path, b"x", sender=world.stranger)
        assert (answer.status, answer.problem) == (403, "unknown-peer")


async def test_a_peer_with_the_checkpoint_is_shown_ours(owned: Owned) -> None:
    note = await owned.checkpoint()
    assert (await owned.push(note)).status == 200
    answer = await post(owned.world, COMPARE, note)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "private, no-store"
    key = owned.world.running.foundation.keyring.witness.key
    assert verify_cosignature(answer.body, key) == owned.world.clock()


async def test_without_it_a_known_log_looks_like_one_that_does_not_exist(
    owned: Owned,
) -> None:
    assert (await owned.push(await owned.checkpoint())).status == 200
    forged = await post(owned.world, COMPARE, signed_by_nobody(ORIGIN))
    guessed = await post(
        owned.world, COMPARE, signed_by_nobody(ORIGIN.replace("own/1", "not/1"))
    )
    assert (forged.status, forged.problem) == (404, "unknown-log")
    assert forged.said == guessed.said


async def test_evidence_is_taken_once_and_again(owned: Owned) -> None:
    note = await owned.checkpoint()
    assert (await owned.push(note)).status == 200
    lie = owned.sign(1, b"\x02" * 32)
    raw = encode_fork_evidence(ForkEvidence(note, lie, b"\x02" * 32))
    for _ in range(2):
        answer = await post(owned.world, EVIDENCE, raw, content_type="application/json")
        assert (answer.status, answer.body) == (204, b"")
    kept = await owned.world.running.foundation.database.read(
        lambda conn: forks.find_fork(conn, ORIGIN)
    )
    assert kept is not None
    assert kept.evidence == raw
    refused = await owned.push(note, old_size=1)
    assert (refused.status, refused.problem) == (409, "forked")


@pytest.mark.parametrize(
    ("newer", "prefix_root", "expected"),
    [
        ("same", b"", (422, "no-fork")),
        ("lie", b"\x03" * 32, (422, "bad-proof")),
        ("forged", b"\x01" * 32, (404, "unknown-log")),
    ],
)
async def test_evidence_that_does_not_hold_is_refused(
    owned: Owned, newer: str, prefix_root: bytes, expected: tuple[int, str]
) -> None:
    note = await owned.checkpoint()
    assert (await owned.push(note)).status == 200
    notes = {
        "same": note,
        "lie": owned.sign(1, b"\x02" * 32),
        "forged": signed_by_nobody(ORIGIN),
    }
    root = prefix_root or _root_of(note)
    raw = encode_fork_evidence(ForkEvidence(note, notes[newer], root))
    answer = await post(owned.world, EVIDENCE, raw, content_type="application/json")
    assert (answer.status, answer.problem) == expected


def _root_of(note: bytes) -> bytes:
    return parse_checkpoint(parse_note(note).text).root_hash


async def test_evidence_has_its_own_limit_and_type(world: World) -> None:
    largest = b" " * MAX_EVIDENCE_BYTES
    answer = await post(world, EVIDENCE, largest, content_type="application/json")
    assert (answer.status, answer.problem) == (400, "malformed")
    answer = await post(
        world, EVIDENCE, largest + b" ", content_type="application/json"
    )
    assert (answer.status, answer.problem) == (413, "too-large")
    answer = await post(world, COMPARE, largest)
    assert (answer.status, answer.problem) == (413, "too-large")
    answer = await post(world, EVIDENCE, b"{}")
    assert (answer.status, answer.problem) == (415, "unsupported-media")
