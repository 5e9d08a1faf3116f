"""Cosignatures: what a witness states about a checkpoint, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    BadSignatureError,
    Checkpoint,
    MalformedError,
    Note,
    NoteSignature,
    TooLargeError,
    UnknownKeyError,
    append_signatures,
    cosign,
    cosigned_at,
    encode_note,
    parse_checkpoint,
    parse_note,
    parse_signatures,
    sign_checkpoint,
    sign_note,
    verify_cosignature,
)
from support.example_log import IDENTITY, LOG, MIRROR, ORIGIN, WITNESS

# The example of C2SP tlog-cosignature; its keys are not published.
C2SP_NOTE = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5\
/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dl\
rDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
""".encode()

RAW = sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(32)), [LOG])
NOW = 1_767_225_600


def test_the_cosigned_checkpoint_of_c2sp_is_read() -> None:
    note = parse_note(C2SP_NOTE)
    assert parse_checkpoint(note.text).tree_size == 20_852_163
    log, witness = note.signatures
    assert log.key_id.hex() == "033de0ae"
    assert witness.name == "witness.example.com/w1"
    assert witness.key_id.hex() == "8d66cf3f"
    # The document's own example of the signed message has this time.
    assert cosigned_at(witness.blob) == 1_679_315_147
    assert encode_note(note) == C2SP_NOTE


@given(st.integers(0, 2**63 - 1))
def test_a_cosignature_holds_at_the_time_it_says(now: int) -> None:
    cosigned = append_signatures(RAW, cosign(RAW, WITNESS, now=now))
    assert verify_cosignature(cosigned, WITNESS.key) == now


def test_cosigning_signs_the_message_of_c2sp() -> None:
    line = parse_signatures(cosign(RAW, WITNESS, now=NOW))[0]
    message = b"cosignature/v1\ntime %d\n%s" % (NOW, parse_note(RAW).text)
    assert line.blob == NOW.to_bytes(8, "big") + WITNESS.sign(message)


def test_of_several_cosignatures_by_one_key_the_latest_counts() -> None:
    cosigned = RAW
    for now in (NOW, NOW + 3_600, NOW - 3_600):
        cosigned = append_signatures(cosigned, cosign(RAW, WITNESS, now=now))
    assert verify_cosignature(cosigned, WITNESS.key) == NOW + 3_600


def test_a_checkpoint_without_the_cosignature_is_refused() -> None:
    cosigned = append_signatures(RAW, cosign(RAW, WITNESS, now=NOW))
    with pytest.raises(UnknownKeyError, match="cosignature"):
        verify_cosignature(cosigned, MIRROR.key)


def test_a_cosignature_holds_for_its_checkpoint_and_its_time_only() -> None:
    (line,) = parse_signatures(cosign(RAW, WITNESS, now=NOW))
    other = sign_checkpoint(Checkpoint(ORIGIN, 8, bytes(32)), [LOG])
    later = (NOW + 1).to_bytes(8, "big") + line.blob[8:]
    moved = parse_note(RAW).text, line.blob
    for text, blob in ((parse_note(other).text, line.blob), (moved[0], later)):
        note = Note(text, (NoteSignature(line.name, line.key_id, blob),))
        with pytest.raises(BadSignatureError):
            verify_cosignature(encode_note(note), WITNESS.key)


def test_one_wrong_cosignature_is_not_made_good_by_a_right_one() -> None:
    (line,) = parse_signatures(cosign(RAW, WITNESS, now=NOW))
    wrong = NoteSignature(line.name, line.key_id, bytes(72))
    note = Note(parse_note(RAW).text, (line, wrong))
    with pytest.raises(BadSignatureError):
        verify_cosignature(encode_note(note), WITNESS.key)


def test_only_cosigning_keys_cosign() -> None:
    with pytest.raises(ValueError, match="0x04"):
        cosign(RAW, IDENTITY, now=NOW)
    with pytest.raises(ValueError, match="0x04"):
        verify_cosignature(RAW, IDENTITY.key)


@pytest.mark.parametrize("now", [-1, 2**63])
def test_a_time_that_has_no_encoding_is_not_signed(now: int) -> None:
    with pytest.raises(ValueError, match="time"):
        cosign(RAW, WITNESS, now=now)


def test_only_checkpoints_are_cosigned() -> None:
    note = sign_note(b"hsf-node/v1\n{}\n", [IDENTITY])
    with pytest.raises(MalformedError):
        cosign(note, WITNESS, now=NOW)
    with pytest.raises(MalformedError):
        verify_cosignature(note, WITNESS.key)


def test_a_line_is_not_added_twice() -> None:
    line = cosign(RAW, WITNESS, now=NOW)
    once = append_signatures(RAW, line)
    assert once == RAW + line
    assert append_signatures(once, line + line) == once


def test_what_is_no_signature_line_is_not_added() -> None:
    with pytest.raises(MalformedError):
        append_signatures(RAW, b"hello\n")


def test_signatures_are_added_up_to_the_limit() -> None:
    note = RAW
    for now in range(31):
        note = append_signatures(note, cosign(RAW, WITNESS, now=now))
    with pytest.raises(TooLargeError, match="32"):
        append_signatures(note, cosign(RAW, MIRROR, now=NOW))
