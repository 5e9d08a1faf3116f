"""Commands about the node's keys: rotation, and the identity key's ceremony."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    CommandError,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    open_session,
    read_settings,
    reported,
)
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.config import Settings
    from hashlight_node.keys import KeyAccess
    from hashlight_node.keys.ceremony import Signature
    from hashlight_node.local_client import Json

key_app = typer.Typer(no_args_is_help=True, help="The node's own keys.")

_USES = ("http", "witness", "mirror", "log")

UseArgument = Annotated[
    str, typer.Argument(metavar="USE", help="http, witness, mirror or log.")
]
ListArgument = Annotated[
    str | None, typer.Argument(metavar="LIST", help="The list, with log.")
]


@key_app.command("list")
def list_keys(
    config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Show every key: what it is for, where it is, and until when it counts."""
    with reported(as_json=as_json):
        _show(open_session(config).client.get("/v1/keys"), as_json=as_json)


@key_app.command("rotate")
def rotate(
    use: UseArgument,
    list_name: ListArgument = None,
    agent: Annotated[
        str | None,
        typer.Option(help="Take this ssh-ed25519 public key of the agent."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a new key; the old one counts too until [keys] overlap_days are over."""
    with reported(as_json=as_json):
        body = {**_choice(use, list_name), "agent": agent}
        answer = open_session(config).client.post("/v1/keys/rotate", body)
        _show(answer, as_json=as_json)


@key_app.command("retire")
def retire(
    use: UseArgument,
    list_name: ListArgument = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Remove the old key of a use now, as after a theft."""
    with reported(as_json=as_json):
        body = _choice(use, list_name)
        answer = open_session(config).client.post("/v1/keys/retire", body)
        _show(answer, as_json=as_json)


@key_app.command("compromised")
def compromised(
    list_name: Annotated[str, typer.Argument(metavar="LIST")],
    final: Annotated[
        int, typer.Option(metavar="SIZE", help="Entries that were written by you.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Abandon a log whose key was stolen; peers undo what lies beyond SIZE."""
    with reported(as_json=as_json):
        if not yes:
            question = f"abandon the log of {list_name!r} beyond {final} for good?"
            typer.confirm(question, abort=True, err=True)
        body: Json = {"ending": "abandoned", "final_size": final, "later": "drop"}
        client = open_session(config).client
        answer = client.post(path_of("lists", list_name, "epochs"), body)

        def render(out: Console) -> None:
            out.print(f"{answer['ended']} ended at size {answer['final_size']}")
            out.print(f"{answer['origin']} goes on under a key of its own")

        emit(answer, as_json=as_json, render=render)


@key_app.command("export-request")
def export_request(
    config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Write what has to be signed with the identity key to standard output."""
    with reported(as_json=as_json):
        answer = open_session(config).client.get("/v1/keys/request")
        text = str(answer["request"])
        emit(answer, as_json=as_json, render=lambda _: _write_out(text))


@key_app.command("sign")
def sign(
    request: Annotated[Path, typer.Argument(metavar="REQUEST")],
    identity: Annotated[Path, typer.Option(help="The identity key's file.")],
    out: Annotated[Path, typer.Option(help="Where what goes back is written.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Opens the key, if it is encrypted.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show and sign a request, on the machine with the identity key; needs no node."""
    with reported(as_json=as_json):
        signatures = _sign(request, identity, out, passphrase_file, yes=yes)
        shown = [{"about": one.subject, "version": one.version} for one in signatures]

        def render(to: Console) -> None:
            to.print(f"{len(signatures)} signed; import {out} at the node")

        emit({"signed": shown, "out": str(out)}, as_json=as_json, render=render)


@key_app.command("import")
def import_signed(
    signed: Annotated[Path, typer.Argument(metavar="SIGNED")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take into effect what was signed on the machine with the identity key."""
    with reported(as_json=as_json):
        body = {"signed": _read(signed).decode("utf-8", errors="replace")}
        answer = open_session(config).client.post("/v1/keys/import", body)
        _show(answer, as_json=as_json)


@key_app.command("new-identity")
def new_identity(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    name: Annotated[str, typer.Option(help="The node's DNS name.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Encrypts the key.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an identity key on a machine that stays offline, and print its vkey."""
    with reported(as_json=as_json):
        from hashlight_node.keys import KeyFileError
        from hashlight_node.keys.files import encode_key, new_signer, write_key
        from hashlight_protocol import encode_vkey, is_node_name

        if not is_node_name(name):
            message = f"{name!r} is not the name of a node"
            raise UsageError(message)
        try:
            access = _access(passphrase_file)
            signer = new_signer("identity", name)
            write_key(file, encode_key("identity", signer, access.passphrase))
        except (KeyFileError, OSError) as error:
            raise CommandError(str(error)) from error
        vkey = encode_vkey(signer.key)
        emit(
            {"vkey": vkey, "file": str(file)},
            as_json=as_json,
            render=lambda out: out.print(vkey, markup=False, soft_wrap=True),
        )


@key_app.command("detach")
def detach(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Prepare the identity key to be taken to another machine."""
    with reported(as_json=as_json):
        from hashlight_node.keys import KeyFileError
        from hashlight_node.keys.identity import write_identity_vkey
        from hashlight_node.keys.keyring import load_identity
        from hashlight_protocol import encode_vkey

        settings = read_settings(config)
        directory = settings.keys.directory
        try:
            identity, _ = load_identity(directory, settings.node.name, _own(settings))
            write_identity_vkey(directory, identity.key)
        except (KeyFileError, OSError) as error:
            raise CommandError(str(error)) from error
        file = directory / "identity.key"
        said = f"move {file} to the other machine, keep a copy, restart the node"
        answer = {"vkey": encode_vkey(identity.key), "file": str(file)}
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


@key_app.command("encrypt")
def encrypt(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Encrypt every key file with the passphrase in [keys] passphrase_file."""
    with reported(as_json=as_json):
        settings = read_settings(config)
        access = _own(settings)
        if access.passphrase is None:
            message = "name a file with the passphrase in [keys] passphrase_file"
            raise UsageError(message)
        _rewrite(settings, access, access.passphrase, as_json=as_json)


@key_app.command("decrypt")
def decrypt(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Write every key file without encryption."""
    with reported(as_json=as_json):
        settings = read_settings(config)
        _rewrite(settings, _own(settings), None, as_json=as_json)


def _choice(use: str, list_name: str | None) -> dict[str, object]:
    if use not in _USES:
        message = f"{use!r} is none of {', '.join(_USES)}"
        raise UsageError(message)
    if (use == "log") != (list_name is not None):
        message = "name the list with log, and no list with another use"
        raise UsageError(message)
    return {"use": use, "list": list_name}


def _sign(
    request: Path, identity: Path, out: Path, passphrase_file: Path | None, *, yes: bool
) -> tuple[Signature, ...]:
    from hashlight_node.keys import KeyFileError, ceremony
    from hashlight_node.keys.files import read_key, replace_file

    record = identity.with_name(identity.name + ".signed")
    try:
        key = read_key(identity, _access(passphrase_file))
        before = ceremony.parse_signed_before(
            record.read_bytes() if record.exists() else b""
        )
    except (KeyFileError, OSError) as error:
        raise CommandError(str(error)) from error
    asked = ceremony.parse_request(_read(request))
    signatures = ceremony.sign_request_of(asked, key.signer, before)
    if not signatures:
        message = "there is nothing to be signed"
        raise CommandError(message)
    for one in signatures:
        sys.stderr.write("\n".join(one.lines) + "\n")
    if not yes and not typer.confirm(f"Sign this for {key.name}?", err=True):
        message = "nothing is signed"
        raise CommandError(message)
    after = ceremony.encode_signed_before(ceremony.remember_signed(before, signatures))
    try:
        # First the memory: a version that may have left is never signed differently.
        replace_file(record, after)
        replace_file(out, ceremony.encode_signed(signatures))
    except OSError as error:
        raise CommandError(str(error)) from error
    return signatures


def _rewrite(
    settings: Settings, access: KeyAccess, passphrase: bytes | None, *, as_json: bool
) -> None:
    from hashlight_node.keys import KeyFileError
    from hashlight_node.keys.files import encode_key, read_key, replace_file

    try:
        paths = sorted(settings.keys.directory.glob("*.key"))
        # All are read before one is written.
        keys = [read_key(path, access) for path in paths]
        for key in keys:
            if key.storage != "agent":
                replace_file(key.path, encode_key(key.use, key.signer, passphrase))
    except (KeyFileError, OSError) as error:
        raise CommandError(str(error)) from error
    word = "plain" if passphrase is None else "encrypted"
    said = f"{len(keys)} key files are {word}"
    answer: Json = {"files": len(keys), "storage": word}
    emit(answer, as_json=as_json, render=lambda out: out.print(said))


def _own(settings: Settings) -> KeyAccess:
    from hashlight_node.app.keys import key_access
    from hashlight_node.keys import KeyFileError

    try:
        return key_access(settings)
    except KeyFileError as error:
        raise CommandError(str(error)) from error


def _access(passphrase_file: Path | None) -> KeyAccess:
    from hashlight_node.keys import KeyAccess, read_passphrase

    if passphrase_file is None:
        return KeyAccess()
    return KeyAccess(passphrase=read_passphrase(passphrase_file))


def _read(path: Path) -> bytes:
    from hashlight_node.keys.ceremony import MAX_CEREMONY_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_CEREMONY_BYTES + 1)
    except OSError as error:
        raise CommandError(str(error)) from error


def _write_out(text: str) -> None:
    sys.stdout.write(text)


def _show(answer: Json, *, as_json: bool) -> None:
    def render(out: Console) -> None:
        from hashlight_node.cli.tables import print_rows

        columns = ("use", "storage", "state", "published_at", "retires_at", "vkey")
        rows = cast("list[Json]", answer["keys"])
        print_rows(out, rows, *columns)

    emit(answer, as_json=as_json, render=render)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(key_app, name="key")
