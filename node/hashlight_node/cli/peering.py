"""Commands about other nodes: peer, grant, revoke, follow, unfollow."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    CommandError,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    open_session,
    reported,
)
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json

PeerArgument = Annotated[str, typer.Argument(metavar="PEER", help="The peer's name.")]
ListArgument = Annotated[str, typer.Argument(metavar="LIST")]

_EXAMPLES: Final = 20

peer_app = typer.Typer(no_args_is_help=True, help="Pinned nodes.")


@peer_app.command("add")
def add(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The peer's base URL.")],
    vkey: Annotated[str, typer.Argument(metavar="VKEY", help="Its identity key.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Pin a peer's identity key and fetch its descriptor. Do this on both sides."""
    with reported(as_json=as_json):
        client = open_session(config).client
        answer = client.post("/v1/peers", {"base": base, "vkey": vkey})
        _print_peers(answer, [answer], as_json=as_json)


@peer_app.command("pin")
def pin(
    vkey: Annotated[str, typer.Argument(metavar="VKEY", help="Its identity key.")],
    descriptor: Annotated[
        Path | None,
        typer.Option(help="What `hashlight descriptor` printed there."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Pin a node that this one never connects to: it calls us, or a relay serves it."""
    with reported(as_json=as_json):
        body: Json = {"vkey": vkey}
        if descriptor is not None:
            body["descriptor"] = _read_text(descriptor)
        answer = open_session(config).client.post("/v1/pinned-peers", body)
        _print_peers(answer, [answer], as_json=as_json)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        message = f"{file}: it cannot be read as a descriptor"
        raise CommandError(message) from error


@peer_app.command("list")
def list_peers(
    config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """List the pinned peers."""
    with reported(as_json=as_json):
        rows = open_session(config).client.get_all("/v1/peers", "peers")
        _print_peers({"peers": rows}, rows, as_json=as_json)


@peer_app.command("show")
def show(
    name: PeerArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show one peer."""
    with reported(as_json=as_json):
        answer = open_session(config).client.get(path_of("peers", name))
        emit(answer, as_json=as_json, render=lambda out: out.print_json(data=answer))


@peer_app.command("quarantine")
def quarantine(
    name: PeerArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Stop talking to a peer; what it gave us before goes on serving."""
    _switch(name, "quarantine", config, as_json=as_json)


@peer_app.command("release")
def release(
    name: PeerArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Talk to a quarantined peer again, and follow its lists again."""
    _switch(name, "release", config, as_json=as_json)


def _switch(name: str, verb: str, config: Path, *, as_json: bool) -> None:
    with reported(as_json=as_json):
        client = open_session(config).client
        answer = client.post(path_of("peers", name, verb), {})
        _print_peers(answer, [answer], as_json=as_json)


def _print_peers(answer: Json, rows: list[Json], *, as_json: bool) -> None:
    def render(out: Console) -> None:
        from hashlight_node.cli.tables import print_rows

        print_rows(out, rows, "name", "state", "base", "contacted_at")

    emit(answer, as_json=as_json, render=render)


def grant(
    peer: PeerArgument,
    list_name: ListArgument,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Only records with SCHEME:VALUE or SCHEME:*."
        ),
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Only records with no other signal types."),
    ] = None,
    about_them: Annotated[
        bool, typer.Option(help="Only opinions and sightings about its own records.")
    ] = False,
    relay: Annotated[
        bool, typer.Option(help="It may pass on records that say `share: peers`.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would see; change nothing.")
    ] = False,
    why: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Show whether it sees this record; change nothing."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let a peer fetch one of our lists, or change how much of it."""
    with reported(as_json=as_json):
        from hashlight_node.cli import granting

        scope = granting.scope_of(label, signal, peer if about_them else None)
        client = open_session(config).client
        if why is not None:
            answer = client.post(
                "/v1/grants/explain", _question(peer, list_name, why, scope)
            )
            verdict = partial(granting.print_verdict, answer=answer)
            emit(answer, as_json=as_json, render=verdict)
            return
        body: Json = {"peer": peer, "list": list_name, "scope": scope, "relay": relay}
        if dry_run:
            answer = granting.preview(client, body, examples=_EXAMPLES)
            shown = partial(granting.print_preview, answer=answer)
            emit(answer, as_json=as_json, render=shown)
            return
        answer, kept = granting.give(client, body)
        given = partial(granting.print_grant, grant=answer, kept=kept)
        emit({**answer, "no_longer_shown": kept}, as_json=as_json, render=given)


def _question(peer: str, list_name: str, ref: str, scope: Json | None) -> Json:
    from hashlight_protocol import ProtocolError, parse_origin, parse_ref

    try:
        named = parse_origin(parse_ref(ref).origin).list_name
    except ProtocolError as error:
        raise UsageError(str(error)) from error
    if named != list_name:
        message = f"{ref} is no record of {list_name}"
        raise UsageError(message)
    return {"peer": peer, "ref": ref, "scope": scope}


def revoke(
    peer: PeerArgument,
    list_name: ListArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a grant back: the peer can fetch nothing more of the list."""
    with reported(as_json=as_json):
        open_session(config).client.delete(path_of("grants", peer, list_name))
        said = (
            f"{peer} may no longer fetch {list_name}; it keeps what it has, "
            "and hears of no further withdrawal"
        )
        answer: Json = {"peer": peer, "list": list_name}
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


def follow(
    peer: PeerArgument,
    list_name: ListArgument,
    via: Annotated[
        str | None,
        typer.Option(metavar="RELAY", help="Get it from this peer, which relays it."),
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Return when the first copy is complete.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Copy a peer's list from now on, from itself or from a relay."""
    with reported(as_json=as_json):
        client = open_session(config).client
        body: Json = {"peer": peer, "list": list_name, "via": via}
        answer = client.post("/v1/follows", body)
        if wait:
            from hashlight_node.cli.copying import wait_for_copy

            quiet = as_json or not sys.stderr.isatty()
            answer = wait_for_copy(client, peer, list_name, quiet=quiet)

        def render(out: Console) -> None:
            source = "" if via is None else f" via {via}"
            out.print(f"following {list_name} of {peer}{source}: {answer['state']}")

        emit(answer, as_json=as_json, render=render)
        if wait and answer["error"] is not None:
            raise CommandError(str(answer["error"]))


def unfollow(
    peer: PeerArgument,
    list_name: ListArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Stop copying a peer's list."""
    with reported(as_json=as_json):
        open_session(config).client.delete(path_of("follows", peer, list_name))
        said = f"no longer following {list_name} of {peer}"
        answer: Json = {"peer": peer, "list": list_name}
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(peer_app, name="peer")
    app.command()(grant)
    app.command()(revoke)
    app.command()(follow)
    app.command()(unfollow)
