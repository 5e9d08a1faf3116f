"""Answers of the local API as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from hashlight_node.local_client import Json

HANDLING_STYLES = {"block": "bold red", "review": "yellow", "ignore": "green"}
_SHORT_HASH = 12


def print_status(out: Console, status: Json) -> None:
    """Print `GET /v1/status`: one table of lists, one of peers."""
    out.print(f"node {status['node']}")
    lists = _table("list", "role", "state", "size", "root", "lag", "note")
    for row in _rows(status, "lists"):
        lists.add_row(
            str(row["origin"]),
            str(row.get("role", "")),
            str(row.get("state", "")),
            f"{row.get('size', 0):,}",
            str(row.get("root_hash", ""))[:_SHORT_HASH],
            _seconds(row.get("lag_seconds")),
            str(row.get("error") or _copying(row.get("copying"))),
        )
    out.print(lists)
    peers = _table("peer", "state", "base", "last contact", "clock")
    for row in _rows(status, "peers"):
        peers.add_row(
            str(row["name"]),
            str(row.get("state", "")),
            str(row.get("base", "")),
            str(row.get("contacted_at") or "never"),
            _offset(row.get("clock_offset_seconds")),
        )
    out.print(peers)
    standings = [row for peer in _rows(status, "peers") for row in _rows(peer, "lists")]
    standings += _rows(status, "behind_relays")
    if standings:
        print_standings(out, standings)
    for alert in _rows(status, "alerts"):
        style = "bold red" if alert["severity"] == "error" else "yellow"
        said = f"{alert['peer']}, {alert['list']}: {alert['detail']}"
        age = f"for {_seconds(alert['age_seconds'])}"
        out.print(f"{said}, {age}", style=style, markup=False, soft_wrap=True)


def _copying(copying: object) -> str:
    if not isinstance(copying, dict):
        return ""
    left = copying["seconds_left"]
    return (
        f"copying {copying['size']:,} of {copying['target_size']:,},"
        f" {copying['entries_per_second']:,}/s"
        + ("" if left is None else f", {_seconds(left)} left")
    )


def print_standings(out: Console, rows: Sequence[Json]) -> None:
    """Print where peers stand with lists of ours."""
    table = _table("peer", "list", "seen", "applied", "lacks", "lag", "unconfirmed")
    for row in rows:
        seen, applied = (
            cast("Json | None", row["delivered"]),
            cast("Json", row["applied"]),
        )
        overdue = cast("Json | None", row["unacknowledged"])
        table.add_row(
            _via(row),
            str(row["origin"]),
            "" if seen is None else f"{seen['tree_size']:,}",
            f"{applied['tree_size']:,}",
            f"{row['lag_records']:,}",
            _seconds(row["lag_seconds"]),
            ""
            if overdue is None
            else f"{overdue['kind']} {_seconds(overdue['age_seconds'])}",
        )
    out.print(table)


def peers_table(rows: Sequence[Json]) -> Table:
    """Show who has confirmed a withdrawal, and for how long it is missing of others."""
    table = _table("peer", "state", "tree size", "acknowledged at", "missing for")
    for row in rows:
        style = "" if row["state"] == "acknowledged" else "yellow"
        why = str(row["state"])
        if not row["is_granted"] and row["via"] is None:
            why += ", not granted any more"
        if row["peer_state"] == "quarantined":
            why += ", in quarantine"
        table.add_row(
            _via(row),
            why,
            str(row["tree_size"] or ""),
            str(row["acknowledged_at"] or ""),
            _seconds(row["missing_seconds"]),
            style=style,
        )
    return table


def print_sync(out: Console, answer: Json) -> None:
    """Print `POST /v1/sync`: what was pulled, and what failed."""
    table = _table("list", "from", "to", "records", "retracted", "erased", "seconds")
    for row in _rows(answer, "synced"):
        table.add_row(
            str(row["origin"]),
            f"{row['old_size']:,}",
            f"{row['new_size']:,}",
            f"{row['records']:,}",
            f"{row['retractions']:,}",
            f"{row['erasures']:,}",
            f"{row['seconds']:.2f}",
        )
    out.print(table)
    for row in _rows(answer, "errors"):
        out.print(
            f"{row['peer']}/{row['list']}: {row['detail']}", style="red", markup=False
        )


def print_recovered(out: Console, answer: Json) -> None:
    """Print `POST /v1/recover`: how each list stands, and what stood in the way."""
    table = _table("list", "state", "from", "to", "signed", "no content", "peers")
    for row in _rows(answer, "lists"):
        signed = row["signed_size"]
        table.add_row(
            str(row["name"]),
            str(row["state"]),
            f"{row['old_size']:,}",
            f"{row['new_size']:,}",
            "unknown" if signed is None else f"{signed:,}",
            f"{row['missing_bodies']:,}",
            ", ".join(cast("list[str]", row["answered"])) or "none",
        )
    out.print(table)
    for row in _rows(answer, "lists"):
        for problem in cast("list[str]", row["problems"]):
            out.print(f"{row['name']}: {problem}", style="red", markup=False)


def print_evidence(out: Console, rows: Sequence[Json]) -> None:
    """Print what peers were caught at."""
    table = _table("id", "found", "peer", "list", "code", "what")
    for row in rows:
        members = ("id", "found_at", "peer", "list", "code", "what")
        table.add_row(*(str(row[member]) for member in members))
    out.print(table)


def print_lists(out: Console, rows: Sequence[Json]) -> None:
    """Print own lists with the verifier key that proves their receipts."""
    for row in rows:
        out.print(f"{row['origin']}", style="bold", markup=False, soft_wrap=True)
        size, root = row.get("size", 0), row.get("root_hash", "")
        out.print(f"  size {size:,}  root {root}", soft_wrap=True)
        out.print(f"  vkey {row.get('vkey', '')}", markup=False, soft_wrap=True)


def print_lookup(out: Console, answer: Json) -> None:
    """Print a lookup's answer: what is known, by whom, how sure, and what to do."""
    table = _table("query", "handling", "distance", "opinion", "source", "labels")
    for result in _rows(answer, "results"):
        _add_result(table, result)
    out.print(table)
    for row in _rows(answer, "lists"):
        age = _seconds(row.get("age_seconds"))
        out.print(f"from {row['origin']} at size {row['tree_size']:,}, {age} old")


