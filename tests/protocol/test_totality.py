"""Whatever bytes arrive, a parser gives a value or raises a ProtocolError."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    COSIGNATURE,
    AddCheckpoint,
    AddEntries,
    AddEntriesReader,
    Checkpoint,
    Descriptor,
    EntryPackage,
    ForkEvidence,
    Grants,
    GrantScope,
    HttpKey,
    ListGrant,
    ListNote,
    LogInfo,
    ProtocolError,
    Receipt,
    append_signatures,
    cosign,
    encode_add_checkpoint,
    encode_add_entries,
    encode_body_bundle,
    encode_checkpoint,
    encode_entry_bundle,
    encode_fork_evidence,
    encode_grants,
    encode_package,
    encode_receipt,
    encode_vkey,
    open_checkpoint,
    open_descriptor,
    open_list_note,
    open_note,
    open_receipt,
    parse_add_bodies_path,
    parse_add_checkpoint,
    parse_body_bundle,
    parse_checkpoint,
    parse_entry,
    parse_entry_bundle,
    parse_fork_evidence,
    parse_grants,
    parse_mirror_info,
    parse_note,
    parse_origin,
    parse_policy,
    parse_ref,
    parse_signatures,
    parse_tile,
    parse_tile_path,
    parse_vkey,
    sign_checkpoint,
    sign_descriptor,
    sign_list_note,
    unverified_origin,
    verify_cosignature,
    verify_fork,
    verify_quorum,
)
from support import reference_trees as reference
from support.example_log import (
    IDENTITY,
    LIST_ID,
    LOG,
    NODE,
    ORIGIN,
    WITNESS,
    build_log,
    signer,
)

EXAMPLE = build_log(3)
NOTE = sign_checkpoint(EXAMPLE.checkpoint(), [LOG])
COSIGNED = append_signatures(NOTE, cosign(NOTE, WITNESS, now=1_767_225_600))
DESCRIPTOR = sign_descriptor(
    Descriptor(
        NODE,
        1,
        "https://node.acme.example",
        (HttpKey("h1", signer("http").key.public_key),),
        signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key,
        signer(f"{NODE}/hsf/v1/mirror", COSIGNATURE).key,
        {},
    ),
    IDENTITY,
)
LIST_NOTE = sign_list_note(
    ListNote(LIST_ID, NODE, "images", 1, {}, (LogInfo(ORIGIN, (LOG.key,), "active"),)),
    IDENTITY,
)
RECEIPT = encode_receipt(
    Receipt(
        1,
        reference.path(1, EXAMPLE.leaves),
        NOTE,
        EXAMPLE.bodies[1].salt,
        EXAMPLE.bodies[1].body,
    )
)
SUBMISSION = encode_add_checkpoint(
    AddCheckpoint(2, reference.proof(2, EXAMPLE.leaves), NOTE)
)

EVIDENCE = encode_fork_evidence(
    ForkEvidence(
        sign_checkpoint(Checkpoint(ORIGIN, 2, bytes(32)), [LOG]),
        NOTE,
        reference.root(EXAMPLE.leaves[:2]),
        reference.proof(2, EXAMPLE.leaves),
    )
)

POLICY = f"witness w {encode_vkey(WITNESS.key)}\ngroup G 1 w\nquorum G\n".encode()

SCOPE = GrantScope(frozenset({"a:*"}), frozenset({"pdq"}), NODE)
GRANTS = encode_grants(Grants(1, (ListGrant(LIST_ID, 0, SCOPE),)))

UPLOAD = encode_add_entries(AddEntries(ORIGIN, 3, 6, b"ticket")) + encode_package(
    EntryPackage(3, EXAMPLE.entries[3:6], (EXAMPLE.leaves[6],))
)


def read_upload(raw: bytes) -> None:
    reader = AddEntriesReader()
    for start in range(0, len(raw), 1_000):
        reader.feed(raw[start : start + 1_000])
        while reader.read_package() is not None:
            pass


@dataclass(frozen=True)
class Parser:
    """A parser, and an input that it accepts."""

    parse: Callable[[bytes], object]
    example: bytes

    def survives(self, raw: bytes) -> None:
        """Fail the test on any error but a ProtocolError."""
        with suppress(ProtocolError):
            self.parse(raw)


def on_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda raw: parse(raw.decode("utf-8", "surrogateescape"))


PARSERS = {
    "parse_note": Parser(parse_note, COSIGNED),
    "open_note": Parser(lambda raw: open_note(raw, [LOG.key, WITNESS.key]), COSIGNED),
    "parse_signatures": Parser(parse_signatures, cosign(NOTE, WITNESS, now=1)),
    "parse_checkpoint": Parser(
        parse_checkpoint, encode_checkpoint(EXAMPLE.checkpoint())
    ),
    "open_checkpoint": Parser(
        lambda raw: open_checkpoint(raw, [LOG.key], origin=ORIGIN), COSIGNED
    ),
    "unverified_origin": Parser(unverified_origin, NOTE),
    "verify_cosignature": Parser(
        lambda raw: verify_cosignature(raw, WITNESS.key), COSIGNED
    ),
    "parse_entry of META": Parser(
        lambda raw: parse_entry(raw, leaf_index=0), EXAMPLE.entries[0]
    ),
    "parse_entry": Parser(
        lambda raw: parse_entry(raw, leaf_index=9), EXAMPLE.entries[4]
    ),
    "parse_entry_bundle": Parser(
        lambda raw: parse_entry_bundle(raw, 7), encode_entry_bundle(EXAMPLE.entries)
    ),
    "parse_body_bundle": Parser(
        lambda raw: parse_body_bundle(raw, 7), encode_body_bundle(EXAMPLE.bodies)
    ),
    "parse_tile": Parser(lambda raw: parse_tile(raw, 2), bytes(64)),
    "open_receipt": Parser(lambda raw: open_receipt(raw, [LOG.key]), RECEIPT),
    "parse_add_checkpoint": Parser(parse_add_checkpoint, SUBMISSION),
    "verify_fork": Parser(
        lambda raw: verify_fork(parse_fork_evidence(raw), [LOG.key]), EVIDENCE
    ),
    "parse_policy": Parser(parse_policy, POLICY),
    "verify_quorum": Parser(
        lambda raw: verify_quorum(raw, parse_policy(POLICY)), COSIGNED
    ),
    "parse_grants": Parser(lambda raw: parse_grants(raw, node=NODE), GRANTS),
    "parse_mirror_info": Parser(parse_mirror_info, b"600\n256\ndGlja2V0\n"),
    "AddEntriesReader": Parser(read_upload, UPLOAD),
    "parse_add_bodies_path": Parser(
        on_text(parse_add_bodies_path), b"add-bodies/x001/067.p/3"
    ),
    "open_descriptor": Parser(
        lambda raw: open_descriptor(raw, IDENTITY.key), DESCRIPTOR
    ),
    "open_list_note": Parser(lambda raw: open_list_note(raw, IDENTITY.key), LIST_NOTE),
    "parse_vkey": Parser(on_text(parse_vkey), encode_vkey(LOG.key).encode()),
    "parse_origin": Parser(on_text(parse_origin), ORIGIN.encode()),
    "parse_ref": Parser(on_text(parse_ref), f"{ORIGIN}#1".encode()),
    "parse_tile_path": Parser(on_text(parse_tile_path), b"tile/1/x001/067.p/3"),
}

every_parser = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())

# Pieces that mean something to one format or another.
pieces = st.sampled_from(
    [
        *(b"\n", b"\n\n", b" ", b"=", b"+", b"#", b"0", b"-1", b"9" * 30, b"/", b".p/"),
        *("— ".encode(), b"{", b'"', b"null", b"\xc3\x28", b"\x00", b"\x80", b"\xff"),
    ]
) | st.binary(max_size=8)


@st.composite
def edits(draw: st.DrawFn, example: bytes) -> bytes:
    raw = example
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        raw = raw[:start] + draw(pieces) + raw[end:]
    return raw


@every_parser
def test_a_parser_accepts_its_example(parser: Parser) -> None:
    parser.parse(parser.example)


@every_parser
@given(raw=st.binary(max_size=400))
def test_a_parser_survives_arbitrary_bytes(parser: Parser, raw: bytes) -> None:
    parser.survives(raw)


@every_parser
@given(data=st.data())
def test_a_parser_survives_its_example_with_edits(
    parser: Parser, data: st.DataObject
) -> None:
    parser.survives(data.draw(edits(parser.example)))


@every_parser
def test_a_parser_survives_every_truncation(parser: Parser) -> None:
    for end in range(len(parser.example)):
        parser.survives(parser.example[:end])


@every_parser
@pytest.mark.parametrize(
    "filler", [b"\x00", b"\n", b"9", b"\x01", b"a ", b"[", b"\xff"]
)
def test_a_parser_survives_a_megabyte(parser: Parser, filler: bytes) -> None:
    parser.survives(filler * (1_000_000 // len(filler)))
