"""Commands that ask: is this known, by whom, and what does our policy say?"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from hashlight_node.cli.signals import split_signal

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json, LocalClient


def lookup(
    signals: Annotated[
        list[str] | None, typer.Argument(metavar="[TYPE:VALUE]...")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A picture.")] = None,
    max_distance: Annotated[
        int | None, typer.Option(help="Only PDQ matches at most this far.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Look up signals, or the signals of a picture."""
    with reported(as_json=as_json):
        if bool(signals) == bool(file):
            message = "give either TYPE:VALUE… or --file IMAGE"
            raise UsageError(message)
        client = open_session(config).client
        if file is not None:
            answer = _lookup_file(client, file)
        else:
            answer = _lookup_signals(client, signals or [], max_distance)

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_lookup

            print_lookup(out, answer)

        emit(answer, as_json=as_json, render=render)


def _lookup_file(client: LocalClient, file: Path) -> Json:
    try:
        data = file.read_bytes()
    except OSError as error:
        message = f"{file}: {error.strerror}"
        raise CommandError(message) from error
    guessed = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    content_type = guessed if guessed.startswith("image/") else "image/*"
    return client.post_bytes("/v1/lookup/image", data, content_type=content_type)


def _lookup_signals(
    client: LocalClient, signals: list[str], max_distance: int | None
) -> Json:
    pairs = [split_signal(text) for text in signals]
    queries = [{"type": kind, "value": value} for kind, value in pairs]
    body: Json = {"queries": queries}
    if max_distance is not None:
        body["max_distance"] = max_distance
    return client.post("/v1/lookup", body)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(lookup)
