"""Checkpoints: the text, whose signature counts, and what is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    COSIGNATURE,
    EMPTY_ROOT,
    BadSignatureError,
    Checkpoint,
    KnownHead,
    MalformedError,
    TooLargeError,
    UnknownKeyError,
    append_signatures,
    cosign,
    encode_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
    sign_note,
    unverified_origin,
)
from support.example_log import IDENTITY, LOG, ORIGIN, WITNESS, signer

# The example of C2SP tlog-checkpoint.
C2SP_TEXT = b"""\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
"""
ROOT = bytes(range(32))
CHECKPOINT = Checkpoint(ORIGIN, 7, ROOT)
RAW = sign_checkpoint(CHECKPOINT, [LOG])


def test_the_checkpoint_of_c2sp_is_read() -> None:
    checkpoint = parse_checkpoint(C2SP_TEXT)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.tree_size == 20_852_163
    assert base64.b64encode(checkpoint.root_hash) == C2SP_TEXT.splitlines()[2]
    assert checkpoint.extensions == ()
    assert encode_checkpoint(checkpoint) == C2SP_TEXT


lines = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1
)


@given(
    lines,
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3),
)
def test_every_checkpoint_comes_back_as_it_was(
    origin: str, size: int, root: bytes, extensions: list[str]
) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(encode_checkpoint(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n\n",
        C2SP_TEXT[:-1],
        C2SP_TEXT + b"\n",
        C2SP_TEXT + b"extension\n\n",
        b"\n" + C2SP_TEXT,
        b"".join(C2SP_TEXT.splitlines(keepends=True)[:2]),
        C2SP_TEXT.replace(b"20852163", b"020852163"),
        C2SP_TEXT.replace(b"20852163", b"+20852163"),
        C2SP_TEXT.replace(b"20852163", b" 20852163"),
        C2SP_TEXT.replace(b"20852163", b"2_0852163"),
        C2SP_TEXT.replace(b"20852163", b"-1"),
        C2SP_TEXT.replace(b"20852163", b"9223372036854775808"),
        C2SP_TEXT.replace(b"20852163", b"9" * 100_000),
        C2SP_TEXT.replace(b"20852163", "٣".encode()),
        C2SP_TEXT.replace(b"20852163", b"0"),
        C2SP_TEXT.replace(b"q2I=", b"q2J="),
        C2SP_TEXT.replace(b"q2I=", b"q2I"),
        C2SP_TEXT.replace(b"q2I=", b"q2Iq"),
        C2SP_TEXT.replace(b"q2I=", "q2Ì=".encode()),
        C2SP_TEXT.replace(b"example", b"exam\xffple"),
    ],
)
def test_what_is_no_checkpoint_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_checkpoint(text)


def test_the_empty_tree_has_one_root() -> None:
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert parse_checkpoint(encode_checkpoint(empty)) == empty
    with pytest.raises(MalformedError, match="empty tree"):
        encode_checkpoint(Checkpoint(ORIGIN, 0, ROOT))


@pytest.mark.parametrize(
    "checkpoint",
    [
        Checkpoint("", 7, ROOT),
        Checkpoint("\ud800", 7, ROOT),
        Checkpoint("two\nlines", 7, ROOT),
        Checkpoint(f"{ORIGIN}\n9\n{base64.b64encode(ROOT).decode()}", 7, ROOT),
        Checkpoint(ORIGIN, -1, ROOT),
        Checkpoint(ORIGIN, 2**63, ROOT),
        Checkpoint(ORIGIN, 7, ROOT[:-1]),
        Checkpoint(ORIGIN, 7, ROOT, ("",)),
        Checkpoint(ORIGIN, 7, ROOT, ("two\nlines",)),
    ],
)
def test_no_text_is_written_that_would_be_read_otherwise(
    checkpoint: Checkpoint,
) -> None:
    with pytest.raises(MalformedError):
        encode_checkpoint(checkpoint)


def test_a_checkpoint_signed_by_its_log_opens_with_its_bytes() -> None:
    signed = open_checkpoint(RAW, [IDENTITY.key, LOG.key], origin=ORIGIN)
    assert signed.checkpoint == CHECKPOINT
    assert signed.note_bytes == RAW
    assert signed.head == KnownHead(7, ROOT)
    assert [key for key, _ in signed.opened.verified] == [LOG.key]
    assert unverified_origin(RAW) == ORIGIN


def test_either_key_opens_a_checkpoint_while_one_replaces_the_other() -> None:
    successor = signer(ORIGIN, number=2)
    raw = sign_checkpoint(CHECKPOINT, [LOG, successor])
    for key in (LOG.key, successor.key):
        assert open_checkpoint(raw, [key], origin=ORIGIN).checkpoint == CHECKPOINT


def test_substitution_another_key_does_not_speak_for_the_log() -> None:
    text = parse_note(RAW).text
    by_identity = sign_note(text, [IDENTITY])
    with pytest.raises(UnknownKeyError, match="checkpoint"):
        open_checkpoint(by_identity, [IDENTITY.key], origin=ORIGIN)
    same_name = signer(ORIGIN, COSIGNATURE)
    cosigned = append_signatures(RAW, cosign(RAW, same_name, now=1))
    with pytest.raises(UnknownKeyError):
        open_checkpoint(cosigned, [same_name.key], origin=ORIGIN)


def test_substitution_a_log_does_not_speak_for_another_log() -> None:
    other = sign_note(encode_checkpoint(Checkpoint("other", 7, ROOT)), [LOG])
    with pytest.raises(MalformedError, match="origin"):
        open_checkpoint(other, [LOG.key], origin=ORIGIN)
    with pytest.raises(UnknownKeyError):
        open_checkpoint(other, [LOG.key], origin="other")


def test_a_signed_text_that_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(MalformedError):
        open_checkpoint(sign_note(b"hello\n", [LOG]), [LOG.key], origin=ORIGIN)


def test_a_changed_byte_anywhere_is_refused() -> None:
    for position in range(len(RAW)):
        altered = bytearray(RAW)
        altered[position] ^= 1
        with pytest.raises((MalformedError, BadSignatureError, UnknownKeyError)):
            open_checkpoint(bytes(altered), [LOG.key], origin=ORIGIN)


def test_cosignatures_do_not_disturb() -> None:
    raw = append_signatures(RAW, cosign(RAW, WITNESS, now=1))
    signed = open_checkpoint(raw, [LOG.key], origin=ORIGIN)
    assert signed.checkpoint == CHECKPOINT
    assert signed.note_bytes == raw


def test_a_log_signs_with_its_own_keys_only() -> None:
    with pytest.raises(ValueError, match="origin"):
        sign_checkpoint(CHECKPOINT, [LOG, IDENTITY])


def test_oversized_checkpoints_are_refused_unread() -> None:
    with pytest.raises(TooLargeError):
        open_checkpoint(b"\n" * 200_000, [LOG.key], origin=ORIGIN)
