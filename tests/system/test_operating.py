"""An operator with a shell: backup, restore, fsck and doctor of real processes."""

from __future__ import annotations

import json
import os
import random
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest
from sqlalchemy.engine import make_url

from hashlight_node.store import tables
from support.breaking import changing, flip, keys_of
from support.companies import cli, head, introduce, matches, store_of, until
from support.stores import IS_POSTGRESQL, postgresql_programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json
    from support.companies import MakeCompany

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


def marks(company: Company) -> tuple[int, dict[str, str]]:
    """Run the doctor; give its exit code and the worst mark of each check."""
    done = company.run("doctor", "--json")
    rows = cast("list[Json]", json.loads(done.stdout)["checks"])
    worst: dict[str, str] = {}
    for row in sorted(
        rows, key=lambda row: ("ok", "warn", "fail").index(str(row["mark"]))
    ):
        worst[str(row["name"])] = str(row["mark"])
    return done.returncode, worst


def sound_marks(company: Company) -> dict[str, str]:
    """Run the doctor; give the marks, which must agree with its exit code."""
    code, worst = marks(company)
    assert code == ("fail" in worst.values())
    if IS_POSTGRESQL:
        # The server of the tests does not wait for the disk, which it says.
        assert worst.pop("database") == "fail"
    return worst


@contextmanager
def without_store(company: Company) -> Iterator[None]:
    """Take the store away; on a server, it has a name that is not there."""
    if IS_POSTGRESQL:
        name = str(make_url(store_of(company)).database)
        text = company.config.read_text("utf-8")
        company.config.write_text(text.replace(name, f"{name}_away"), "utf-8")
        yield
        company.config.write_text(text, "utf-8")
        return
    shutil.move(company.directory / "hashlight.db", company.directory / "away")
    yield
    shutil.move(company.directory / "away", company.directory / "hashlight.db")


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pg_dump be the one of the server."""
    if IS_POSTGRESQL:
        path = f"{postgresql_programs()}{os.pathsep}{os.environ['PATH']}"
        monkeypatch.setenv("PATH", path)


@pytest.fixture
def pair(make_running: MakeCompany) -> tuple[Company, Company]:
    """Give a hotline with a record in a list, and the platform that follows it."""
    hotline, platform = make_running("shield.example"), make_running("beta.example")
    introduce(hotline, platform)
    cli(hotline, "list", "create", "ncii")
    cli(hotline, "grant", platform.name, "ncii")
    cli(platform, "follow", hotline.name, "ncii")
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'a' * 32}")
    until(lambda: head(platform, ORIGIN) == head(hotline, ORIGIN))
    return hotline, platform


def test_a_running_node_is_backed_up_and_an_old_state_restored(
    pair: tuple[Company, Company], tmp_path: Path
) -> None:
    hotline, platform = pair
    made = str(cli(hotline, "backup", str(tmp_path))["path"])
    said = hotline.run("restore", "--check", made)
    assert said.returncode == 0, said.stderr
    assert b"every byte is what the logs say" in said.stdout
    refused = hotline.run("restore", "--replace", made)
    assert (refused.returncode, b"in use" in refused.stderr) == (1, True)
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'b' * 32}")
    until(lambda: head(platform, ORIGIN) == head(hotline, ORIGIN))
    whole = head(hotline, ORIGIN)
    hotline.stop()
    assert b"not empty" in hotline.run("restore", made).stderr
    assert cli(hotline, "restore", "--replace", made)["needs_recovery"] is True
    assert marks(hotline)[1]["last signed"] == "fail"
    hotline.start()
    assert marks(hotline)[1]["node"] == "fail"
    assert hotline.run("recover").returncode == 0
    assert head(hotline, ORIGIN) == whole
    assert len(matches(hotline, f"md5:{'b' * 32}")) == 1
    assert set(sound_marks(hotline).values()) - {"warn"} == {"ok"}
    worst = marks(hotline)[1]
    assert worst["peer beta.example"] == worst["federation listener"] == "ok"


def test_damage_is_found_and_mended_by_those_who_follow(
    pair: tuple[Company, Company],
) -> None:
    hotline, _ = pair
    assert cli(hotline, "fsck")["clean"] is True
    refused = hotline.run("fsck", "--heal")
    assert (refused.returncode, b"in use" in refused.stderr) == (1, True)
    hotline.stop()
    chance = random.Random(1)  # noqa: S311 -- a schedule, not a secret
    with changing(store_of(hotline)) as conn:
        for key in keys_of(conn, tables.contents):
            flip(conn, tables.contents, "body", key, chance)
        for key in keys_of(conn, tables.entry_bundles):
            flip(conn, tables.entry_bundles, "entries", key, chance)
    found = hotline.run("fsck")
    assert found.returncode == 3
    assert b"damaged entry" in found.stdout
    assert ("a" * 32).encode() not in found.stdout
    mended = hotline.run("fsck", "--heal")
    assert mended.returncode == 0, mended.stdout
    assert cli(hotline, "fsck")["clean"] is True


def test_the_doctor_names_what_is_wrong(make_running: MakeCompany) -> None:
    company = make_running("gamma.example")
    company.stop()
    assert "fail" not in sound_marks(company).values()
    (company.directory / "admin.token").chmod(0o644)
    assert marks(company)[1]["permissions"] == "fail"
    (company.directory / "admin.token").chmod(0o600)
    text = company.config.read_text("utf-8")
    company.config.write_text(
        f"{text}\n[disk]\nwarn_mib = 1073741824\nstop_mib = 1073741824\n", "utf-8"
    )
    assert marks(company)[1]["disk"] == "fail"
    company.config.write_text(f"{text}\n[disk]\nwarn_mib = 1073741824\n", "utf-8")
    assert marks(company)[1]["disk"] == "warn"
    company.config.write_text(text, "utf-8")
    shutil.move(company.directory / "keys", company.directory / "away")
    assert marks(company)[1]["keys"] == "fail"
    shutil.move(company.directory / "away", company.directory / "keys")
    with without_store(company):
        assert marks(company)[1]["schema"] == "fail"
    company.config.write_text("[nod]\n", "utf-8")
    done = company.run("doctor")
    assert done.returncode == 1
    assert b"there is no such setting" in done.stdout
    company.config.write_text(text, "utf-8")
