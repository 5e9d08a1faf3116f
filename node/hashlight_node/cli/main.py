"""Puts the commands together; the order here is the order of `--help`."""

from __future__ import annotations

from typing import Annotated

import typer

from hashlight_node import __version__
from hashlight_node.cli import (
    cases,
    deliveries,
    demonstration,
    evidence,
    explaining,
    exporting,
    feedback,
    importing,
    keys,
    lists,
    lookups,
    nodes,
    offline,
    peering,
    policies,
    recovering,
    relays,
    scanning,
    tokens,
    withdrawing,
)

app = typer.Typer(
    name="hashlight",
    help="Share what you know about abuse, provably, and look up what others know.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hashlight {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Share what you know about abuse, provably, and look up what others know."""


for commands in (
    demonstration,
    nodes,
    evidence,
    lists,
    withdrawing,
    deliveries,
    importing,
    lookups,
    explaining,
    scanning,
    exporting,
    feedback,
    cases,
    peering,
    policies,
    relays,
    tokens,
    keys,
    recovering,
    offline,
):
    commands.register(app)


def main() -> None:
    """Run the command line; the console script's entry point."""
    app()
