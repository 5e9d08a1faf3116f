"""Evidence of a fork: it convinces whoever has the key, and nobody can make it up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    EMPTY_ROOT,
    MAX_EVIDENCE_BYTES,
    BadProofError,
    BadSignatureError,
    Checkpoint,
    Ed25519Signer,
    ForkEvidence,
    MalformedError,
    NoForkError,
    ProtocolError,
    TooLargeError,
    UnknownKeyError,
    append_signatures,
    cosign,
    encode_fork_evidence,
    parse_fork_evidence,
    parse_vkey,
    sign_checkpoint,
    verify_fork,
)
from support import reference_trees as reference
from support.example_log import IDENTITY, LIST_ID, LOG, ORIGIN, WITNESS, signer
from support.vectors import Case, b64, cases

LEAVES = reference.leaves_of(40)
FORKED = [*LEAVES[:20], *reference.leaves_of(20, "forked leaf")]
KEYS = [LOG.key]


def note(size: int, leaves: list[bytes], key: Ed25519Signer = LOG) -> bytes:
    root = reference.root(leaves[:size])
    return sign_checkpoint(Checkpoint(key.name, size, root), [key])


def prefix(old: int, new: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Give root and proof of the first leaves of the log that forked."""
    proof = reference.proof(old, FORKED[:new]) if old else ()
    return reference.root(FORKED[:old]), proof


def evidence(old: int, new: int) -> ForkEvidence:
    return ForkEvidence(note(old, LEAVES), note(new, FORKED), *prefix(old, new))


FORK = evidence(27, 35)


@given(sizes=st.tuples(st.integers(21, 40), st.integers(21, 40)).map(sorted))
def test_any_two_checkpoints_behind_a_fork_prove_it(sizes: list[int]) -> None:
    old, new = sizes
    raw = encode_fork_evidence(evidence(old, new))
    assert parse_fork_evidence(raw) == evidence(old, new)
    verify_fork(parse_fork_evidence(raw), KEYS)


@given(sizes=st.tuples(st.integers(0, 20), st.integers(0, 40)).map(sorted))
def test_no_two_checkpoints_before_a_fork_do(sizes: list[int]) -> None:
    old, new = sizes
    harmless = ForkEvidence(note(old, LEAVES), note(new, FORKED), *prefix(old, new))
    with pytest.raises(NoForkError) as raised:
        verify_fork(harmless, KEYS)
    facts = raised.value
    assert (facts.origin, facts.older_size, facts.newer_size) == (ORIGIN, old, new)


def test_two_roots_for_one_size_are_a_fork_without_a_proof() -> None:
    verify_fork(evidence(30, 30), KEYS)
    assert evidence(30, 30).proof == ()


def test_cosignatures_and_further_lines_do_not_matter() -> None:
    cosigned = append_signatures(FORK.older, cosign(FORK.older, WITNESS, now=1))
    verify_fork(ForkEvidence(cosigned, FORK.newer, FORK.prefix_root, FORK.proof), KEYS)


def test_a_fork_across_a_rotation_of_keys_is_proved_with_both_keys() -> None:
    second = signer(ORIGIN, number=2)
    rotated = ForkEvidence(FORK.older, note(35, FORKED, second), *prefix(27, 35))
    verify_fork(rotated, [LOG.key, second.key])
    with pytest.raises(UnknownKeyError):
        verify_fork(rotated, KEYS)


def test_fabrication_without_the_logs_key_fails() -> None:
    thief = signer(ORIGIN, number=66)
    for older, newer in (
        (note(27, LEAVES, thief), FORK.newer),
        (FORK.older, note(35, FORKED, thief)),
    ):
        with pytest.raises(UnknownKeyError):
            verify_fork(ForkEvidence(older, newer, *prefix(27, 35)), KEYS)
    with pytest.raises(UnknownKeyError):
        verify_fork(FORK, [IDENTITY.key])


def test_fabrication_by_editing_a_signed_checkpoint_fails() -> None:
    root = b64(reference.root(LEAVES[:27])).encode()
    edited = FORK.older.replace(root, b64(bytes(32)).encode())
    with pytest.raises(BadSignatureError):
        verify_fork(ForkEvidence(edited, FORK.newer, *prefix(27, 35)), KEYS)


