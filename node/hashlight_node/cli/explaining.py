"""Commands that tell why: what was answered, what it was based on, what decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
from hashlight_node.cli.signals import split_signal
from hashlight_node.local_client import path_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from hashlight_node.local_client import Json


def explain(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MATCH|TYPE:VALUE",
            help="Number of a match that was written down, or a signal.",
        ),
    ],
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", help="Of a signal: what was known then, 2026-11-21T09:30:00Z."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Tell why a signal is handled as it is, or why a match once was.

    Shows the rule that decided, the state of the lists, and of each record a receipt
    (with --json) that anybody can verify.
    """
    with reported(as_json=as_json):
        is_match = target.isascii() and target.isdecimal()
        if is_match and as_of is not None:
            message = "--as-of is for signals; a match has its own time"
            raise UsageError(message)
        client = open_session(config).client
        if is_match:
            answer = client.get(path_of("matches", target))
        else:
            kind, value = split_signal(target)
            body: Json = {"type": kind, "value": value}
            if as_of is not None:
                body["as_of"] = as_of
            answer = client.post("/v1/explain", body)
        show = _show_match if is_match else _show_signal
        emit(answer, as_json=as_json, render=lambda out: show(out, answer))


def matches(
    after: Annotated[
        int, typer.Option(min=0, help="Only matches with larger numbers.")
    ] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to show.")] = 100,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List matches that were written down, oldest first (setting log_matches)."""
    with reported(as_json=as_json):
        client = open_session(config).client
        answer = client.get(f"/v1/matches?after={after}&limit={limit}")
        emit(answer, as_json=as_json, render=lambda out: _show_matches(out, answer))


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(explain)
    app.command()(matches)


def _show_matches(out: Console, answer: Mapping[str, Any]) -> None:
    from hashlight_node.cli.tables import print_rows

    rows = [
        {
            "match": row["id"],
            "matched_at": row["matched_at"],
            "type": row["type"],
            "handling": row["handling"],
            "nearest": row["matches"][0]["distance"],
            "because": row["matches"][0]["because"],
            "request": row["request_id"],
        }
        for row in answer["matches"]
    ]
    members = ("match", "matched_at", "type", "handling", "nearest", "because")
    print_rows(out, rows, *members, "request")
    if answer["next_cursor"]:
        said = f"there are more: hashlight matches --after {rows[-1]['match']}"
        out.print(said, markup=False)


def _show_signal(out: Console, answer: Mapping[str, Any]) -> None:
    result = answer["result"]
    out.print(f"handling {result['handling']}", style="bold", markup=False)
    for decision in answer["decisions"]:
        signal = decision["signal"]
        out.print(
            f"{signal['type']}:{signal['value']} {_decided(decision)}",
            markup=False,
            soft_wrap=True,
        )
        out.print(f"  judged by {decision['ref']}", markup=False, soft_wrap=True)
    if not answer["decisions"]:
        out.print("nothing is known", markup=False)
    _show_basis(out, answer)


def _show_match(out: Console, answer: Mapping[str, Any]) -> None:
    match = answer["match"]
    said = f"match {match['id']} of {match['matched_at']}: handling {match['handling']}"
    out.print(said, style="bold", markup=False)
    for row, known in zip(match["matches"], answer["signals"], strict=True):
        signal = known["signal"]
        named = "erased" if signal is None else f"{signal['type']}:{signal['value']}"
        decided = _decided({**row, "rule_text": known["rule_text"]})
        distance = f"at distance {row['distance']} of {row['threshold']}"
        out.print(f"{named} {distance} {decided}", markup=False, soft_wrap=True)
        out.print(f"  judged by {row['decided_by']}", markup=False, soft_wrap=True)
    if match["more_matches"]:
        out.print(f"and {match['more_matches']} more signals", markup=False)
    _show_basis(out, answer)


def _decided(decision: Mapping[str, Any]) -> str:
    rule = ""
    if decision["rule_text"] is not None:
        conditions = _in_order(decision["rule_text"])
        rule = f", rule {decision['rule']}: {conditions}"
    return f"-> {decision['handling']} because of {decision['because']}{rule}"


def _in_order(rule: Mapping[str, str]) -> str:
    # Conditions first, as people write them.
    names = sorted(rule, key=lambda name: (name == "handling", name))
    return ", ".join(f"{name} = {rule[name]}" for name in names)


def _show_basis(out: Console, answer: Mapping[str, Any]) -> None:
    from hashlight_node.cli.tables import print_rows

    records: Sequence[Mapping[str, Any]] = answer["records"]
    rows = [
        {
            "record": row["ref"],
            "state now": row["state"] or "not here",
            "receipt": "yes" if row["receipt"] else f"no: {row['problem']}",
            "in the list then": _proven(row),
        }
        for row in records
    ]
    if rows:
        print_rows(out, rows, "record", "state now", "receipt", "in the list then")
    if answer["more_records"]:
        out.print(f"and {answer['more_records']} more records", markup=False)
    for row in answer["lists"]:
        said = f"from {row['origin']} at size {row['tree_size']:,}"
        if row.get("erased_since"):
            said += f", {row['erased_since']:,} entries erased since"
        out.print(said, markup=False, soft_wrap=True)


def _proven(record: Mapping[str, Any]) -> str:
    proof = record["proof"]
    return "" if proof is None else f"proven for size {proof['tree_size']:,}"
