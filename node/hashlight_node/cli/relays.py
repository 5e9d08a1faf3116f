"""Commands about copies of other nodes' lists: relay, unrelay, relays."""

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

PeerArgument = Annotated[str, typer.Argument(metavar="PEER", help="Who may fetch it.")]
OwnerArgument = Annotated[
    str, typer.Argument(metavar="OWNER", help="The node whose list it is.")
]
ListArgument = Annotated[str, typer.Argument(metavar="LIST")]


def relay(
    peer: PeerArgument,
    owner: OwnerArgument,
    list_name: ListArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let a peer fetch our copy of a list, as far as its owner lets us."""
    with reported(as_json=as_json):
        body: Json = {"peer": peer, "owner": owner, "list": list_name}
        answer = open_session(config).client.post("/v1/relays", body)
        said = f"{peer} may now fetch {list_name} of {owner} from us"
        if not answer["is_allowed"]:
            said += ", as soon as its owner lets us relay it"
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


def unrelay(
    peer: PeerArgument,
    owner: OwnerArgument,
    list_name: ListArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let a peer fetch our copy of a list no more."""
    with reported(as_json=as_json):
        path = path_of("relays", peer, owner, list_name)
        open_session(config).client.delete(path)
        said = f"{peer} may no longer fetch {list_name} of {owner} from us"
        answer: Json = {"peer": peer, "owner": owner, "list": list_name}
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


def relays(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List who may fetch which of our copies."""
    with reported(as_json=as_json):
        rows = open_session(config).client.get_all("/v1/relays", "relays")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_rows

            print_rows(out, rows, "owner", "list", "peer", "is_allowed", "granted_at")

        emit({"relays": rows}, as_json=as_json, render=render)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(relay)
    app.command()(unrelay)
    app.command()(relays)
