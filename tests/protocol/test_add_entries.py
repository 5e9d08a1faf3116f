"""Uploads: read in any pieces, verified package by package, resumed at any of them."""

from collections.abc import Iterable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashlight_protocol import (
    MAX_ENTRY_BYTES,
    MAX_MIRROR_INFO_BYTES,
    MAX_TICKET_BYTES,
    MAX_UNREAD_BYTES,
    AddEntries,
    AddEntriesReader,
    BadProofError,
    BodyBundleId,
    EntryBundleId,
    EntryPackage,
    MalformedError,
    MirrorInfo,
    ProtocolError,
    TooLargeError,
    check_package,
    encode_add_bodies_path,
    encode_add_entries,
    encode_mirror_info,
    encode_package,
    encode_tile_path,
    find_conflict,
    log_origin,
    package_ranges,
    parse_add_bodies_path,
    parse_mirror_info,
)
from support import reference_trees as reference
from support.example_log import ORIGIN
from support.vectors import Case, cases

ENTRIES = [b"entry %d" % index for index in range(800)]
LEAVES = [reference.leaf(entry) for entry in ENTRIES]


@cache
def root(size: int) -> bytes:
    return reference.root(LEAVES[:size])


@cache
def proof(start: int, end: int, size: int) -> tuple[bytes, ...]:
    return reference.subtree_proof(start, end, LEAVES[:size])


def package_of(leaves: range, size: int) -> EntryPackage:
    start = leaves.start - leaves.start % 256
    entries = tuple(ENTRIES[leaves.start : leaves.stop])
    return EntryPackage(leaves.start, entries, proof(start, leaves.stop, size))


def packages_of(start: int, end: int) -> list[EntryPackage]:
    return [package_of(leaves, end) for leaves in package_ranges(start, end)]


def upload(start: int, end: int, ticket: bytes = b"") -> bytes:
    head = encode_add_entries(AddEntries(ORIGIN, start, end, ticket))
    return head + b"".join(map(encode_package, packages_of(start, end)))


def read(reader: AddEntriesReader, pieces: Iterable[bytes]) -> list[EntryPackage]:
    found: list[EntryPackage] = []
    for piece in pieces:
        reader.feed(piece)
        while (package := reader.read_package()) is not None:
            found.append(package)
    return found


def cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[start : start + size] for start in range(0, len(raw), size)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 0, []),
        (7, 7, []),
        (0, 1, [range(1)]),
        (0, 256, [range(256)]),
        (255, 257, [range(255, 256), range(256, 257)]),
        (3, 600, [range(3, 256), range(256, 512), range(512, 600)]),
        (256, 512, [range(256, 512)]),
    ],
)
def test_packages_are_cut_at_multiples_of_256(
    start: int, end: int, expected: list[range]
) -> None:
    assert list(package_ranges(start, end)) == expected


def test_the_packages_of_the_longest_upload_are_not_made_at_once() -> None:
    assert next(package_ranges(5, 2**63 - 1)) == range(5, 256)


@given(
    sizes=st.tuples(st.integers(0, 800), st.integers(1, 800)).map(sorted),
    size=st.sampled_from([1, 2, 3, 31, 256, 4_096, 100_000]),
    ticket=st.binary(max_size=40),
)
def test_an_upload_is_the_same_in_pieces_of_any_size(
    sizes: list[int], size: int, ticket: bytes
) -> None:
    start, end = sizes
    reader = AddEntriesReader()
    assert reader.read_head() is None
    packages = read(reader, cut(upload(start, end, ticket), size))
    assert reader.read_head() == AddEntries(ORIGIN, start, end, ticket)
    assert packages == packages_of(start, end)
    assert reader.is_complete
    assert reader.next_index == end


