"""Nodes killed at random moments lose nothing that was acknowledged."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from hashlight_node.demo.company import Company
from hashlight_node.local_client import Json
from support.companies import cli, head, matches_of_all, until

ROWS_AN_IMPORT = 500


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_lose_no_acknowledged_record(
    kills: int, pair: tuple[Company, Company], tmp_path: Path
) -> None:
    hotline, platform = pair
    list_name = f"kills-{kills}"
    origin = str(cli(hotline, "list", "create", list_name)["origin"])
    cli(hotline, "grant", platform.name, list_name)
    cli(platform, "follow", hotline.name, list_name)
    # A seed of its own each run; printed, so that a failure can be run again.
    seed = int.from_bytes(os.urandom(4))
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)  # noqa: S311  a schedule, not a secret
    rows = [_row(chance) for _ in range(kills * ROWS_AN_IMPORT)]
    for number in range(kills):
        part = rows[number * ROWS_AN_IMPORT : (number + 1) * ROWS_AN_IMPORT]
        file = tmp_path / f"part-{number}.csv"
        file.write_text("pdq,md5\n" + "".join(part), encoding="ascii")
        importing = _start_import(hotline, list_name, file)
        # From before the import's first request to well after its last.
        time.sleep(chance.uniform(0.3, 1.2))
        victim = chance.choice(pair)
        victim.kill()
        victim.start()
        _, said = importing.communicate(timeout=120)
        assert importing.returncode == 0, said.decode()
    expected = len(rows) + 1
    for company in pair:
        _until_size(company, origin, expected)
    assert head(pair[0], origin) == head(pair[1], origin)
    signals = [part for row in rows for part in _signals(row)]
    for company in pair:
        for start in range(0, len(signals), 1000):
            for found in matches_of_all(company, signals[start : start + 1000]):
                # Nothing is lost, and nothing is there twice.
                (match,) = found
                assert len(cast("list[Json]", match["records"])) == 1


def _until_size(company: Company, origin: str, size: int) -> None:
    until(lambda: head(company, origin)[0] == size, seconds=60)


def test_an_import_that_is_run_again_publishes_nothing_twice(
    pair: tuple[Company, Company], tmp_path: Path
) -> None:
    hotline, _ = pair
    file = tmp_path / "list.csv"
    chance = random.Random(7)  # noqa: S311  any rows will do
    body = "".join(_row(chance) for _ in range(1500)) + "not-hex,\n"
    file.write_text("pdq,md5\n" + body, encoding="ascii")
    origin = str(cli(hotline, "list", "create", "twice")["origin"])
    first = cli(hotline, "import", "twice", str(file))
    again = cli(hotline, "import", "twice", str(file))
    assert first == again
    assert (first["published"], first["rejected"]) == (1500, 1)
    assert head(hotline, origin)[0] == 1501
    rejects = Path(str(first["rejects_file"])).read_text(encoding="utf-8")
    assert rejects.splitlines()[1].startswith("1501,")


def _signals(row: str) -> tuple[str, str]:
    pdq, md5 = row.strip().split(",")
    return f"pdq:{pdq}", f"md5:{md5}"


def _row(chance: random.Random) -> str:
    return f"{chance.randbytes(32).hex()},{chance.randbytes(16).hex()}\n"


def _start_import(
    company: Company, list_name: str, file: Path
) -> subprocess.Popen[bytes]:
    command = ("import", list_name, str(file), "-c", str(company.config), "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "hashlight_node", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
