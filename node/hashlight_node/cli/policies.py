"""Commands for the operator's own word: allow list, policy trials, near duplicates."""

from __future__ import annotations

import csv
import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from hashlight_node.cli.session import (
    DEFAULT_CONFIG,
    CommandError,
    ConfigOption,
    JsonOption,
    UsageError,
    emit,
    open_session,
    reported,
)
from hashlight_node.cli.signals import split_signal
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from hashlight_node.local_client import Json, LocalClient

BATCH_QUERIES: Final = 1000
BATCH_BYTES: Final = 400_000
"""A call takes 1 MiB, and the policy travels with every batch."""

SHOWN_CHANGES: Final = 20
"""Changes that are listed one by one; `--json` has them all."""

_HANDLINGS: Final = ("block", "review", "ignore")
_SIGNAL_COLUMNS: Final = ("pdq", "md5", "sha1", "sha256")
_PDQ_DIGITS: Final = 64
# Of the node's own settings, what is no part of a policy that can be tried.
_NOT_TRIED: Final = {"flood_matches", "flood_seconds"}

allow_app = typer.Typer(no_args_is_help=True, help="Signals that are harmless.")
policy_app = typer.Typer(no_args_is_help=True, help="What to do with matches.")


@allow_app.command("add")
def add(
    signal: Annotated[str, typer.Argument(metavar="TYPE:VALUE")],
    distance: Annotated[
        int, typer.Option(help="For pdq: queries this near are harmless too.")
    ] = 0,
    note: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Ignore a signal from now on, whatever lists say; matches still show it."""
    with reported(as_json=as_json):
        kind, value = split_signal(signal)
        client = open_session(config).client
        body: Json = {"type": kind, "value": value, "max_distance": distance}
        answer = client.post("/v1/allowed", {**body, "note": note})
        said = f"entry {answer['id']}: {signal} is ignored"
        emit(
            answer,
            as_json=as_json,
            render=lambda out: out.print(said, markup=False, soft_wrap=True),
        )


@allow_app.command("list")
def list_allowed(
    config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """List what is ignored because this node's operator says so."""
    with reported(as_json=as_json):
        rows = open_session(config).client.get_all("/v1/allowed", "allowed")

        def render(out: Console) -> None:
            from hashlight_node.cli.tables import print_rows

            flat = [{**row, "signal": _written(row["signal"])} for row in rows]
            members = ("id", "signal", "max_distance", "note", "created_at")
            print_rows(out, flat, *members)

        emit({"allowed": rows}, as_json=as_json, render=render)


@allow_app.command("remove")
def remove(
    number: Annotated[int, typer.Argument(metavar="ID")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let the policy decide again about a signal."""
    with reported(as_json=as_json):
        open_session(config).client.delete(path_of("allowed", str(number)))
        answer: Json = {"id": number}
        said = f"entry {number} is removed"
        emit(answer, as_json=as_json, render=lambda out: out.print(said))


@policy_app.command("try")
def try_policy(
    file: Annotated[
        Path,
        typer.Argument(help="A signal a line, TYPE:VALUE or a bare PDQ hash; or CSV."),
    ],
    rules: Annotated[
        Path, typer.Option(help="TOML with `default` and `rules`, or with [policy].")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show what another policy would do with a file of signals; nothing changes."""
    with reported(as_json=as_json):
        policy = _read_policy(rules)
        client = open_session(config).client
        answer = _try_all(client, policy, _read_signals(file))

        def render(out: Console) -> None:
            _print_trial(out, answer)

        emit(answer, as_json=as_json, render=render)


def cluster(
    signal: Annotated[str, typer.Argument(metavar="pdq:HEX")],
    max_distance: Annotated[
        int | None, typer.Option(help="Between neighbours, in bits.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the known near duplicates of a hash, and who lists them."""
    with reported(as_json=as_json):
        kind, value = split_signal(signal)
        body: Json = {"type": kind, "value": value}
        if max_distance is not None:
            body["max_distance"] = max_distance
        answer = open_session(config).client.post("/v1/clusters", body)

        def render(out: Console) -> None:
            _print_cluster(out, answer)

        emit(answer, as_json=as_json, render=render)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.add_typer(allow_app, name="allow")
    app.add_typer(policy_app, name="policy")
    app.command()(cluster)


def _read_policy(path: Path) -> Json:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise CommandError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path}: not TOML ({error})"
        raise UsageError(message) from error
    policy = document.get("policy", document)
    if not isinstance(policy, dict) or not {"default", "rules"} & policy.keys():
        message = f"{path}: there is neither `default` nor `rules`"
        raise UsageError(message)
    tried = {key: value for key, value in policy.items() if key not in _NOT_TRIED}
    try:
        json.dumps(tried)
    except TypeError as error:  # TOML has dates, JSON has none
        message = f"{path}: a rule has a value that is no text"
        raise UsageError(message) from error
    return tried


def _read_signals(path: Path) -> Iterator[Json]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                yield from _csv_signals(path, csv.reader(file, strict=True))
            else:
                texts = (line.strip() for line in file)
                yield from (_signal(text) for text in texts if text)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise CommandError(message) from error
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: {error}"
        raise UsageError(message) from error


def _csv_signals(path: Path, lines: Iterator[list[str]]) -> Iterator[Json]:
    header = [name.strip().lower() for name in next(lines, [])]
    if not set(header) & set(_SIGNAL_COLUMNS):
        message = f"{path}: no column is one of {','.join(_SIGNAL_COLUMNS)}"
        raise UsageError(message)
    for cells in lines:
        for name, cell in zip(header, cells, strict=False):
            if name in _SIGNAL_COLUMNS and cell.strip():
                yield {"type": name, "value": cell.strip().lower()}


def _signal(text: str) -> Json:
    if ":" not in text and len(text) == _PDQ_DIGITS:
        return {"type": "pdq", "value": text.lower()}
    kind, value = split_signal(text)
    return {"type": kind, "value": value}


def _try_all(client: LocalClient, policy: Json, queries: Iterable[Json]) -> Json:
    """Try batch by batch; of what stays the same only numbers are kept."""
    moves: Counter[tuple[str, str]] = Counter()
    changes: list[Json] = []
    for batch in _batches(queries):
        body: Json = {"policy": policy, "queries": batch}
        answer = client.post("/v1/policy/try", body)
        for row in cast("list[Json]", answer["results"]):
            moves[str(row["now"]), str(row["then"])] += 1
            if row["now"] != row["then"]:
                changes.append(row)
    if not moves:
        message = "the file holds no signals"
        raise UsageError(message)
    return {
        "queries": moves.total(),
        "now": {name: _sum(moves, 0, name) for name in _HANDLINGS},
        "then": {name: _sum(moves, 1, name) for name in _HANDLINGS},
        "changed": changes,
    }


def _batches(queries: Iterable[Json]) -> Iterator[list[Json]]:
    batch: list[Json] = []
    size = 0
    for query in queries:
        query_bytes = len(json.dumps(query, ensure_ascii=False).encode())
        if batch and (len(batch) == BATCH_QUERIES or size + query_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(query)
        size += query_bytes
    if batch:
        yield batch


def _sum(moves: Counter[tuple[str, str]], side: int, name: str) -> int:
    return sum(count for move, count in moves.items() if move[side] == name)


def _print_trial(out: Console, answer: Json) -> None:
    from hashlight_node.cli.tables import print_rows

    now, then = cast("Json", answer["now"]), cast("Json", answer["then"])
    counts: list[Json] = [
        {"handling": name, "now": f"{now[name]:,}", "then": f"{then[name]:,}"}
        for name in _HANDLINGS
    ]
    print_rows(out, counts, "handling", "now", "then")
    changed = cast("list[Json]", answer["changed"])
    out.print(f"{len(changed):,} of {answer['queries']:,} change")
    rows: list[Json] = [
        {
            "signal": _written(row["query"]),
            "now": row["now"],
            "then": row["then"],
            "decided by": _decided(row),
        }
        for row in changed[:SHOWN_CHANGES]
    ]
    if rows:
        print_rows(out, rows, "signal", "now", "then", "decided by")
    if len(changed) > len(rows):
        out.print(f"and {len(changed) - len(rows):,} more; --json shows all")


def _decided(row: Json) -> str:
    rule, because = row["rule"], row["because"]
    if rule is None:
        return str(because)
    return f"rule {rule}" if because == "rule" else f"rule {rule}, {because}"


def _print_cluster(out: Console, answer: Json) -> None:
    from hashlight_node.cli.tables import print_rows

    members = cast("list[Json]", answer["members"])
    rows: list[Json] = [
        {
            "signal": _written(row["signal"]),
            "distance": str(row["distance"]),
            "links": row["links"],
            "records": row["records"],
            "lists": ", ".join(cast("list[str]", row["lists"])),
        }
        for row in members
    ]
    more = ", and there may be more" if answer["truncated"] else ""
    hashes = "hash hangs" if len(members) == 1 else "hashes hang"
    out.print(f"{len(members):,} known {hashes} together{more}")
    if rows:
        print_rows(out, rows, "signal", "distance", "links", "records", "lists")


def _written(signal: object) -> str:
    named = cast("Json", signal)
    return f"{named['type']}:{named['value']}"
