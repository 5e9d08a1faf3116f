"""Commands that need no node: hash and verify.

They take `-c` like every command, so that a script can pass it always, and do not
read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    EXIT_UNVERIFIED,
    CommandError,
    ConfigOption,
    JsonOption,
    emit,
    fail,
    reported,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json
    from hashlight_protocol import VerifierKey


def hash_images(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...")],
    _config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Hash pictures here, with PDQ, MD5 and SHA-256; nothing is sent anywhere."""
    with reported(as_json=as_json):
        from hashlight_node.cli.pictures import hash_picture

        rows: list[Json] = []
        for path in images:
            signals = hash_picture(path)
            rows.append(
                {
                    "file": str(path),
                    "pdq": signals.pdq,
                    "quality": signals.quality,
                    "md5": signals.md5,
                    "sha1": signals.sha1,
                    "sha256": signals.sha256,
                }
            )

        def render(out: Console) -> None:
            for row in rows:
                out.print(row["file"], style="bold", markup=False, soft_wrap=True)
                out.print(f"  pdq:{row['pdq']}  quality {row['quality']}")
                out.print(f"  md5:{row['md5']}")
                out.print(f"  sha256:{row['sha256']}")

        emit({"images": rows}, as_json=as_json, render=render)


def verify(
    file: Annotated[
        Path, typer.Argument(help="A .tlog-proof, or evidence that a log forked.")
    ],
    vkey: Annotated[
        list[str],
        typer.Option(help="The log's verifier key, from `hashlight list show`."),
    ],
    list_note: Annotated[
        Path | None,
        typer.Option(help="Take the log's keys from here; VKEY is then the node's."),
    ] = None,
    _config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt or evidence offline. Exit code 0: proven; 3: not proven."""
    from hashlight_protocol import ProtocolError, parse_vkey

    with reported(as_json=as_json):
        keys = [parse_vkey(text) for text in vkey]
        raw = _read(file)
        noted = None if list_note is None else _read(list_note)
    try:
        if noted is not None:
            keys = _keys_of_list(noted, keys)
        # A receipt begins with its name, evidence is a line of JSON.
        if raw.startswith(b"{"):
            _verify_fork(raw, keys, as_json=as_json)
        else:
            _verify_receipt(raw, keys, as_json=as_json)
    except ProtocolError as error:
        message = f"not verified: {error}{_hint(keys)}"
        fail(message, code=EXIT_UNVERIFIED, as_json=as_json, kind=error.code)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file}: {error.strerror}"
        raise CommandError(message) from error


def _keys_of_list(raw: bytes, identities: list[VerifierKey]) -> list[VerifierKey]:
    from hashlight_protocol import UnknownKeyError, open_list_note

    for identity in identities:
        try:
            note = open_list_note(raw, identity)
        except UnknownKeyError:
            continue
        return [key for log in note.logs for key in log.vkeys]
    raise UnknownKeyError("list note")


def _verify_receipt(raw: bytes, keys: list[VerifierKey], *, as_json: bool) -> None:
    from hashlight_protocol import open_receipt

    verified = open_receipt(raw, keys)
    checkpoint = verified.checkpoint
    answer: Json = {
        "verified": True,
        "ref": f"{checkpoint.origin}#{verified.receipt.leaf_index}",
        "tree_size": checkpoint.tree_size,
        "root_hash": checkpoint.root_hash.hex(),
        "record": _readable(verified.receipt.body),
    }

    def render(out: Console) -> None:
        out.print(f"verified: {answer['ref']}", markup=False, soft_wrap=True)
        size, root = answer["tree_size"], answer["root_hash"]
        out.print(f"in the tree of size {size} with root {root}", soft_wrap=True)
        out.print_json(data=answer["record"])

    emit(answer, as_json=as_json, render=render)


def _verify_fork(raw: bytes, keys: list[VerifierKey], *, as_json: bool) -> None:
    from hashlight_node.cli.evidence import describe_fork
    from hashlight_protocol import parse_fork_evidence, verify_fork

    shown = parse_fork_evidence(raw)
    verify_fork(shown, keys)
    fork = describe_fork(raw)
    answer: Json = {"verified": True, "fork": fork}

    def render(out: Console) -> None:
        said = f"verified: {shown.origin} signed two histories"
        out.print(said, markup=False, soft_wrap=True)
        out.print_json(data=fork)

    emit(answer, as_json=as_json, render=render)


def _hint(keys: list[VerifierKey]) -> str:
    """Say what is wrong when somebody gives a node's identity key."""
    if any("/hsf/v1/log/" not in key.name for key in keys):
        return (
            "; what a log signed is verified with the vkey that `hashlight list show` "
            "prints; with the node's identity key give the list note as well"
        )
    return ""


def _readable(body: bytes) -> object:
    from hashlight_protocol import MalformedError, parse_ijson

    try:
        return parse_ijson(body, max_bytes=len(body))
    except MalformedError:
        return None


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("hash")(hash_images)
    app.command()(verify)
