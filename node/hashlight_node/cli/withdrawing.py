"""Commands that take records back, and tell who has confirmed that."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol, cast

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
    from rich.console import Console, RenderableType

    from hashlight_node.local_client import Json, LocalClient

RefArgument = Annotated[str, typer.Argument(metavar="REF", help="<origin>#<index>")]
ReasonName = Annotated[
    str,
    typer.Option(help="withdrawn, false-positive, expired, superseded or compromise."),
]
WaitOption = Annotated[
    int,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Wait so long for every peer to confirm; exit code 1 if not all did.",
    ),
]
SaveOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write each proof into a file, for `verify`."),
]

_POLL_SECONDS: Final = 0.5
_DONE: Final = {"retract": "retracted", "erase": "erased"}


def retract(
    ref: RefArgument,
    reason: ReasonName,
    wait: WaitOption = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a record back: every follower stops matching it."""
    body: Json = {"ref": ref, "reason": reason}
    _withdraw("retract", body, wait, config, as_json=as_json)


def erase(
    ref: RefArgument,
    reason: ReasonName = "withdrawn",
    wait: WaitOption = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a record back and destroy its content everywhere."""
    body: Json = {"ref": ref, "reason": reason}
    _withdraw("erase", body, wait, config, as_json=as_json)


def _withdraw(verb: str, body: Json, wait: int, config: Path, *, as_json: bool) -> None:
    with reported(as_json=as_json):
        from hashlight_protocol import parse_origin, parse_ref

        ref = str(body["ref"])
        list_name = parse_origin(parse_ref(ref).origin).list_name
        client = open_session(config).client
        answer = client.post(path_of("lists", list_name, verb), body)
        if wait:
            answer |= _wait_for_all(client, ref, wait, quiet=as_json)

        def render(out: Console) -> None:
            done = _DONE[verb]
            out.print(f"{done}, by entry {answer['ref']}", markup=False, soft_wrap=True)
            if answer["peers"]:
                out.print(_table(answer))

        emit(answer, as_json=as_json, render=render)
        if wait and not answer["is_complete"]:
            message = f"not every peer has confirmed within {wait} s"
            raise CommandError(message)


def _wait_for_all(client: LocalClient, ref: str, seconds: int, *, quiet: bool) -> Json:
    """Ask until every peer has confirmed or the time is over."""
    end = time.monotonic() + seconds
    with _screen(quiet=quiet) as screen:
        while True:
            report = client.get(path_of("records", ref, "erasure"))
            if screen is not None:
                screen.update(_table(report))
            left = end - time.monotonic()
            if report["is_complete"] or left <= 0:
                return {"is_complete": report["is_complete"], "peers": report["peers"]}
            time.sleep(min(_POLL_SECONDS, left))


class _Screen(Protocol):
    def update(self, renderable: RenderableType, /) -> None:
        """Show something instead of what is shown."""


def _screen(*, quiet: bool) -> AbstractContextManager[_Screen | None]:
    """Give a place on the terminal for what changes; None if nobody would see it."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(stderr=True), transient=True)


def _table(report: Json) -> RenderableType:
    from hashlight_node.cli.tables import peers_table

    return peers_table(cast("list[Json]", report["peers"]))


def erasure(
    ref: RefArgument,
    save: SaveOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show which peers have confirmed by signature that a record was taken back."""
    with reported(as_json=as_json):
        answer = open_session(config).client.get(path_of("records", ref, "erasure"))
        if save is not None:
            _save_proofs(save, answer)

        def render(out: Console) -> None:
            kind = "erased" if answer["erased_by"] else "retracted"
            by, at = answer[f"{kind}_by"], answer[f"{kind}_at"]
            if by is None:
                out.print("not erased", soft_wrap=True)
                return
            done = "by every peer" if answer["is_complete"] else "not by every peer yet"
            out.print(f"{kind} at {at} by {by}", markup=False, soft_wrap=True)
            out.print(f"acknowledged {done}")
            out.print(_table(answer))

        emit(answer, as_json=as_json, render=render)


def _save_proofs(directory: Path, answer: Json) -> None:
    from hashlight_node.cli.saving import save_note

    index = str(answer["ref"]).rpartition("#")[2]
    for peer in cast("list[Json]", answer["peers"]):
        if peer["note"] is not None:
            save_note(directory, f"{peer['peer']}-{index}", str(peer["note"]))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(retract)
    app.command()(erase)
    app.command()(erasure)
