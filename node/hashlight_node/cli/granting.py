"""What `hashlight grant` asks the node, and what it says about the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from hashlight_node.cli.tables import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from hashlight_node.local_client import Json, LocalClient

_PREVIEW_SECONDS = 3_600
"""A preview looks at every record of the list."""

_COUNTS = (
    ("states", "state"),
    ("labels", "label"),
    ("signal_types", "signal type"),
    ("sources", "source"),
    ("about", "about"),
)
_EXAMPLES = ("newly_shown", "no_longer_shown", "shown", "hidden")

_OBSTACLES = {
    "no-grant": "it has no grant for the list",
    "quarantined": "it is in quarantine",
    "erased": "the record is erased",
    "no-body": "the record's body is not here",
    "labels": "no label of the record matches",
    "signals": "the record has no signals, or one of another type",
    "about": "it is not an opinion or sighting about a record of that node",
}


def scope_of(
    labels: Sequence[str] | None, signals: Sequence[str] | None, about: str | None
) -> Json | None:
    """Write a scope for the API; None for the whole list."""
    scope: Json = {}
    if labels:
        scope["labels"] = list(labels)
    if signals:
        scope["signals"] = list(signals)
    if about is not None:
        scope["about"] = about
    return scope or None


def describe_scope(scope: Json | None) -> str:
    """Say in words which records a scope is for."""
    if scope is None:
        return "all records"
    parts: list[str] = []
    if "labels" in scope:
        parts.append("labels " + _listed(scope["labels"]))
    if "signals" in scope:
        parts.append("signal types " + _listed(scope["signals"]))
    if "about" in scope:
        parts.append(f"about records of {scope['about']}")
    return "; ".join(parts)


def preview(client: LocalClient, body: Json, *, examples: int) -> Json:
    """Ask what a grant would do."""
    patient = replace(client, timeout_seconds=_PREVIEW_SECONDS)
    return patient.post("/v1/grants/preview", {**body, "examples": examples})


def give(client: LocalClient, body: Json) -> tuple[Json, int]:
    """Grant a list.

    Returns:
        The grant, and how many records that the peer may have are no longer shown.
    """
    present = [
        row
        for row in client.get_all("/v1/grants", "grants")
        if (row["peer"], row["list"]) == (body["peer"], body["list"])
    ]
    kept = 0
    if present and _order(present[0]["scope"]) != _order(body["scope"]):
        kept = cast("int", preview(client, body, examples=0)["no_longer_shown"])
    return client.post("/v1/grants", body), kept


def print_grant(out: Console, grant: Json, kept: int) -> None:
    """Say what was granted, and what narrowing it does not do."""
    scope = describe_scope(cast("Json | None", grant["scope"]))
    relays = "; it may pass on what says `share: peers`" if grant["relay"] else ""
    said = f"{grant['peer']} may now fetch {grant['list']}: {scope}{relays}"
    out.print(said, markup=False, soft_wrap=True)
    _warn(out, kept)


def print_preview(out: Console, answer: Json) -> None:
    """Print what a peer would see."""
    proposed = describe_scope(cast("Json | None", answer["proposed"]))
    present = describe_scope(cast("Json | None", answer["present"]))
    now = present if answer["is_granted"] else "no grant"
    _say(out, f"{answer['peer']} would see of {answer['list']}: {proposed}")
    _say(out, f"it sees now: {now}")
    live = cast("Json", answer["live"])
    _say(out, f"live records: {live['shown']:,} shown, {live['hidden']:,} hidden")
    _say(out, f"newly shown: {answer['newly_shown']:,}")
    _warn(out, cast("int", answer["no_longer_shown"]))
    counts = cast("dict[str, dict[str, Json]]", answer["counts"])
    for member, title in _COUNTS:
        rows: list[Json] = [
            {title: word, "shown": str(it["shown"]), "hidden": str(it["hidden"])}
            for word, it in counts[member].items()
        ]
        if rows:
            print_rows(out, rows, title, "shown", "hidden")
    examples = cast("dict[str, list[str]]", answer["examples"])
    for member in _EXAMPLES:
        for ref in examples[member]:
            _say(out, f"{member.replace('_', ' ')}: {ref}")


def print_verdict(out: Console, answer: Json) -> None:
    """Say whether a peer is given a record, and by what it is not."""
    obstacles = cast("list[str]", answer["obstacles"])
    sees = "does not see" if obstacles else "sees"
    _say(out, f"{answer['peer']} {sees} {answer['ref']} ({answer['state']})")
    for obstacle in obstacles:
        _say(out, f"{obstacle}: {_OBSTACLES[obstacle]}")
    facts = cast("Json | None", answer["facts"])
    if facts is not None:
        _say(out, f"labels {_listed(facts['labels'])}")
        _say(out, f"signal types {_listed(facts['signals'])}")
        _say(out, f"about {facts['about'] or 'no record'}")


def _warn(out: Console, kept: int) -> None:
    if kept:
        _say(
            out,
            f"{kept:,} records that the peer may already have are no longer shown; "
            "it keeps them: erase what it must not keep",
        )


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)


def _listed(words: object) -> str:
    return ", ".join(cast("list[str]", words)) or "none"


def _order(scope: object) -> object:
    """Bring a scope into the form in which equal ones are equal."""
    if scope is None:
        return None
    members = cast("Json", scope)
    return {
        name: sorted(cast("list[str]", value)) if isinstance(value, list) else value
        for name, value in members.items()
    }
