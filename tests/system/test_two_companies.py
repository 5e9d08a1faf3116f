"""The whole path by the command line alone, in the README's words."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import cast

from hashlight_node.demo.company import Company, run_command
from hashlight_node.local_client import Json
from support.companies import MakeCompany, cli, introduce, matches, until

PHOTOS = resources.files("hashlight_node.demo") / "photos"
PDQ = "0f" * 32


def _photo(name: str) -> str:
    return str(PHOTOS / f"{name}.jpg")


def _publish(company: Company, *signals: str) -> str:
    options = [part for signal in signals for part in ("--signal", signal)]
    answer = cli(company, "publish", "ncii", *options, "--label", "ncii:adult")
    (ref,) = cast("list[str]", answer["refs"])
    return ref


def test_a_published_signal_is_matched_on_the_peer_with_its_source(
    pair: tuple[Company, Company], md5: str
) -> None:
    hotline, platform = pair
    ref = _publish(hotline, f"pdq:{PDQ}", md5)
    until(lambda: bool(matches(platform, md5)))
    near = f"{int(PDQ, 16) ^ 0b111:064x}"
    (match,) = matches(platform, f"pdq:{near}")
    assert match["distance"] == 3
    (record,) = cast("list[Json]", match["records"])
    assert (record["ref"], record["origin_node"]) == (ref, "shield.example")
    assert record["labels"] == [{"scheme": "ncii", "value": "adult"}]


def test_several_pictures_become_one_record_each_and_copies_are_found(
    pair: tuple[Company, Company],
) -> None:
    hotline, platform = pair
    files = (_photo("cat"), _photo("coffee"))
    answer = cli(hotline, "publish", "ncii", "--file", *files, "--label", "ncii:adult")
    assert len(cast("list[str]", answer["refs"])) == 2
    (picture,) = cast("list[Json]", cli(hotline, "hash", files[0])["images"])
    until(lambda: bool(matches(platform, f"sha256:{picture['sha256']}")))
    answer = cli(platform, "lookup", "--file", files[0])
    results = cast("list[Json]", answer["results"])
    queries = [cast("Json", row["query"]) for row in results if row["matches"]]
    assert {query["type"] for query in queries} >= {"pdq", "md5", "sha256"}


def test_an_erased_record_stops_matching_and_the_peer_signs_for_it(
    pair: tuple[Company, Company], md5: str
) -> None:
    hotline, platform = pair
    ref = _publish(hotline, md5)
    until(lambda: bool(matches(platform, md5)))
    cli(hotline, "erase", ref)
    assert not matches(hotline, md5)
    until(lambda: not matches(platform, md5))

    def acknowledged() -> bool:
        (row,) = cast("list[Json]", cli(hotline, "erasure", ref)["peers"])
        return row["state"] == "acknowledged"

    until(acknowledged)


def test_a_receipt_verifies_with_nothing_but_the_file_and_the_key(
    pair: tuple[Company, Company], md5: str, tmp_path: Path
) -> None:
    hotline, platform = pair
    ref = _publish(hotline, md5)
    until(lambda: bool(matches(platform, md5)))
    proof = tmp_path / "r.tlog-proof"
    proof.write_bytes(platform.run("receipt", ref).stdout)
    vkey = str(cli(hotline, "list", "show", "ncii")["vkey"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hashlight_node",
            "verify",
            str(proof),
            "--vkey",
            vkey,
            "--json",
        ],
        cwd=elsewhere,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ref"] == ref


def test_a_node_s_identity_key_does_not_verify_a_receipt_and_the_error_says_why(
    pair: tuple[Company, Company], md5: str, tmp_path: Path
) -> None:
    hotline, _ = pair
    ref = _publish(hotline, md5)
    proof = tmp_path / "r.tlog-proof"
    proof.write_bytes(hotline.run("receipt", ref).stdout)
    done = run_command("verify", str(proof), "--vkey", hotline.vkey)
    assert done.returncode == 3
    assert b"hashlight list show" in done.stderr


def test_following_before_the_grant_waits_and_then_syncs(
    make_running: MakeCompany, md5: str
) -> None:
    hotline, platform = make_running("shield.example"), make_running("beta.example")
    introduce(hotline, platform)
    cli(hotline, "list", "create", "ncii")
    _publish(hotline, md5)
    assert cli(platform, "follow", hotline.name, "ncii")["state"] == "waiting"
    assert not matches(platform, md5)
    cli(hotline, "grant", platform.name, "ncii")
    until(lambda: bool(matches(platform, md5)))


def test_a_dispute_reaches_the_owner_through_the_peer_s_own_list(
    pair: tuple[Company, Company], md5: str
) -> None:
    hotline, platform = pair
    ref = _publish(hotline, md5)
    until(lambda: bool(matches(platform, md5)))
    cli(platform, "opinion", ref, "--stance", "dispute", "--reason", "not-violating")
    assert matches(platform, md5)[0]["opinion"] == "negative"
    cli(platform, "grant", hotline.name, "feedback")
    cli(hotline, "follow", platform.name, "feedback")
    until(lambda: cli(hotline, "record", ref)["opinion"] == "disputed")


def test_commands_that_cannot_be_right_end_with_code_two(
    pair: tuple[Company, Company],
) -> None:
    hotline, _ = pair
    for arguments in (
        ("lookup",),
        ("lookup", "pdq"),
        ("lookup", "pdq:zz"),
        ("publish", "ncii"),
        ("publish", "ncii", "--signal", f"pdq:{PDQ}", "--quality", "49"),
        ("retract", "nonsense", "--reason", "withdrawn"),
    ):
        assert hotline.run(*arguments).returncode == 2, arguments


def test_what_the_node_refuses_ends_with_code_one(
    pair: tuple[Company, Company], md5: str
) -> None:
    hotline, _ = pair
    missing = "shield.example/hsf/v1/log/ncii/1#99"
    assert hotline.run("receipt", missing).returncode == 1
    assert hotline.run("publish", "no-list", "--signal", md5).returncode == 1
    assert hotline.run("list", "create", "ncii").returncode == 1


def test_a_second_process_on_the_same_node_is_refused(
    pair: tuple[Company, Company],
) -> None:
    hotline, _ = pair
    done = run_command("serve", "-c", str(hotline.config))
    assert done.returncode == 1
    assert b"hashlight:" in done.stderr


def test_a_signed_request_is_sent_for_debugging(pair: tuple[Company, Company]) -> None:
    hotline, platform = pair
    url = f"{hotline.base}/hsf/v1/log/ncii/1/checkpoint"
    done = run_command("request", "GET", url, "-c", str(platform.config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"shield.example/hsf/v1/log/ncii/1\n")
    assert b"HTTP 200" in done.stderr
