"""What was to be reached, beside what was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from benchmarks.contenders import CONTENDERS
from benchmarks.curves import growth, points
from benchmarks.options import MILLION, show_size
from benchmarks.results import chosen, value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.results import Row

    Figure = Callable[[Sequence[Row]], float | None]

_FAISS: Final = ("faiss-wide", "faiss-narrow", "faiss-flat")
_TEN_MILLION: Final = 10 * MILLION


@dataclass(frozen=True, slots=True)
class Goal:
    """One thing to reach.

    Attributes:
        text: What, in words.
        sign: Whether the figure has to reach the limit or to stay within it.
        limit: In `unit`.
        unit: Written behind both numbers.
        figure: Takes all results; None if this was not measured.
    """

    text: str
    sign: Literal["≥", "≤"]
    limit: float
    unit: str
    figure: Figure

    def is_met(self, figure: float) -> bool:
        """Compare what was measured with the limit."""
        return figure >= self.limit if self.sign == "≥" else figure <= self.limit


def best_faiss(rows: Sequence[Row], distribution: str, size: int) -> Row | None:
    """Give the faiss index that answers single queries fastest there."""
    of_index = chosen(rows, section="index", distribution=distribution, size=size)
    peers = [row for row in of_index if row["contender"] in _FAISS]
    return min(peers, key=lambda row: float(row["p50_us"]), default=None)


def _index(
    rows: Sequence[Row], figure: str, contender: str, distribution: str, size: int
) -> float | None:
    return value(
        rows,
        figure,
        section="index",
        contender=contender,
        distribution=distribution,
        size=size,
    )


def _faster(
    distribution: str,
    size: int,
    *,
    figure: str = "p50_us",
    peer: str | None = None,
    ours: str = "ours-c",
) -> Figure:
    """Compare a figure with a peer's, the best faiss if none is named."""

    def ratio(rows: Sequence[Row]) -> float | None:
        name = peer
        if name is None:
            best = best_faiss(rows, distribution, size)
            name = "" if best is None else str(best["contender"])
        mine = _index(rows, figure, ours, distribution, size)
        theirs = _index(rows, figure, name, distribution, size)
        if mine is None or theirs is None:
            return None
        # Of queries a second more is better, of time less.
        return mine / theirs if figure.endswith("_second") else theirs / mine

    return ratio


def _ours(figure: str, distribution: str, size: int) -> Figure:
    return lambda rows: _index(rows, figure, "ours-c", distribution, size)


def _worst(figure: str) -> Figure:
    """Give the largest figure of ours, of a million hashes on."""

    def worst(rows: Sequence[Row]) -> float | None:
        mine = chosen(rows, section="index", contender="ours-c")
        large = [row for row in mine if row["size"] >= MILLION and figure in row]
        return max((float(row[figure]) for row in large), default=None)

    return worst


def _recall(rows: Sequence[Row]) -> float | None:
    mine = [
        row
        for row in chosen(rows, section="index")
        if row["contender"].startswith("ours")
    ]
    return min((0.0 if it["wrong"] else it["recall"] for it in mine), default=None)


def _growth(rows: Sequence[Row]) -> float | None:
    return growth(points(rows, "ours-c", "p50_us"))


def _restart(rows: Sequence[Row]) -> float | None:
    wanted = {"section": "updates", "what": "restart", "size": _TEN_MILLION}
    return value(rows, "seconds", **wanted)


def _merge(rows: Sequence[Row]) -> float | None:
    return value(rows, "p99_ratio", section="updates", what="merge")


def _http(what: str, size: int = MILLION) -> Figure:
    wanted = {"section": "http", "contender": "ours", "what": what, "size": size}
    return lambda rows: value(rows, "hashes_per_core_second", **wanted)


def _ingest(store: str) -> Figure:
    def best(rows: Sequence[Row]) -> float | None:
        found = chosen(rows, section="ingest", what="verified", store=store)
        return max((float(row["per_second"]) for row in found), default=None)

    return best


def _copied(name: str) -> Figure:
    wanted = {"section": "ingest", "what": "bootstrap", "size": MILLION}
    return lambda rows: value(rows, name, **wanted)


def _pages(rows: Sequence[Row]) -> float | None:
    return value(rows, "ratio", section="sync", what="pages", size=_TEN_MILLION)


