"""Commands about own lists: create, show, publish, receipt, record."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    open_session,
    reported,
)
from hashlight_node.cli.withdrawing import RefArgument
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from hashlight_node.local_client import Json

_LONG_SECONDS = 3600.0

list_app = typer.Typer(no_args_is_help=True, help="Own lists.")


@list_app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="LIST")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Start a list: a new signed log with its own key."""
    with reported(as_json=as_json):
        made = open_session(config).client.post("/v1/lists", {"name": name})

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_lists

            print_lists(out, [made])

        emit(made, as_json=as_json, render=render)


@list_app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(metavar="LIST")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show one list, or all, with the keys that verify their receipts."""
    with reported(as_json=as_json):
        client = open_session(config).client
        if name is not None:
            rows = [client.get(path_of("lists", name))]
        else:
            rows = client.get_all("/v1/lists", "lists")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_lists

            print_lists(out, rows)

        answer: Json = rows[0] if name is not None else {"lists": rows}
        emit(answer, as_json=as_json, render=render)


@list_app.command("next-epoch")
def next_epoch(
    name: Annotated[str, typer.Argument(metavar="LIST")],
    *,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="The old log ends in order.")
    ] = False,
    abandon_at: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            help="The old log ends at this size: its key or its history was lost.",
        ),
    ] = None,
    keep_own: Annotated[
        bool,
        typer.Option("--keep-own", help="Go on with our own records beyond SIZE."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """End a list's log for good and go on in a new one, with a new key."""
    with reported(as_json=as_json):
        if frozen == (abandon_at is not None):
            message = "give either --frozen or --abandon-at SIZE"
            raise UsageError(message)
        if keep_own and abandon_at is None:
            message = "--keep-own goes with --abandon-at"
            raise UsageError(message)
        if not yes:
            question = f"end the log of {name!r} for good and begin the next one?"
            typer.confirm(question, abort=True, err=True)
        body: Json = {"ending": "frozen"}
        if abandon_at is not None:
            later = "keep" if keep_own else "drop"
            body = {"ending": "abandoned", "final_size": abandon_at, "later": later}
        session = open_session(config)
        # All that counts is written once more before the answer comes.
        client = replace(session.client, timeout_seconds=_LONG_SECONDS)
        answer = client.post(path_of("lists", name, "epochs"), body)

        def render(out: Console) -> None:
            out.print(f"{answer['ended']} ended at size {answer['final_size']}")
            out.print(f"{answer['origin']} goes on, {answer['reissued']} records in it")

        emit(answer, as_json=as_json, render=render)


def publish(
    list_name: Annotated[str, typer.Argument(metavar="LIST")],
    more_files: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", hidden=True)
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(metavar="IMAGE...", help="Pictures: one record each."),
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE:VALUE", help="Signals of one record."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEME:VALUE", help="May be repeated."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="PDQ quality of --signal, 50 to 100.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="person, platform, hotline, ngo, …")
    ] = "platform",
    review: Annotated[str, typer.Option(help="none, automated or human.")] = "none",
    kind: Annotated[str, typer.Option(help="image, video, url, account, …")] = "image",
    expires: Annotated[
        str | None, typer.Option(help="RFC 3339 in UTC, e.g. 2027-01-31T00:00:00Z.")
    ] = None,
    case: Annotated[
        str | None, typer.Option(help="The request for help, for `case withdraw`.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Relays may pass it on (`share: peers`).")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Publish records: one with the given signals, or one per picture."""
    with reported(as_json=as_json):
        files = [*(file or ()), *(more_files or ())]
        shared: Json = {
            "type": "indicator",
            "kind": kind,
            "labels": [_label(text) for text in label or ()],
            "source": source,
            "review": {"level": review},
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if expires is not None:
            shared["expires"] = expires
        if case is not None:
            shared["case"] = case
        if share:
            shared["share"] = "peers"
        records = _records(files, signal or (), quality, shared)
        client = open_session(config).client
        answer = client.post(
            path_of("lists", list_name, "records"), {"records": records}
        )
        refs = cast("list[str]", answer["refs"])

        def render(out: Console) -> None:
            for ref in refs:
                out.print(ref, markup=False, soft_wrap=True)

        emit(answer, as_json=as_json, render=render)


def _records(
    files: Sequence[Path], signals: Sequence[str], quality: int | None, shared: Json
) -> list[Json]:
    if bool(files) == bool(signals):
        message = "give either --file IMAGE… or --signal TYPE:VALUE…"
        raise UsageError(message)
    if signals:
        claims = [_claim(text, quality) for text in signals]
        return [{**shared, "signals": claims}]
    from hashlight_node.cli.pictures import picture_claims

    return [{**shared, "signals": picture_claims(path)} for path in files]


def _claim(text: str, quality: int | None) -> Json:
    from hashlight_node.cli.signals import split_signal

    signal_type, value = split_signal(text)
    claim: Json = {"type": signal_type, "value": value}
    if quality is not None and signal_type == "pdq":
        claim["quality"] = quality
    return claim


def _label(text: str) -> Json:
    scheme, separator, value = text.partition(":")
    if not separator:
        message = f"label {text!r} is not SCHEME:VALUE"
        raise UsageError(message)
    return {"scheme": scheme, "value": value}


def receipt(
    ref: RefArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write a record's receipt (a .tlog-proof) to standard output."""
    with reported(as_json=as_json):
        client = open_session(config).client
        proof = client.get_bytes(path_of("records", ref, "receipt"))
        if as_json:
            answer = {"ref": ref, "receipt": proof.decode()}
            sys.stdout.write(json.dumps(answer) + "\n")
        else:
            sys.stdout.buffer.write(proof)


def record(
    ref: RefArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show a record, its state, and what others say about it."""
    with reported(as_json=as_json):
        answer = open_session(config).client.get(path_of("records", ref))
        emit(answer, as_json=as_json, render=lambda out: out.print_json(data=answer))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(list_app, name="list")
    app.command()(publish)
    app.command()(receipt)
    app.command()(record)
