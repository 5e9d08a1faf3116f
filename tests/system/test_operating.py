"""An operator with a shell: backup, restore, fsck and doctor of real processes."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING, cast

from hashlight_node.store import tables
from support.breaking import changing, flip, keys_of
from support.companies import cli, head, introduce, matches, until

if TYPE_CHECKING:
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


def store_of(company: Company) -> str:
    return f"sqlite:///{company.directory / 'hashlight.db'}"


def test_an_operator_backs_up_breaks_mends_and_restores(
    make_running: MakeCompany, tmp_path: Path
) -> None:
    hotline, platform = make_running("shield.example"), make_running("beta.example")
    introduce(hotline, platform)
    cli(hotline, "list", "create", "ncii")
    cli(hotline, "grant", platform.name, "ncii")
    cli(platform, "follow", hotline.name, "ncii")
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'a' * 32}")
    until(lambda: head(platform, ORIGIN) == head(hotline, ORIGIN))

    # While it runs.
    made = cli(hotline, "backup", str(tmp_path))
    assert cli(hotline, "fsck")["clean"] is True
    said = hotline.run("restore", "--check", str(made["path"]))
    assert said.returncode == 0, said.stderr
    assert b"every byte is what the logs say" in said.stdout
    code, worst = marks(hotline)
    assert (code, set(worst.values()) - {"warn"}) == (0, {"ok"})
    assert worst["peer beta.example"] == worst["federation listener"] == "ok"
    for refused in (("fsck", "--heal"), ("restore", "--replace", str(made["path"]))):
        done = hotline.run(*refused)
        assert (done.returncode, b"in use" in done.stderr) == (1, True)

    # Damage is found, and mended by the platform.
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'b' * 32}")
    until(lambda: head(platform, ORIGIN) == head(hotline, ORIGIN))
    whole = head(hotline, ORIGIN)
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

    # An old backup comes back, and the guard speaks.
    refused_again = hotline.run("restore", str(made["path"]))
    assert b"not empty" in refused_again.stderr
    put_back = cli(hotline, "restore", "--replace", str(made["path"]))
    assert put_back["needs_recovery"] is True
    code, worst = marks(hotline)
    assert (code, worst["last signed"]) == (1, "fail")
    hotline.start()
    assert marks(hotline)[1]["node"] == "fail"
    assert hotline.run("recover").returncode == 0
    assert head(hotline, ORIGIN) == whole
    assert len(matches(hotline, f"md5:{'b' * 32}")) == 1
    assert marks(hotline)[0] == 0


def test_the_doctor_names_what_is_wrong(make_running: MakeCompany) -> None:
    company = make_running("gamma.example")
    company.stop()
    assert marks(company)[0] == 0
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
    shutil.move(company.directory / "hashlight.db", company.directory / "away")
    assert marks(company)[1]["schema"] == "fail"
    shutil.move(company.directory / "away", company.directory / "hashlight.db")
    company.config.write_text("[nod]\n", "utf-8")
    done = company.run("doctor")
    assert done.returncode == 1
    assert b"there is no such setting" in done.stdout
    company.config.write_text(text, "utf-8")
