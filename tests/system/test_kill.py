"""Nodes killed at random moments lose nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hashlight_node.demo.company import Company
from support.companies import cli, head, matches_of_all, until

KILLS = 20
ROWS_AN_IMPORT = 500
ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.mark.timeout(600)
def test_twenty_kills_lose_no_acknowledged_record(
    pair: tuple[Company, Company], tmp_path: Path
) -> None:
    hotline, _ = pair
    # A seed of its own each run; printed, so that a failure can be run again.
    seed = int.from_bytes(os.urandom(4))
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)  # noqa: S311  a schedule, not a secret
    rows = [_row(chance) for _ in range(KILLS * ROWS_AN_IMPORT)]
    for number in range(KILLS):
        part = rows[number * ROWS_AN_IMPORT : (number + 1) * ROWS_AN_IMPORT]
        file = tmp_path / f"part-{number}.csv"
        file.write_text("pdq,md5\n" + "".join(part), encoding="ascii")
        importing = _start_import(hotline, file)
        # From before the import's first request to well after its last.
        time.sleep(chance.uniform(0.3, 1.2))
        victim = chance.choice(pair)
        victim.kill()
        victim.start()
        assert importing.wait(120) == 0
    expected = len(rows) + 1
    for company in pair:
        until(lambda at=company: head(at, ORIGIN)[0] == expected, seconds=60)
    assert head(pair[0], ORIGIN) == head(pair[1], ORIGIN)
    signals = [part for row in rows for part in _signals(row)]
    for company in pair:
        for start in range(0, len(signals), 1000):
            found = matches_of_all(company, signals[start : start + 1000])
            # One match each: nothing is lost, and nothing is there twice.
            assert all(
                len(match) == 1 and len(match[0]["records"]) == 1 for match in found
            )  # type: ignore[arg-type]


def test_an_import_that_is_run_again_publishes_nothing_twice(
    pair: tuple[Company, Company], tmp_path: Path
) -> None:
    hotline, _ = pair
    file = tmp_path / "list.csv"
    chance = random.Random(7)  # noqa: S311  any rows will do
    body = "".join(_row(chance) for _ in range(1500)) + "not-hex,\n"
    file.write_text("pdq,md5\n" + body, encoding="ascii")
    first = cli(hotline, "import", "ncii", str(file))
    again = cli(hotline, "import", "ncii", str(file))
    assert first == again
    assert (first["published"], first["rejected"]) == (1500, 1)
    assert head(hotline, ORIGIN)[0] == 1501
    rejects = Path(str(first["rejects_file"])).read_text(encoding="utf-8")
    assert rejects.splitlines()[1].startswith("1501,")


def _signals(row: str) -> tuple[str, str]:
    pdq, md5 = row.strip().split(",")
    return f"pdq:{pdq}", f"md5:{md5}"


def _row(chance: random.Random) -> str:
    return f"{chance.randbytes(32).hex()},{chance.randbytes(16).hex()}\n"


def _start_import(company: Company, file: Path) -> subprocess.Popen[bytes]:
    command = ("import", "ncii", str(file), "-c", str(company.config), "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "hashlight_node", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
