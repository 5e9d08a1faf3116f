"""Make the vectors for names, keys, notes, and the documents that nodes sign.

Keys come from fixed seeds, and Ed25519 signs the same text the same way every time, so
every run writes the same bytes. README.md says where the other cases come from.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from hashlight_protocol import (  # noqa: E402
    COSIGNATURE,
    Checkpoint,
    Descriptor,
    HttpKey,
    KnownHead,
    ListNote,
    LogInfo,
    Note,
    NoteSignature,
    append_signatures,
    cosign,
    encode_checkpoint,
    encode_note,
    encode_vkey,
    parse_note,
    sign_checkpoint,
    sign_descriptor,
    sign_list_note,
    sign_note,
)
from support.example_log import (  # noqa: E402 -- the path has to be set first
    IDENTITY,
    LIST_ID,
    LOG,
    MIRROR,
    NODE,
    ORIGIN,
    WITNESS,
    build_log,
    signer,
)
from support.vectors import Case, b64, bad, document, good  # noqa: E402

NOW = 1_767_225_600
EXAMPLE = build_log(4)
HEAD = EXAMPLE.checkpoint()
NOTE = sign_checkpoint(HEAD, [LOG])


def names() -> Iterator[Case]:
    parts = {"node": NODE, "list": "images", "epoch": 1}
    yield good("an origin", kind="origin", text=ORIGIN, parts=parts)
    last = 2**31 - 1
    yield good(
        "the last epoch",
        kind="origin",
        text=f"{LIST_ID}/{last}",
        parts=parts | {"epoch": last},
    )
    yield good(
        "a reference",
        kind="ref",
        text=f"{ORIGIN}#7",
        parts={"origin": ORIGIN, "leaf_index": 7},
    )
    for name, text in (
        ("epoch 0", f"{LIST_ID}/0"),
        ("epoch with a leading zero", f"{LIST_ID}/01"),
        ("epoch too large", f"{LIST_ID}/{last + 1}"),
        ("a list id", LIST_ID),
        ("a slash too much", f"{ORIGIN}/"),
        ("a node in upper case", ORIGIN.replace("acme", "ACME")),
        ("an address for a node", ORIGIN.replace(NODE, "192.0.2.1")),
        ("a list name with an underscore", ORIGIN.replace("images", "im_ages")),
        ("another version", ORIGIN.replace("v1", "v2")),
    ):
        yield bad(name, "malformed", kind="origin", text=text)
    for name, text in (
        ("no index", ORIGIN),
        ("an empty index", f"{ORIGIN}#"),
        ("an index with a leading zero", f"{ORIGIN}#07"),
        ("a negative index", f"{ORIGIN}#-7"),
        ("an index too large", f"{ORIGIN}#{2**63}"),
    ):
        yield bad(name, "malformed", kind="ref", text=text)


# Published with Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng\
otpRZb6KE6RyyBwJnAM=
"""

ORDER_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03"
OTHER_ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc"
WEAK_KEYS = (
    ("order 1", f"01{'00' * 31}"),
    ("order 1, sign bit set", f"01{'00' * 30}80"),
    ("order 1, not canonical", f"ee{'ff' * 30}7f"),
    ("order 1, not canonical, sign bit set", f"ee{'ff' * 31}"),
    ("order 2", f"ec{'ff' * 30}7f"),
    ("order 2, sign bit set", f"ec{'ff' * 31}"),
    ("order 4", "00" * 32),
    ("order 4, sign bit set", f"{'00' * 31}80"),
    ("order 4, not canonical", f"ed{'ff' * 30}7f"),
    ("order 4, not canonical, sign bit set", f"ed{'ff' * 31}"),
    ("order 8", f"{ORDER_8}7a"),
    ("order 8, sign bit set", f"{ORDER_8}fa"),
    ("order 8, other y", f"{OTHER_ORDER_8}05"),
    ("order 8, other y, sign bit set", f"{OTHER_ORDER_8}85"),
    ("not canonical", f"f0{'ff' * 30}7f"),
    ("not on the curve", f"02{'00' * 31}"),
    ("31 bytes", "11" * 31),
)


def vkey_of(name: str, key_type: int, public_key: bytes) -> str:
    material = bytes([key_type]) + public_key
    key_id = hashlib.sha256(f"{name}\n".encode() + material).digest()[:4]
    return f"{name}+{key_id.hex()}+{b64(material)}"


