"""Several processes on one PostgreSQL database: one leads, and any other takes over."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from hashlight_node.last_signed import read_signed
from hashlight_node.local_client import (
    LocalClient,
    NodeUnreachableError,
    ProblemError,
)
from hashlight_protocol import origin_hash
from support.companies import head, matches, matches_of_all, until
from support.sharing import Sharing, leads, make_sharing
from support.sharing_traffic import (
    BOUND_SECONDS,
    CUT_OFF,
    LIST,
    ORIGIN,
    UNREACHED,
    Traffic,
    check_in_the_end,
    follow,
    insist,
    publish,
    publish_to,
    retract,
)
from support.stores import drop, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hashlight_node.demo.company import Company
    from hashlight_node.local_client import Json
    from support.companies import MakeCompany


@pytest.fixture
def shield(tmp_path: Path) -> Iterator[Sharing]:
    """Give a node of two processes, one of which leads."""
    sharing = make_sharing(tmp_path, "shield.example", 2)
    sharing.balancer.start()
    try:
        for process in sharing.processes:
            process.start()
        until(lambda: len(sharing.leaders()) == 1)
        yield sharing
    finally:
        for process in sharing.processes:
            process.stop()
        sharing.balancer.stop()


@pytest.fixture
def peer(shield: Sharing, make_running: MakeCompany) -> Company:
    """Give a node of another company, which follows the list `ncii` of the first."""
    return follow(shield, make_running("beta.example"))


def pid_of(company: Company) -> int:
    process = company._process  # noqa: SLF001 -- the demo sends no such signals
    assert process is not None
    return process.pid


def is_running(company: Company) -> bool:
    process = company._process  # noqa: SLF001 -- as above
    return process is not None and process.poll() is None


def pause(company: Company) -> None:
    """Let a process not run, as a machine that is far too busy does."""
    os.kill(pid_of(company), signal.SIGSTOP)


def resume(company: Company) -> None:
    os.kill(pid_of(company), signal.SIGCONT)


def end_claim(url: str) -> None:
    """End the session that has the right to write, as TCP keepalives would."""
    _backends(url, "application_name LIKE 'hashlight %'", "pg_terminate_backend(pid)")


def listeners(url: str) -> list[int]:
    """List the server's processes through which ours hear of commits."""
    return _backends(url, "query LIKE '%pg_current_snapshot%'", "pid")


def _backends(url: str, which: str, what: str) -> list[int]:
    query = f"SELECT {what} FROM pg_stat_activity WHERE datname = :name AND {which}"  # noqa: S608 -- constants
    with server().connect() as connection:
        found = connection.execute(text(query), {"name": make_url(url).database})
        return [int(row[0]) for row in found]


def matches_if_answered(company: Company, signal_text: str) -> bool:
    try:
        return bool(matches(company, signal_text))
    except (ProblemError, NodeUnreachableError):
        return False


def silent_seconds(company: Company) -> float:
    text = company.client.get_bytes("/metrics").decode()
    (found,) = re.findall(r"^hashlight_store_silent_seconds (\S+)$", text, re.MULTILINE)
    return float(found)


def signed_size(process: Company) -> int:
    """Tell which tree of the list was signed last, as a process has it on its disk."""
    path = process.directory / "last-signed" / f"{origin_hash(ORIGIN)}.signed"
    return read_signed(path.read_bytes()).head.tree_size


def say(line: str) -> None:
    """Print a measurement."""
    sys.stdout.write(line + "\n")


