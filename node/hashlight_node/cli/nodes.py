"""Commands about the node itself: init, serve, migrate, status, sync, request."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hashlight_node.cli.session import (
    ADMIN_TOKEN_FILE,
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from hashlight_node.config import Settings
    from hashlight_node.local_client import Json

CONFIG_FILE = "hashlight.toml"

_COPY_SECONDS = 86_400.0


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if missing.")],
    name: Annotated[str, typer.Option(help="The node's DNS name.")],
    base: Annotated[str, typer.Option(help="URL at which peers reach the node.")],
    local: Annotated[
        str, typer.Option(help="Address of the local API.")
    ] = "127.0.0.1:8441",
    identity: Annotated[
        str | None,
        typer.Option(help="vkey of an identity key that stays on another machine."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="postgresql://USER@HOST/NAME, an empty database; else a file is made."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a node: configuration, keys, database and an admin token."""
    with reported(as_json=as_json):
        made = _init(directory, name, base, local, identity, store)

        def render(out: Console) -> None:
            out.print(f"node      {made['name']}")
            out.print(f"config    {made['config']}")
            out.print(f"vkey      {made['vkey']}", soft_wrap=True)
            out.print(
                "Give the vkey and the base URL to your peers' operators by hand."
            )
            out.print(f"Start it: hashlight serve -c {made['config']}", soft_wrap=True)

        emit(made, as_json=as_json, render=render)


def _init(
    directory: Path,
    name: str,
    base: str,
    local: str,
    identity: str | None,
    store: str | None,
) -> Json:
    from hashlight_node.config import initial_config
    from hashlight_node.keys import create_keyring
    from hashlight_node.store.migrate import migrate as migrate_store
    from hashlight_protocol import encode_vkey, parse_vkey

    if store is not None and not store.startswith("postgres"):
        message = "--store is for PostgreSQL; a file is made without it"
        raise UsageError(message)
    config = directory / CONFIG_FILE
    if config.exists():
        message = f"{config} exists already; a node is never overwritten"
        raise CommandError(message)
    text = initial_config(name, base, local, store)
    public = None if identity is None else parse_vkey(identity)
    if public is not None and public.name != name:
        message = f"that is the identity key of {public.name}"
        raise UsageError(message)
    if store is not None:
        # First, so that nothing is left behind if the server does not let us in.
        migrate_store(store)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.write_text(text, encoding="utf-8")
    settings = read_settings(config)
    keyring = create_keyring(settings.keys.directory, name, identity=public)
    migrate_store(settings.store.url)
    token = asyncio.run(_create_admin_token(settings.store.url, int(time.time())))
    _write_private(directory / ADMIN_TOKEN_FILE, token + "\n")
    return {
        "name": name,
        "vkey": encode_vkey(keyring.identity.key),
        "config": str(config),
        "token": token,
    }


async def _create_admin_token(url: str, now: int) -> str:
    from hashlight_node.api.local.bearer import generate_secret, hash_secret
    from hashlight_node.model import Scope
    from hashlight_node.store.database import Database
    from hashlight_node.store.tokens import insert_token

    secret = generate_secret()
    scopes = frozenset({Scope.ADMIN})
    database = Database.open(url)
    try:
        await database.write(
            lambda conn: insert_token(
                conn, "command line", scopes, hash_secret(secret), now
            )
        )
    finally:
        await database.close()
    return secret


