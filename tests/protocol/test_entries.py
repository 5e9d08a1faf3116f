"""Entries and the bundles they travel in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_ENTRY_BYTES,
    Checkpoint,
    Entry,
    EntryKind,
    Erase,
    MalformedError,
    Meta,
    Reason,
    RecordEntry,
    Retract,
    TooLargeError,
    UnknownEntry,
    UnsupportedEntryError,
    encode_entry,
    encode_entry_bundle,
    parse_entry,
    parse_entry_bundle,
    verify_supported,
)
from support.example_log import LIST_ID, ORIGIN

ROOT = bytes(range(32))
META = b'\x00{"hsf":1,"origin":"%s","prev":null}' % ORIGIN.encode()


def test_the_first_entry_says_which_log_it_is() -> None:
    assert encode_entry(Meta(ORIGIN)) == META
    assert parse_entry(META, leaf_index=0) == Meta(ORIGIN)


def test_a_log_says_which_log_it_continues() -> None:
    meta = Meta(f"{LIST_ID}/2", Checkpoint(ORIGIN, 7, ROOT))
    raw = encode_entry(meta)
    assert b'"prev":{"origin":"%s","size":7,"root":"AAEC' % ORIGIN.encode() in raw
    assert parse_entry(raw, leaf_index=0) == meta


def test_meta_members_of_later_versions_are_skipped() -> None:
    raw = META.replace(b'"hsf"', b'"later":[{}],"hsf"')
    assert parse_entry(raw, leaf_index=0) == Meta(ORIGIN)


@pytest.mark.parametrize(
    "json",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        META[1:].replace(b":1", b":2"),
        META[1:].replace(b":1", b":true"),
        META[1:].replace(b":1", b":1.0"),
        META[1:].replace(b":1", b':"1"'),
        META[1:].replace(b'"prev":null', b'"prev":[]'),
        META[1:].replace(b'"prev":null', b'"prev":{}'),
        META[1:].replace(b',"prev":null', b""),
        META[1:].replace(b"/1", b"/01"),
        META[1:].replace(b'"origin"', b'"name"'),
        META[1:] + b" x",
        META[1:].replace(b"}", b',"hsf":1}'),
        b"\xff" + META[1:],
    ],
)
def test_other_json_is_no_meta(json: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_entry(b"\x00" + json, leaf_index=0)


@pytest.mark.parametrize(
    "meta",
    [
        Meta(ORIGIN, Checkpoint(ORIGIN, 7, ROOT)),
        Meta(ORIGIN, Checkpoint(f"{LIST_ID}/2", 7, ROOT)),
        Meta(f"{LIST_ID}/2", Checkpoint(ORIGIN.replace("images", "x"), 7, ROOT)),
        Meta(f"{LIST_ID}/2", Checkpoint(ORIGIN, -1, ROOT)),
        Meta(f"{LIST_ID}/2", Checkpoint(ORIGIN, 2**53, ROOT)),
        Meta(f"{LIST_ID}/2", Checkpoint(ORIGIN, 7, ROOT[:31])),
        Meta(f"{LIST_ID}/2", Checkpoint(ORIGIN, 7, ROOT, ("more",))),
        Meta("origin"),
        Meta("\ud800"),
    ],
)
def test_no_meta_is_written_that_could_not_be_read(meta: Meta) -> None:
    with pytest.raises(MalformedError):
        encode_entry(meta)


def test_meta_stands_first_and_nowhere_else() -> None:
    with pytest.raises(MalformedError, match="META"):
        parse_entry(META, leaf_index=1)
    with pytest.raises(MalformedError, match="META"):
        parse_entry(b"\x01" + ROOT, leaf_index=0)


def test_a_record_is_its_commitment() -> None:
    assert encode_entry(RecordEntry(ROOT)) == b"\x01" + ROOT
    assert parse_entry(b"\x01" + ROOT, leaf_index=1) == RecordEntry(ROOT)


def test_withdrawals_have_fourteen_bytes() -> None:
    raw = bytes.fromhex("0200000000000000010000000302")
    retract = Retract(1, 3, Reason.FALSE_POSITIVE)
    assert encode_entry(retract) == raw
    assert parse_entry(raw, leaf_index=4) == retract
    assert retract.covered == range(1, 4)
    assert parse_entry(b"\x03" + raw[1:], leaf_index=4) == Erase(1, 3, 2)


def test_a_range_lies_below_its_own_entry() -> None:
    raw = encode_entry(Erase(1, 3, Reason.WITHDRAWN))
    parse_entry(raw, leaf_index=4)
    with pytest.raises(MalformedError, match="range"):
        parse_entry(raw, leaf_index=3)


def test_a_reason_of_a_later_version_still_withdraws() -> None:
    assert parse_entry(encode_entry(Retract(1, 1, 77)), leaf_index=2) == Retract(
        1, 1, 77
    )


withdrawals = (st.integers(0, 2**63), st.integers(1, 2**32 - 1), st.integers(0, 255))


@given(
    st.builds(RecordEntry, st.binary(min_size=32, max_size=32))
    | st.builds(Retract, *withdrawals)
    | st.builds(Erase, *withdrawals)
    | st.binary(min_size=1, max_size=200)
    .filter(lambda raw: raw[0] > EntryKind.ERASE)
    .map(lambda raw: UnknownEntry(raw[0], raw))
)
def test_every_entry_comes_back_as_it_was(entry: Entry) -> None:
    raw = encode_entry(entry)
    again = parse_entry(raw, leaf_index=2**64)
    assert again == entry
    assert encode_entry(again) == raw


@pytest.mark.parametrize(
    "entry",
    [
        RecordEntry(b"short"),
        RecordEntry(bytes(33)),
        Retract(0, 0, 0),
        Retract(-1, 1, 0),
        Erase(2**64, 1, 0),
        Erase(1, 2**32, 0),
        Erase(1, 1, 256),
        UnknownEntry(4, b"\x05"),
        UnknownEntry(4, b""),
        UnknownEntry(1, b"\x01" + ROOT),
    ],
)
def test_no_entry_is_written_that_would_be_read_otherwise(entry: Entry) -> None:
    with pytest.raises(MalformedError):
        encode_entry(entry)


@pytest.mark.parametrize(
    "raw", [b"", b"\x01", b"\x01" + bytes(31), b"\x01" + bytes(33), b"\x02" + bytes(12)]
)
def test_an_entry_of_wrong_length_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_entry(raw, leaf_index=2**64)


def test_an_entry_has_at_most_4097_bytes() -> None:
    parse_entry(b"\x04" + bytes(MAX_ENTRY_BYTES - 1), leaf_index=1)
    with pytest.raises(TooLargeError, match="4097"):
        parse_entry(b"\x04" + bytes(MAX_ENTRY_BYTES), leaf_index=1)


@pytest.mark.parametrize("kind", [0x04, 0x7F])
def test_unknown_kinds_that_may_be_ignored_are(kind: int) -> None:
    entry = parse_entry(bytes([kind]) + b"later", leaf_index=9)
    assert entry == UnknownEntry(kind, bytes([kind]) + b"later")
    verify_supported(entry, leaf_index=9)
    verify_supported(RecordEntry(ROOT), leaf_index=9)


@pytest.mark.parametrize("kind", [0x80, 0xFF])
def test_unknown_kinds_that_must_be_understood_stop_the_reader(kind: int) -> None:
    entry = parse_entry(bytes([kind]), leaf_index=9)
    with pytest.raises(UnsupportedEntryError, match="leaf 9") as raised:
        verify_supported(entry, leaf_index=9)
    assert (raised.value.leaf_index, raised.value.kind) == (9, kind)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=256))
def test_every_bundle_comes_back_as_it_was(entries: list[bytes]) -> None:
    raw = encode_entry_bundle(entries)
    assert parse_entry_bundle(raw, len(entries)) == tuple(entries)


def test_a_bundle_is_its_entries_behind_their_lengths() -> None:
    assert encode_entry_bundle([b"a", b"bcd"]) == b"\x00\x01a\x00\x03bcd"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\x00\x01a",
        b"\x00\x01a\x00",
        b"\x00\x01a\x00\x00",
        b"\x00\x01a\x00\x04bcd",
        b"\x00\x01a\x00\x03bcd\x00",
        b"\x00\x01a\x00\x03bcd\x00\x01e",
    ],
)
def test_a_bundle_that_does_not_hold_its_entries_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError, match="entry bundle"):
        parse_entry_bundle(raw, 2)


def test_a_bundle_with_an_entry_that_is_too_long_is_refused() -> None:
    raw = (MAX_ENTRY_BYTES + 1).to_bytes(2, "big") + bytes(MAX_ENTRY_BYTES + 1)
    with pytest.raises(TooLargeError, match="4097"):
        parse_entry_bundle(raw, 1)
    with pytest.raises(TooLargeError, match="4097"):
        encode_entry_bundle([bytes(MAX_ENTRY_BYTES + 1)])


@pytest.mark.parametrize("entries", [[], [b""], [b"a", b""], [b"a"] * 257])
def test_no_bundle_is_made_of_what_is_none(entries: list[bytes]) -> None:
    with pytest.raises(MalformedError, match="entry bundle"):
        encode_entry_bundle(entries)