def test_whichever_process_is_asked_peers_and_services_get_the_same(
    shield: Sharing, peer: Company
) -> None:
    peer.client.post("/v1/lists", {"name": "theirs"})
    shield.client().post("/v1/follows", {"peer": peer.name, "list": "theirs"})
    peer.client.post("/v1/grants", {"peer": "shield.example", "list": "theirs"})
    for _ in range(4):
        # The peer tells the next process of each; who stands by passes that on.
        ours, theirs = secrets.token_hex(16), secrets.token_hex(16)
        ref = publish(shield.client(), ours)
        publish_to(peer.client, "theirs", theirs)
        for company in (*shield.processes, peer):
            until(partial(_matches_once, company, ours, theirs))
        retract(shield.client(), ref)
        for process in shield.processes:
            assert not matches(process, f"md5:{ours}")
        until(partial(_matches_not, peer, ours))
    (standby,) = shield.others(shield.leader())
    answer = standby.client.get("/readyz")
    assert answer == {"status": "ready", "signing": "elsewhere"}
    # Nobody is alarmed by a disk that nobody looked at.
    shown = standby.client.get_bytes("/metrics").decode()
    assert "\nhashlight_disk_free_bytes 0.0\n" not in shown
    with pytest.raises(ProblemError) as caught:
        LocalClient(standby.client.address, "hlt_" + "A" * 43).post("/v1/lists", {})
    assert caught.value.code == "token-invalid"


def _matches_not(company: Company, value: str) -> bool:
    return not matches(company, f"md5:{value}")


def _matches_once(company: Company, *values: str) -> bool:
    found = matches_of_all(company, [f"md5:{value}" for value in values])
    return [len(it) for it in found] == [1] * len(values)


def wait_for_the_server(url: str) -> None:
    """Do nothing: a session that gives no sign of life is ended by the server."""
    del url


@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", [end_claim, wait_for_the_server])
def test_who_lost_the_right_while_it_slept_signs_and_answers_nothing_old(
    shield: Sharing, peer: Company, end: Callable[[str], None]
) -> None:
    old = shield.leader()
    (new,) = shield.others(old)
    md5 = secrets.token_hex(16)
    ref = publish(old.client, md5)
    until(lambda: len(matches(peer, f"md5:{md5}")) == 1)
    pause(old)
    try:
        end(shield.url)
        until(lambda: leads(new))
        retract(new.client, ref)
        assert publish(new.client, secrets.token_hex(16))
    finally:
        resume(old)
    # It believes that it leads, and finds out with the first thing that it does.
    until_stepped_down = time.monotonic() + 30
    while leads(old):
        assert not matches_if_answered(old, f"md5:{md5}")
        assert time.monotonic() < until_stepped_down
    assert publish(old.client, secrets.token_hex(16))
    assert not matches(old, f"md5:{md5}")
    until(lambda: head(peer, ORIGIN) == head(new, ORIGIN))
    assert head(new, ORIGIN)[0] == 5
    # Each knows what was signed last, whoever signed it.
    until(lambda: all(signed_size(it) == 5 for it in shield.processes))


@pytest.mark.timeout(300)
def test_when_the_server_ends_every_session_one_of_them_leads_again(
    shield: Sharing, peer: Company
) -> None:
    md5 = secrets.token_hex(16)
    ref = publish(shield.client(), md5)
    for _ in range(3):
        _backends(shield.url, "pid <> pg_backend_pid()", "pg_terminate_backend(pid)")
        # Answered, by whom it may be, as soon as there is a database again.
        more = secrets.token_hex(16)
        key = secrets.token_hex(8)
        write = partial(publish, md5=more, key=key)
        assert insist(shield, write, ("503",))
        for process in shield.processes:
            until(partial(_matches_once, process, md5, more))
        until(lambda: len(shield.leaders()) == 1)
    insist(shield, lambda to: retract(to, ref), ("503",))
    until(lambda: head(peer, ORIGIN)[0] == 6)
    assert all(is_running(it) for it in shield.processes)


@pytest.mark.timeout(300)
def test_no_process_ends_because_the_database_is_away_for_long(
    shield: Sharing, peer: Company
) -> None:
    name = make_url(shield.url).database
    (other,) = shield.others(shield.leader())
    allow = text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    with server().connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
    try:
        _backends(shield.url, "pid <> pg_backend_pid()", "pg_terminate_backend(pid)")
        until(lambda: not is_ready(other))
    finally:
        with server().connect() as connection:
            connection.execute(allow)
    md5, key = secrets.token_hex(16), secrets.token_hex(8)
    assert insist(shield, lambda to: publish(to, md5, key), (*CUT_OFF, "503"))
    until(lambda: len(shield.leaders()) == 1)
    for company in (*shield.processes, peer):
        until(partial(matches_if_answered, company, f"md5:{md5}"))
    assert all(is_running(it) for it in shield.processes)