def keys() -> Iterator[Case]:
    for name, key in (("identity", IDENTITY), ("log", LOG), ("witness", WITNESS)):
        yield good(
            name,
            vkey=encode_vkey(key.key),
            parts={
                "name": key.name,
                "key_id": key.key.key_id.hex(),
                "type": key.key_type,
                "public_key": key.key.public_key.hex(),
            },
        )
    go_key = "1a5cd907143c384c41e830c5bce12aa8817ec5649aaabf2c31388b35b2d744d6"
    yield good(
        "the key of Go's sumdb/note",
        vkey=GO_VKEY,
        parts={
            "name": "PeterNeumann",
            "key_id": "c74f20a3",
            "type": 1,
            "public_key": go_key,
        },
    )
    for name, public_key in WEAK_KEYS:
        yield bad(name, "bad-key", vkey=vkey_of(NODE, 1, bytes.fromhex(public_key)))
    vkey, point = encode_vkey(IDENTITY.key), IDENTITY.key.public_key
    key_id = IDENTITY.key.key_id.hex()
    for name, text in (
        ("empty", ""),
        ("no material", f"{NODE}+{key_id}+"),
        ("another name than its id says", vkey.replace(NODE, "node.beta.example")),
        ("another id", vkey.replace(key_id, "00000000")),
        ("id in upper case", vkey.replace(key_id, key_id.upper())),
        ("no id", vkey.replace(f"{key_id}+", "")),
        ("unused bits of base64 set", f"{GO_VKEY[:-1]}X"),
        ("a type that is not in use", vkey_of(NODE, 2, point)),
        ("a name with a space", vkey_of("node acme", 1, point)),
        ("no name", vkey_of("", 1, point)),
    ):
        yield bad(name, "bad-key", vkey=text)


def notes() -> Iterator[Case]:
    vkey, node = encode_vkey(IDENTITY.key), encode_vkey(IDENTITY.key)
    raw = sign_note("a text\n\nin two parts, ü\n".encode(), [IDENTITY, LOG])
    note = raw.decode()
    text = parse_note(raw).text.decode()
    yield good(
        "the note of Go's sumdb/note",
        vkeys=[GO_VKEY],
        note=GO_NOTE,
        text=GO_NOTE.partition("\n\n")[0] + "\n",
    )
    yield good(
        "two keys, both trusted",
        vkeys=[vkey, encode_vkey(LOG.key)],
        note=note,
        text=text,
    )
    yield good("two keys, one trusted", vkeys=[vkey], note=note, text=text)
    repeated = note + note.splitlines(keepends=True)[-1]
    yield good("a line repeated", vkeys=[vkey], note=repeated, text=text)
    signature = parse_note(raw).signatures[0]
    zeros = NoteSignature(signature.name, signature.key_id, bytes(64))
    wrong = encode_note(Note(text.encode(), (signature, zeros))).decode()
    yield bad("no trusted key", "unknown-key", vkeys=[GO_VKEY], note=note)
    other = encode_vkey(signer(NODE, number=2).key)
    yield bad("same name, another id", "unknown-key", vkeys=[other], note=note)
    yield bad(
        "one of two signatures is wrong", "bad-signature", vkeys=[node], note=wrong
    )
    yield bad(
        "the text was changed",
        "bad-signature",
        vkeys=[vkey],
        note=note.replace("two parts", "too parts"),
    )
    many = text + "\n" + note.splitlines(keepends=True)[-1] * 33
    yield bad("33 signatures", "too-large", vkeys=[vkey], note=many)
    for name, broken in (
        ("no signature", text + "\n"),
        ("no empty line", note.replace("\n\n—", "\n—")),
        ("no last newline", note[:-1]),
        ("an empty line at the end", note + "\n"),
        ("a hyphen for the dash", note.replace("—", "-")),
        ("two spaces", note.replace("— ", "—  ")),
        ("a control character", note.replace("a text", "a\ttext")),
        ("a carriage return", note.replace("\n", "\r\n")),
        ("unused bits of base64 set", note.replace("==\n", "=\n")[:-2] + "\n"),
        ("a plus in a name", note.replace("— node", "— no+de")),
        ("a no-break space in a name", note.replace("— node", "— no\u00a0de")),
        ("a signature of four bytes", text + "\n— name AAAAAA==\n"),
    ):
        yield bad(name, "malformed", vkeys=[vkey], note=broken)


