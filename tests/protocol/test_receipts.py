"""Receipts: a record proved by a file and a key."""

import base64

import pytest

from hashlight_protocol import (
    MAX_BODY_BYTES,
    MAX_RECEIPT_BYTES,
    BadProofError,
    BadSignatureError,
    Checkpoint,
    MalformedError,
    ProtocolError,
    Receipt,
    Ref,
    Sighting,
    TooLargeError,
    UnknownKeyError,
    UnknownRecord,
    commit,
    encode_receipt,
    encode_record,
    inclusion_proof,
    leaf_hash,
    open_receipt,
    parse_receipt,
    root_of,
    sign_checkpoint,
    subtree_hash,
)
from support.example_log import IDENTITY, LIST_ID, LOG, NODE, ORIGIN, build_log, signer

EXAMPLE = build_log(20)
NOTE = sign_checkpoint(EXAMPLE.checkpoint(), [LOG])


def receipt_for(index: int) -> Receipt:
    leaves = EXAMPLE.leaves
    proof = inclusion_proof(
        lambda level, i: subtree_hash(leaves[i << level : i + 1 << level]),
        leaf_index=index,
        tree_size=len(leaves),
    )
    body = EXAMPLE.bodies[index]
    return Receipt(index, proof, NOTE, body.salt, body.body)


RECEIPT = receipt_for(7)
RAW = encode_receipt(RECEIPT)
LINES = RAW.split(b"\n")


@pytest.mark.parametrize("index", [1, 7, 20])
def test_a_record_of_the_log_is_proved(index: int) -> None:
    receipt = receipt_for(index)
    verified = open_receipt(encode_receipt(receipt), [LOG.key])
    assert verified.receipt == receipt
    assert verified.checkpoint == EXAMPLE.checkpoint()
    assert verified.body == EXAMPLE.bodies[index].body
    assert verified.record == UnknownRecord("example")


def test_a_receipt_is_a_tlog_proof() -> None:
    extra = base64.b64encode(RECEIPT.salt + RECEIPT.body)
    assert LINES[:3] == [b"c2sp.org/tlog-proof@v1", b"extra " + extra, b"index 7"]
    assert RAW.endswith(b"\n\n" + NOTE)


def only_entry(body: bytes) -> bytes:
    salt = bytes(16)
    leaf = leaf_hash(b"\x01" + commit(LIST_ID, salt, body))
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, root_of([leaf])), [LOG])
    return encode_receipt(Receipt(0, (), note, salt, body))


def test_a_receipt_says_what_the_record_says() -> None:
    record = Sighting(Ref(ORIGIN, 1), "matched", 2, 1_767_225_600, 1_767_225_600)
    assert open_receipt(only_entry(encode_record(record)), [LOG.key]).record == record


def test_a_body_that_is_no_record_is_proved_all_the_same() -> None:
    verified = open_receipt(only_entry(b"not JSON"), [LOG.key])
    assert verified.record is None
    assert verified.body == b"not JSON"


def test_any_changed_byte_is_refused() -> None:
    for position in range(len(RAW)):
        for bit in (1, 0x80):
            altered = bytearray(RAW)
            altered[position] ^= bit
            with pytest.raises(ProtocolError):
                open_receipt(bytes(altered), [LOG.key])


def test_any_missing_or_added_byte_is_refused() -> None:
    for position in range(len(RAW)):
        for altered in (
            RAW[:position] + RAW[position + 1 :],
            RAW[:position] + RAW[position : position + 1] * 2 + RAW[position + 1 :],
        ):
            with pytest.raises(ProtocolError):
                open_receipt(altered, [LOG.key])


def test_substitution_no_other_key_proves_the_record() -> None:
    for keys in ([], [IDENTITY.key], [signer(ORIGIN, number=2).key]):
        with pytest.raises(UnknownKeyError):
            open_receipt(RAW, keys)


def test_a_wrong_signature_is_refused() -> None:
    forged = NOTE.replace(NOTE[-12:], b"AAAAAAAAAA=\n")
    receipt = Receipt(7, RECEIPT.proof, forged, RECEIPT.salt, RECEIPT.body)
    with pytest.raises(BadSignatureError):
        open_receipt(encode_receipt(receipt), [LOG.key])


def test_substitution_a_body_is_proved_for_its_own_list_only() -> None:
    other = signer(f"{NODE}/hsf/v1/log/other/1")
    checkpoint = EXAMPLE.checkpoint()
    moved = Checkpoint(other.name, checkpoint.tree_size, checkpoint.root_hash)
    note = sign_checkpoint(moved, [other])
    receipt = Receipt(7, RECEIPT.proof, note, RECEIPT.salt, RECEIPT.body)
    with pytest.raises(BadProofError):
        open_receipt(encode_receipt(receipt), [other.key])


def test_a_log_that_is_not_of_this_protocol_has_no_receipts() -> None:
    other = signer("example.com/log")
    note = sign_checkpoint(Checkpoint(other.name, 1, bytes(32)), [other])
    raw = encode_receipt(Receipt(0, (), note, RECEIPT.salt, RECEIPT.body))
    with pytest.raises(MalformedError, match="origin"):
        open_receipt(raw, [other.key])


def with_line(number: int, line: bytes) -> bytes:
    return b"\n".join([*LINES[:number], line, *LINES[number + 1 :]])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        RAW[:40],
        with_line(0, b"c2sp.org/tlog-proof@v2"),
        RAW.replace(LINES[1] + b"\n", b""),
        with_line(1, b"extra "),
        with_line(1, b"extra " + base64.b64encode(bytes(16))),
        with_line(1, LINES[1] + b" "),
        with_line(2, b"index 07"),
        with_line(2, b"index -7"),
        with_line(2, b"Index 7"),
        with_line(3, LINES[3][:-1]),
        with_line(3, b"AA=="),
        RAW.replace(NOTE, b"no note"),
        RAW.replace(b"\n\n", b"\n\n\n", 1),
    ],
)
def test_what_is_no_receipt_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_receipt(raw)


def test_a_receipt_has_at_most_63_hashes() -> None:
    proof = (bytes(32),) * 63
    raw = encode_receipt(Receipt(7, proof, NOTE, RECEIPT.salt, RECEIPT.body))
    assert parse_receipt(raw).proof == proof
    with pytest.raises(TooLargeError, match="63"):
        encode_receipt(Receipt(7, (*proof, bytes(32)), NOTE, RECEIPT.salt, b"body"))


def test_a_receipt_has_at_most_one_body() -> None:
    with pytest.raises(TooLargeError, match="16384"):
        encode_receipt(Receipt(7, (), NOTE, RECEIPT.salt, bytes(MAX_BODY_BYTES + 1)))
    with pytest.raises(TooLargeError, match="163840"):
        parse_receipt(bytes(MAX_RECEIPT_BYTES + 1))


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt(-1, (), NOTE, bytes(16), b"body"),
        Receipt(7, (bytes(31),), NOTE, bytes(16), b"body"),
        Receipt(7, (), b"no note", bytes(16), b"body"),
        Receipt(7, (), NOTE, bytes(16), b""),
        Receipt(7, (), NOTE, bytes(17), b"body"),
    ],
)
def test_no_receipt_is_written_that_would_be_read_otherwise(receipt: Receipt) -> None:
    with pytest.raises(MalformedError):
        encode_receipt(receipt)
