"""A witness's decision, case by case as C2SP tlog-witness lists them."""

import pytest

from hashlight_protocol import (
    EMPTY_ROOT,
    MAX_ADD_CHECKPOINT_BYTES,
    AddCheckpoint,
    BadProofError,
    BadSignatureError,
    Checkpoint,
    ConflictError,
    KnownHead,
    MalformedError,
    SplitViewError,
    TooLargeError,
    UnknownKeyError,
    decide_add_checkpoint,
    encode_add_checkpoint,
    parse_add_checkpoint,
    sign_checkpoint,
)
from support import reference_trees as reference
from support.example_log import IDENTITY, LOG, ORIGIN, signer

LEAVES = reference.leaves_of(40)
KEYS = [LOG.key]

# The example of C2SP tlog-witness.
C2SP_REQUEST = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5\
/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
""".encode()


def head(size: int) -> KnownHead:
    return KnownHead(size, reference.root(LEAVES[:size]))


def note(size: int, root: bytes | None = None) -> bytes:
    root_hash = head(size).root_hash if root is None else root
    return sign_checkpoint(Checkpoint(ORIGIN, size, root_hash), [LOG])


def submission(old: int, new: int) -> AddCheckpoint:
    proof = reference.proof(old, LEAVES[:new]) if old else ()
    return AddCheckpoint(old, proof, note(new))


def test_the_submission_of_c2sp_is_read() -> None:
    request = parse_add_checkpoint(C2SP_REQUEST)
    assert request.old_size == 20_852_014
    assert len(request.proof) == 4
    assert request.origin == "example.com/behind-the-sofa"
    assert encode_add_checkpoint(request) == C2SP_REQUEST


@pytest.mark.parametrize("old", [1, 8, 13, 40])
def test_a_checkpoint_that_extends_the_known_one_is_accepted(old: int) -> None:
    request = parse_add_checkpoint(encode_add_checkpoint(submission(old, 40)))
    signed = decide_add_checkpoint(request, known=head(old), keys=KEYS)
    assert signed.head == head(40)
    assert signed.note_bytes == note(40)


def test_the_first_checkpoint_of_a_log_needs_no_proof() -> None:
    request = submission(0, 40)
    assert decide_add_checkpoint(request, known=None, keys=KEYS).head == head(40)
    empty = AddCheckpoint(0, (), note(0, EMPTY_ROOT))
    assert decide_add_checkpoint(empty, known=None, keys=KEYS).head.tree_size == 0


def test_the_first_checkpoint_of_a_log_may_not_have_one() -> None:
    request = AddCheckpoint(0, (bytes(32),), note(40))
    with pytest.raises(BadProofError, match="too many"):
        decide_add_checkpoint(request, known=None, keys=KEYS)


def test_a_checkpoint_that_no_key_of_the_log_signed_is_refused() -> None:
    request = submission(8, 40)
    for keys in ([], [IDENTITY.key], [signer(ORIGIN, number=2).key]):
        with pytest.raises(UnknownKeyError):
            decide_add_checkpoint(request, known=head(8), keys=keys)


def test_a_checkpoint_with_a_wrong_signature_is_refused() -> None:
    forged = note(40).replace(note(40)[-12:], b"AAAAAAAAAA=\n")
    request = AddCheckpoint(8, submission(8, 40).proof, forged)
    with pytest.raises(BadSignatureError):
        decide_add_checkpoint(request, known=head(8), keys=KEYS)


def test_an_old_size_above_the_new_one_is_refused() -> None:
    request = AddCheckpoint(40, (), note(8))
    with pytest.raises(MalformedError, match="larger"):
        decide_add_checkpoint(request, known=head(40), keys=KEYS)


@pytest.mark.parametrize(("old", "known"), [(0, 8), (8, 13), (13, 8)])
def test_an_old_size_that_is_not_the_known_one_is_answered_with_it(
    old: int, known: int
) -> None:
    with pytest.raises(ConflictError) as raised:
        decide_add_checkpoint(submission(old, 40), known=head(known), keys=KEYS)
    assert raised.value.known_size == known


def test_an_old_size_of_an_unknown_log_is_answered_with_zero() -> None:
    with pytest.raises(ConflictError) as raised:
        decide_add_checkpoint(submission(8, 40), known=None, keys=KEYS)
    assert raised.value.known_size == 0


def test_split_view_another_root_for_the_known_size_is_refused() -> None:
    request = AddCheckpoint(40, (), note(40, bytes(32)))
    with pytest.raises(SplitViewError) as raised:
        decide_add_checkpoint(request, known=head(40), keys=KEYS)
    assert (raised.value.origin, raised.value.size) == (ORIGIN, 40)


def test_split_view_a_proof_from_another_past_is_refused() -> None:
    for size in (8, 13):
        other = KnownHead(size, bytes(32))
        with pytest.raises(BadProofError, match="root"):
            decide_add_checkpoint(submission(size, 40), known=other, keys=KEYS)


def test_a_checkpoint_without_its_proof_is_refused() -> None:
    with pytest.raises(BadProofError):
        decide_add_checkpoint(AddCheckpoint(8, (), note(40)), known=head(8), keys=KEYS)


RAW = encode_add_checkpoint(submission(8, 40))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"old 8",
        b"old 8\n" + note(40),
        RAW.replace(b"old", b"new"),
        RAW.replace(b"old 8", b"old 08"),
        RAW.replace(b"old 8", b"old -8"),
        RAW.replace(b"old 8", b"old  8"),
        RAW.replace(b"old 8", b"old 8\n"),
        RAW.replace(b"old 8\n", b"old 8\nAA==\n"),
        RAW.replace(b"old 8\n", b"old 8\nnot base64\n"),
        RAW.replace(b"\n40\n", b"\n040\n"),
        RAW[:-1],
        RAW.replace(ORIGIN.encode() + b"\n40", b"40", 1),
    ],
)
def test_what_is_no_submission_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_add_checkpoint(raw)


def test_a_submission_is_bounded() -> None:
    request = AddCheckpoint(8, (bytes(32),) * 63, note(40))
    assert parse_add_checkpoint(encode_add_checkpoint(request)) == request
    with pytest.raises(TooLargeError, match="63"):
        encode_add_checkpoint(AddCheckpoint(8, (bytes(32),) * 64, note(40)))
    with pytest.raises(TooLargeError, match="135168"):
        parse_add_checkpoint(bytes(MAX_ADD_CHECKPOINT_BYTES + 1))


@pytest.mark.parametrize(
    "request_",
    [
        AddCheckpoint(-1, (), note(40)),
        AddCheckpoint(8, (bytes(31),), note(40)),
        AddCheckpoint(8, (), b"no note"),
        AddCheckpoint(8, (), b"\n" + note(40)),
    ],
)
def test_no_submission_is_written_that_would_be_read_otherwise(
    request_: AddCheckpoint,
) -> None:
    with pytest.raises(MalformedError):
        encode_add_checkpoint(request_)
