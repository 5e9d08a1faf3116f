"""`python -m verifier BASE IDENTITY_VKEY LIST --key FILE --key-id ID --state FILE`.

Reads one list of an HSF/1 node over HTTP and checks everything that can be checked. An
implementation of its own: it is written from SPEC.md, shares no code with the rest of
this project and needs nothing but Python and `cryptography`.

Exit codes: 0 agrees, 1 cannot be reached or is refused, 2 usage, 3 does not verify.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .asking import Client, UnreachableError
from .checking import Options
from .following import Follower, Node
from .logs import HTTP_KEY, LIST, NODE, is_base
from .notes import ED25519, LAST, Json, RefusedError, decode64, read_vkey
from .state import State, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

AGREES, UNREACHABLE, USAGE, REFUSED = 0, 1, 2, 3


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("verifier", description="Verify a list of a node.")
    parser.add_argument("base", help="base URL of the node")
    parser.add_argument("identity", help="identity vkey of the node")
    parser.add_argument("list", help="name of the list")
    parser.add_argument("--key", required=True, help="file with a line `seed <base64>`")
    parser.add_argument("--key-id", required=True, help="whose: <node>#<HTTP key id>")
    parser.add_argument("--state", required=True, help="what was seen before; kept")
    parser.add_argument(
        "--cosigner",
        nargs=2,
        action="append",
        default=[],
        metavar=("BASE", "VKEY"),
        help="a node that witnesses or mirrors the list; may be repeated",
    )
    parser.add_argument("--owner-key", help="HTTP key of the list's own node:")
    parser.add_argument("--owner-key-id", help="cosigners answer nobody else")
    parser.add_argument(
        "--receipts", type=int, default=LAST, help="ask for at most so many"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON")
    return parser


def read_client(file: str, key_id: str) -> Client:
    node, _, name = key_id.partition("#")
    if not NODE.fullmatch(node) or not HTTP_KEY.fullmatch(name):
        raise UsageError(f"{key_id} is not <node>#<HTTP key id>")
    try:
        lines = Path(file).read_text("ascii").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from None
    seeds = [line[5:] for line in lines if line.startswith("seed ")]
    try:
        return Client(decode64(seeds[0], 32), key_id)
    except (RefusedError, IndexError):
        raise UsageError(f"{file} has no line `seed <base64 of 32 bytes>`") from None


def read_node(base: str, vkey: str) -> Node:
    try:
        key = read_vkey(vkey, kind=ED25519)
    except RefusedError as error:
        raise UsageError(f"{vkey}: {error}") from None
    if not NODE.fullmatch(key.name):
        raise UsageError(f"{vkey} is not the identity key of a node")
    if not is_base(base):
        raise UsageError(f"{base} is not a base URL")
    return Node(base, key)


def verify(options: argparse.Namespace) -> Json:
    if not LIST.fullmatch(options.list):
        raise UsageError(f"{options.list} is not the name of a list")
    if bool(options.owner_key) != bool(options.owner_key_id):
        raise UsageError("--owner-key and --owner-key-id go together")
    node = read_node(options.base, options.identity)
    cosigners = [read_node(base, vkey) for base, vkey in options.cosigner]
    reader = owner = read_client(options.key, options.key_id)
    if options.owner_key:
        owner = read_client(options.owner_key, options.owner_key_id)
    state = State(Path(options.state), options.identity, options.list)
    how = Options(reader, node.base, state, options.receipts)
    follower = Follower(how, owner, identity=node.identity, list_name=options.list)
    return follower.run(cosigners)


def as_text(report: Json) -> str:
    """Write a report, one `name: value` a line."""
    lines = []
    for name, value in report.items():
        rows = (value or ["none"]) if isinstance(value, list) else [value]
        for row in rows:
            shown = row
            if isinstance(row, dict):
                shown = ", ".join(f"{key} {it}" for key, it in row.items())
            lines.append(f"{name}: {shown}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        report, code = {"verdict": "agrees", **verify(options)}, AGREES
    except RefusedError as error:
        report, code = {"verdict": "does not verify", "code": error.code}, REFUSED
        report |= {"resource": error.resource, "detail": str(error)}
        report |= {"evidence": list(filter(None, error.evidence))}
    except UnreachableError as error:
        report, code = {"verdict": "unreachable", "detail": str(error)}, UNREACHABLE
    except (UsageError, OSError) as error:
        report, code = {"verdict": "usage", "detail": str(error)}, USAGE
    text = json.dumps(report, indent=1) if options.json else as_text(report)
    sys.stdout.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
