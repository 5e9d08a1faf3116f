"""Puts the commands together; the table here is the order of `--help`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup
from typing_extensions import override

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
    maintaining,
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

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter

SECTIONS = {
    "Begin": ("demo", "init", "serve", "migrate"),
    "Look up": (
        "lookup",
        "explain",
        "matches",
        "cluster",
        "allow",
        "policy",
        "hash",
        "scan",
        "export",
    ),
    "Publish, and take back": (
        "list",
        "publish",
        "import",
        "record",
        "retract",
        "erase",
        "case",
    ),
    "Who has what, with proof": (
        "deliveries",
        "erasure",
        "receipt",
        "verify",
        "feedback",
        "opinion",
    ),
    "Other nodes": (
        "peer",
        "descriptor",
        "grant",
        "revoke",
        "follow",
        "unfollow",
        "relay",
        "unrelay",
        "relays",
    ),
    "Operate": (
        "status",
        "sync",
        "evidence",
        "recover",
        "backup",
        "restore",
        "fsck",
        "doctor",
        "key",
        "token",
        "request",
    ),
}
"""Every command, once, in the order in which `--help` shows them."""


class Sectioned(TyperGroup):
    """Shows many commands under a few headings, so that people find their way."""

    @override
    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write a list of commands for each section, with one width of names."""
        longest = max(len(name) for names in SECTIONS.values() for name in names)
        limit = formatter.width - longest - 6
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [
                (name.ljust(longest), command.get_short_help_str(limit))
                for name, command in commands
                if command is not None
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


app = typer.Typer(
    name="hashlight",
    cls=Sectioned,
    context_settings={"max_content_width": 100},
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
    maintaining,
    offline,
):
    commands.register(app)


def main() -> None:
    """Run the command line; the console script's entry point."""
    app()
