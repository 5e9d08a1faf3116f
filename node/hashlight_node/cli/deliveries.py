"""`hashlight deliveries`: who has seen and applied how much of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    open_session,
    reported,
)
from hashlight_node.cli.withdrawing import SaveOption
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from hashlight_node.local_client import Json


def deliveries(
    list_name: Annotated[str, typer.Argument(metavar="LIST", help="A list of ours.")],
    peer: Annotated[
        str | None, typer.Argument(help="All that this peer signed, the newest first.")
    ] = None,
    save: SaveOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show who has a list, how far each peer is, and what it signed."""
    with reported(as_json=as_json):
        path = path_of("lists", list_name, "deliveries")
        member = "deliveries"
        if peer is not None:
            path = path_of("lists", list_name, "deliveries", peer)
            member = "notes"
        elif save is not None:
            message = "--save needs a PEER, whose notes are written"
            raise UsageError(message)
        rows = open_session(config).client.get_all(path, member)
        if save is not None:
            _save(save, rows)

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_rows, print_standings

            if peer is None:
                print_standings(out, rows)
            else:
                print_rows(out, rows, "at", "kind", "tree_size")

        emit({member: rows}, as_json=as_json, render=render)


def _save(directory: Path, rows: list[Json]) -> None:
    from hashlight_node.cli.saving import save_note

    for row in rows:
        at = str(row["at"]).replace(":", "")
        name = f"{row['kind']}-{row['tree_size']}-{at}"
        save_note(directory, name, str(row["note"]))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(deliveries)
