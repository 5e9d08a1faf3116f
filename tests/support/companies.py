"""Companies as separate processes, driven as their operators would drive them."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Sequence
from typing import cast

from hashlight_node.demo.company import Company
from hashlight_node.local_client import Json
from support.stores import IS_POSTGRESQL

MakeCompany = Callable[[str], Company]


def store_of(company: Company) -> str:
    """Give the URL of a company's database."""
    if not IS_POSTGRESQL:
        return f"sqlite:///{company.directory / 'hashlight.db'}"
    settings = tomllib.loads(company.config.read_text("utf-8"))
    return str(settings["store"]["url"])


def cli(company: Company, *arguments: str) -> Json:
    """Run a command as the company's operator; it must succeed. Gives its JSON."""
    done = company.run(*arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return cast("Json", json.loads(done.stdout))


def introduce(one: Company, other: Company) -> None:
    """Let two companies pin each other, as operators do by hand."""
    cli(one, "peer", "add", other.base, other.vkey)
    cli(other, "peer", "add", one.base, one.vkey)


def matches(company: Company, signal: str) -> list[Json]:
    """Look one `TYPE:VALUE` up and give its matches."""
    (found,) = matches_of_all(company, [signal])
    return found


def matches_of_all(company: Company, signals: Sequence[str]) -> list[list[Json]]:
    """Look many `TYPE:VALUE` up in one call and give the matches of each."""
    pairs = [signal.split(":", 1) for signal in signals]
    queries = [{"type": name, "value": value} for name, value in pairs]
    answer = company.client.post("/v1/lookup", {"queries": queries})
    results = cast("list[Json]", answer["results"])
    return [cast("list[Json]", result["matches"]) for result in results]


def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for a condition that must come true."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"not so after {seconds} s"
        time.sleep(0.02)


def head(company: Company, origin: str) -> tuple[int, str]:
    """Give the size and root that a company has of a log; (0, "") for none."""
    status = company.client.get("/v1/status")
    for row in cast("list[Json]", status["lists"]):
        if row["origin"] == origin:
            return cast("int", row["size"]), str(row["root_hash"])
    return 0, ""
