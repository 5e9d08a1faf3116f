"""Commands that need no node: hash and verify.

They take `-c` like every command, so that a script can pass it always, and do not
read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    EXIT_UNVERIFIED,
    CommandError,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    fail,
    reported,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json
    from hashlight_protocol import Ref, VerifierKey


_MEANINGS: Final = {
    "hsf/v1/witness": "seen",
    "hsf/v1/mirror": "stored and applied",
}
"""What a node says with a cosignature, by the name of its key behind the node's."""


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
        Path,
        typer.Argument(
            help="A .tlog-proof, evidence that a log forked, or with --cosigner a "
            "signed note."
        ),
    ],
    vkey: Annotated[
        list[str],
        typer.Option(help="The log's verifier key, from `hashlight list show`."),
    ],
    cosigner: Annotated[
        str | None,
        typer.Option(
            metavar="VKEY", help="Check that this key cosigned: a peer's confirmation."
        ),
    ] = None,
    covers: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="With --cosigner: check that it is about this entry."
        ),
    ] = None,
    list_note: Annotated[
        Path | None,
        typer.Option(help="Take the log's keys from here; VKEY is then the node's."),
    ] = None,
    _config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt, a confirmation or evidence offline. Exit 0: proven; 3: not."""
    from hashlight_protocol import ProtocolError, parse_vkey

    with reported(as_json=as_json):
        keys = [parse_vkey(text) for text in vkey]
        question = _parse_question(cosigner, covers)
        raw = _read(file)
        noted = None if list_note is None else _read(list_note)
    try:
        if noted is not None:
            keys = _keys_of_list(noted, keys)
        answer = _verify(raw, keys, question)
    except ProtocolError as error:
        message = f"not verified: {error}{_hint(keys)}"
        fail(message, code=EXIT_UNVERIFIED, as_json=as_json, kind=error.code)
    except _NotCoveredError as error:
        message = f"not verified: {error}"
        fail(message, code=EXIT_UNVERIFIED, as_json=as_json, kind="not-covered")
    emit(answer, as_json=as_json, render=lambda out: _print_verified(out, answer))


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


@dataclass(frozen=True, slots=True)
class _Question:
    """Whose confirmation it must be, and of which entry, if that matters."""

    cosigner: VerifierKey
    covers: Ref | None


class _NotCoveredError(Exception):
    """A confirmation holds, but is about less than what was asked."""


def _parse_question(cosigner: str | None, covers: str | None) -> _Question | None:
    from hashlight_protocol import COSIGNATURE, parse_ref, parse_vkey

    if cosigner is None:
        if covers is not None:
            message = "--covers needs --cosigner"
            raise UsageError(message)
        return None
    key = parse_vkey(cosigner)
    if key.key_type != COSIGNATURE:
        message = "--cosigner is not the key of a witness or a mirror"
        raise UsageError(message)
    return _Question(key, None if covers is None else parse_ref(covers))


def _verify(raw: bytes, keys: list[VerifierKey], question: _Question | None) -> Json:
    if question is not None:
        return _verify_confirmation(raw, keys, question)
    # A receipt begins with its name, evidence is a line of JSON.
    if raw.startswith(b"{"):
        return _verify_fork(raw, keys)
    return _verify_receipt(raw, keys)


def _verify_receipt(raw: bytes, keys: list[VerifierKey]) -> Json:
    from hashlight_protocol import open_receipt

    verified = open_receipt(raw, keys)
    checkpoint = verified.checkpoint
    return {
        "verified": True,
        "ref": f"{checkpoint.origin}#{verified.receipt.leaf_index}",
        "tree_size": checkpoint.tree_size,
        "root_hash": checkpoint.root_hash.hex(),
        "record": _readable(verified.receipt.body),
    }


def _verify_confirmation(
    raw: bytes, keys: list[VerifierKey], question: _Question
) -> Json:
    """Check a checkpoint with a peer's cosignature.

    Raises:
        ProtocolError: One of the two signatures does not hold.
        _NotCoveredError: The tree does not hold the entry.
    """
    from hashlight_protocol import (
        encode_timestamp,
        open_checkpoint,
        unverified_origin,
        verify_cosignature,
    )

    # Checkpoints of other logs have other keys, and keys have their log's name.
    origin = unverified_origin(raw)
    signed = open_checkpoint(raw, keys, origin=origin)
    cosigned_at = verify_cosignature(raw, question.cosigner)
    ref, head = question.covers, signed.head
    if ref is not None and (ref.origin != origin or ref.leaf_index >= head.tree_size):
        message = f"it is about {origin} up to entry {head.tree_size - 1}"
        raise _NotCoveredError(message)
    return {
        "verified": True,
        "origin": origin,
        "tree_size": head.tree_size,
        "root_hash": head.root_hash.hex(),
        "cosigner": question.cosigner.name,
        "means": _MEANINGS.get(question.cosigner.name.partition("/")[2], "cosigned"),
        "cosigned_at": encode_timestamp(cosigned_at),
    }


def _print_verified(out: Console, answer: Json) -> None:
    if "fork" in answer:
        said = f"verified: {answer['origin']} signed two histories"
        out.print(said, markup=False, soft_wrap=True)
        out.print_json(data=answer["fork"])
        return
    size, root = answer["tree_size"], answer["root_hash"]
    named = answer["ref"] if "ref" in answer else answer["origin"]
    out.print(f"verified: {named}", markup=False, soft_wrap=True)
    out.print(f"in the tree of size {size} with root {root}", soft_wrap=True)
    if "record" in answer:
        out.print_json(data=answer["record"])
    else:
        said = f"{answer['means']} by {answer['cosigner']} at {answer['cosigned_at']}"
        out.print(said, markup=False, soft_wrap=True)


def _verify_fork(raw: bytes, keys: list[VerifierKey]) -> Json:
    from hashlight_node.cli.evidence import describe_fork
    from hashlight_protocol import parse_fork_evidence, verify_fork

    shown = parse_fork_evidence(raw)
    verify_fork(shown, keys)
    return {"verified": True, "origin": shown.origin, "fork": describe_fork(raw)}


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