def print_rows(out: Console, rows: Sequence[Json], *members: str) -> None:
    """Print any flat list of objects as a table of the named members."""
    table = _table(*(member.replace("_", " ") for member in members))
    for row in rows:
        table.add_row(*(_shown(row.get(member)) for member in members))
    out.print(table)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value or "")


def _add_result(table: Table, result: Json) -> None:
    query = cast("Json", result["query"])
    handling = str(result["handling"])
    style = HANDLING_STYLES.get(handling, "")
    named = f"{query['type']}:{str(query['value'])[:_SHORT_HASH]}…"
    matches = _rows(result, "matches")
    if not matches:
        table.add_row(named, handling, "", "", "not known", "", style=style)
    for match in matches:
        records = _rows(match, "records")
        sources = sorted({str(record["origin_node"]) for record in records})
        labels = sorted({label for record in records for label in _labels(record)})
        distance = f"{match['distance']} of {match['threshold']}"
        opinion = str(match["opinion"])
        shown = (", ".join(sources), ", ".join(labels))
        said = handling + _overruled(match)
        table.add_row(named, said, distance, opinion, *shown, style=style)


def _overruled(match: Json) -> str:
    """Say what outweighed the policy's rules, if anything did."""
    return next((f", {it}" for it in ("allowed", "flooded") if match.get(it)), "")


def _labels(record: Json) -> list[str]:
    return [f"{row['scheme']}:{row['value']}" for row in _rows(record, "labels")]


def _via(row: Json) -> str:
    name = str(row["peer"])
    return name if row["via"] is None else f"{name} through {row['via']}"


def _rows(answer: Json, member: str) -> list[Json]:
    return cast("list[Json]", answer.get(member) or [])


def _offset(seconds: object) -> str:
    return "" if seconds is None else f"{seconds:+} s"


def _seconds(value: object) -> str:
    return "" if value is None else f"{value} s"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
