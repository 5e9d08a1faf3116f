"""Commands about what peers were caught at: evidence, and its show and export."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    CommandError,
    ConfigOption,
    JsonOption,
    emit,
    open_session,
    reported,
)
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json

IdArgument = Annotated[int, typer.Argument(metavar="ID", help="From `evidence`.")]

evidence_app = typer.Typer(help="What peers were caught at, and what proves it.")


@evidence_app.callback(invoke_without_command=True)
def evidence(
    context: typer.Context,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List what peers were caught at, and which logs forked."""
    if context.invoked_subcommand is not None:
        return
    with reported(as_json=as_json):
        client = open_session(config).client
        rows = client.get_all("/v1/evidence", "evidence")
        forks = client.get_all("/v1/forks", "forks")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_evidence

            print_evidence(out, rows)
            for fork in forks:
                said = f"forked: {fork['origin']}, found {fork['found_at']}"
                out.print(said, style="red", markup=False, soft_wrap=True)

        shown = [{**fork, "evidence": None} for fork in forks]
        for fork in shown:
            del fork["evidence"]
        emit({"evidence": rows, "forks": shown}, as_json=as_json, render=render)


@evidence_app.command("show")
def show(
    number: IdArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show one piece of evidence, and what its checkpoints say if it is of a fork."""
    with reported(as_json=as_json):
        client = open_session(config).client
        rows = client.get_all("/v1/evidence", "evidence")
        found = next((row for row in rows if row["id"] == number), None)
        if found is None:
            message = f"there is no evidence {number}"
            raise CommandError(message)
        raw = client.get_bytes(path_of("evidence", str(number)))
        answer: Json = {**found, "fork": describe_fork(raw)}
        emit(answer, as_json=as_json, render=lambda out: out.print_json(data=answer))


@evidence_app.command("export")
def export(
    which: Annotated[
        str, typer.Argument(metavar="ID|ORIGIN", help="Evidence, or a log that forked.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write evidence to standard output, exactly as it is, for `hashlight verify`."""
    with reported(as_json=as_json):
        client = open_session(config).client
        if which.isascii() and which.isdecimal():
            raw = client.get_bytes(path_of("evidence", which))
        else:
            forks = client.get_all("/v1/forks", "forks")
            found = [str(it["evidence"]) for it in forks if it["origin"] == which]
            if not found:
                message = f"there is no evidence that {which} forked"
                raise CommandError(message)
            raw = found[0].encode()
        sys.stdout.buffer.write(raw)


def describe_fork(raw: bytes) -> Json | None:
    """Say what evidence of a fork claims; None for other evidence."""
    from hashlight_protocol import (
        ProtocolError,
        parse_checkpoint,
        parse_fork_evidence,
        parse_note,
    )

    try:
        shown = parse_fork_evidence(raw)
    except ProtocolError:
        return None
    older, newer = (
        parse_checkpoint(parse_note(note).text) for note in (shown.older, shown.newer)
    )
    return {
        "origin": older.origin,
        "older": {"tree_size": older.tree_size, "root_hash": older.root_hash.hex()},
        "newer": {
            "tree_size": newer.tree_size,
            "root_hash": newer.root_hash.hex(),
            "prefix_root": shown.prefix_root.hex(),
        },
    }


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(evidence_app, name="evidence")
