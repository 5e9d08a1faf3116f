"""Results outlive interruptions, and documents say what was measured."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.curves import exponent, growth
from benchmarks.goals import GOALS, best_faiss
from benchmarks.measuring import percentile
from benchmarks.options import parse_size, show_size
from benchmarks.report import BEGIN, END, placed, report
from benchmarks.results import Results

DOCS = Path(__file__).resolve().parents[2] / "docs"


def row_of(contender: str, p50_us: float, **more: object) -> dict[str, object]:
    return {
        "section": "index",
        "contender": contender,
        "distribution": "uniform",
        "size": 1_000_000,
        "p50_us": p50_us,
        **more,
    }


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.add("index", {"size": 1, "p50_us": 2.0})
    with results.file.open("a") as out:
        out.write('{"section": "ind')

    assert results.read() == [{"section": "index", "size": 1, "p50_us": 2.0}]


def test_what_is_measured_again_replaces_what_was(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    for figure in (2.0, 3.0):
        results.add("index", {"size": 1, "p50_us": figure})

    assert [row["p50_us"] for row in results.read()] == [3.0]


def test_a_new_run_keeps_the_one_before(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.add("index", {"size": 1})
    results.begin_anew()

    assert results.read() == []
    assert len((tmp_path / "results.previous.jsonl").read_text().splitlines()) == 1


def test_the_exponent_of_a_power_is_found() -> None:
    assert exponent([(n, 3 * math.sqrt(n)) for n in (10, 100, 1000)]) == pytest.approx(
        0.5
    )


def test_growth_compares_a_size_with_its_tenfold_only() -> None:
    assert growth([(10, 1.0), (30, 9.0), (100, 4.0), (1000, 8.0)]) == 4.0
    assert growth([(10, 1.0), (30, 9.0)]) is None


@pytest.mark.parametrize(
    ("text", "size"), [("250k", 250_000), ("1m", 1_000_000), ("42", 42)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_sizes_are_written_as_people_read_them() -> None:
    assert [show_size(n) for n in (10_000_000, 300_000, 42)] == ["10 M", "300 k", "42"]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 201)]

    assert [percentile(values, it) for it in (50, 99, 100)] == [100.0, 198.0, 200.0]


def test_a_goal_is_judged_against_the_peer_that_answers_fastest() -> None:
    rows = [row_of("ours-c", 2.0), row_of("faiss-flat", 900.0)]
    rows.append(row_of("faiss-wide", 300.0))
    goal = next(it for it in GOALS if "best exact faiss, 1 M uniform" in it.text)

    best = best_faiss(rows, "uniform", 1_000_000)
    assert best is not None
    assert best["contender"] == "faiss-wide"
    figure = goal.figure(rows)
    assert figure == 150.0
    assert goal.is_met(figure)
    assert not goal.is_met(figure / 2)


def test_what_was_not_measured_is_not_called_met() -> None:
    written = report([])

    assert "not measured" in written
    assert "| met |" not in written


def test_the_document_says_what_its_results_say() -> None:
    lines = (DOCS / "benchmarks.jsonl").read_text("utf-8").splitlines()
    document = (DOCS / "benchmarks.md").read_text("utf-8")

    assert placed(document, report([json.loads(line) for line in lines])) == document


def test_a_document_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="where measurements belong"):
        placed(f"{END} {BEGIN}"[:20], "")