def checkpoints() -> Iterator[Case]:
    vkeys = [encode_vkey(LOG.key)]
    note = NOTE.decode()
    parts = {"tree_size": HEAD.tree_size, "root_hash": HEAD.root_hash.hex()}
    members = {"origin": ORIGIN, "vkeys": vkeys}
    yield good("a checkpoint", **members, note=note, parts=parts)
    cosigned = append_signatures(NOTE, cosign(NOTE, WITNESS, now=NOW)).decode()
    yield good("with a cosignature", **members, note=cosigned, parts=parts)
    extended = Checkpoint(ORIGIN, HEAD.tree_size, HEAD.root_hash, ("more", "lines"))
    yield good(
        "with further lines",
        **members,
        note=sign_checkpoint(extended, [LOG]).decode(),
        parts=parts,
    )
    empty = Checkpoint(ORIGIN, 0, hashlib.sha256().digest())
    yield good(
        "of no leaves",
        **members,
        note=sign_checkpoint(empty, [LOG]).decode(),
        parts={"tree_size": 0, "root_hash": empty.root_hash.hex()},
    )
    text = encode_checkpoint(HEAD).decode()
    by_identity = sign_note(text.encode(), [IDENTITY]).decode()
    yield bad(
        "by a key that is not the log's",
        "unknown-key",
        origin=ORIGIN,
        vkeys=[encode_vkey(IDENTITY.key)],
        note=by_identity,
    )
    other = sign_note(text.replace("/1\n", "/2\n").encode(), [LOG]).decode()
    yield bad("of another log", "malformed", **members, note=other)
    altered = note.replace(f"\n{HEAD.tree_size}\n", f"\n{HEAD.tree_size + 1}\n")
    yield bad("another size than signed", "bad-signature", **members, note=altered)
    size = f"\n{HEAD.tree_size}\n"
    for name, broken in (
        ("a leading zero", text.replace(size, f"\n0{HEAD.tree_size}\n")),
        ("a sign", text.replace(size, f"\n+{HEAD.tree_size}\n")),
        ("a size too large", text.replace(size, f"\n{2**63}\n")),
        ("two lines only", text.rpartition("\n")[0].rpartition("\n")[0] + "\n"),
        ("an empty line", text + "\nmore\n"),
        ("a hash of 31 bytes", text.replace(b64(HEAD.root_hash), b64(bytes(31)))),
        ("a hash without padding", text.replace("=\n", "\n")),
        ("no leaves and another root", text.replace(size, "\n0\n")),
    ):
        signed = sign_note(broken.encode(), [LOG]).decode()
        yield bad(name, "malformed", **members, note=signed)


def cosignatures() -> Iterator[Case]:
    witness, mirror = encode_vkey(WITNESS.key), encode_vkey(MIRROR.key)
    line = cosign(NOTE, WITNESS, now=NOW)
    cosigned = append_signatures(NOTE, line)
    yield good("by a witness", vkey=witness, note=cosigned.decode(), time=NOW)
    both = append_signatures(cosigned, cosign(NOTE, MIRROR, now=NOW + 5))
    yield good(
        "by a witness and a mirror", vkey=mirror, note=both.decode(), time=NOW + 5
    )
    later = append_signatures(cosigned, cosign(NOTE, WITNESS, now=NOW + 3_600))
    yield good("the latest counts", vkey=witness, note=later.decode(), time=NOW + 3_600)
    yield bad("not by this key", "unknown-key", vkey=mirror, note=cosigned.decode())
    (log, signature) = parse_note(cosigned).signatures
    blobs = (
        ("another time", (NOW + 1).to_bytes(8, "big") + signature.blob[8:]),
        ("too short", signature.blob[:-1]),
        ("a time too large", b"\x80" + signature.blob[1:]),
    )
    for name, blob in blobs:
        changed = NoteSignature(signature.name, signature.key_id, blob)
        note = encode_note(Note(parse_note(NOTE).text, (log, changed)))
        yield bad(name, "bad-signature", vkey=witness, note=note.decode())
    other = sign_checkpoint(Checkpoint(ORIGIN, 1, HEAD.root_hash), [LOG])
    moved = append_signatures(other, line).decode()
    yield bad("over another checkpoint", "bad-signature", vkey=witness, note=moved)


DESCRIPTOR = sign_descriptor(
    Descriptor(
        name=NODE,
        version=3,
        base="https://node.acme.example",
        http_keys=(HttpKey("h1", signer("http").key.public_key),),
        witness=signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key,
        mirror=signer(f"{NODE}/hsf/v1/mirror", COSIGNATURE).key,
        limits={"request_bytes": 135_168},
    ),
    IDENTITY,
).decode()
LIST_NOTE = sign_list_note(
    ListNote(
        id=LIST_ID,
        node=NODE,
        list_name="images",
        version=2,
        meta={"title": "Images"},
        logs=(
            LogInfo(ORIGIN, (LOG.key,), "abandoned", KnownHead(7, bytes(32))),
            LogInfo(f"{LIST_ID}/2", (signer(f"{LIST_ID}/2").key,), "active"),
        ),
    ),
    IDENTITY,
).decode()


