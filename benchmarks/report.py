"""Turns results into tables, for a terminal and for docs/benchmarks.md.

The document is written by hand around two marks; what is between them is replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.contenders import CONTENDERS
from benchmarks.curves import exponent, points
from benchmarks.goals import GOALS, best_faiss
from benchmarks.options import show_size
from benchmarks.results import chosen, value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.results import Row

BEGIN: Final = "<!-- measured: written by `make bench`; changes here are lost -->"
END: Final = "<!-- end of what was measured -->"

_ABSENT: Final = "not measured"
_MANY: Final = 100  # figures from here on are shown without decimals


def report(rows: Sequence[Row]) -> str:
    """Write everything that was measured as Markdown."""
    parts = [*_machines(rows), *_goals(rows), *_index(rows)]
    parts += [*_curves(rows), *_updates(rows), *_http(rows), *_publish(rows)]
    parts += [*_sync(rows), *_ingest(rows), *_static(rows)]
    parts += [*_scan(rows), *_crowding(rows)]
    return "\n\n".join(parts) + "\n"


def placed(document: str, measured: str) -> str:
    """Put a report between the marks of a document.

    Raises:
        ValueError: It does not have them.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        message = "the document does not say where measurements belong"
        raise ValueError(message)
    return f"{before}{BEGIN}\n\n{measured}\n{END}{after}"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(it) + " |" for it in (header, rule, *lines))


def _number(figure: float | None) -> str:
    if figure is None:
        return ""
    if figure >= _MANY:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"


def _ratio(figure: float, other: float | None) -> float | None:
    return figure / other if other else None


def _machines(rows: Sequence[Row]) -> Iterator[str]:
    """Say on which machine each day's commands ran."""
    found = chosen(rows, section="machine")
    for date in sorted({it["date"] for it in found}):
        some = chosen(found, date=date)
        row = some[-1]
        versions = ", ".join(
            f"{name} {it}"
            for name, it in row["versions"].items()
            if it != "not installed"
        )
        commands = "; ".join(f"`{it['what']}`" for it in some)
        yield (
            f"Measured on {date}: {row['processor']}, {row['cores']} cores,"
            f" {row['cache']} of third-level cache, {row['memory_gb']} GB of memory,"
            f" {row['system']}, Python {row['python']}, {versions};"
            f" index kernel: {row['kernel']}. Command: {commands}."
        )


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Goals"
    lines = []
    for goal in GOALS:
        figure = goal.figure(rows)
        unit = f" {goal.unit}" if goal.unit not in {"", "x"} else goal.unit
        wanted = f"{goal.sign} {goal.limit:,g}{unit}"
        if figure is None:
            lines.append((goal.text, wanted, _ABSENT, ""))
            continue
        verdict = "met" if goal.is_met(figure) else "**not met**"
        lines.append((goal.text, wanted, f"{_number(figure)}{unit}", verdict))
    yield _table(("what", "goal", "measured", ""), lines)