def is_ready(process: Company) -> bool:
    try:
        return process.client.get("/readyz")["status"] == "ready"
    except (NodeUnreachableError, ProblemError, ValueError):
        return False


def test_who_stands_by_has_no_file_of_what_may_be_erased(shield: Sharing) -> None:
    (other,) = shield.others(shield.leader())
    other.kill()
    left = other.directory / "static" / ("ab" * 32)
    left.mkdir(parents=True)
    (left / "bodies").write_bytes(b"as it was when this process led")
    other.start()
    assert not left.exists()


@pytest.mark.timeout(300)
def test_who_cannot_hear_the_database_says_how_old_it_is_and_then_nothing(
    shield: Sharing, peer: Company
) -> None:
    del peer
    published = secrets.token_hex(16)
    publish(shield.client(), published)
    unknown: Json = {"queries": [{"type": "md5", "value": secrets.token_hex(16)}]}
    listening = listeners(shield.url)
    assert len(listening) == len(shield.processes)
    for pid in listening:
        os.kill(pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    try:
        for process in shield.processes:
            oldest = oldest_answer(process, unknown, stopped_at)
            assert oldest >= 2 or process is not shield.processes[0]
            assert time.monotonic() - stopped_at > BOUND_SECONDS - 1
            assert silent_seconds(process) > BOUND_SECONDS
        (standby,) = shield.others(shield.leader())
        with pytest.raises(ProblemError) as caught:
            standby.client.get("/readyz")
        assert caught.value.status == 503
    finally:
        for pid in listening:
            os.kill(pid, signal.SIGCONT)
    for process in shield.processes:
        until(partial(_answers, process, unknown))
        assert len(matches(process, f"md5:{published}")) == 1


def oldest_answer(process: Company, lookup: Json, stopped_at: float) -> int:
    """Ask until there is no answer any more; give the largest age that was shown."""
    oldest = 0
    while True:
        asked_at = time.monotonic()
        answer = answer_or_code(process, lookup)
        if answer == {"status": 503, "code": "unavailable"}:
            return oldest
        # A quarter of a second: what was heard last was asked as much earlier.
        assert asked_at - stopped_at < BOUND_SECONDS + 0.25
        (shown,) = cast("list[Json]", answer["lists"])
        oldest = max(oldest, cast("int", shown["age_seconds"]))
        time.sleep(0.1)


def answer_or_code(company: Company, lookup: Json) -> Json:
    try:
        return company.client.post("/v1/lookup", lookup)
    except ProblemError as error:
        return {"status": error.status, "code": error.code}


def _answers(company: Company, lookup: Json) -> bool:
    return "results" in answer_or_code(company, lookup)


@pytest.mark.timeout(300)
def test_processes_with_workers_take_over_from_each_other(tmp_path: Path) -> None:
    sharing = make_sharing(tmp_path, "shield.example", 2, workers=1)
    try:
        for process in sharing.processes:
            process.start()
        first, second = sharing.processes
        until(lambda: sharing.leaders() == [first])
        second.client.post("/v1/lists", {"name": LIST})
        one, other = secrets.token_hex(16), secrets.token_hex(16)
        publish(second.client, one)
        assert len(matches(second, f"md5:{one}")) == 1
        first.kill()
        until(lambda: sharing.leaders() == [second])
        publish(second.client, other)
        first.start()
        for process in sharing.processes:
            assert _matches_once(process, one, other)
    finally:
        for process in sharing.processes:
            process.stop()


@pytest.mark.timeout(300)
def test_a_process_without_a_key_of_the_node_does_not_lead(tmp_path: Path) -> None:
    sharing = make_sharing(tmp_path, "shield.example", 2)
    first, second = sharing.processes
    keys = tmp_path / "shield.example" / "keys"
    # As of before the list was made.
    shutil.copytree(keys, second.directory / "keys")
    config = second.config.read_text("utf-8")
    second.config.write_text(
        config.replace(str(keys), str(second.directory / "keys")), "utf-8"
    )
    try:
        for process in sharing.processes:
            process.start()
        until(lambda: sharing.leaders() == [first])
        first.client.post("/v1/lists", {"name": LIST})
        md5 = secrets.token_hex(16)
        publish(first.client, md5)
        first.kill()
        says_why = "this process lacks a key"
        until(lambda: says_why in second.log_file.read_text("utf-8"))
        assert not sharing.leaders()
        assert len(matches(second, f"md5:{md5}")) == 1
        first.start()
        until(lambda: sharing.leaders() == [first])
    finally:
        for process in sharing.processes:
            process.stop()


@pytest.mark.timeout(300)
def test_a_restored_database_is_noticed_by_whoever_leads_then(tmp_path: Path) -> None:
    sharing = make_sharing(tmp_path, "shield.example", 2)
    first, second = sharing.processes
    name = str(make_url(sharing.url).database)
    try:
        first.start()
        until(lambda: sharing.leaders() == [first])
        first.client.post("/v1/lists", {"name": LIST})
        first.stop()
        copy_database(name, f"{name}_backup")
        for process in sharing.processes:
            process.start()
        until(lambda: sharing.leaders() == [first])
        publish(first.client, secrets.token_hex(16))
        until(lambda: signed_size(second) == 2)
        first.stop()
        second.stop()
        copy_database(f"{name}_backup", name)
        # It never signed anything itself.
        second.start()
        until(lambda: sharing.leaders() == [second])
        with pytest.raises(ProblemError) as caught:
            publish(second.client, secrets.token_hex(16))
        assert caught.value.code == "rolled-back"
    finally:
        for process in sharing.processes:
            process.stop()
        drop(f"{name}_backup")


def copy_database(source: str, target: str) -> None:
    """Do what a backup and its restoring come to; nobody uses either."""
    drop(target)
    with server().connect() as connection:
        connection.execute(text(f"CREATE DATABASE {target} TEMPLATE {source}"))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_leader_is_replaced_within_seconds_and_nothing_is_lost(
    kills: int, shield: Sharing, peer: Company
) -> None:
    gaps: list[float] = []
    with Traffic(shield, (*CUT_OFF, "503")) as traffic:
        for _ in range(kills):
            until(lambda: len(traffic.published) % 5 == 4 or bool(traffic.failures))
            victim = shield.leader()
            written = len(traffic.published)
            victim.kill()
            killed_at = time.monotonic()
            (other,) = shield.others(victim)
            until(partial(leads, other))
            # The first was perhaps committed already, the second began after it.
            until(partial(traffic.has_published, written + 2))
            assert not traffic.failures, traffic.failures
            second = list(traffic.published.values())[written + 1]
            gaps.append(second - killed_at)
            victim.start()
            assert shield.leaders() == [other]
    say(
        f"hand-over after kill -9, {kills} times: p50 {statistics.median(gaps):.2f} s,"
        f" max {max(gaps):.2f} s; {len(traffic.published)} published,"
        f" {traffic.asked} requests"
    )
    assert max(gaps) < 15
    check_in_the_end(shield, peer, traffic)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_rolling_restart_drops_no_request(
    rounds: int, shield: Sharing, peer: Company
) -> None:
    # Refused connections alone are tried again elsewhere.
    with Traffic(shield, UNREACHED) as traffic:
        for _ in range(rounds):
            for process in shield.processes:
                until(lambda: len(traffic.published) % 5 == 4 or bool(traffic.failures))
                process.stop()
                process.start()
    say(
        f"{2 * rounds} restarts: {traffic.asked} requests, none dropped;"
        f" slowest write {traffic.slowest:.2f} s"
    )
    check_in_the_end(shield, peer, traffic)