def _five_peers(rows: Sequence[Row]) -> float | None:
    return value(rows, "p99_ms", section="five-peers")


def _published(what: str) -> Figure:
    return lambda rows: value(rows, "p99_ms", section="publish", what=what)


def _against(what: str, kind: str, size: int, limit: float, figure: Figure) -> Goal:
    shown = f"{what}, {show_size(size)} {kind}"
    return Goal(shown, "≥", limit, "x", figure)


def _single(kind: str, size: int, limit: float, peer: str | None = None) -> Goal:
    name = "best exact faiss" if peer is None else CONTENDERS[peer].title
    figure = _faster(kind, size, peer=peer)
    return _against(f"single query against {name}", kind, size, limit, figure)


def _batch(kind: str, size: int, limit: float) -> Goal:
    figure = _faster(kind, size, figure="batch_per_second")
    return _against("batch against best exact faiss", kind, size, limit, figure)


def _numpy(kind: str, size: int, limit: float) -> Goal:
    figure = _faster(kind, size, ours="ours-numpy")
    what = "single query, numpy against best exact faiss"
    return _against(what, kind, size, limit, figure)


def _build(kind: str, size: int) -> Goal:
    figure = _faster(kind, size, figure="build_cpu_seconds")
    return _against("build against best exact faiss", kind, size, 20, figure)


def _tail(size: int, limit: float) -> Goal:
    text = f"p99 with the default limit, {show_size(size)} clustered"
    return Goal(text, "≤", limit, "µs", _ours("p99_us", "clustered", size))


GOALS: Final[tuple[Goal, ...]] = (
    Goal("recall against brute force, everywhere", "≥", 1, "", _recall),
    _single("uniform", MILLION, 100),
    _single("uniform", MILLION, 100, "reference"),
    _single("clustered", MILLION, 60),
    _single("clustered", MILLION, 60, "reference"),
    _single("uniform", _TEN_MILLION, 35),
    _single("uniform", _TEN_MILLION, 350, "faiss-flat"),
    _single("clustered", _TEN_MILLION, 35),
    _single("clustered", _TEN_MILLION, 350, "faiss-flat"),
    _batch("uniform", MILLION, 100),
    _batch("clustered", MILLION, 100),
    _batch("uniform", _TEN_MILLION, 35),
    _batch("clustered", _TEN_MILLION, 35),
    _numpy("uniform", MILLION, 7),
    _numpy("uniform", _TEN_MILLION, 5),
    _tail(MILLION, 1000),
    _tail(_TEN_MILLION, 3000),
    Goal("p50 per tenfold data, at worst", "≤", 6, "x", _growth),
    Goal("memory a hash, at worst", "≤", 140, "B", _worst("bytes_a_hash")),
    _build("uniform", MILLION),
    _build("uniform", _TEN_MILLION),
    Goal("10 M hashes ready after a restart", "≤", 10, "s", _restart),
    Goal("addition visible, p99", "≤", 1000, "µs", _worst("add_p99_us")),
    Goal("removal visible, p99", "≤", 1000, "µs", _worst("remove_p99_us")),
    Goal("p99 during a merge against before it", "≤", 2, "x", _merge),
    Goal("HTTP, single lookups, 1 M", "≥", 6000, "/s and core", _http("miss")),
    Goal("HTTP, bulk, 1 M", "≥", 50_000, "/s and core", _http("bulk")),
    Goal(
        "HTTP, bulk, 10 M",
        "≥",
        10_000,
        "/s and core",
        _http("bulk", _TEN_MILLION),
    ),
    Goal("publish to match, own node, p99", "≤", 50, "ms", _published("own node")),
    Goal("publish to match, peer, p99", "≤", 1000, "ms", _published("peer")),
    Goal("200 records/s to match on five peers, p99", "≤", 1000, "ms", _five_peers),
    Goal("verified and applied, SQLite", "≥", 30_000, "/s", _ingest("SQLite")),
    Goal("verified and applied, PostgreSQL", "≥", 25_000, "/s", _ingest("PostgreSQL")),
    Goal("a new peer copies 1 M records", "≤", 60, "s", _copied("seconds")),
    Goal(
        "memory for that, helper included",
        "≤",
        300,
        "MB",
        _copied("peak_mb_with_helper"),
    ),
    Goal("the last page against the first, 10 M", "≤", 1.2, "x", _pages),
)
"""The goals that this project set itself before it was written."""
