"""Make the vectors for uploads to a mirror, and what it answers.

Requests are put together by hand from C2SP tlog-mirror; proofs come from the recursive
definition that it names.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from hashlight_protocol import (  # noqa: E402 -- the path has to be set first
    COSIGNATURE,
    Ed25519Signer,
    encode_vkey,
    sign_note,
)
from support import reference_trees as trees  # noqa: E402
from support.example_log import (  # noqa: E402
    IDENTITY,
    LIST_ID,
    LOG,
    NODE,
    ORIGIN,
    signer,
)
from support.vectors import Case, b64, bad, document, good, hexes  # noqa: E402

ENTRIES = [b"entry %d" % index for index in range(520)]
LEAVES = [trees.leaf(entry) for entry in ENTRIES]
HASH = bytes(32)


def head(start: int, end: int, ticket: bytes = b"", origin: str = ORIGIN) -> bytes:
    parts = (
        len(origin).to_bytes(2, "big"),
        origin.encode(),
        start.to_bytes(8, "big"),
        end.to_bytes(8, "big"),
        len(ticket).to_bytes(2, "big"),
        ticket,
    )
    return b"".join(parts)


def package(
    start: int, end: int, size: int, proof: Sequence[bytes] | None = None
) -> bytes:
    """Write the package of these leaves in an upload up to a size."""
    tree = LEAVES[:size]
    hashes = trees.subtree_proof(start - start % 256, end, tree)
    shown = hashes if proof is None else proof
    entries = (len(entry).to_bytes(2, "big") + entry for entry in ENTRIES[start:end])
    return b"".join((*entries, bytes([len(shown)]), *shown))


def upload_case(request: bytes, start: int, size: int) -> Case:
    root = trees.root(LEAVES[:size]).hex()
    return {"before": hexes(ENTRIES[:start]), "root": root, "request": request.hex()}


def parts(
    start: int, end: int, packages: list[int], *, at: int, ticket: bytes = b""
) -> Case:
    return {
        "origin": ORIGIN,
        "upload_start": start,
        "upload_end": end,
        "ticket": ticket.hex(),
        "packages": packages,
        "is_complete": at == end,
        "next_entry": at,
    }


def uploads() -> Iterator[Case]:
    whole = head(0, 3) + package(0, 3, 3)
    yield good(
        "a first upload", **upload_case(whole, 0, 3), parts=parts(0, 3, [3], at=3)
    )
    two = head(254, 258) + package(254, 256, 258) + package(256, 258, 258)
    yield good(
        "on both sides of a multiple of 256",
        **upload_case(two, 254, 258),
        parts=parts(254, 258, [2, 2], at=258),
    )
    inner = head(510, 520, b"ticket") + package(510, 512, 520)
    yield good(
        "a prefix, with a ticket",
        **upload_case(inner, 510, 520),
        parts=parts(510, 520, [2], at=512, ticket=b"ticket"),
    )
    cut = two[:-1]
    yield good(
        "broken off in its second package",
        **upload_case(cut, 254, 258),
        parts=parts(254, 258, [2], at=256),
    )
    nothing = upload_case(head(3, 3), 3, 3)
    yield good("nothing to upload", **nothing, parts=parts(3, 3, [], at=3))
    yield from _refused_uploads()


def _refused_uploads() -> Iterator[Case]:
    other = package(254, 256, 258).replace(b"entry 255", b"entry x55")
    proof = trees.subtree_proof(0, 256, LEAVES[:258])
    for name, content in (
        ("an altered entry", other),
        ("the entries of another package", package(253, 255, 258, proof)),
        ("a hash too few", package(254, 256, 258, proof[:-1])),
        ("a hash too much", package(254, 256, 258, (*proof, HASH))),
        ("another hash", package(254, 256, 258, (HASH,))),
    ):
        yield bad(name, "bad-proof", **upload_case(head(254, 258) + content, 254, 258))
    long = (4_098).to_bytes(2, "big")
    for name, content in (
        ("an entry of 4,098 bytes", long),
        ("64 hashes", b"\x00\x01x\x40"),
    ):
        yield bad(name, "too-large", **upload_case(head(0, 1) + content, 0, 1))
    for name, request in (
        ("an empty entry", head(0, 1) + b"\x00\x00"),
        ("bytes after the last package", head(0, 3) + package(0, 3, 3) + b"\x00"),
        ("bytes after nothing", head(3, 3) + b"\x00"),
        ("the start behind the end", head(4, 3)),
        ("an end too large", head(0, 2**63)),
        ("no origin", head(0, 3, origin="")),
        ("an origin of another form", head(0, 3, origin="example.com/log")),
        ("an origin too long to be one", b"\xff\xff"),
    ):
        yield bad(name, "malformed", **upload_case(request, 0, 3))


def answers() -> Iterator[Case]:
    for name, answer, fields in (
        ("without a ticket", "600\n256\n\n", (600, 256, "")),
        ("with a ticket", "600\n0\ndGlja2V0\n", (600, 0, b"ticket".hex())),
    ):
        keys = ("tree_size", "next_entry", "ticket")
        members = dict(zip(keys, fields, strict=True))
        yield good(name, kind="answer", answer=answer, parts=members)
    for name, answer in (
        ("two lines", "600\n256\n"),
        ("four lines", "600\n256\n\n\n"),
        ("the last line does not end", "600\n256\ndGlja2V0"),
        ("a leading zero", "0600\n256\n\n"),
        ("a ticket without padding", "600\n256\ndGk\n"),
        ("a number too large", f"{2**63}\n256\n\n"),
    ):
        yield bad(name, "malformed", kind="answer", answer=answer)
    yield from _conflicts()
    yield from _paths()


def _conflicts() -> Iterator[Case]:
    for name, start, end, mirror_size, next_entry, answer in (
        ("what comes next", 300, 700, 256, 300, None),
        ("from the beginning of the bundle", 256, 700, 256, 300, None),
        ("up to an older checkpoint", 300, 600, 256, 300, None),
        ("nothing is left to send", 600, 600, 600, 650, None),
        ("to learn where to begin", 0, 0, 0, 0, "700\n0\n\n"),
        ("up to a checkpoint that is not known", 300, 650, 256, 300, "700\n300\n\n"),
        ("up to less than was cosigned", 300, 600, 700, 700, "700\n700\n\n"),
        ("a gap", 301, 600, 256, 300, "600\n300\n\n"),
        ("a bundle too early", 255, 600, 256, 300, "600\n300\n\n"),
        ("far behind what is there", 0, 600, 600, 650, "700\n650\n\n"),
    ):
        yield good(
            name,
            kind="conflict",
            pending_sizes=[600, 700],
            mirror_size=mirror_size,
            next_entry=next_entry,
            upload_start=start,
            upload_end=end,
            answer=answer,
        )


def _paths() -> Iterator[Case]:
    for path, index, width in (
        ("add-bodies/000", 0, 256),
        ("add-bodies/x001/067.p/3", 1_067, 3),
    ):
        fields = {"index": index, "width": width}
        yield good(path, kind="path", path=path, parts=fields)
    for path in (
        "bodies/000",
        "add-bodies/0",
        "add-bodies/000.p/256",
        "add-tile/entries/000",
    ):
        yield bad(path, "malformed", kind="path", path=path)


LIST_NOTE = {
    "id": LIST_ID,
    "version": 1,
    "meta": {},
    "logs": [{"origin": ORIGIN, "vkeys": [encode_vkey(LOG.key)], "state": "active"}],
}
DESCRIPTOR = {
    "name": NODE,
    "version": 1,
    "base": f"https://{NODE}",
    "http_keys": [{"id": "h1", "key": b64(signer("http").key.public_key)}],
    "witness": encode_vkey(signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key),
    "mirror": encode_vkey(signer(f"{NODE}/hsf/v1/mirror", COSIGNATURE).key),
    "limits": {},
    "features": [],
}
OTHER = signer("node.beta.example")


def added_notes() -> Iterator[Case]:
    def members(
        header: str, content: Case, key: Ed25519Signer = IDENTITY
    ) -> dict[str, str]:
        text = f"{header}\n{json.dumps(content)}\n"
        note = sign_note(text.encode(), [key]).decode()
        return {"identity": encode_vkey(IDENTITY.key), "note": note}

    listed, described = "hsf-list/v1", "hsf-node/v1"
    yield good("a list note", kind="list-note", **members(listed, LIST_NOTE))
    yield good("a descriptor", kind="descriptor", **members(described, DESCRIPTOR))
    foreign = {**LIST_NOTE, "id": f"{OTHER.key.name}/hsf/v1/log/images"}
    for name, error, case in (
        ("signed by another", "unknown-key", members(listed, LIST_NOTE, OTHER)),
        ("a list of another node", "malformed", members(listed, foreign)),
        (
            "the descriptor of another node",
            "malformed",
            members(described, {**DESCRIPTOR, "name": OTHER.key.name}),
        ),
        ("a list note called a descriptor", "malformed", members(described, LIST_NOTE)),
        ("a descriptor called a list note", "malformed", members(listed, DESCRIPTOR)),
        ("another kind of note", "malformed", members("hsf-other/v1", LIST_NOTE)),
    ):
        yield bad(name, error, **case)


def build() -> dict[str, str]:
    """Give the content of every file."""
    about = "SPEC.md, section Uploads."
    return {
        "add-entries.json": document(about, uploads()),
        "added-notes.json": document(about, added_notes()),
        "mirror-answers.json": document(about, answers()),
    }


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
