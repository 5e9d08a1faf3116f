"""Plots of what was measured, as SVG beside the documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders import CONTENDERS
from benchmarks.curves import exponent, points
from benchmarks.options import show_size
from benchmarks.results import chosen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.results import Row

_COLOURS: Final = {
    "ours-c": "#0b6e4f",
    "ours-unlimited": "#4fa987",
    "ours-numpy": "#8fc7a9",
    "faiss-wide": "#c2571a",
    "faiss-narrow": "#e08e45",
    "faiss-flat": "#8a8a8a",
    "reference": "#7a1f3d",
}
"""Dark enough for white paper, and told apart by people who do not see all colours:
every line and bar has its name beside it, too."""

_SETTINGS: Final = {
    # The same results give the same file.
    "svg.hashsalt": "hashlight",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Draw every plot for which there are results.

    Args:
        rows: All results.
        folder: Where `bench-*.svg` go.
    """
    import matplotlib as mpl  # noqa: PLC0415  the benchmarks run without it, too

    mpl.use("svg")
    mpl.rcParams.update(_SETTINGS)
    import matplotlib.pyplot as plt  # noqa: PLC0415  takes its backend when imported

    for name, make in (("curves", _curves), ("index", _rates), ("http", _http)):
        figure = make(plt, rows)
        if figure is not None:
            file = folder / f"bench-{name}.svg"
            figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)


def _curves(plt: Any, rows: Sequence[Row]) -> Any:  # noqa: ANN401  matplotlib's
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.4))
    panels = (
        ("p50_us", "p50 of a query, µs"),
        ("bytes_a_hash", "memory, B/hash"),
        ("add_p50_us", "p50 until an added hash is found, µs"),
    )
    is_empty = True
    for axis, (name, title) in zip(axes.flat, panels, strict=False):
        for contender in CONTENDERS:
            curve = points(rows, contender, name)
            if len(curve) > 1 and contender != "ours-unlimited":
                is_empty = False
                label = f"{CONTENDERS[contender].title}, n^{exponent(curve):.2f}"
                _line(axis, curve, _COLOURS[contender], label)
        _finish(axis, "hashes, uniform", title)
    _updates(axes.flat[3], chosen(rows, section="sync", what="update"))
    figure.tight_layout()
    return None if is_empty else figure


def _updates(axis: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401  matplotlib's
    """Draw what goes between two nodes, on an axis on which flat looks flat."""
    for many, colour in ((1, _COLOURS["ours-c"]), (1000, _COLOURS["ours-numpy"])):
        curve = [(row["size"], row["bytes"]) for row in chosen(rows, kind=many)]
        if len(curve) > 1:
            label = f"{many:,} new, n^{abs(exponent(curve)):.2f}"
            _line(axis, curve, colour, label)
    if not axis.lines:
        axis.set_axis_off()
        return
    _finish(axis, "records in the list", "bytes between two nodes for new records")
    axis.set_ylim(1e3, 1e6)


def _finish(axis: Any, x_label: str, title: str) -> None:  # noqa: ANN401  matplotlib's
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x_label)
    axis.set_title(title, loc="left")
    axis.grid(visible=True, alpha=0.25)
    if axis.lines:
        axis.legend(fontsize=8, framealpha=0.8, edgecolor="none")


def _line(
    axis: Any,  # noqa: ANN401  matplotlib's
    curve: Sequence[tuple[int, float]],
    colour: str,
    label: str,
) -> None:
    sizes, figures = zip(*curve, strict=True)
    axis.plot(sizes, figures, marker="o", markersize=4, color=colour, label=label)


def _dots(
    axis: Any,  # noqa: ANN401  matplotlib's
    names: Sequence[str],
    rates: Sequence[float],
    colours: Sequence[str],
) -> None:
    """Draw points and not bars: on a logarithmic axis a bar has no length."""
    axis.scatter(rates, names, color=colours, s=42, zorder=3)
    for name, rate in zip(names, rates, strict=True):
        where = {"xytext": (7, -3), "textcoords": "offset points"}
        axis.annotate(f"{rate:,.0f}", (rate, name), **where)
    axis.set_xscale("log")
    axis.grid(visible=True, axis="y", alpha=0.4)
    axis.margins(x=0.25, y=0.15)  # not limits: the sizes of a column share theirs


def _rates(plt: Any, rows: Sequence[Row]) -> Any:  # noqa: ANN401  matplotlib's
    measured = chosen(rows, section="index")
    sizes = sorted({int(row["size"]) for row in measured})
    if not sizes:
        return None
    figure, axes = plt.subplots(
        len(sizes), 2, figsize=(11, 2.6 * len(sizes)), squeeze=False, sharex="col"
    )
    for line, size in zip(axes, sizes, strict=True):
        for axis, kind in zip(line, ("uniform", "clustered"), strict=True):
            some = chosen(measured, size=size, distribution=kind)
            _queries_per_second(axis, some)
            axis.set_title(f"{show_size(size)}, {kind}: queries/s", loc="left")
    figure.tight_layout()
    return figure


def _queries_per_second(axis: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401
    order = list(CONTENDERS)
    rows = sorted(rows, key=lambda row: -order.index(row["contender"]))
    names = [CONTENDERS[row["contender"]].title for row in rows]
    rates = [row["batch_per_second"] for row in rows]
    colours = [_COLOURS[row["contender"]] for row in rows]
    _dots(axis, names, rates, colours)


def _http(plt: Any, rows: Sequence[Row]) -> Any:  # noqa: ANN401  matplotlib's
    titles = {"ours": "Hashlight", "peer": "Flask + PDQIndex"}
    served = [row for row in chosen(rows, section="http") if row.get("contender")]
    if not served:
        return None
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(served) + 1))
    served.reverse()
    names = [f"{titles[row['contender']]}, {row['what']}" for row in served]
    rates = [row["hashes_per_core_second"] for row in served]
    colours = ["#0b6e4f" if row["contender"] == "ours" else "#7a1f3d" for row in served]
    _dots(axis, names, rates, colours)
    axis.set_title("hashes looked up a second and core, over HTTP", loc="left")
    return figure