@given(
    sizes=st.tuples(st.integers(0, 799), st.integers(1, 800)).map(sorted),
    share=st.floats(0, 1),
)
def test_an_upload_that_breaks_off_goes_on_at_the_next_package(
    sizes: list[int], share: float
) -> None:
    start, end = sizes
    raw = upload(start, end)
    first, second = AddEntriesReader(), AddEntriesReader()
    packages = read(first, cut(raw[: int(len(raw) * share)], 1_000))
    resumed = max(first.next_index, start)
    packages += read(second, [upload(resumed, end)])
    assert second.is_complete
    hashes = LEAVES[:start]
    for package in packages:
        whole = len(hashes) - len(hashes) % 256
        tile = check_package(
            package, before=hashes[whole:], tree_size=end, root_hash=root(end)
        )
        hashes[whole:] = tile
    assert hashes == LEAVES[:end]


def test_an_upload_of_nothing_has_no_packages() -> None:
    reader = AddEntriesReader()
    reader.feed(upload(600, 600))
    assert reader.next_index == 0
    assert reader.read_package() is None
    assert reader.is_complete
    assert reader.next_index == 600


def test_bytes_after_the_last_package_are_refused() -> None:
    for start in (599, 600):
        reader = AddEntriesReader()
        with pytest.raises(MalformedError, match="goes on"):
            read(reader, [upload(start, 600), b"\x00"])
        with pytest.raises(MalformedError, match="goes on"):
            reader.read_package()


def test_a_reader_holds_no_more_than_it_is_given_at_a_time() -> None:
    reader = AddEntriesReader()
    reader.feed(bytes(MAX_UNREAD_BYTES))
    with pytest.raises(ValueError, match="before feeding more"):
        reader.feed(b"\x00")
    longest = b"x" * MAX_ENTRY_BYTES
    packages = [
        EntryPackage(number * 256, (longest,) * 256, (bytes(32),) * 63)
        for number in range(6)
    ]
    reader = AddEntriesReader()
    reader.feed(encode_add_entries(AddEntries(ORIGIN, 0, 6 * 256)))
    for package in packages:
        assert read(reader, cut(encode_package(package), 65_536)) == [package]
    assert reader.is_complete


LONGEST_ORIGIN = log_origin(".".join(["a" * 62] * 4) + ".b", "c" * 64, 2**31 - 1)


def test_the_longest_head_is_read() -> None:
    head = AddEntries(LONGEST_ORIGIN, 0, 2**63 - 1, b"t" * MAX_TICKET_BYTES)
    reader = AddEntriesReader()
    assert read(reader, cut(encode_add_entries(head), 7)) == []
    assert reader.read_head() == head


def head_bytes(origin: bytes, start: int, end: int) -> bytes:
    numbers = start.to_bytes(8, "big") + end.to_bytes(8, "big")
    return len(origin).to_bytes(2, "big") + origin + numbers + b"\x00\x00"


@pytest.mark.parametrize(
    "raw",
    [
        head_bytes(b"", 0, 1),
        head_bytes(b"example.com/log", 0, 1),
        head_bytes(b"\xff" * 20, 0, 1),
        head_bytes(ORIGIN.encode() + b"\n", 0, 1),
        head_bytes(ORIGIN.encode(), 2, 1),
        head_bytes(ORIGIN.encode(), 0, 2**63),
        (len(LONGEST_ORIGIN) + 1).to_bytes(2, "big"),
        b"\xff\xff",
    ],
)
def test_what_is_no_head_is_refused_and_stays_refused(raw: bytes) -> None:
    reader = AddEntriesReader()
    with pytest.raises(MalformedError):
        read(reader, [raw])
    with pytest.raises(MalformedError):
        read(reader, [upload(0, 1)])


@pytest.mark.parametrize(
    ("package", "error"),
    [
        (b"\x00\x00", MalformedError),
        ((MAX_ENTRY_BYTES + 1).to_bytes(2, "big"), TooLargeError),
        (b"\x00\x01x\x40", TooLargeError),
    ],
)
def test_what_is_no_package_is_refused_early(
    package: bytes, error: type[ProtocolError]
) -> None:
    reader = AddEntriesReader()
    first = upload(255, 257)[: -len(encode_package(package_of(range(256, 257), 257)))]
    reader.feed(first + package)
    assert reader.read_package() == package_of(range(255, 256), 257)
    for _ in range(2):
        with pytest.raises(error):
            reader.read_package()
    assert reader.next_index == 256


