"""The examples of SPEC.md are true: they parse, verify and belong together."""

import re
import textwrap
from base64 import b64encode
from pathlib import Path

import pytest

from hashlight_protocol import (
    COSIGNATURE,
    MAX_DESCRIPTOR_BYTES,
    WHOLE_LIST,
    AddEntries,
    AddEntriesReader,
    Checkpoint,
    Erase,
    GrantScope,
    HttpRequest,
    Indicator,
    KnownHead,
    MirrorInfo,
    QuorumNotMetError,
    RecordEntry,
    Ref,
    add_entries,
    bodies,
    check_package,
    commit,
    commitments,
    cosign,
    decide_add_checkpoint,
    descriptor,
    encode_ref,
    encode_timestamp,
    entries,
    following,
    fork_evidence,
    grants,
    ijson,
    keys,
    leaf_hash,
    list_note,
    notes,
    open_checkpoint,
    open_descriptor,
    open_list_note,
    open_receipt,
    origin_hash,
    origins,
    parse_add_checkpoint,
    parse_entry,
    parse_fork_evidence,
    parse_grants,
    parse_key_id,
    parse_mirror_info,
    parse_policy,
    parse_ref,
    parse_vkey,
    policy,
    proofs,
    receipts,
    records,
    requests,
    root_of,
    signals,
    tiles,
    timestamps,
    urls,
    verify_cosignature,
    verify_fork,
    verify_quorum,
    verify_request,
    witness,
)
from support.example_log import signer

SPEC = (Path(__file__).resolve().parents[2] / "SPEC.md").read_text("utf-8")
ORIGIN = "shield.example/hsf/v1/log/ncii/1"
NOW = 1_795_255_260
WITNESS = (
    "beta.example/hsf/v1/witness+7ead2285+BLH41pnu9oCy0U7ICbOi/26WfQH0RPtYZnW8S2nNPi+E"
)
MIRROR = (
    "beta.example/hsf/v1/mirror+8039b742+BNw68kccGXAKmXqb05K0rc8pIEI8NMse0fcoZY0IEw8/"
)
BETA_HTTP_KEY = "1d4a4948914012095ae9dbc453377f551dd7798fdd2a186e49781f6ea106f53e"


def example(name: str) -> bytes:
    found = re.search(
        rf"<!-- example: {name} -->\n *```[a-z]*\n(.*?)^ *```$",
        SPEC,
        re.DOTALL | re.MULTILINE,
    )
    assert found, name
    return textwrap.dedent(found[1]).encode()


def http_example(name: str) -> tuple[HttpRequest, dict[str, str]]:
    head, _, body = example(name).decode().partition("\n\n")
    request_line, *lines = head.strip().split("\n")
    method, path, _ = request_line.split(" ")
    fields = dict(line.split(": ", 1) for line in lines)
    return HttpRequest(method, fields["Host"], path, body.encode()), fields


IDENTITY = parse_vkey(example("identity").decode().strip())
LOG_KEY = open_list_note(example("list-note"), IDENTITY).logs[0].vkeys[0]
ENTRIES = [bytes.fromhex(line) for line in example("entries").decode().split()]
HASHES = [leaf_hash(entry) for entry in ENTRIES]


def test_the_body_is_the_one_that_the_second_entry_commits_to() -> None:
    body = example("body").strip()
    commitment = commit("shield.example/hsf/v1/log/ncii", bytes(range(16)), body)
    assert parse_entry(ENTRIES[1], leaf_index=1) == RecordEntry(commitment)
    assert parse_entry(ENTRIES[3], leaf_index=3) == Erase(2, 1, 1)


def test_the_announcement_is_signed_and_extends_the_tree_before() -> None:
    request, fields = http_example("request")
    assert parse_key_id(fields) == ("shield.example", "h1")
    (http_key,) = open_descriptor(example("descriptor"), IDENTITY).http_keys
    verify_request(request, fields, public_key=http_key.public_key, now=NOW)

    signed = decide_add_checkpoint(
        parse_add_checkpoint(request.body),
        known=KnownHead(3, root_of(HASHES[:3])),
        keys=[LOG_KEY],
    )
    assert signed.checkpoint == Checkpoint(ORIGIN, 4, root_of(HASHES))

    cosigned = signed.note_bytes + example("cosignature")
    assert verify_cosignature(cosigned, parse_vkey(WITNESS)) == NOW


def test_the_acknowledgement_is_by_the_mirror_key() -> None:
    note = example("acknowledgement")
    open_checkpoint(note, [LOG_KEY], origin=ORIGIN)
    assert verify_cosignature(note, parse_vkey(MIRROR)) == NOW + 2


def test_the_receipt_proves_the_body() -> None:
    verified = open_receipt(example("receipt"), [LOG_KEY])
    assert verified.body == example("body").strip()
    assert isinstance(verified.record, Indicator)


def test_the_signed_get_verifies() -> None:
    request, fields = http_example("signed-get")
    public_key = bytes.fromhex(BETA_HTTP_KEY)
    verify_request(request, fields, public_key=public_key, now=NOW)


def test_the_policy_asks_for_one_more_than_beta() -> None:
    asked = parse_policy(example("policy"))
    note = example("acknowledgement") + example("cosignature")
    with pytest.raises(QuorumNotMetError, match="1 of 3"):
        verify_quorum(note, asked)
    gamma = signer("gamma.example/hsf/v1/witness", COSIGNATURE)
    verify_quorum(note + cosign(note, gamma, now=NOW), asked)