def _write_private(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def serve(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Run the node until it is told to stop (SIGTERM or Ctrl-C)."""
    with reported(as_json=as_json):
        from hashlight_node.keys import KeyFileError
        from hashlight_node.last_signed import LastSignedError
        from hashlight_node.serving import serve as run
        from hashlight_node.store.errors import StoreError

        try:
            run(read_settings(config))
        except (KeyFileError, LastSignedError, StoreError, OSError) as error:
            raise CommandError(str(error)) from error


def migrate(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Bring the database to the newest schema. The node must be stopped."""
    with reported(as_json=as_json):
        from hashlight_node.store.migrate import migrate as migrate_store

        revision = migrate_store(read_settings(config).store.url)
        emit(
            {"revision": revision},
            as_json=as_json,
            render=lambda out: out.print(f"schema is at revision {revision}"),
        )


def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if something is wrong.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the lists, how far they are, and what peers have acknowledged."""
    with reported(as_json=as_json):
        answer = open_session(config).client.get("/v1/status")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_status

            print_status(out, answer)

        emit(answer, as_json=as_json, render=render)
        if check:
            _fail_if_wrong(answer)


def _fail_if_wrong(answer: Json) -> None:
    alerts = cast("list[Json]", answer["alerts"])
    count = sum(alert["severity"] == "error" for alert in alerts)
    if count:
        message = f"{count} of the alerts above are errors"
        raise CommandError(message)


def sync(
    peer: Annotated[str | None, typer.Argument(help="Only this peer.")] = None,
    list_name: Annotated[
        str | None, typer.Argument(metavar="LIST", help="Only this list of it.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Pull followed lists now, and say what came."""
    with reported(as_json=as_json):
        from hashlight_node.cli import copying

        wanted = {"peer": peer, "list": list_name}
        body = {key: value for key, value in wanted.items() if value is not None}
        client = open_session(config).client
        # A long list takes long; that a peer does not answer, the node says.
        waiting = replace(client, timeout_seconds=_COPY_SECONDS)
        answer = copying.watched(
            client,
            lambda: waiting.post("/v1/sync", body),
            quiet=as_json or not sys.stderr.isatty(),
        )

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_sync

            print_sync(out, answer)

        emit(answer, as_json=as_json, render=render)
        _fail_if_incomplete(answer)


def _fail_if_incomplete(answer: Json) -> None:
    errors = answer.get("errors")
    if errors:
        message = "not every list could be pulled; see the errors above"
        raise CommandError(message)


def request(
    method: Annotated[str, typer.Argument(help="GET or POST.")],
    url: Annotated[str, typer.Argument(help="A peer's federation URL.")],
    body: Annotated[Path | None, typer.Option(help="File to send.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Send one federation request signed by this node and print the answer."""
    with reported(as_json=as_json):
        from hashlight_node.peers.errors import PeerError

        payload = body.read_bytes() if body is not None else b""
        asked = _ask(read_settings(config), method.upper(), url, payload)
        try:
            status, headers, answer = asyncio.run(asked)
        except PeerError as error:
            raise CommandError(str(error)) from error
        if as_json:
            encoded = base64.b64encode(answer).decode()
            shown = {"status": status, "headers": dict(headers), "body": encoded}
            sys.stdout.write(json.dumps(shown) + "\n")
            return
        sys.stderr.write(f"HTTP {status}\n")
        for field, value in headers.items():
            sys.stderr.write(f"{field}: {value}\n")
        sys.stdout.buffer.write(answer)


async def _ask(
    settings: Settings, method: str, url: str, body: bytes
) -> tuple[int, Mapping[str, str], bytes]:
    from hashlight_node.app.keys import key_access
    from hashlight_node.keys import load_keyring
    from hashlight_node.peers.client import PeerClient
    from hashlight_node.peers.network import open_session as open_peer_session

    keyring = load_keyring(
        settings.keys.directory, settings.node.name, access=key_access(settings)
    )
    async with open_peer_session(
        allow_loopback=True,
        allow_private=True,  # the operator typed the address
    ) as session:
        client = PeerClient(
            session,
            node_name=settings.node.name,
            http_key_id=keyring.http_key_id,
            http_signer=keyring.http,
            clock=lambda: int(time.time()),
            timeout_seconds=settings.exchange.request_timeout_seconds,
        )
        return await client.request(method, url, body)


def descriptor(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print this node's signed descriptor, for a peer that cannot fetch it."""
    with reported(as_json=False):
        from hashlight_node.keys import read_published_descriptor

        raw = read_published_descriptor(read_settings(config).keys.directory)
        if raw is None:
            message = "this node has no descriptor yet; start it once"
            raise CommandError(message)
        sys.stdout.buffer.write(raw)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(init)
    app.command()(serve)
    app.command()(migrate)
    app.command()(status)
    app.command()(sync)
    app.command()(request)
    app.command()(descriptor)
