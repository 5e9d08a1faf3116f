"""What a person sees without --json: tables, not data."""

from __future__ import annotations

import pytest

from hashlight_node.demo.company import Company
from support.companies import cli, matches, until


def said(company: Company, *arguments: str) -> str:
    done = company.run(*arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.timeout(300)
def test_every_command_has_an_answer_for_people(
    pair: tuple[Company, Company], md5: str
) -> None:
    hotline, platform = pair
    ref = said(hotline, "publish", "ncii", "--signal", md5, "--label", "a:b").strip()
    until(lambda: bool(matches(platform, md5)))
    log = "shield.example/hsf/v1/log/ncii/1"
    assert ref.startswith(f"{log}#")
    assert f"vkey {log}+" in said(hotline, "list", "show")
    assert log in said(platform, "status")
    assert "beta.example" in said(hotline, "peer", "list")
    assert '"name": "beta.example"' in said(hotline, "peer", "show", "beta.example")
    shown = said(platform, "lookup", md5)
    assert "shield.example" in shown
    assert "a:b" in shown
    assert "review" in shown
    assert log in said(platform, "sync")
    assert said(platform, "evidence").startswith("id")
    assert said(hotline, "erasure", ref) == "not erased\n"
    assert "retracted, by entry" in said(hotline, "retract", ref, "--reason", "expired")
    assert "erased, by entry" in said(hotline, "erase", ref)
    assert "beta.example" in said(hotline, "erasure", ref)
    assert '"state": "erased"' in said(hotline, "record", ref)


def test_a_token_is_shown_once_and_can_be_revoked(
    pair: tuple[Company, Company],
) -> None:
    hotline, _ = pair
    made = cli(hotline, "token", "create", "--scope", "lookup", "--label", "uploads")
    assert str(made["token"]).startswith("hlt_")
    listed = said(hotline, "token", "list")
    assert "uploads" in listed
    assert str(made["token"]) not in listed
    assert "is revoked" in said(hotline, "token", "revoke", str(made["id"]))
    assert "uploads" not in said(hotline, "token", "list")


def test_a_grant_and_a_follow_can_be_taken_back(pair: tuple[Company, Company]) -> None:
    hotline, platform = pair
    cli(hotline, "list", "create", "brief")
    assert "may now fetch" in said(hotline, "grant", platform.name, "brief")
    assert "following brief" in said(platform, "follow", hotline.name, "brief")
    assert "no longer following" in said(platform, "unfollow", hotline.name, "brief")
    assert "may no longer fetch" in said(hotline, "revoke", platform.name, "brief")
    assert "quarantined" in said(platform, "peer", "quarantine", hotline.name)
    assert "active" in said(platform, "peer", "release", hotline.name)
