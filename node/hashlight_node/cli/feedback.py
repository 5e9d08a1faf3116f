"""Commands about feedback: what we think of records, and what others say of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
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


def feedback(
    list_name: Annotated[str, typer.Argument(metavar="LIST", help="A list of ours.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what other nodes say about the records of one of our lists."""
    with reported(as_json=as_json):
        client = open_session(config).client
        rows = client.get_all(path_of("lists", list_name, "feedback"), "feedback")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_rows

            flat = [{**row, **_summary(row)} for row in rows]
            print_rows(out, flat, "ref", "state", "opinion", "said", "met")

        emit({"feedback": rows}, as_json=as_json, render=render)


def _summary(row: Json) -> Json:
    opinions = cast("list[Json]", row["opinions"])
    sightings = cast("list[Json]", row["sightings"])
    return {
        "said": ", ".join(f"{it['node']}: {it['stance']}" for it in opinions),
        "met": ", ".join(
            f"{it['node']}: {it['outcome']} {it['count']:,}x" for it in sightings
        ),
    }


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(opinion)
    app.command()(feedback)