def test_a_package_that_was_altered_is_refused() -> None:
    package = package_of(range(300, 512), 600)
    before = LEAVES[256:300]

    def check(
        altered: EntryPackage, before: list[bytes], size: int = 600
    ) -> list[bytes]:
        return check_package(
            altered, before=before, tree_size=size, root_hash=root(600)
        )

    assert check(package, before) == LEAVES[256:512]
    entries, hashes = package.entries, package.proof
    for altered in (
        EntryPackage(300, (*entries[:-1], b"other"), hashes),
        EntryPackage(300, (entries[1], entries[0], *entries[2:]), hashes),
        EntryPackage(300, entries[:-1], hashes),
        EntryPackage(300, entries, hashes[:-1]),
        EntryPackage(300, entries, (*hashes, bytes(32))),
        EntryPackage(300, (*entries, b"other"), hashes),
        EntryPackage(44, entries, hashes),
    ):
        with pytest.raises(BadProofError):
            check(altered, before)
    with pytest.raises(BadProofError):
        check(package, [*before[1:], before[0]])
    with pytest.raises(BadProofError):
        check(package, before, 1_200)
    with pytest.raises(ValueError, match="before"):
        check(package, before[1:])


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (AddEntries("x", 0, 1), MalformedError),
        (AddEntries(ORIGIN, 2, 1), MalformedError),
        (AddEntries(ORIGIN, -1, 1), MalformedError),
        (AddEntries(ORIGIN, 0, 2**63), MalformedError),
        (AddEntries(ORIGIN, 0, 1, bytes(MAX_TICKET_BYTES + 1)), TooLargeError),
    ],
)
def test_no_head_is_written_that_could_not_be_read(
    head: AddEntries, error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        encode_add_entries(head)


@pytest.mark.parametrize(
    ("package", "error"),
    [
        (EntryPackage(0, ()), MalformedError),
        (EntryPackage(0, (b"",)), MalformedError),
        (EntryPackage(255, (b"x", b"y")), MalformedError),
        (EntryPackage(0, (b"x" * (MAX_ENTRY_BYTES + 1),)), TooLargeError),
        (EntryPackage(0, (b"x",), (bytes(31),)), MalformedError),
        (EntryPackage(0, (b"x",), (bytes(32),) * 64), TooLargeError),
    ],
)
def test_no_package_is_written_that_could_not_be_read(
    package: EntryPackage, error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        encode_package(package)


@given(
    info=st.builds(
        MirrorInfo,
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.binary(max_size=50),
    )
)
def test_an_answer_comes_back_as_it_was(info: MirrorInfo) -> None:
    assert parse_mirror_info(encode_mirror_info(info)) == info


def test_the_longest_answer_is_read_and_no_longer_one() -> None:
    last = 2**63 - 1
    longest = encode_mirror_info(MirrorInfo(last, last, bytes(MAX_TICKET_BYTES)))
    assert len(longest) == MAX_MIRROR_INFO_BYTES
    with pytest.raises(TooLargeError, match=str(MAX_MIRROR_INFO_BYTES)):
        parse_mirror_info(longest + b"\n")
    with pytest.raises(TooLargeError, match="ticket"):
        encode_mirror_info(MirrorInfo(1, 1, bytes(MAX_TICKET_BYTES + 1)))


def conflict(
    start: int, end: int, *, mirror_size: int = 0, next_entry: int = 0
) -> MirrorInfo | None:
    return find_conflict(
        AddEntries(ORIGIN, start, end),
        pending_sizes=(600, 700, 900),
        mirror_size=mirror_size,
        next_entry=next_entry,
    )


@given(
    start=st.integers(0, 1_000),
    end=st.integers(0, 1_000) | st.sampled_from([600, 700, 900]),
    mirror_size=st.sampled_from([0, 600, 700]),
    more=st.integers(0, 300),
)
def test_who_follows_the_answer_is_accepted(
    start: int, end: int, mirror_size: int, more: int
) -> None:
    next_entry = min(mirror_size + more, 900)

    def ask(start: int, end: int) -> MirrorInfo | None:
        return conflict(
            min(start, end), end, mirror_size=mirror_size, next_entry=next_entry
        )

    answer = ask(start, end)
    if answer is not None:
        assert answer.next_entry == next_entry <= answer.tree_size
        assert ask(answer.next_entry, answer.tree_size) is None


def test_a_mirror_without_a_checkpoint_has_nothing_to_upload_to() -> None:
    head = AddEntries(ORIGIN, 0, 0)
    answer = find_conflict(head, pending_sizes=(), mirror_size=0, next_entry=0)
    assert answer == MirrorInfo(0, 0)


@pytest.mark.parametrize(
    "bundle", [BodyBundleId(0), BodyBundleId(0, 3), BodyBundleId(1_234_067, 255)]
)
def test_the_path_for_bodies_names_their_bundle(bundle: BodyBundleId) -> None:
    path = encode_add_bodies_path(bundle)
    assert path == f"add-{encode_tile_path(bundle)}"
    assert parse_add_bodies_path(path) == bundle


@pytest.mark.parametrize(
    "path",
    [
        "",
        "add-",
        "bodies/000",
        "add-bodies/0",
        "add-bodies/000/",
        "add-bodies/000.p/256",
        "add-add-bodies/000",
        f"add-{encode_tile_path(EntryBundleId(0))}",
        "add-tile/0/000",
    ],
)
def test_other_paths_name_none(path: str) -> None:
    with pytest.raises(MalformedError):
        parse_add_bodies_path(path)


def read_vector(case: Case) -> None:
    reader = AddEntriesReader()
    hashes = [reference.leaf(bytes.fromhex(entry)) for entry in case["before"]]
    packages = read(reader, cut(bytes.fromhex(case["request"]), 5))
    head = reader.read_head()
    assert head is not None
    for package in packages:
        whole = len(hashes) - len(hashes) % 256
        hashes[whole:] = check_package(
            package,
            before=hashes[whole:],
            tree_size=head.upload_end,
            root_hash=bytes.fromhex(case["root"]),
        )
    assert {
        "origin": head.origin,
        "upload_start": head.upload_start,
        "upload_end": head.upload_end,
        "ticket": head.ticket.hex(),
        "packages": [len(package.entries) for package in packages],
        "is_complete": reader.is_complete,
        "next_entry": reader.next_index,
    } == case["parts"]


@pytest.mark.parametrize("case", cases("add-entries.json"))
def test_the_vectors_of_uploads_hold(case: Case) -> None:
    if case["valid"]:
        read_vector(case)
        return
    with pytest.raises(ProtocolError) as caught:
        read_vector(case)
    assert caught.value.code == case["error"]


def read_answer(case: Case) -> None:
    if case["kind"] == "path":
        bundle = parse_add_bodies_path(case["path"])
        assert {"index": bundle.index, "width": bundle.width} == case["parts"]
    elif case["kind"] == "answer":
        info = parse_mirror_info(case["answer"].encode())
        parts = {"tree_size": info.tree_size, "next_entry": info.next_entry}
        assert parts | {"ticket": info.ticket.hex()} == case["parts"]
    else:
        info_or_none = find_conflict(
            AddEntries(ORIGIN, case["upload_start"], case["upload_end"]),
            pending_sizes=case["pending_sizes"],
            mirror_size=case["mirror_size"],
            next_entry=case["next_entry"],
        )
        answer = info_or_none and encode_mirror_info(info_or_none).decode()
        assert answer == case["answer"]


@pytest.mark.parametrize("case", cases("mirror-answers.json"))
def test_the_vectors_of_answers_hold(case: Case) -> None:
    if case["valid"]:
        read_answer(case)
        return
    with pytest.raises(ProtocolError) as caught:
        read_answer(case)
    assert caught.value.code == case["error"]
