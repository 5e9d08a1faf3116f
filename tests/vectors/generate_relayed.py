"""Make the vectors for acknowledgements that come through a relay."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run by path, the script finds the library and the helpers of the tests by itself.
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "protocol")]

from hashlight_protocol import (  # noqa: E402
    Checkpoint,
    Descriptor,
    Ed25519Signer,
    HttpKey,
    append_signatures,
    cosign,
    encode_vkey,
    sign_checkpoint,
    sign_descriptor,
    sign_note,
)
from support import reference_trees as trees  # noqa: E402 -- the path has to be set first
from support.example_log import (  # noqa: E402
    LOG,
    MIRROR,
    ORIGIN,
    WITNESS,
    signer,
)
from support.vectors import Case, b64, bad, document, good  # noqa: E402

NOW = 1_767_225_600
BETA, GAMMA = signer("node.beta.example"), signer("node.gamma.example")
HTTP = signer("node.beta.example", number=2)
ROOT = trees.root(trees.leaves_of(8))
NOTE = sign_checkpoint(Checkpoint(ORIGIN, 8, ROOT), [LOG])


def descriptor(identity: Ed25519Signer = BETA) -> bytes:
    """Give what beta says about itself, signed by somebody."""
    return sign_descriptor(
        Descriptor(
            name="node.beta.example",
            version=1,
            base="https://node.beta.example",
            http_keys=(HttpKey("h1", HTTP.key.public_key),),
            witness=WITNESS.key,
            mirror=MIRROR.key,
            limits={},
        ),
        identity,
    )


def cosigned(note: bytes, mirror: Ed25519Signer) -> bytes:
    return append_signatures(note, cosign(note, mirror, now=NOW))


def row(
    identity: Ed25519Signer, described: bytes | None, note: bytes | None
) -> dict[str, str | None]:
    return {
        "identity": encode_vkey(identity.key),
        "descriptor": None if described is None else b64(described),
        "checkpoint": None if note is None else b64(note),
    }


def answer(*rows: object) -> str:
    return json.dumps({"nodes": rows}, separators=(",", ":"))


def relayed() -> Iterator[Case]:
    """Give answers of relays."""
    facts = {"vkey": encode_vkey(LOG.key), "origin": ORIGIN, "root": b64(ROOT)}
    right = row(BETA, descriptor(), cosigned(NOTE, MIRROR))
    missing = row(GAMMA, None, None)
    said = {"size": 8, "at": NOW}
    yield good("nobody", answer=answer(), nodes={}, **facts)
    yield good(
        "one that acknowledged and one that did not",
        answer=answer(right, missing),
        nodes={"node.beta.example": said, "node.gamma.example": None},
        **facts,
    )
    yield good(
        "a member that is not known",
        answer=answer({**right, "later": 1}),
        nodes={"node.beta.example": said},
        **facts,
    )
    other = sign_checkpoint(Checkpoint(f"{ORIGIN}1", 8, ROOT), [signer(f"{ORIGIN}1")])
    for name, error, rows in (
        ("a node twice", "malformed", (right, right)),
        ("a descriptor of another node", "unknown-key", ({**right, **_gamma()},)),
        (
            "a descriptor that another node signed",
            "malformed",
            ({**right, **_gamma(), "descriptor": b64(_signed_by_gamma())},),
        ),
        ("no cosignature", "unknown-key", (row(BETA, descriptor(), NOTE),)),
        (
            "a witness's cosignature",
            "unknown-key",
            (row(BETA, descriptor(), cosigned(NOTE, WITNESS)),),
        ),
        (
            "a checkpoint of another log",
            "unknown-key",
            (row(BETA, descriptor(), cosigned(other, MIRROR)),),
        ),
        ("a checkpoint without descriptor", "malformed", ({**right, **_none()},)),
        ("a key that is no identity", "bad-key", ({**right, **_log_key()},)),
    ):
        yield bad(name, error, answer=answer(*rows), **facts)
    yield bad("no list", "malformed", answer="{}", **facts)


def _gamma() -> Case:
    return {"identity": encode_vkey(GAMMA.key)}


def _signed_by_gamma() -> bytes:
    text = descriptor().split(b"\n\n", 1)[0] + b"\n"
    return sign_note(text, [GAMMA])


def _none() -> Case:
    return {"descriptor": None}


def _log_key() -> Case:
    return {"identity": encode_vkey(LOG.key)}


def build() -> dict[str, str]:
    """Give the content of every file."""
    about = "SPEC.md, section Relayed acknowledgements."
    return {"relayed.json": document(about, relayed())}


if __name__ == "__main__":
    for file_name, content in build().items():
        (HERE / file_name).write_text(content, "utf-8")