def documents(
    note: str, changes: list[tuple[str, str, dict[str, object]]]
) -> Iterator[Case]:
    """Give a document, and one for each change of its members, signed again."""
    identity = encode_vkey(IDENTITY.key)
    header, line = note.split("\n")[:2]
    members = json.loads(line)

    def signed(text: str) -> str:
        return sign_note(text.encode(), [IDENTITY]).decode()

    yield good("as it should be", identity=identity, note=note, members=members)
    later = json.dumps(members | {"later": {}})
    yield good(
        "a member of a later version",
        identity=identity,
        note=signed(f"{header}\n{later}\n"),
        members=members,
    )
    yield bad(
        "changed", "bad-signature", identity=identity, note=note.replace(":", " :", 1)
    )
    other = encode_vkey(signer(NODE, number=2).key)
    yield bad("by another key", "unknown-key", identity=other, note=note)
    for name, text in (
        ("another header", f"hsf-x/v1\n{line}\n"),
        ("two lines of JSON", f"{header}\n{line}\n{line}\n"),
        ("no object", f"{header}\n[]\n"),
    ):
        yield bad(name, "malformed", identity=identity, note=signed(text))
    for name, error, change in changes:
        text = f"{header}\n{json.dumps(members | change)}\n"
        yield bad(name, error, identity=identity, note=signed(text))


def descriptors() -> Iterator[Case]:
    members = json.loads(DESCRIPTOR.split("\n")[1])
    (http_key,) = members["http_keys"]
    weak = b64(bytes([1]) + bytes(31))
    shared = b64(signer(f"{NODE}/hsf/v1/witness", COSIGNATURE).key.public_key)
    return documents(
        DESCRIPTOR,
        [
            ("about another node", "malformed", {"name": "node.beta.example"}),
            ("no whole version", "malformed", {"version": 3.5}),
            ("base over plain HTTP", "malformed", {"base": f"http://{NODE}"}),
            ("base with a final slash", "malformed", {"base": f"https://{NODE}/"}),
            ("base with a default port", "malformed", {"base": f"https://{NODE}:443"}),
            ("base with a query", "malformed", {"base": f"https://{NODE}?x"}),
            ("no HTTP key", "malformed", {"http_keys": []}),
            ("an HTTP key twice", "malformed", {"http_keys": [http_key] * 2}),
            ("a weak HTTP key", "bad-key", {"http_keys": [http_key | {"key": weak}]}),
            ("a shared key", "bad-key", {"http_keys": [http_key | {"key": shared}]}),
            ("the mirror's key as witness", "bad-key", {"witness": members["mirror"]}),
            (
                "the identity key as mirror",
                "bad-key",
                {"mirror": encode_vkey(IDENTITY.key)},
            ),
            ("limits are no numbers", "malformed", {"limits": {"x": "1"}}),
            ("a feature in two words", "malformed", {"features": ["two words"]}),
        ],
    )


def list_notes() -> Iterator[Case]:
    old, new = json.loads(LIST_NOTE.split("\n")[1])["logs"]
    elsewhere = signer(f"{NODE}/hsf/v1/log/videos/3")
    alien = new | {"origin": elsewhere.name, "vkeys": [encode_vkey(elsewhere.key)]}
    return documents(
        LIST_NOTE,
        [
            ("another id", "malformed", {"id": f"{NODE}/hsf/v1/log/videos"}),
            ("no logs", "malformed", {"logs": []}),
            ("epochs go down", "malformed", {"logs": [new, old]}),
            ("a log twice", "malformed", {"logs": [new, new]}),
            ("a log of another list", "malformed", {"logs": [old, alien]}),
            ("two active logs", "malformed", {"logs": [_without_final(old), new]}),
            (
                "an active log with an end",
                "malformed",
                {"logs": [new | {"final": old["final"]}]},
            ),
            (
                "abandoned without an end",
                "malformed",
                {"logs": [new | {"state": "abandoned"}]},
            ),
            ("an unknown state", "malformed", {"logs": [new | {"state": "paused"}]}),
            ("a log without keys", "malformed", {"logs": [new | {"vkeys": []}]}),
            (
                "the key of another log",
                "bad-key",
                {"logs": [old, new | {"vkeys": old["vkeys"]}]},
            ),
            ("meta is no object", "malformed", {"meta": []}),
        ],
    )


def _without_final(log: Case) -> Case:
    return {"origin": log["origin"], "vkeys": log["vkeys"], "state": "active"}


def build() -> dict[str, str]:
    """Give the content of every file."""
    return {
        "names.json": document("SPEC.md, section Names.", names()),
        "keys.json": document("SPEC.md, section Keys.", keys()),
        "notes.json": document("SPEC.md, section Signed notes.", notes()),
        "checkpoints.json": document("SPEC.md, section Checkpoints.", checkpoints()),
        "cosignatures.json": document("SPEC.md, section Cosignatures.", cosignatures()),
        "descriptors.json": document("SPEC.md, section Descriptor.", descriptors()),
        "list-notes.json": document("SPEC.md, section List note.", list_notes()),
    }


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
