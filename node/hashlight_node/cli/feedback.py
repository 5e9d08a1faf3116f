"""Commands that answer the owner of a record: opinions and sightings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    emit,
    open_session,
    reported,
)

if TYPE_CHECKING:
    from hashlight_node.local_client import Json


def opinion(
    ref: Annotated[str, typer.Argument(metavar="REF", help="<origin>#<index>")],
    stance: Annotated[str, typer.Option(help="affirm, dispute or unsure.")],
    signal: Annotated[
        str | None, typer.Option(help="Only about this signal type of the record.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="One word, no prose.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say in our own feedback list what we think of a record."""
    with reported(as_json=as_json):
        body: Json = {"ref": ref, "stance": stance}
        if signal is not None:
            body["signal"] = signal
        if reason is not None:
            body["reason"] = reason
        answer = open_session(config).client.post("/v1/opinions", body)
        emit(
            answer,
            as_json=as_json,
            render=lambda out: out.print(answer["ref"], markup=False, soft_wrap=True),
        )


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(opinion)
