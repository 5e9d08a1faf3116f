"""Backups, restored by an operator with a shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest
from sqlalchemy.engine import make_url

from support.companies import cli, head, introduce, matches, store_of, until
from support.stores import IS_POSTGRESQL, duplicate, replace

if TYPE_CHECKING:
    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json
    from support.companies import MakeCompany

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture
def restored(make_running: MakeCompany) -> tuple[Company, Company]:
    """Give a hotline that runs on an old backup, and the platform that follows it."""
    hotline, platform = make_running("shield.example"), make_running("beta.example")
    introduce(hotline, platform)
    cli(hotline, "list", "create", "ncii")
    cli(hotline, "grant", platform.name, "ncii")
    cli(platform, "follow", hotline.name, "ncii")
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'a' * 32}")
    hotline.stop()
    backup = duplicate(store_of(hotline), hotline.directory / "backup")
    hotline.start()
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'b' * 32}")
    until(lambda: head(platform, ORIGIN) == head(hotline, ORIGIN))
    hotline.stop()
    replace(store_of(hotline), backup)
    hotline.start()
    return hotline, platform


def test_an_operator_is_told_and_heals(restored: tuple[Company, Company]) -> None:
    hotline, platform = restored
    (row,) = cast("list[Json]", cli(hotline, "status")["lists"])
    assert row["state"] == "rolled-back"
    refused = hotline.run("publish", "ncii", "--signal", f"md5:{'c' * 32}", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stderr)["error"] == "rolled-back"
    log_lines = hotline.log_file.read_text(encoding="utf-8")
    assert "a log of ours is not signed any more, run recover" in log_lines
    no_list = hotline.run("recover", "--no-peers")
    assert no_list.returncode == 2
    vouched = hotline.run("recover", "ncii", "--no-peers", "--json")
    assert json.loads(vouched.stderr)["error"] == "rolled-back"

    platform.stop()
    alone = hotline.run("recover", "ncii")
    assert alone.returncode == 1
    assert b"not every list could be healed" in alone.stderr
    assert b"size 3 was signed, the database is at 2" in alone.stdout
    platform.start()
    shown = hotline.run("recover")
    assert shown.returncode == 0, shown.stderr.decode()
    assert b"beta.example" in shown.stdout

    assert head(hotline, ORIGIN) == head(platform, ORIGIN)
    assert len(matches(hotline, f"md5:{'b' * 32}")) == 1
    cli(hotline, "publish", "ncii", "--signal", f"md5:{'c' * 32}")
    until(lambda: len(matches(platform, f"md5:{'c' * 32}")) == 1)
    evidence = cli(platform, "evidence")["evidence"]
    assert evidence == []


def test_a_second_process_on_one_identity_says_so_and_ends(
    restored: tuple[Company, Company],
) -> None:
    hotline, _ = restored
    text = hotline.config.read_text(encoding="utf-8")
    other = hotline.directory / "second.toml"
    if IS_POSTGRESQL:
        name = str(make_url(store_of(hotline)).database)
        text = text.replace(name, f"{name}_copy")
    else:
        text += '\n[store]\nurl = "sqlite:///backup"\n'
    other.write_text(text, encoding="utf-8")
    second = hotline.run("serve", "-c", str(other))
    assert second.returncode == 1
    assert b"another process signs for this node" in second.stderr