def _index(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Searching in memory"
    measured = chosen(rows, section="index")
    for size in sorted({int(row["size"]) for row in measured}):
        for kind in ("uniform", "clustered"):
            some = chosen(measured, size=size, distribution=kind)
            if some:
                yield f"### {show_size(size)} hashes, {kind}"
                yield _index_table(some)


def _index_table(rows: Sequence[Row]) -> str:
    first = rows[0]
    best = best_faiss(rows, str(first["distribution"]), int(first["size"]))
    header = (
        *("", "build CPU s", "B/hash", "p50 µs", "p99 µs", "batch q/s"),
        *("single x", "batch x", "recall", "truncated"),
    )
    order = list(CONTENDERS)
    rows = sorted(rows, key=lambda row: order.index(row["contender"]))
    return _table(header, [_index_line(row, best) for row in rows])


def _index_line(row: Row, best: Row | None) -> list[str]:
    faster = more = None
    if best is not None:
        faster = best["p50_us"] / row["p50_us"]
        more = row["batch_per_second"] / best["batch_per_second"]
    recall = f"{row['recall']:g}" if not row["wrong"] else f"{row['wrong']} WRONG"
    return [
        CONTENDERS[row["contender"]].title,
        _number(row["build_cpu_seconds"]),
        _number(row["bytes_a_hash"]),
        _number(row["p50_us"]),
        _number(row["p99_us"]),
        _number(row["batch_per_second"]),
        _number(faster),
        _number(more),
        recall,
        f"{row['truncated']} of {row['checked']}",
    ]


def _curves(rows: Sequence[Row]) -> Iterator[str]:
    of = {name: points(rows, name, "p50_us") for name in CONTENDERS}
    known = {name: curve for name, curve in of.items() if len(curve) > 1}
    if not known:
        return
    yield "## How cost grows"
    sizes = sorted({size for curve in known.values() for size, _ in curve})
    header = ("p50 µs, uniform", *map(show_size, sizes), "exponent")
    lines = [
        [
            CONTENDERS[name].title,
            *(_number(dict(curve).get(size)) for size in sizes),
            f"{exponent(curve):.2f}",
        ]
        for name, curve in known.items()
    ]
    yield _table(header, lines)
    yield "Ours, the rest of what grows or does not:"
    figures = {
        "memory, B/hash": "bytes_a_hash",
        "build, CPU s": "build_cpu_seconds",
        "addition visible, p50 µs": "add_p50_us",
        "removal visible, p50 µs": "remove_p50_us",
    }
    header = ("Hashlight, C", *map(show_size, sizes), "exponent")
    lines = []
    for text, figure in figures.items():
        curve = points(rows, "ours-c", figure)
        shown = (_number(dict(curve).get(size)) for size in sizes)
        lines.append([text, *shown, f"{exponent(curve):.2f}"])
    yield _table(header, lines)


def _updates(rows: Sequence[Row]) -> Iterator[str]:
    changed = [row for row in chosen(rows, section="index") if "add_p50_us" in row]
    if not changed:
        return
    yield "## Changes"
    header = (
        *("until a search shows it, µs", "hashes"),
        *("added p50", "p99", "removed p50", "p99"),
    )
    figures = ("add_p50_us", "add_p99_us", "remove_p50_us", "remove_p99_us")
    lines = [
        [
            f"{CONTENDERS[row['contender']].title}, {row['distribution']}",
            show_size(int(row["size"])),
            *(_number(row.get(figure)) or "anew" for figure in figures),
        ]
        for row in changed
        if row["contender"] != "ours-unlimited"
    ]
    yield _table(header, lines)
    lines = [_update_line(row) for row in chosen(rows, section="updates")]
    if lines:
        yield _table(("ours", "hashes", "measured"), lines)


def _update_line(row: Row) -> list[str]:
    size = show_size(int(row["size"]))
    if row["what"] == "restart":
        return ["ready after a restart", size, f"{row['seconds']:.2f} s"]
    return [
        "p99 of a search, before / during merges",
        size,
        f"{row['before_p99_us']:.0f} µs / {row['during_p99_us']:.0f} µs",
    ]


def _http(rows: Sequence[Row]) -> Iterator[str]:
    served = [row for row in chosen(rows, section="http") if "p50_ms" in row]
    if not served:
        return
    yield "## Over HTTP"
    titles = {"ours": "Hashlight", "peer": "Flask, gunicorn, PDQIndex"}
    header = (
        *("", "hashes", "hashes/s and core", "x the peer's misses"),
        *("requests/s", "p50 ms", "p99 ms"),
    )
    name = "hashes_per_core_second"
    peers = {
        row["size"]: float(row[name])
        for row in chosen(served, contender="peer", what="miss")
    }
    lines = [
        [
            f"{titles.get(row['contender'], row['contender'])}, {row['what']}",
            show_size(int(row["size"])),
            _number(row[name]),
            _number(_ratio(row[name], peers.get(row["size"]))),
            _number(row["requests_per_second"]),
            _number(row["p50_ms"]),
            _number(row["p99_ms"]),
        ]
        for row in served
    ]
    yield _table(header, lines)
    for row in chosen(rows, section="http", what="publish"):
        yield (
            f"The node was filled by publishing {int(row['size']):,} records:"
            f" {_number(row['per_second'])} a second."
        )


def _publish(rows: Sequence[Row]) -> Iterator[str]:
    measured = chosen(rows, section="publish")
    if not measured:
        return
    yield "## Publish to matchable"
    titles: dict[str, str] = {
        "answered": "answered: in the log, signed, on disk",
        "own node": "matchable on the own node",
        "peer": "matchable on the peer",
    }
    figures = ("p50_ms", "p99_ms", "max_ms")
    lines = [
        [titles[row["what"]], *(_number(row[it]) for it in figures)] for row in measured
    ]
    yield _table(("ms", "p50", "p99", "max"), lines)


def _sync(rows: Sequence[Row]) -> Iterator[str]:
    measured = chosen(rows, section="sync", what="update")
    if not measured:
        return
    yield "## As a list grows"
    yield "An update between two nodes on PostgreSQL, less what both do when idle:"
    header = (
        *("records in the list", "new records", "bytes between both"),
        *("CPU ms of the owner", "of the peer"),
        *("database pages of the owner", "of the peer"),
    )
    figures = ("bytes", "owner_cpu_ms", "peer_cpu_ms", "owner_pages", "peer_pages")
    lines = [
        [
            show_size(int(row["size"])),
            f"{int(row['kind']):,}",
            *(_number(row[it]) for it in figures),
        ]
        for row in sorted(measured, key=lambda row: (row["kind"], row["size"]))
    ]
    yield _table(header, lines)
    yield "A new peer on PostgreSQL copies the list, and pages of its copy are read:"
    header = (
        *("records", "seconds", "records/s", "per CPU s of the peer's node"),
        *("most memory, with helper, MB", "first page, µs", "last page, µs"),
    )
    lines = [
        _growth_line(rows, row)
        for row in chosen(rows, section="sync", what="bootstrap")
    ]
    yield _table(header, lines)


def _growth_line(rows: Sequence[Row], copied: Row) -> list[str]:
    wanted = {"section": "sync", "what": "pages", "size": copied["size"]}
    return [
        show_size(int(copied["size"])),
        _number(copied["seconds"]),
        _number(copied["per_second"]),
        _number(copied["per_cpu_second"]),
        _number(copied["peak_mb_with_helper"]),
        _number(value(rows, "first_us", **wanted)),
        _number(value(rows, "last_us", **wanted)),
    ]


def _static(rows: Sequence[Row]) -> Iterator[str]:
    measured = chosen(rows, section="static")
    if not measured:
        return
    yield "## Sent by a proxy"
    header = (
        *("one full", "asked", "requests/s", "p50 ms", "answer, bytes"),
        *("CPU ms of the node", "CPU ms of nginx"),
    )
    figures = ("requests_per_second", "p50_ms", "answer_bytes")
    costs = ("node_cpu_ms", "proxy_cpu_ms")
    lines = [
        [row["kind"], row["way"], *(_number(row[it]) for it in (*figures, *costs))]
        for row in measured
    ]
    yield _table(header, lines)


def _ingest(rows: Sequence[Row]) -> Iterator[str]:
    measured = [
        row
        for what in ("verified", "raw")
        for row in chosen(rows, section="ingest", what=what)
    ]
    if measured:
        yield "## Many records"
        header = (
            *("records/s", "store", "by the clock", "per CPU second of ours"),
            "of ours and the server's",
        )
        titles = {"verified": "verified and applied", "raw": "peer: one table, deduped"}
        figures = ("per_second", "per_cpu_second", "per_cpu_second_with_server")
        yield _table(
            header,
            [
                [
                    titles[row["what"]],
                    row["store"],
                    *(_number(row[it]) for it in figures),
                ]
                for row in measured
            ],
        )
    for row in chosen(rows, section="ingest", what="import"):
        yield (
            f"`hashlight import` of {int(row['size']):,} rows of CSV:"
            f" {_number(row['per_second'])} a second."
        )
    for row in chosen(rows, section="ingest", what="bootstrap"):
        yield (
            f"A new peer copied and verified {int(row['size']):,} records in"
            f" {_number(row['seconds'])} s: {_number(row['per_second'])} a second,"
            f" {_number(row['per_cpu_second'])} per second of its CPU time. At most its"
            f" node held {row['peak_mb']} MB, {row['peak_mb_with_helper']} MB with the"
            " process that helped it."
        )
    for row in chosen(rows, section="ingest", what="pages"):
        yield (
            f"Of {int(row['size']):,} records the last pages took"
            f" {_number(row['ratio'])} times what the first took"
            f" ({_number(row['last_us'])} and {_number(row['first_us'])} µs)."
        )
    for row in chosen(rows, section="five-peers"):
        yield (
            f"{_number(row['per_second'])} records a second to {row['peers']} peers:"
            f" matchable after {_number(row['p50_ms'])} ms (p50),"
            f" {_number(row['p99_ms'])} ms (p99)."
        )


def _scan(rows: Sequence[Row]) -> Iterator[str]:
    measured = chosen(rows, section="scan")
    if not measured:
        return
    yield "## A back catalogue"
    lines = [
        [row["kind"], show_size(int(row["size"])), _number(row["per_second"])]
        for row in measured
    ]
    yield _table(("stored hashes searched", "rows", "rows/s"), lines)


def _crowding(rows: Sequence[Row]) -> Iterator[str]:
    measured = chosen(rows, section="crowding")
    if not measured:
        return
    yield "## The clustered hashes"
    header = (
        *("share of a kind within 31 bits", "equal to our PDQ"),
        *("drawn p50", "p90", "most", "whole pictures p50", "p90", "most"),
    )
    figures = ("p50", "p90", "most")
    lines = [
        [
            row["what"],
            f"{100 * row['equal_to_pdq']:.0f} %",
            *(f"{100 * row['drawn'][it]:.1f} %" for it in figures),
            *(f"{100 * row['photographed'][it]:.1f} %" for it in figures),
        ]
        for row in measured
    ]
    yield _table(header, lines)
