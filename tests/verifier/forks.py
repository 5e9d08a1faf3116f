"""`python -m verifier.forks FILE LOG_VKEY…`: evidence that a log signed two histories.

Exit codes: 0 it proves that, 2 usage, 3 it does not. Source: SPEC.md#fork-evidence.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .logs import Head, Log, node_hash, read_checkpoint
from .notes import (
    ED25519,
    RefusedError,
    decode64,
    member,
    read_json,
    read_vkey,
    require,
    sha256,
    utf8,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .notes import Json, Key

EVIDENCE_BYTES, MOST_HASHES = 360_448, 63


def check_fork(raw: bytes, keys: Sequence[Key]) -> Json:
    """Check evidence against keys of the log; gives what it convicts the log of."""
    require(len(raw) <= EVIDENCE_BYTES, "too-large", f"more than {EVIDENCE_BYTES}")
    document = read_json(utf8(raw))
    notes = [decode64(member(document, name, str)) for name in ("older", "newer")]
    prefix = decode64(member(document, "prefix_root", str), 32)
    texts = member(document, "proof", list)
    require(len(texts) <= MOST_HASHES, "malformed", "a proof too long")
    require(all(isinstance(it, str) for it in texts), "malformed", "no hash")
    proof = [decode64(text, 32) for text in texts]
    origins = [utf8(note).partition("\n")[0] for note in notes]
    require(origins[0] == origins[1], "malformed", "checkpoints of two logs")
    log = Log(origins[0], tuple(keys), "active", None)
    older, newer = (read_checkpoint(note, log)[0] for note in notes)
    require(older.size <= newer.size, "malformed", "the larger checkpoint comes first")
    check_consistency(Head(older.size, prefix), newer, proof)
    require(prefix != older.root, "no-fork", "both checkpoints can be true")
    return {"log": log.origin, "sizes": [older.size, newer.size]}


def check_consistency(old: Head, new: Head, proof: Sequence[bytes]) -> None:
    """Check that a tree begins with another. Source: RFC 9162, 2.1.4.2."""
    if old.size in {0, new.size}:
        require(not proof, "bad-proof", "too many hashes")
        expected = new.root if old.size else sha256()
        require(old.root == expected, "bad-proof", "another root")
        return
    path = [*proof] if old.size & (old.size - 1) else [old.root, *proof]
    require(path, "bad-proof", "too few hashes")
    fn, sn = old.size - 1, new.size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for sibling in path[1:]:
        require(sn, "bad-proof", "too many hashes")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(sibling, fr), node_hash(sibling, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, sibling)
        fn, sn = fn >> 1, sn >> 1
    require(sn == 0 and fr == old.root and sr == new.root, "bad-proof", "another root")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    file, *vkeys = sys.argv[1:] if arguments is None else arguments
    try:
        keys = [read_vkey(vkey, kind=ED25519) for vkey in vkeys]
        raw = Path(file).read_bytes()
    except (OSError, RefusedError) as error:
        report, code = {"verdict": "usage", "detail": str(error)}, 2
    else:
        try:
            report, code = {"verdict": "forked", **check_fork(raw, keys)}, 0
        except RefusedError as error:
            report = {"verdict": "does not verify", "code": error.code}
            report, code = {**report, "detail": str(error)}, 3
    sys.stdout.write(json.dumps(report) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
