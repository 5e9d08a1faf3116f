"""`hashlight demo`: three companies on this machine, the whole path, with proof."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    leave: Annotated[
        bool,
        typer.Option("--exit", help="End by itself instead of waiting for Ctrl-C."),
    ] = False,
) -> None:
    """Run a hotline and two platforms here and show the whole path."""
    from hashlight_node.demo import run_demo

    raise typer.Exit(run_demo(leave=leave))


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command()(demo)
