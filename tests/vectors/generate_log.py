"""Make the vectors for entries, bundles, commitments, receipts and submissions.

Roots and proofs come from the recursive definition of RFC 6962, not from the library.
README.md says where the other cases come from.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from hashlight_protocol import (  # noqa: E402
    Body,
    BodyStatus,
    Checkpoint,
    Receipt,
    encode_body_bundle,
    encode_entry_bundle,
    encode_receipt,
    encode_vkey,
    sign_checkpoint,
)
from support import reference_trees as trees  # noqa: E402 -- the path has to be set first
from support.example_log import (  # noqa: E402
    IDENTITY,
    LIST_ID,
    LOG,
    NODE,
    ORIGIN,
    build_log,
    signer,
)
from support.vectors import Case, b64, bad, document, good, hexes  # noqa: E402

EXAMPLE = build_log(4)
NOTE = sign_checkpoint(EXAMPLE.checkpoint(), [LOG])
VKEY = encode_vkey(LOG.key)


def entries() -> Iterator[Case]:
    first = EXAMPLE.entries[0]
    second = first.replace(b"/1", b"/2").replace(
        b"null",
        b'{"origin":"%s","size":8,"root":"%s"}'
        % (ORIGIN.encode(), b64(bytes(32)).encode()),
    )
    for name, index, raw in (
        ("META of a first log", 0, first),
        ("META of a second log", 0, second),
        ("META with a member of a later version", 0, first[:-1] + b',"later":1}'),
        ("RECORD", 1, EXAMPLE.entries[1]),
        ("RETRACT", 5, EXAMPLE.entries[5]),
        ("ERASE of all below", 6, EXAMPLE.entries[6]),
        (
            "RETRACT for a reason of later",
            9,
            bytes.fromhex("02000000000000000100000001ff"),
        ),
        ("a gap", 7, b"\x04"),
        ("a kind to ignore", 7, b"\x05later"),
        ("the last kind to ignore", 7, b"\x7f"),
    ):
        yield good(name, leaf_index=index, entry=raw.hex(), leaf=trees.leaf(raw).hex())
    for name, kind in (("the first critical kind", 0x80), ("the last", 0xFF)):
        yield bad(name, "unsupported-entry", leaf_index=7, entry=f"{kind:02x}")
    retract = EXAMPLE.entries[5]
    for name, index, raw in (
        ("empty", 1, b""),
        ("META that is not first", 1, first),
        ("first and no META", 0, EXAMPLE.entries[1]),
        ("META of another version", 0, first.replace(b":1", b":2")),
        ("META without prev", 0, first.replace(b',"prev":null', b"")),
        ("META with a member twice", 0, first[:-1] + b',"prev":null}'),
        ("META that continues itself", 0, second.replace(b"/2", b"/1")),
        (
            "META that continues another list",
            0,
            second.replace(b"images/1", b"videos/1"),
        ),
        ("META that is no JSON", 0, b"\x00{"),
        ("RECORD of 32 bytes", 1, EXAMPLE.entries[1][:-1]),
        ("RECORD of 34 bytes", 1, EXAMPLE.entries[1] + b"\x00"),
        ("RETRACT of 13 bytes", 5, retract[:-1]),
        ("RETRACT of nothing", 5, bytes.fromhex("0200000000000000010000000002")),
        ("RETRACT of itself", 1, retract),
        ("RETRACT beyond itself", 1, bytes.fromhex("0200000000000000000000000202")),
        (
            "ERASE with a range that overflows",
            5,
            bytes.fromhex("03ffffffffffffffff0000000102"),
        ),
    ):
        yield bad(name, "malformed", leaf_index=index, entry=raw.hex())
    for name, index, raw in (
        ("too long", 7, b"\x04" + bytes(4_097)),
        ("META too long", 0, first[:-1] + b" " * 4_096 + b"}"),
    ):
        yield bad(name, "too-large", leaf_index=index, entry=raw.hex())


def entry_bundles() -> Iterator[Case]:
    raw = encode_entry_bundle(EXAMPLE.entries)
    width = len(EXAMPLE.entries)
    yield good(
        "a partial bundle",
        width=width,
        bundle=raw.hex(),
        entries=hexes(EXAMPLE.entries),
        leaves=hexes(EXAMPLE.leaves),
    )
    for name, changed in (
        ("an entry is missing", encode_entry_bundle(EXAMPLE.entries[:-1])),
        ("an entry too much", encode_entry_bundle([*EXAMPLE.entries, b"\x04"])),
        ("cut short", raw[:-1]),
        ("a byte too much", raw + b"\x00"),
        ("empty", b""),
        ("an empty entry", raw[: -len(EXAMPLE.entries[-1]) - 2] + b"\x00\x00"),
    ):
        yield bad(name, "malformed", width=width, bundle=changed.hex())
    long = (4_098).to_bytes(2, "big") + bytes([4]) * 4_098
    yield bad("an entry too long", "too-large", width=1, bundle=long.hex())


def commitments() -> Iterator[Case]:
    body = EXAMPLE.bodies[1]
    commitment = EXAMPLE.entries[1][1:].hex()
    members = {
        "list_id": LIST_ID,
        "salt": body.salt.hex(),
        "body": body.body.decode(),
        "commitment": commitment,
    }
    yield good("a record", **members)
    longest = members | {"body": "x" * 16_384}
    hashed = hashlib.sha256(
        b"hsf/v1/record\n%s\n%s\x40\x00%s"
        % (LIST_ID.encode(), body.salt, b"x" * 16_384)
    ).hexdigest()
    yield good("the longest body", **longest | {"commitment": hashed})
    for name, change in (
        ("another list", {"list_id": LIST_ID.replace("images", "videos")}),
        ("another salt", {"salt": "00" * 16}),
        ("another body", {"body": members["body"] + " "}),
        ("another commitment", {"commitment": "00" * 32}),
    ):
        yield bad(name, "bad-commitment", **members | change)
    yield bad("a salt of 15 bytes", "malformed", **members | {"salt": "00" * 15})
    yield bad("no body", "malformed", **members | {"body": ""})
    yield bad("a body too long", "too-large", **members | {"body": "x" * 16_385})


def body_bundles() -> Iterator[Case]:
    present = EXAMPLE.bodies[1]
    bodies = [
        Body(BodyStatus.NONE),
        present,
        Body(BodyStatus.WITHHELD),
        Body(BodyStatus.ERASED),
    ]
    raw = encode_body_bundle(bodies)
    yield good(
        "every status",
        width=4,
        bundle=raw.hex(),
        bodies=[
            {
                "status": int(body.status),
                "salt": body.salt.hex(),
                "body": body.body.hex(),
            }
            for body in bodies
        ],
    )
    head = b"\x01" + present.salt
    for name, width, changed in (
        ("a body is missing", 5, raw),
        ("a body too much", 3, raw),
        ("an unknown status", 4, raw[:-1] + b"\x04"),
        ("no length", 1, head + b"\x00"),
        ("cut short", 1, head + b"\x00\x02x"),
        ("an empty body", 1, head + b"\x00\x00"),
        ("a body that is not there, with content", 1, b"\x02" + raw[2:-2]),
    ):
        yield bad(name, "malformed", width=width, bundle=changed.hex())
    long = head + (16_385).to_bytes(2, "big") + bytes(16_385)
    yield bad("a body too long", "too-large", width=1, bundle=long.hex())


def receipts() -> Iterator[Case]:
    body = EXAMPLE.bodies[2]
    proof = trees.path(2, EXAMPLE.leaves)
    receipt = Receipt(2, proof, NOTE, body.salt, body.body)
    raw = encode_receipt(receipt).decode()
    yield good(
        "a record",
        vkey=VKEY,
        receipt=raw,
        parts={"leaf_index": 2, "tree_size": 8, "body": body.body.decode()},
    )
    other = EXAMPLE.bodies[1]
    swapped = encode_receipt(Receipt(2, proof, NOTE, other.salt, other.body)).decode()
    moved = encode_receipt(Receipt(3, proof, NOTE, body.salt, body.body)).decode()
    checkpoint = EXAMPLE.checkpoint()
    elsewhere = signer(f"{NODE}/hsf/v1/log/videos/1")
    alien = sign_checkpoint(
        Checkpoint(elsewhere.name, checkpoint.tree_size, checkpoint.root_hash),
        [elsewhere],
    )
    carried = encode_receipt(Receipt(2, proof, alien, body.salt, body.body)).decode()
    lines = raw.split("\n")
    yield bad("another body", "bad-proof", vkey=VKEY, receipt=swapped)
    yield bad("another index", "bad-proof", vkey=VKEY, receipt=moved)
    short = raw.replace(f"{lines[5]}\n", "", 1)
    yield bad("a hash is missing", "bad-proof", vkey=VKEY, receipt=short)
    yield bad(
        "in another list", "bad-proof", vkey=encode_vkey(elsewhere.key), receipt=carried
    )
    yield bad("another key", "unknown-key", vkey=encode_vkey(IDENTITY.key), receipt=raw)
    for name, changed in (
        ("another version", raw.replace("@v1", "@v2")),
        ("no extra data", raw.replace(f"{lines[1]}\n", "")),
        ("no index", raw.replace(f"{lines[2]}\n", "")),
        ("index with a leading zero", raw.replace("index 2", "index 02")),
        ("no checkpoint", raw.partition("\n\n")[0] + "\n\n"),
        ("cut short", raw[:-1]),
    ):
        yield bad(name, "malformed", vkey=VKEY, receipt=changed)
    siblings = "\n".join([b64(bytes(32))] * 64)
    long = raw.replace("\n".join(lines[3:6]), siblings)
    yield bad("64 hashes", "too-large", vkey=VKEY, receipt=long)


def submissions() -> Iterator[Case]:
    leaves = EXAMPLE.leaves
    note = NOTE.decode()

    def request(old: int, proof: tuple[bytes, ...]) -> str:
        return "\n".join([f"old {old}", *map(b64, proof), "", note])

    def known(size: int) -> Case:
        head = {"tree_size": size, "root": trees.root(leaves[:size]).hex()}
        return {"vkey": VKEY, "known": head}

    proof = trees.proof(3, leaves)
    for size in (1, 3, 4, 7, 8):
        body = request(size, trees.proof(size, leaves))
        yield good(f"from size {size}", **known(size), request=body)
    yield good("the first", vkey=VKEY, known=None, request=request(0, ()))
    forked = {"tree_size": 8, "root": "00" * 32}
    yield bad("another known size", "conflict", **known(4), request=request(3, proof))
    yield bad(
        "nothing known", "conflict", vkey=VKEY, known=None, request=request(3, proof)
    )
    yield bad("a fork", "split-view", vkey=VKEY, known=forked, request=request(8, ()))
    yield bad("no proof", "bad-proof", **known(3), request=request(3, ()))
    yield bad("another proof", "bad-proof", **known(3), request=request(3, proof[::-1]))
    yield bad(
        "a proof from nothing",
        "bad-proof",
        vkey=VKEY,
        known=None,
        request=request(0, proof),
    )
    identity = {"vkey": encode_vkey(IDENTITY.key)}
    yield bad(
        "another key", "unknown-key", **known(3) | identity, request=request(3, proof)
    )
    body = request(3, proof)
    for name, changed in (
        ("an old size that is larger", request(9, ())),
        ("no old size", body.partition("\n")[2]),
        ("a leading zero", body.replace("old 3", "old 03")),
        ("no empty line", body.replace("\n\n", "\n", 1)),
        ("a hash of 31 bytes", request(3, (bytes(31),))),
        ("cut short", body[:-1]),
    ):
        yield bad(name, "malformed", **known(3), request=changed)
    yield bad(
        "64 hashes", "too-large", **known(3), request=request(3, (bytes(32),) * 64)
    )


def build() -> dict[str, str]:
    """Give the content of every file."""
    made = {
        "entries.json": ("Entries", entries()),
        "commitments.json": ("Commitments", commitments()),
        "entry-bundles.json": ("Entry bundles", entry_bundles()),
        "body-bundles.json": ("Body bundles", body_bundles()),
        "receipts.json": ("Receipts", receipts()),
        "add-checkpoint.json": ("Witnessing", submissions()),
    }
    return {
        name: document(f"SPEC.md, section {section}.", cases)
        for name, (section, cases) in made.items()
    }


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
