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
    file: Annotated[Path, typer.Argument(help="A .tlog-proof.")],
    vkey: Annotated[
        list[str],
        typer.Option(help="The log's verifier key, from `hashlight list show`."),
    ],
    _config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt offline. Exit code 0: proven; 3: not proven."""
    from hashlight_protocol import (
        ProtocolError,
        open_receipt,
        parse_vkey,
    )

    with reported(as_json=as_json):
        keys = [parse_vkey(text) for text in vkey]
        try:
            raw = file.read_bytes()
        except OSError as error:
            message = f"{file}: {error.strerror}"
            raise CommandError(message) from error
    try:
        verified = open_receipt(raw, keys)
    except ProtocolError as error:
        message = f"not verified: {error}{_hint(keys)}"
        fail(message, code=EXIT_UNVERIFIED, as_json=as_json, kind=error.code)
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


def _hint(keys: list[VerifierKey]) -> str:
    """Say what is wrong when somebody gives a node's identity key."""
    if any("/hsf/v1/log/" not in key.name for key in keys):
        return (
            "; a receipt is signed by its log: use the vkey that "
            "`hashlight list show` prints, not the node's identity key"
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
