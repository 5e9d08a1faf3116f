"""Make the vectors for what nodes need when a peer lies, fails or cannot be dialled.

Roots and proofs come from the recursive definition of RFC 6962, not from the library.
README.md says where the other cases come from.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from hashlight_protocol import (  # noqa: E402
    COSIGNATURE,
    Checkpoint,
    Descriptor,
    Ed25519Signer,
    HttpKey,
    KnownHead,
    ListNote,
    LogInfo,
    LogState,
    Meta,
    append_signatures,
    cosign,
    encode_entry,
    encode_vkey,
    sign_checkpoint,
    sign_descriptor,
    sign_list_note,
)
from support import reference_trees as trees  # noqa: E402 -- the path has to be set first
from support.example_log import (  # noqa: E402
    IDENTITY,
    LIST_ID,
    LOG,
    NODE,
    ORIGIN,
    signer,
)
from support.vectors import Case, b64, bad, document, good  # noqa: E402

NOW = 1_767_225_600
LEAVES = trees.leaves_of(8)
FORKED = [*LEAVES[:3], *trees.leaves_of(5, "forked leaf")]
VKEY = encode_vkey(LOG.key)


def note(size: int, leaves: list[bytes], key: Ed25519Signer = LOG) -> bytes:
    root = trees.root(leaves[:size])
    return sign_checkpoint(Checkpoint(key.name, size, root), [key])


def fork_members(older: bytes, newer: bytes, old: int, new: int) -> Case:
    """Give the evidence about a log that went on with `FORKED`."""
    proof = trees.proof(old, FORKED[:new]) if old else ()
    return {
        "older": b64(older),
        "newer": b64(newer),
        "prefix_root": b64(trees.root(FORKED[:old])),
        "proof": [b64(sibling) for sibling in proof],
    }


def fork_case(evidence: object, *vkeys: str) -> Case:
    text = json.dumps(evidence, separators=(",", ":"))
    return {"vkeys": list(vkeys) or [VKEY], "evidence": text}


FORK = fork_members(note(6, LEAVES), note(8, FORKED), 6, 8)
SAME_SIZE = fork_members(note(7, LEAVES), note(7, FORKED), 7, 7)
ZEROS = b64(bytes(32))


def fork_evidence() -> Iterator[Case]:
    yield good("a larger tree without the smaller one", **fork_case(FORK))
    yield good("two roots for one size", **fork_case(SAME_SIZE))
    full = fork_members(note(4, LEAVES), note(8, FORKED), 4, 8)
    yield good("a smaller tree of a power of two", **fork_case(full))
    second = signer(ORIGIN, number=2)
    rotated = fork_members(note(6, LEAVES), note(8, FORKED, second), 6, 8)
    both = (VKEY, encode_vkey(second.key))
    yield good("each by another key of the log", **fork_case(rotated, *both))
    yield good("a member of a later version", **fork_case(FORK | {"later": {}}))

    extended = fork_members(note(6, FORKED), note(8, FORKED), 6, 8)
    yield bad("the tree was appended to", "no-fork", **fork_case(extended))
    same = fork_members(note(7, FORKED), note(7, FORKED), 7, 7)
    yield bad("one checkpoint twice", "no-fork", **fork_case(same))
    empty = fork_members(note(0, LEAVES), note(8, FORKED), 0, 8)
    yield bad("the empty tree", "no-fork", **fork_case(empty))
    yield from _unproven_forks()
    yield from _malformed_forks()


def _unproven_forks() -> Iterator[Case]:
    for name, change in (
        ("a made-up prefix", {"prefix_root": ZEROS}),
        ("the smaller root as prefix", {"prefix_root": b64(trees.root(LEAVES[:6]))}),
        ("no proof", {"proof": []}),
        ("a hash too much", {"proof": [*FORK["proof"], ZEROS]}),
        ("a proof between equal sizes", SAME_SIZE | {"proof": [ZEROS]}),
    ):
        yield bad(name, "bad-proof", **fork_case(FORK | change))
    thief = signer(ORIGIN, number=66)
    forged = fork_members(note(6, LEAVES), note(8, FORKED, thief), 6, 8)
    yield bad("one of the two by another key", "unknown-key", **fork_case(forged))
    identity = encode_vkey(IDENTITY.key)
    yield bad("no key of the log", "unknown-key", **fork_case(FORK, identity))
    edited = note(6, LEAVES).replace(b"\n6\n", b"\n5\n")
    changed = fork_members(edited, note(8, FORKED), 5, 8)
    yield bad("a checkpoint was changed", "bad-signature", **fork_case(changed))


def _malformed_forks() -> Iterator[Case]:
    other = signer(f"{LIST_ID}/2")
    mixed = fork_members(note(6, LEAVES), note(8, FORKED, other), 6, 8)
    swapped = {"older": FORK["newer"], "newer": FORK["older"]}
    for name, evidence in (
        ("checkpoints of two logs", mixed),
        ("the larger one first", FORK | swapped),
        ("a note that is not in base64", FORK | {"older": note(6, LEAVES).decode()}),
        ("no note", FORK | {"older": b64(b"x")}),
        ("a prefix of 31 bytes", FORK | {"prefix_root": b64(bytes(31))}),
        ("64 hashes", FORK | {"proof": [ZEROS] * 64}),
        ("proof is missing", {name: FORK[name] for name in FORK if name != "proof"}),
        ("no object", [FORK]),
    ):
        vkeys = (VKEY, encode_vkey(other.key))
        yield bad(name, "malformed", **fork_case(evidence, *vkeys))


CHECKPOINT = note(8, LEAVES)
WITNESSES = {
    name: signer(f"{name}.example/hsf/v1/witness", COSIGNATURE)
    for name in ("x1", "x2", "x3", "y1", "y2")
}
WITNESS_LINES = "".join(
    f"witness {name} {encode_vkey(key.key)}\n" for name, key in WITNESSES.items()
)
# The example of C2SP tlog-policy, with keys.
POLICY = f"""\
log {VKEY}