def test_the_evidence_proves_a_fork() -> None:
    evidence = parse_fork_evidence(example("fork-evidence").strip())
    verify_fork(evidence, [parse_vkey(example("fork-vkey").decode().strip())])


def test_the_grants_are_read() -> None:
    answer = parse_grants(example("grants"), node="shield.example")
    labels, types = frozenset({"ncmec:*", "iwf:A"}), frozenset({"pdq", "md5"})
    assert [grant.scope for grant in answer.grants] == [
        WHOLE_LIST,
        GrantScope(labels, types, None),
        GrantScope(None, None, "beta.example"),
    ]


def test_the_upload_is_of_the_whole_log() -> None:
    reader = AddEntriesReader()
    reader.feed(bytes.fromhex(example("upload").decode()))
    package = reader.read_package()
    assert reader.read_head() == AddEntries(ORIGIN, 0, 4)
    assert package is not None
    assert reader.is_complete
    root = root_of(HASHES)
    assert check_package(package, before=[], tree_size=4, root_hash=root) == HASHES


def test_the_answer_to_an_upload_is_read() -> None:
    assert parse_mirror_info(example("mirror-info")) == MirrorInfo(4, 0, b"ticket")


def test_the_table_of_names_is_right() -> None:
    assert parse_ref(f"{ORIGIN}#1") == Ref(ORIGIN, 1)
    assert encode_ref(Ref(ORIGIN, 1)) in SPEC
    assert f"`{origin_hash(ORIGIN)[:8]}…`" in SPEC


def test_the_root_of_the_example_is_that_of_its_entries() -> None:
    assert b64encode(root_of(HASHES)) in example("acknowledgement")


def limit(number: str) -> str:
    row = re.search(rf"^\| {number} \| .* \| (.*) \|$", SPEC, re.MULTILINE)
    assert row, number
    return row[1]


@pytest.mark.parametrize(
    ("number", "values"),
    [
        ("L1", [origins.MAX_NODE_NAME]),
        ("L4", [keys.MAX_VKEY]),
        ("L5", [descriptor.MAX_BASE]),
        ("L6", [ijson.DEFAULT_MAX_DEPTH]),
        ("L10", [notes.MAX_NOTE_BYTES]),
        ("L11", [notes.MAX_SIGNATURES]),
        (
            "L12",
            [
                MAX_DESCRIPTOR_BYTES,
                descriptor.MAX_HTTP_KEYS,
                descriptor.MAX_FEATURES,
                list_note.MAX_LOGS,
                list_note.MAX_LOG_KEYS,
            ],
        ),
        ("L13", [entries.MAX_META_BYTES]),
        ("L14", [entries.MAX_ENTRY_BYTES]),
        ("L15", [commitments.MAX_BODY_BYTES]),
        ("L15", [records.MAX_RECORD_BYTES]),
        ("L16", [bodies.MAX_BODY_BUNDLE_BYTES]),
        ("L19", [proofs.MAX_PROOF_HASHES]),
        ("L20", [tiles.TILE_WIDTH]),
        ("L21", [tiles.MAX_TILE_LEVEL]),
        ("L22", [tiles.MAX_PATH]),
        ("L23", [records.MAX_SIGNALS, records.MAX_TAGS]),
        ("L23", [records.MAX_LABELS, records.MAX_CRITICAL]),
        (
            "L24",
            [
                signals.MAX_VALUE_CHARACTERS,
                signals.MAX_KEYWORD_CHARACTERS,
                urls.MAX_URL_CHARACTERS,
                urls.MAX_DOMAIN_CHARACTERS,
            ],
        ),
        ("L25", [receipts.MAX_RECEIPT_BYTES]),
        ("L26", [witness.MAX_ADD_CHECKPOINT_BYTES]),
        ("L27", [requests.MAX_PATH]),
        ("L28", [requests.MAX_AGE_SECONDS, requests.MAX_AHEAD_SECONDS]),
        ("L32", [fork_evidence.MAX_EVIDENCE_BYTES]),
        ("L33", [policy.MAX_POLICY_BYTES]),
        ("L34", [grants.MAX_GRANTS_BYTES, grants.MAX_GRANTS]),
        ("L35", [grants.MAX_SCOPE_WORDS]),
        ("L36", [add_entries.MAX_MIRROR_INFO_BYTES, add_entries.MAX_TICKET_BYTES]),
        ("L37", [add_entries.MAX_UPLOAD_PACKAGES]),
    ],
)
def test_the_limits_are_those_of_the_code(number: str, values: list[int]) -> None:
    found = [
        int(digits.replace(",", ""))
        for digits in re.findall(r"[0-9,]*[0-9]", limit(number))
    ]
    assert found == values


def test_the_limits_that_are_powers_are_those_of_the_code() -> None:
    assert limit("L3") == "2^31\N{MINUS SIGN}1"
    assert origins.MAX_EPOCH == 2**31 - 1
    assert limit("L7").endswith("(2^53\N{MINUS SIGN}1)")
    assert ijson.MAX_SAFE_INTEGER == 2**53 - 1
    assert limit("L29").startswith("2^28 ")
    assert following.MAX_RANGE == 2**28
    assert encode_timestamp(timestamps.MAX_TIMESTAMP) in limit("L9")


def test_the_registry_of_signal_types_is_that_of_the_code() -> None:
    section = SPEC.split("## Signal types\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert named == set(signals.SIGNAL_TYPES)


def test_every_file_of_vectors_is_listed() -> None:
    section = SPEC.split("## Test vectors\n")[1]
    for path in (Path(__file__).resolve().parents[1] / "vectors").glob("*.json"):
        assert f"`{path.name}`" in section
