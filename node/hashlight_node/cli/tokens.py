"""Commands about bearer tokens of the local API."""

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
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json

token_app = typer.Typer(no_args_is_help=True, help="Tokens for local services.")


@token_app.command("create")
def create(
    scope: Annotated[
        list[str],
        typer.Option(help="lookup, publish, feedback, audit or admin; repeatable."),
    ],
    label: Annotated[str, typer.Option(help="Who will use it.")] = "service",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a token; it is shown this once and stored only as a hash."""
    with reported(as_json=as_json):
        client = open_session(config).client
        answer = client.post("/v1/tokens", {"scopes": scope, "label": label})

        def render(out: Console) -> None:
            out.print(answer["token"], markup=False, soft_wrap=True)

        emit(answer, as_json=as_json, render=render)


@token_app.command("list")
def list_tokens(
    config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """List tokens by label; the tokens themselves are not kept."""
    with reported(as_json=as_json):
        rows = open_session(config).client.get_all("/v1/tokens", "tokens")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_rows

            print_rows(out, rows, "id", "label", "scopes", "created_at")

        emit({"tokens": rows}, as_json=as_json, render=render)


@token_app.command("revoke")
def revoke(
    number: Annotated[int, typer.Argument(metavar="ID")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a token useless at once."""
    with reported(as_json=as_json):
        open_session(config).client.delete(path_of("tokens", str(number)))
        answer: Json = {"id": number}
        said = f"token {number} is revoked"
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(token_app, name="token")