{WITNESS_LINES}
group X-witnesses 2 x1 x2 x3
group Y-witnesses any y1 y2
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def cosigned_by(*names: str) -> str:
    cosigned = CHECKPOINT
    for name in names:
        line = cosign(cosigned, WITNESSES[name], now=NOW)
        cosigned = append_signatures(cosigned, line)
    return cosigned.decode()


def policies() -> Iterator[Case]:
    for names in (("x1", "x3", "y2"), ("x1", "x2", "x3", "y1", "y2")):
        title = f"cosigned by {', '.join(names)}"
        yield good(title, policy=POLICY, note=cosigned_by(*names))
    for few in (("x1", "x2", "x3"), ("x1", "y1", "y2"), ()):
        title = f"cosigned by {', '.join(few) or 'nobody'}"
        note_text = cosigned_by(*few)
        yield bad(title, "quorum-not-met", policy=POLICY, note=note_text)
    nobody = {"note": cosigned_by()}
    yield good("no quorum asked for", policy="quorum none\n", **nobody)
    spaced = f"\t# a comment\n \n{WITNESS_LINES}  quorum \t x1 \n"
    yield good("white space and a comment", policy=spaced, note=cosigned_by("x1"))
    urls = WITNESS_LINES.replace("\n", " https://w.example\n") + "quorum x1\n"
    yield good("with addresses", policy=urls, note=cosigned_by("x1"))
    other = f"log {encode_vkey(signer(f'{LIST_ID}/2').key)}\nquorum none\n"
    yield bad("by a log that is not listed", "unknown-key", policy=other, **nobody)
    moved = append_signatures(
        CHECKPOINT, cosign(note(7, LEAVES), WITNESSES["x1"], now=1)
    )
    policy = f"{WITNESS_LINES}quorum none\n"
    title = "the cosignature of another checkpoint"
    yield bad(title, "bad-signature", policy=policy, note=moved.decode())
    yield from _broken_policies()


def _broken_policies() -> Iterator[Case]:
    members = {"note": cosigned_by("x1", "x2", "y1")}
    witness = WITNESS_LINES.splitlines(keepends=True)[0]
    for name, policy in (
        ("no quorum", WITNESS_LINES),
        ("two quorums", "quorum none\nquorum none\n"),
        ("a quorum that is not defined yet", f"quorum x1\n{WITNESS_LINES}"),
        ("a word that is none", "quorums none\n"),
        ("the last line does not end", "quorum none"),
        ("a carriage return", "quorum none\r\n"),
        ("a witness twice", f"{witness}{witness}quorum x1\n"),
        (
            "a key under two names",
            f"{witness}{witness.replace(' x1 ', ' x2 ')}quorum x1\n",
        ),
        ("a log twice", f"log {VKEY}\nlog {VKEY}\nquorum none\n"),
        ("a witness called none", witness.replace(" x1 ", " none ") + "quorum none\n"),
        ("none in a group", f"{witness}group G any none\nquorum G\n"),
        ("a group of nobody", f"{witness}group G all\nquorum G\n"),
        ("a group of itself", f"{witness}group G any G\nquorum G\n"),
        ("a member twice", f"{witness}group G 1 x1 x1\nquorum G\n"),
        (
            "a member of two groups",
            f"{witness}group G any x1\ngroup H any x1\nquorum H\n",
        ),
        ("none of a group needed", f"{witness}group G 0 x1\nquorum G\n"),
        ("more than all needed", f"{witness}group G 2 x1\nquorum G\n"),
        ("a leading zero", f"{witness}group G 01 x1\nquorum G\n"),
    ):
        yield bad(name, "malformed", policy=policy, **members)
    for name, policy in (
        ("a log as witness", f"witness x {VKEY}\nquorum x\n"),
        ("a witness as log", witness.replace("witness x1", "log") + "quorum none\n"),
    ):
        yield bad(name, "bad-key", policy=policy, **members)


FINAL = KnownHead(4, trees.root(LEAVES[:4]))
LATER = KnownHead(5, trees.root(LEAVES[:5]))


