"""Commands about cases: what was published for one request for help."""

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

if TYPE_CHECKING:
    from rich.console import Console

    from hashlight_node.local_client import Json

case_app = typer.Typer(no_args_is_help=True, help="Requests for help.")


@case_app.command("withdraw")
def withdraw(
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="What records say in `case`.")
    ],
    retract: Annotated[
        bool, typer.Option("--retract", help="Keep the content, for audit.")
    ] = False,
    reason: Annotated[
        str, typer.Option(help="As of `hashlight retract`.")
    ] = "withdrawn",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take back everything that we published for a case, in all our lists.

    What others assert as well goes on matching; it is shown with who does.
    """
    with reported(as_json=as_json):
        body = {
            "case": case,
            "kind": "retract" if retract else "erase",
            "reason": reason,
        }
        answer = open_session(config).client.post("/v1/cases/withdraw", body)
        emit(answer, as_json=as_json, render=lambda out: _show(out, answer))


def _show(out: Console, answer: Json) -> None:
    from hashlight_node.cli.tables import print_rows

    print_rows(out, cast("list[Json]", answer["withdrawn"]), "ref", "withdrawn_by")
    left = cast("list[Json]", answer["still_asserted"])
    if not left:
        out.print("nothing of the case matches any more")
        return
    out.print("goes on matching, because other records assert it too:")
    rows = [
        {"signal": one["type"], "record": ref}
        for one in left
        for ref in cast("list[str]", one["refs"])
    ]
    print_rows(out, rows, "signal", "record")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(case_app, name="case")
