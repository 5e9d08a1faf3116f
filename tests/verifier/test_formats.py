"""The verifier reads the committed vectors as they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from support.vectors import Case, load
from verifier.asking import Client
from verifier.forks import check_fork
from verifier.forks import main as check_file
from verifier.logs import (
    NOTE_BYTES,
    Log,
    Tree,
    check_entry,
    check_prev,
    check_succession,
    commitment,
    leaf_hash,
    read_bodies,
    read_checkpoint,
    read_descriptor,
    read_entries,
    read_list_note,
    read_receipt,
    root_of_proof,
    tile_path,
)
from verifier.notes import (
    COSIGNATURE,
    DOCUMENT_BYTES,
    RefusedError,
    open_note,
    read_json,
    read_vkey,
)
from verifier.state import State

ORIGIN = "node.acme.example/hsf/v1/log/images/1"


def log_of(*vkeys: str, origin: str = ORIGIN) -> Log:
    return Log(origin, tuple(map(read_vkey, vkeys)), "active", None)


def read_a_vkey(case: Case) -> None:
    key = read_vkey(case["vkey"])
    if case["valid"]:
        parts = case["parts"]
        assert (key.name, key.kind) == (parts["name"], parts["type"])
        assert (key.id.hex(), key.public.hex()) == (
            parts["key_id"],
            parts["public_key"],
        )


def read_a_checkpoint(case: Case) -> None:
    log = log_of(*case["vkeys"], origin=case["origin"])
    head, _ = read_checkpoint(case["note"].encode(), log)
    assert head.size == case["parts"]["tree_size"]
    assert head.root.hex() == case["parts"]["root_hash"]


def read_an_entry(case: Case) -> None:
    entry = bytes.fromhex(case["entry"])
    own = re.search(rb'"origin":"([^"]+)","prev', entry)
    check_entry(entry, case["leaf_index"], own[1].decode() if own else ORIGIN)
    assert leaf_hash(entry).hex() == case["leaf"]


def read_some_entries(case: Case) -> None:
    found = read_entries(bytes.fromhex(case["bundle"]), case["width"])
    assert [entry.hex() for entry in found] == case["entries"]


def read_some_bodies(case: Case) -> None:
    found = read_bodies(bytes.fromhex(case["bundle"]), case["width"])
    expected = [(it["status"], it["salt"], it["body"]) for it in case["bodies"]]
    assert [(one, salt.hex(), body.hex()) for one, salt, body in found] == expected


def read_a_receipt(case: Case) -> None:
    origin = read_vkey(case["vkey"]).name
    found = read_receipt(case["receipt"].encode(), log_of(case["vkey"], origin=origin))
    index, head, _, body = found
    parts = {"leaf_index": index, "tree_size": head.size, "body": body.decode()}
    assert parts == case["parts"]


def read_a_descriptor(case: Case) -> None:
    read_descriptor(case["note"].encode(), read_vkey(case["identity"]))


def read_a_list_note(case: Case) -> None:
    read_list_note(case["note"].encode(), read_vkey(case["identity"]), "images")


def check_a_proof(case: Case) -> None:
    root = root_of_proof(
        bytes.fromhex(case["leaf"]),
        case["leaf_index"],
        case["tree_size"],
        [bytes.fromhex(it) for it in case["proof"]],
    )
    if root.hex() != case["root"]:
        raise RefusedError("bad-proof", "another root")


def read_a_note(case: Case) -> None:
    keys = [read_vkey(it) for it in case["vkeys"]]
    text, _ = open_note(case["note"].encode(), keys, DOCUMENT_BYTES)
    assert text == case["text"]


def read_a_cosignature(case: Case) -> None:
    key = read_vkey(case["vkey"], kind=COSIGNATURE)
    _, signed = open_note(case["note"].encode(), [key], NOTE_BYTES)
    assert signed[key] == case["time"]


def check_a_successor(case: Case) -> None:
    """Do what the verifier does when it knows a document, or a log's list note."""
    identity = read_vkey(case["identity"])

    def logs(note: str) -> list[Log]:
        return read_list_note(note.encode(), identity, "images")[1]

    if case["kind"] == "meta":
        entry = bytes.fromhex(case["entry"])
        origins = {log.origin: log for log in logs(case["note"])}
        own = re.search(rb'"origin":"([^"]+)","prev', entry)
        assert own is not None
        log = origins.get(own[1].decode(), log_of(origin=""))
        check_prev(check_entry(entry, 0, log.origin), log.before)
        return
    versions = [
        int(re.search('"version":([0-9]+)', case[it])[1])  # type: ignore[index]
        for it in ("old", "new")
    ]
    with TemporaryDirectory() as folder:
        state = State(Path(folder) / "state.json", case["identity"], "images")
        state.keep_version("it", versions[0], case["old"])
        state.check_version("it", versions[1], case["new"])
    if case["kind"] == "list-note":
        check_succession(logs(case["old"]), logs(case["new"]))


def compute_a_root(case: Case) -> None:
    tree = Tree()
    for entry in case["entries"]:
        tree.append(leaf_hash(bytes.fromhex(entry)))
    assert tree.root(len(case["entries"])).hex() == case["root"]


READERS: dict[str, Callable[[Case], Any]] = {
    "keys.json": read_a_vkey,
    "checkpoints.json": read_a_checkpoint,
    "entries.json": read_an_entry,
    "entry-bundles.json": read_some_entries,
    "body-bundles.json": read_some_bodies,
    "receipts.json": read_a_receipt,
    "descriptors.json": read_a_descriptor,
    "list-notes.json": read_a_list_note,
    "inclusion-proofs.json": check_a_proof,
    "notes.json": read_a_note,
    "cosignatures.json": read_a_cosignature,
    "roots.json": compute_a_root,
    "successions.json": check_a_successor,
}
CASES = [
    pytest.param(read, case, id=f"{name}: {case['name']}")
    for name, read in READERS.items()
    for case in load(name)["cases"]
]


