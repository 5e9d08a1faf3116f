"""Lies by name: the verifier refuses each and says where it is and what it breaks."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from hashlight_protocol import (
    Body,
    BodyStatus,
    Checkpoint,
    Erase,
    KnownHead,
    ListNote,
    LogInfo,
    LogState,
    Meta,
    Reason,
    Retract,
    encode_entry,
    sign_list_note,
)
from support.log_simulator import ERASED, WITHHELD, LogSimulator
from support.made_records import indicator, indicators
from support.peer_simulator import Answer
from verifier.runs import Verdict, run_here
from verifier.verifiable_simulator import VerifiableSimulator

KNOWN = 5
"""Records that were verified before the node began to lie."""

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
CHECKPOINT = "/hsf/v1/log/ncii/1/checkpoint"
SPLIT = "split-view"
Verify = Callable[..., Awaitable[Verdict]]


@pytest.fixture
def verify(
    shield: VerifiableSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Verify:
    """Verify `ncii` of shield, always with the same state file."""
    key = tmp_path / "http.key"
    key.write_text(f"seed {base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    signing = ("--key", str(key), "--key-id", "alpha.example#h1")
    state = ("--state", str(tmp_path / "state.json"))

    async def run(*cosigners: VerifiableSimulator) -> Verdict:
        asked = [it for one in cosigners for it in ("--cosigner", one.base, one.vkey)]
        node = (shield.base, shield.vkey, "ncii")
        return await run_here(capsys, [*node, *signing, *state, *asked])

    return run


@pytest.fixture
async def log(shield: VerifiableSimulator, verify: Verify) -> LogSimulator:
    """Give a log that was verified when it had some records."""
    shield.logs["ncii"].publish(indicators(KNOWN))
    verdict = await verify()
    assert verdict.code == 0, verdict.report
    assert verdict.log["receipts"]["verified"] == KNOWN
    return shield.logs["ncii"]


def flips(length: int, count: int = 12) -> Iterator[Callable[[bytes], bytes]]:
    """Give tricks that flip one bit each, spread over so many bytes."""
    for position in {length * step // count for step in range(count)} | {length - 1}:

        def flip(raw: bytes, at: int = position) -> bytes:
            changed = bytearray(raw)
            changed[at] ^= 1 << at % 8
            return bytes(changed)

        yield flip


def answered(trick: Callable[[bytes], bytes]) -> Callable[[Answer], Answer]:
    """Play a trick on what is there, not on the refusals."""

    def act(answer: Answer) -> Answer:
        return (
            replace(answer, body=trick(answer.body)) if answer.status == 200 else answer
        )

    return act


def forked(log: LogSimulator, size: int) -> LogSimulator:
    """Make a second log of the same name and key that shares only a beginning."""
    other = LogSimulator(log.origin)
    other.signer = log.signer
    other.entries = log.entries[:size]
    other.bodies = log.bodies[:size]
    other.leaves = log.leaves[:size]
    return other


RESOURCES = {
    "descriptor": "descriptor of shield.example",
    "list-note": "list note of ncii",
    "checkpoint": CHECKPOINT,
    "tile": "tile/0/000.p/8",
    "entries": "tile/entries/000.p/8",
    "bodies": "bodies/000.p/8",
    "receipt": "receipt/1",
    "witness": "witness cosignature of beta.example",
    "mirror": "mirror cosignature of beta.example",
}


@pytest.mark.parametrize("kind", RESOURCES)
async def test_a_flipped_bit_anywhere_is_refused_and_named(
    shield: VerifiableSimulator,
    beta: VerifiableSimulator,
    log: LogSimulator,
    verify: Verify,
    kind: str,
) -> None:
    log.publish(indicators(2, first=KNOWN))
    beta.witness_note(log.note())
    beta.acknowledge(log.note())
    liar = beta if kind in {"witness", "mirror"} else shield
    lengths: list[int] = []

    def measure(raw: bytes) -> bytes:
        lengths.append(len(raw))
        return raw

    liar.tamper(kind, answered(measure))
    assert (await verify(beta)).code == 0
    for flip in flips(lengths[0]):
        liar.honest()
        liar.tamper(kind, answered(flip))
        verdict = await verify(beta)
        assert verdict.refusal[0] == RESOURCES[kind], verdict.report
    liar.honest()
    assert (await verify(beta)).code == 0


@pytest.mark.parametrize("kind", ["tile", "entries", "bodies"])
async def test_a_truncated_or_longer_answer_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify, kind: str
) -> None:
    log.publish(indicators(300, first=KNOWN))
    for trick in (lambda raw: raw[:-1], lambda raw: raw[:-32], lambda raw: raw + b"\0"):
        shield.honest()
        shield.tamper_body(kind, trick)
        resource, code = (await verify()).refusal
        assert RESOURCES[kind].partition(".")[0] in resource
        assert code in {"malformed", "bad-bundle", "too-large"}


async def test_a_wrong_tile_of_the_second_level_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    log.publish(indicators(600, first=KNOWN))

    def lie(answer: Answer) -> Answer:
        return replace(answer, body=bytes(64)) if len(answer.body) == 64 else answer

    shield.tamper("tile", lie)
    assert (await verify()).refusal == ("tile/1/000.p/2", "bad-bundle")


async def test_rollback_is_refused_with_both_checkpoints(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    shield.tamper_body("checkpoint", lambda _: log.note(log.size - 1))
    verdict = await verify()
    assert verdict.refusal == (CHECKPOINT, "rollback")
    evidence = [log.note().decode(), log.note(log.size - 1).decode()]
    assert verdict.report["evidence"] == evidence


async def test_a_split_view_of_the_same_size_is_refused_with_both_checkpoints(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    other = forked(log, log.size - 1)
    other.publish([indicator(99)])
    assert other.size == log.size
    shield.logs["ncii"] = other
    verdict = await verify()
    assert verdict.refusal == (CHECKPOINT, SPLIT)
    evidence = [log.note().decode(), other.note().decode()]
    assert verdict.report["evidence"] == evidence


async def test_a_larger_log_with_another_past_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    other = forked(log, 3)
    other.publish(indicators(300, first=900))
    shield.logs["ncii"] = other
    verdict = await verify()
    # What does not fit any more is what was seen before.
    assert verdict.refusal == (CHECKPOINT, SPLIT)
    evidence = [log.note().decode(), other.note().decode()]
    assert verdict.report["evidence"] == evidence


async def test_what_a_node_showed_once_binds_it_even_if_the_run_failed(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    shown = forked(log, log.size)
    shown.publish(indicators(10, first=100))
    shield.tamper_body("checkpoint", lambda _: shown.note())
    assert (await verify()).refusal == ("tile/entries/000.p/16", "malformed")

    shield.honest()
    log.publish(indicators(20, first=200))
    assert (await verify()).refusal == (CHECKPOINT, SPLIT)


@pytest.mark.parametrize("part", ["witness", "mirror"])
async def test_a_fork_that_is_shown_to_another_node_is_found_by_its_cosignature(
    beta: VerifiableSimulator, log: LogSimulator, verify: Verify, part: str
) -> None:
    sign = {"witness": beta.witness_note, "mirror": beta.acknowledge}[part]
    other = forked(log, log.size - 1)
    other.publish([indicator(99)])
    sign(other.note())
    verdict = await verify(beta)
    assert verdict.refusal == (RESOURCES[part], SPLIT)
    evidence = [log.note().decode(), other.note().decode()]
    assert [it.partition("— beta")[0] for it in verdict.report["evidence"]] == evidence


@pytest.mark.parametrize("part", ["witness", "mirror"])
async def test_a_fork_of_a_size_that_nobody_else_saw_is_found_by_its_cosignature(
    beta: VerifiableSimulator, log: LogSimulator, verify: Verify, part: str
) -> None:
    sign = {"witness": beta.witness_note, "mirror": beta.acknowledge}[part]
    other = forked(log, 2)
    other.publish([indicator(99)])
    sign(other.note())
    verdict = await verify(beta)
    assert verdict.refusal == (f"{part} checkpoint of beta.example", SPLIT)


async def test_a_log_smaller_than_what_another_node_has_signed_is_refused(
    shield: VerifiableSimulator,
    beta: VerifiableSimulator,
    log: LogSimulator,
    verify: Verify,
) -> None:
    old = log.note()
    log.publish(indicators(1, first=KNOWN))
    beta.acknowledge(log.note())
    shield.tamper_body("checkpoint", lambda _: old)
    assert (await verify(beta)).refusal == (CHECKPOINT, "rollback")


@pytest.mark.parametrize("signer", ["witness of beta", "mirror of shield"])
async def test_a_cosignature_by_another_key_acknowledges_nothing(
    shield: VerifiableSimulator,
    beta: VerifiableSimulator,
    log: LogSimulator,
    verify: Verify,
    signer: str,
) -> None:
    keys = {"witness of beta": beta.witness, "mirror of shield": shield.mirror}
    beta.acknowledge(log.note(), keys[signer])
    assert (await verify(beta)).refusal == (RESOURCES["mirror"], "unknown-key")


async def test_a_checkpoint_of_a_stranger_or_of_another_log_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    stranger = LogSimulator(log.origin)
    stranger.publish(indicators(20))
    shield.tamper_body("checkpoint", lambda _: stranger.note())
    assert (await verify()).refusal == (CHECKPOINT, "unknown-key")

    other = shield.create_list("other")
    shield.honest()
    shield.tamper_body("checkpoint", lambda _: other.note())
    assert (await verify()).refusal == (CHECKPOINT, "unknown-key")


async def test_a_node_with_another_identity_key_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    impostor = VerifiableSimulator(shield.name, shield.clock)
    impostor.base = shield.base
    shield.tamper_body("descriptor", lambda _: impostor.descriptor())
    assert log.size == KNOWN + 1
    assert (await verify()).refusal == (RESOURCES["descriptor"], "unknown-key")


async def test_the_descriptor_of_a_node_elsewhere_is_refused(
    shield: VerifiableSimulator, beta: VerifiableSimulator, verify: Verify
) -> None:
    there, here = beta.base, shield.base
    shield.base = there
    elsewhere = shield.descriptor()
    shield.base = here
    shield.tamper_body("descriptor", lambda _: elsewhere)
    assert (await verify()).refusal == (RESOURCES["descriptor"], "malformed")


@pytest.mark.parametrize("kind", ["descriptor", "list-note"])
async def test_a_replayed_document_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify, kind: str
) -> None:
    assert log.size == KNOWN + 1
    old = {"descriptor": shield.descriptor(), "list-note": shield.list_note("ncii")}
    shield.version = shield.list_versions["ncii"] = 2
    assert (await verify()).code == 0
    shield.tamper_body(kind, lambda _: old[kind])
    assert (await verify()).refusal == (RESOURCES[kind], "stale-version")


@pytest.mark.parametrize("kind", ["descriptor", "list-note"])
async def test_a_document_that_changes_without_a_new_version_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify, kind: str
) -> None:
    if kind == "descriptor":
        shield.mirror = VerifiableSimulator("shield.example", shield.clock).mirror
    else:
        log.signer = LogSimulator(log.origin).signer
    assert (await verify()).refusal == (RESOURCES[kind], "stale-version")


async def test_a_list_note_about_another_list_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    assert log.size == KNOWN + 1
    shield.create_list("other")
    shield.tamper_body("list-note", lambda _: shield.list_note("other"))
    assert (await verify()).refusal == (RESOURCES["list-note"], "malformed")


async def test_a_wrong_or_swapped_body_is_refused(
    log: LogSimulator, verify: Verify
) -> None:
    one, other = log.publish([indicator(50), indicator(51)])
    log.bodies[one], log.bodies[other] = log.bodies[other], log.bodies[one]
    assert (await verify()).refusal == ("bodies/000.p/8", "bad-commitment")


async def test_a_body_beside_an_entry_that_has_none_is_refused(
    log: LogSimulator, verify: Verify
) -> None:
    log.append(Retract(1, 1, 0), Body(BodyStatus.PRESENT, bytes(16), b"x"))
    assert (await verify()).refusal == ("bodies/000.p/7", "bad-bundle")


async def test_a_record_that_is_said_to_be_erased_and_is_not_is_refused(
    log: LogSimulator, verify: Verify
) -> None:
    log.append(Retract(3, 1, Reason.WITHDRAWN))
    log.bodies[3] = ERASED
    verdict = await verify()
    assert verdict.refusal == ("bodies/000.p/7", "withheld")
    assert "leaf 3" in verdict.report["detail"]


async def test_a_body_that_is_still_served_after_its_erasure_is_refused(
    log: LogSimulator, verify: Verify
) -> None:
    log.append(Erase(2, 2, Reason.WITHDRAWN))
    log.bodies[2] = ERASED
    verdict = await verify()
    assert verdict.refusal == ("bodies/000.p/7", "erased")
    assert "leaf 3" in verdict.report["detail"]
    log.bodies[3] = ERASED
    assert (await verify()).log["erased"] == 2


async def test_a_withheld_body_is_reported_and_no_lie(
    log: LogSimulator, verify: Verify
) -> None:
    log.bodies[3] = WITHHELD
    report = (await verify()).log
    assert (report["withheld"], report["receipts"]["verified"]) == (1, KNOWN - 1)


async def test_the_receipt_of_another_record_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    first: list[bytes] = []

    def repeat(raw: bytes) -> bytes:
        first.append(raw)
        return first[0]

    assert log.size == KNOWN + 1
    shield.tamper("receipt", answered(repeat))
    assert (await verify()).refusal == ("receipt/2", "bad-proof")


async def test_a_receipt_over_another_tree_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    """The proof holds, the checkpoint is signed: only the tree is another."""
    other = forked(log, log.size - 1)
    other.publish([indicator(99)])
    shield.tamper("receipt", answered(lambda _: shield.receipt(other, 1).body))
    assert (await verify()).refusal == ("receipt/1", SPLIT)


async def test_a_receipt_over_a_smaller_tree_of_another_past_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    other = forked(log, 2)
    other.publish([indicator(99)])
    shield.tamper("receipt", answered(lambda _: shield.receipt(other, 1).body))
    assert (await verify()).refusal == ("receipt/1", SPLIT)


async def test_a_receipt_of_a_larger_tree_than_is_served_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    larger = forked(log, log.size)
    larger.publish(indicators(9, first=300))
    known = {shield.receipt(log, it).body: it for it in range(1, log.size)}
    shield.tamper(
        "receipt", answered(lambda raw: shield.receipt(larger, known[raw]).body)
    )
    assert (await verify()).refusal == (CHECKPOINT, "rollback")


@pytest.mark.parametrize("kind", ["tile", "entries", "bodies"])
async def test_withholding_what_a_checkpoint_commits_to_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify, kind: str
) -> None:
    log.publish(indicators(2, first=KNOWN))
    gone = Answer(kind, b'{"type":"hsf:not-found","status":404}', 404)
    shield.tamper(kind, lambda _: gone)
    assert (await verify()).refusal == (RESOURCES[kind], "not-found")


async def test_a_receipt_that_is_refused_without_a_reason_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    assert log.size == KNOWN + 1
    gone = Answer("receipt", b'{"type":"hsf:erased","status":410}', 410)
    shield.tamper("receipt", lambda it: gone if it.status == 200 else it)
    assert (await verify()).refusal == ("receipt/1", "withheld")


@pytest.mark.parametrize(
    "kind", ["descriptor", "list-note", "checkpoint", "tile", "entries", "bodies"]
)
async def test_an_endless_answer_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify, kind: str
) -> None:
    log.publish(indicators(2, first=KNOWN))

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(bytes(65_536))
        return response

    shield.play(kind, act)
    assert (await verify()).refusal == (RESOURCES[kind], "too-large")


async def test_an_answer_that_breaks_off_says_nothing_about_the_log(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    assert log.size == KNOWN + 1

    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(bytes(500))
        assert request.transport is not None
        request.transport.close()
        return response

    shield.play("entries", act)
    verdict = await verify()
    assert (verdict.code, verdict.report["verdict"]) == (1, "unreachable")
    assert "IncompleteRead" in verdict.report["detail"]


async def test_a_coding_that_was_not_asked_for_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    assert log.size == KNOWN + 1
    coded = {"Content-Encoding": "zstd"}
    shield.tamper("bodies", lambda it: replace(it, headers=coded))
    assert (await verify()).refusal == ("bodies/000.p/6", "malformed")


async def test_a_redirect_is_not_followed(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    assert log.size == KNOWN + 1
    elsewhere = {"Location": f"{shield.base}/hsf/v1/lists/ncii"}
    shield.tamper("entries", lambda it: replace(it, status=307, headers=elsewhere))
    verdict = await verify()
    assert (verdict.code, verdict.report["verdict"]) == (1, "unreachable")


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (b"\x01short", "malformed"),
        (b"\x02" + bytes(13), "malformed"),
        (b"\x03" + (1_000).to_bytes(8, "big") + b"\0\0\0\1\0", "malformed"),
        (encode_entry(Meta(ORIGIN)), "malformed"),
        (b"\x80", "unsupported-entry"),
    ],
    ids=["record", "empty-range", "range-ahead", "second-meta", "critical"],
)
async def test_an_entry_that_breaks_the_rules_is_refused(
    log: LogSimulator, verify: Verify, entry: bytes, code: str
) -> None:
    log.append_raw(entry)
    assert (await verify()).refusal == ("tile/entries/000.p/7", code)


async def test_an_entry_of_a_later_kind_is_only_hashed(
    log: LogSimulator, verify: Verify
) -> None:
    log.append_raw(b"\x04later")
    assert (await verify()).log["size"] == KNOWN + 2


async def test_a_log_that_begins_with_the_meta_of_another_is_refused(
    shield: VerifiableSimulator, verify: Verify
) -> None:
    log = shield.logs["ncii"]
    log.entries.clear()
    log.bodies.clear()
    log.leaves.clear()
    log.append(Meta("shield.example/hsf/v1/log/other/1"))
    assert (await verify()).refusal == ("tile/entries/000.p/1", "malformed")


def ended(
    shield: VerifiableSimulator, log: LogSimulator, state: LogState, end: KnownHead
) -> None:
    """Say in the list note that a log has ended there."""
    info = LogInfo(log.origin, (log.signer.key,), state, end)
    version = shield.list_versions["ncii"] = shield.list_versions["ncii"] + 1
    note = ListNote(
        id=log.list_id,
        node=shield.name,
        list_name="ncii",
        version=version,
        meta={},
        logs=(info,),
    )
    signed = sign_list_note(note, shield.identity)
    shield.honest()
    shield.tamper_body("list-note", lambda _: signed)


async def test_an_abandoned_log_is_read_up_to_its_end_and_no_further(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    end = log.size
    log.publish(indicators(3, first=KNOWN))
    ended(shield, log, "abandoned", KnownHead(end, log.root(end)))
    verdict = await verify()
    assert (verdict.log["size"], verdict.log["state"]) == (end, "abandoned")

    ended(shield, log, "abandoned", KnownHead(end, bytes(32)))
    verdict = await verify()
    assert verdict.refusal == (RESOURCES["list-note"], "contradiction")
    assert len(verdict.report["evidence"]) == 2


async def test_a_log_that_ended_in_a_state_it_never_had_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    ended(shield, log, "abandoned", KnownHead(log.size, bytes(32)))
    assert (await verify()).refusal == (RESOURCES["list-note"], SPLIT)


async def test_a_log_that_claims_to_be_the_first_and_continues_another_is_refused(
    shield: VerifiableSimulator, verify: Verify
) -> None:
    log = shield.logs["ncii"]
    log.origin = f"{log.list_id}/2"
    log.signer = LogSimulator(log.origin).signer
    log.entries.clear()
    log.bodies.clear()
    log.leaves.clear()
    log.append(Meta(log.origin, Checkpoint(ORIGIN, 3, bytes(32))))
    assert log.size == 1
    verdict = await verify()
    assert verdict.refusal == ("tile/entries/000.p/1", "contradiction")


async def test_a_frozen_log_that_grows_is_refused(
    shield: VerifiableSimulator, log: LogSimulator, verify: Verify
) -> None:
    ended(shield, log, "frozen", KnownHead(log.size, log.root()))
    assert (await verify()).log["state"] == "frozen"
    log.publish(indicators(1, first=KNOWN))
    assert (await verify()).refusal == (CHECKPOINT, "malformed")