def log_info(epoch: int, state: LogState, final: KnownHead | None = None) -> LogInfo:
    origin = f"{LIST_ID}/{epoch}"
    return LogInfo(origin, (signer(origin).key,), state, final)


def list_note(version: int, *logs: LogInfo, title: str = "Images") -> str:
    value = ListNote(LIST_ID, NODE, "images", version, {"title": title}, logs)
    return sign_list_note(value, IDENTITY).decode()


def successions() -> Iterator[Case]:
    identity = {"identity": encode_vkey(IDENTITY.key)}

    def pair(old: str, new: str, kind: str = "list-note") -> Case:
        return {"kind": kind, **identity, "old": old, "new": new}

    active = log_info(1, "active")
    frozen, ended = log_info(1, "frozen"), log_info(1, "frozen", FINAL)
    abandoned, moved = (
        log_info(1, "abandoned", FINAL),
        log_info(1, "abandoned", LATER),
    )
    second = log_info(2, "active")
    both = replace(active, vkeys=(*active.vkeys, signer(ORIGIN, number=2).key))
    rotated = replace(active, vkeys=both.vkeys[1:])
    for name, old, new in (
        ("the same again", (active,), (active,)),
        ("a second key", (active,), (both,)),
        ("the first key is gone", (both,), (rotated,)),
        ("both steps at once, because a version was missed", (active,), (rotated,)),
        ("frozen", (active,), (frozen,)),
        ("frozen with an end", (frozen,), (ended,)),
        ("abandoned, and the list goes on", (active,), (abandoned, second)),
        ("abandoned after it was frozen", (ended, second), (abandoned, second)),
    ):
        version = 6 if old != new else 5
        yield good(name, **pair(list_note(5, *old), list_note(version, *new)))
    note = list_note(5, active)
    other = list_note(5, active, title="Pictures")
    yield bad("the version has another content", "stale-version", **pair(note, other))
    yield bad("an older version", "stale-version", **pair(note, list_note(4, active)))
    for name, old, new in (
        ("active again", (frozen,), (active,)),
        ("frozen again", (abandoned,), (ended,)),
        ("the end moved", (abandoned,), (moved,)),
        ("the end moved with the state", (ended,), (moved,)),
        ("the end is gone", (ended,), (frozen,)),
        ("a log is gone", (abandoned, second), (second,)),
        ("a log came before another", (second,), (frozen, second)),
    ):
        notes = pair(list_note(5, *old), list_note(6, *new))
        yield bad(name, "contradiction", **notes)
    yield from _descriptor_successions(identity)
    yield from _continuations(identity, list_note(5, abandoned, second))


def descriptor(version: int, *numbers: int) -> str:
    value = Descriptor(
        name=NODE,
        version=version,
        base="https://node.acme.example",
        http_keys=tuple(
            HttpKey(f"h{number}", signer("http", number=number).key.public_key)
            for number in numbers
        ),
        witness=signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key,
        mirror=signer(f"{NODE}/hsf/v1/mirror", COSIGNATURE, number=version).key,
        limits={},
    )
    return sign_descriptor(value, IDENTITY).decode()


def _descriptor_successions(identity: Case) -> Iterator[Case]:
    members = {"kind": "descriptor", **identity, "old": descriptor(3, 1)}
    for name, new in (
        ("a descriptor with a second key", descriptor(4, 1, 2)),
        ("a descriptor with other keys", descriptor(5, 2)),
    ):
        yield good(name, **members, new=new)
    for name, new in (
        ("an older descriptor", descriptor(2, 1)),
        ("another descriptor of the version", descriptor(3, 2)),
    ):
        yield bad(name, "stale-version", **members, new=new)


def _continuations(identity: Case, note: str) -> Iterator[Case]:
    def case(meta: Meta) -> Case:
        entry = encode_entry(meta).hex()
        return {"kind": "meta", **identity, "note": note, "entry": entry}

    def after(epoch: int, head: KnownHead) -> Checkpoint:
        return Checkpoint(f"{LIST_ID}/{epoch}", head.tree_size, head.root_hash)

    origin = f"{LIST_ID}/2"
    yield good("META of the first log", **case(Meta(ORIGIN)))
    yield good("META that begins at the end", **case(Meta(origin, after(1, FINAL))))
    for name, meta in (
        ("META that begins beyond the end", Meta(origin, after(1, LATER))),
        ("META that continues no log", Meta(origin)),
    ):
        yield bad(name, "contradiction", **case(meta))
    unknown = Meta(f"{LIST_ID}/3", after(1, FINAL))
    yield bad("META of a log that is not listed", "malformed", **case(unknown))


def build() -> dict[str, str]:
    """Give the content of every file."""
    made = {
        "fork-evidence.json": ("Fork evidence", fork_evidence()),
        "policies.json": ("Quorum", policies()),
        "successions.json": ("Successions", successions()),
    }
    return {
        name: document(f"SPEC.md, section {section}.", cases)
        for name, (section, cases) in made.items()
    }


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