@pytest.mark.parametrize(("read", "case"), CASES)
def test_a_vector_is_read_or_refused_with_its_code(
    read: Callable[[Case], Any], case: Case
) -> None:
    if case["valid"]:
        read(case)
        return
    with pytest.raises(RefusedError) as caught:
        read(case)
    assert caught.value.code == case["error"]


def test_of_two_cosignatures_the_latest_counts_in_either_order() -> None:
    cases = {it["name"]: it for it in load("cosignatures.json")["cases"]}
    case = cases["the latest counts"]
    *note, one, other = case["note"].splitlines(keepends=True)
    for lines in ((one, other), (other, one)):
        read_a_cosignature({**case, "note": "".join([*note, *lines])})


@pytest.mark.parametrize(
    "case",
    # Lengths are checked where bodies and receipts are read.
    [
        it
        for it in load("commitments.json")["cases"]
        if it.get("error", "bad-commitment") == "bad-commitment"
    ],
    ids=lambda case: case["name"],
)
def test_a_commitment_is_computed_as_the_vector_says(case: Case) -> None:
    salt, body = bytes.fromhex(case["salt"]), case["body"].encode()
    found = commitment(case["list_id"], salt, body).hex()

    assert (found == case["commitment"]) == case["valid"]


@pytest.mark.parametrize(
    "case",
    [it for it in load("tiles.json")["cases"] if it["valid"] and "parts" in it],
    ids=lambda case: case["name"],
)
def test_a_path_is_written_as_the_vector_says(case: Case) -> None:
    parts = case["parts"]
    level = f"tile/{parts['level']}" if parts["kind"] == "tile" else None
    kind = level or {"entries": "tile/entries", "bodies": "bodies"}[parts["kind"]]

    assert tile_path(kind, parts["index"], parts["width"]) == case["path"]


@pytest.mark.parametrize(
    "case", load("fork-evidence.json")["cases"], ids=lambda case: case["name"]
)
def test_evidence_of_a_fork_is_read_as_the_vectors_say(
    case: Case, tmp_path: Path
) -> None:
    file = tmp_path / "fork.json"
    file.write_text(case["evidence"], "utf-8")
    assert check_file([str(file), *case["vkeys"]]) == (0 if case["valid"] else 3)
    if not case["valid"]:
        with pytest.raises(RefusedError) as caught:
            check_fork(file.read_bytes(), [read_vkey(it) for it in case["vkeys"]])
        assert caught.value.code == case["error"]


def test_evidence_that_is_not_there_is_no_verdict(tmp_path: Path) -> None:
    assert check_file([str(tmp_path / "none.json")]) == 2


def test_a_request_is_signed_as_the_vector_says() -> None:
    vectors = load("requests.json")
    (case,) = (it for it in vectors["cases"] if it["name"] == "without a body")
    client = Client(bytes.fromhex(vectors["seed_hex"]), vectors["key_id"])
    fields = client.sign(case["authority"], case["path"], case["now"])

    assert {name.lower(): it for name, it in fields.items()} == case["fields"]


def test_a_whole_small_log_is_read_as_the_vector_says() -> None:
    vector = load("hsf-small.json")
    log = log_of(vector["vkey"], origin=vector["vkey"].split("+")[0])
    tree = Tree()
    roots = [tree.root(0).hex()]
    for index, entry in enumerate(map(bytes.fromhex, vector["entries"])):
        check_entry(entry, index, log.origin)
        tree.append(leaf_hash(entry))
        roots.append(tree.root(index + 1).hex())
    assert roots == vector["roots"]

    index, head, salt, body = read_receipt(vector["tlogproof"].encode(), log)
    assert (index, salt.hex(), body.decode()) == (1, vector["salt"], vector["body"])
    assert (head.size, head.root.hex()) == (4, roots[4])
    witness = read_vkey(vector["wvkey"], kind=COSIGNATURE)
    cosigned, _ = read_checkpoint(vector["checkpoint4"].encode(), log, witness)
    assert cosigned.root == head.root


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a":1,"a":1}', "a member twice"),
        ('{"a":9007199254740992}', "an integer that a double cannot hold"),
        ('{"a":1e400}', "a number that a double cannot hold"),
        ('{"a":NaN}', "no number"),
        ('{"a":' + "1" * 65 + "}", "65 digits"),
        ('{"a":"\\ud800"}', "half a surrogate pair"),
        ('{"a":"\\ufdd0"}', "a noncharacter"),
        ('{"\\uffff":0}', "a noncharacter in a name"),
        ('{"a":' + "[" * 16 + "]" * 16 + "}", "seventeen levels"),
        ('{"a":' + "[" * 100_000, "more levels than the stack has"),
        ("[]", "no object"),
        ("{} {}", "two values"),
        ("\ufeff{}", "a byte order mark"),
    ],
    ids=lambda it: str(it)[:40],
)
def test_json_that_two_readers_could_understand_differently_is_refused(
    text: str, why: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        read_json(text)
    assert caught.value.code == "malformed", why


def test_json_up_to_the_limits_is_read() -> None:
    text = '{"a":9007199254740991,"b":-0.5,"c":' + "[" * 15 + "]" * 15 + "}"
    assert read_json(text)["a"] == 2**53 - 1
