"""Bringing back what a restored backup has lost."""

from __future__ import annotations

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
    reported,
)

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json


def recover(
    list_name: Annotated[
        str | None, typer.Argument(metavar="LIST", help="Only this list of ours.")
    ] = None,
    no_peers: Annotated[
        bool,
        typer.Option(
            "--no-peers",
            help="Sign LIST again on your word, because no peer has ever seen it.",
        ),
    ] = False,
    next_epoch: Annotated[
        bool,
        typer.Option(
            "--next-epoch",
            help="Go on with LIST in a new log if not all can be brought back.",
        ),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """After a restore from backup: get back from peers what our lists have lost."""
    with reported(as_json=as_json):
        if list_name is None and (no_peers or next_epoch):
            message = "--no-peers and --next-epoch need the LIST that they are about"
            raise UsageError(message)
        wanted: Json = {"no_peers": no_peers, "next_epoch": next_epoch}
        if list_name is not None:
            wanted["list"] = list_name
        answer = open_session(config).client.post("/v1/recover", wanted)

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_recovered

            print_recovered(out, answer)

        emit(answer, as_json=as_json, render=render)
        rows = cast("list[Json]", answer["lists"])
        if any(row["state"] in _HELD for row in rows):
            message = "not every list could be healed; see above"
            raise CommandError(message)
        if any(row["missing_bodies"] for row in rows):
            message = "some records are still without their content; see above"
            raise CommandError(message)


_HELD = ("rolled-back", "unconfirmed")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(recover)
