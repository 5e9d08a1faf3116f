"""Contestants over the same hashes: what they are asked, and that they are right."""

from pathlib import Path

import pytest

from benchmarks.arena import (
    ContestantError,
    build_all,
    recall_of,
    seated,
    time_updates,
)
from benchmarks.hashes import load, prepare
from benchmarks.truth import brute_force

COUNT = 5000


def test_our_index_answers_as_brute_force_does(tmp_path: Path) -> None:
    files = prepare(tmp_path, "clustered", COUNT)
    truth = brute_force(load(files[0]), load(files[1])[:64])

    with seated(["ours-numpy"], files) as (seat,):
        built = build_all([seat])
        checked = recall_of(seat, truth)
        changed = time_updates(seat)

    assert built["ours-numpy"].keys() == {
        "build_cpu_seconds",
        "build_seconds",
        "bytes_a_hash",
    }
    assert (checked["recall"], checked["wrong"]) == (1.0, 0)
    assert checked["expected"] == sum(map(len, truth))
    assert {"add_p99_us", "remove_p99_us"} <= changed.keys()


def test_an_answer_that_is_wrong_or_missing_is_counted(tmp_path: Path) -> None:
    files = prepare(tmp_path, "uniform", COUNT)
    truth = brute_force(load(files[0]), load(files[1])[:64])
    altered = [frozenset({*rows, COUNT + 1}) for rows in truth]
    emptied = [frozenset[int]() for _ in truth]

    with seated(["ours-numpy"], files) as (seat,):
        build_all([seat])
        assert float(str(recall_of(seat, altered)["recall"])) < 1
        assert recall_of(seat, emptied)["wrong"] == sum(map(len, truth))


def test_a_contestant_that_ends_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    missing = (tmp_path / "none.npy", tmp_path / "none.npy")

    with (
        seated(["ours-numpy"], missing) as (seat,),
        pytest.raises(ContestantError, match="ours-numpy"),
    ):
        seat.ask("build")
    assert "No such file" in capfd.readouterr().err