def test_fabrication_of_a_prefix_fails() -> None:
    honest = ForkEvidence(note(27, FORKED), note(35, FORKED), *prefix(27, 35))
    with pytest.raises(NoForkError):
        verify_fork(honest, KEYS)
    for root, proof in (
        (bytes(32), honest.proof),
        (honest.prefix_root, honest.proof[:-1]),
        (honest.prefix_root, ()),
        (bytes(32), ()),
    ):
        with pytest.raises(BadProofError):
            verify_fork(ForkEvidence(honest.older, honest.newer, root, proof), KEYS)


@given(old=st.integers(1, 39), data=st.data())
def test_fabrication_against_an_honest_log_never_succeeds(
    old: int, data: st.DataObject
) -> None:
    new = data.draw(st.integers(old, 40))
    hashes = st.sampled_from([*LEAVES[:4], *reference.proof(old, LEAVES[:new])])
    root = data.draw(hashes | st.just(reference.root(LEAVES[:old])))
    proof = tuple(data.draw(st.lists(hashes, max_size=7)))
    made_up = ForkEvidence(note(old, LEAVES), note(new, LEAVES), root, proof)
    with pytest.raises((BadProofError, NoForkError)):
        verify_fork(made_up, KEYS)


def test_the_empty_log_forks_from_nothing() -> None:
    empty = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), [LOG])
    with pytest.raises(NoForkError):
        verify_fork(ForkEvidence(empty, FORK.newer, EMPTY_ROOT), KEYS)
    with pytest.raises(BadProofError):
        verify_fork(ForkEvidence(empty, FORK.newer, bytes(32)), KEYS)


def test_substitution_checkpoints_of_two_logs_are_no_evidence() -> None:
    other = signer(f"{LIST_ID}/2")
    for older, newer in (
        (note(27, LEAVES, other), FORK.newer),
        (FORK.older, note(35, FORKED, other)),
    ):
        mixed = ForkEvidence(older, newer, *prefix(27, 35))
        with pytest.raises(MalformedError, match="two logs"):
            verify_fork(mixed, [LOG.key, other.key])
        with pytest.raises(MalformedError, match="two logs"):
            encode_fork_evidence(mixed)


def test_the_smaller_checkpoint_comes_first() -> None:
    swapped = ForkEvidence(FORK.newer, FORK.older, FORK.prefix_root, FORK.proof)
    with pytest.raises(MalformedError, match="larger"):
        verify_fork(swapped, KEYS)


def with_members(**changes: object) -> bytes:
    members: dict[str, Any] = json.loads(encode_fork_evidence(FORK))
    return json.dumps(members | changes).encode()


def test_evidence_names_its_log() -> None:
    assert parse_fork_evidence(with_members(later=1)).origin == ORIGIN


@pytest.mark.parametrize(
    "changes",
    [
        {"older": None},
        {"older": "not base64"},
        {"older": b64(b"no note")},
        {"newer": 1},
        {"prefix_root": b64(bytes(31))},
        {"prefix_root": []},
        {"proof": b64(bytes(32))},
        {"proof": [1]},
        {"proof": [b64(bytes(33))]},
        {"proof": [b64(bytes(32))] * 64},
    ],
)
def test_members_of_wrong_shape_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        parse_fork_evidence(with_members(**changes))


def test_evidence_is_bounded_and_holds_the_largest_notes() -> None:
    with pytest.raises(TooLargeError, match=str(MAX_EVIDENCE_BYTES)):
        parse_fork_evidence(bytes(MAX_EVIDENCE_BYTES + 1))
    root = reference.root(FORKED)
    # Noncharacters are what JSON strings could not carry.
    lines = ("\uffff" * 43_600,)
    largest = sign_checkpoint(Checkpoint(ORIGIN, 40, root, lines), [LOG])
    assert 130_900 < len(largest) <= 131_072
    fork = ForkEvidence(largest, largest, bytes(32), (bytes(32),) * 63)
    assert parse_fork_evidence(encode_fork_evidence(fork)) == fork


@pytest.mark.parametrize("case", cases("fork-evidence.json"))
def test_the_vectors_hold(case: Case) -> None:
    keys = [parse_vkey(text) for text in case["vkeys"]]

    def verify() -> None:
        verify_fork(parse_fork_evidence(case["evidence"].encode()), keys)

    if case["valid"]:
        verify()
        return
    with pytest.raises(ProtocolError) as caught:
        verify()
    assert caught.value.code == case["error"]
