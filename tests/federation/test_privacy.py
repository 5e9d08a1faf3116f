"""A peer without a grant learns nothing, on any endpoint, over real HTTP."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hashlight_protocol import origin_hash
from support.made_records import indicators
from support.running_companies import MakeCompany, RunningCompany, connect

ENDPOINTS = [
    "/hsf/v1/lists/{list}",
    "/hsf/v1/log/{list}/1/checkpoint",
    "/hsf/v1/log/{list}/1/tile/0/000.p/1",
    "/hsf/v1/log/{list}/1/tile/0/000",
    "/hsf/v1/log/{list}/1/tile/1/000.p/1",
    "/hsf/v1/log/{list}/1/tile/entries/000.p/1",
    "/hsf/v1/log/{list}/1/tile/entries/000",
    "/hsf/v1/log/{list}/1/bodies/000.p/1",
    "/hsf/v1/log/{list}/1/bodies/000",
    "/hsf/v1/log/{list}/1/receipt/1",
    "/hsf/v1/log/{list}/1/receipt/999999",
    "/hsf/v1/log/{list}/2/checkpoint",
]
DIFFERS = {"date", "x-request-id"}


def told(answer: tuple[int, Mapping[str, str], bytes]) -> tuple[int, object, bytes]:
    """Keep what a caller can tell answers apart by."""
    status, headers, body = answer
    kept = {name: value for name, value in headers.items() if name not in DIFFERS}
    return status, kept, body


async def ask(
    caller: RunningCompany, owner: RunningCompany, path: str
) -> tuple[int, object, bytes]:
    client = caller.node.foundation.client
    return told(await client.request("GET", owner.settings.node.base + path))


@pytest.fixture
async def world(
    make_company: MakeCompany,
) -> tuple[RunningCompany, RunningCompany]:
    """Let shield have a list for alpha, and one for nobody."""
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    publisher = shield.node.use_cases.publisher
    for name in ("granted", "secret"):
        await publisher.create_list(name, {})
        await publisher.publish(name, indicators(300))
    await connect(shield, alpha, "granted")
    return shield, alpha


async def test_a_secret_list_and_no_list_are_one_answer(
    world: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = world
    for endpoint in ENDPOINTS:
        secret = await ask(alpha, shield, endpoint.format(list="secret"))
        nothing = await ask(alpha, shield, endpoint.format(list="nothin"))
        assert secret == nothing, endpoint
        assert secret[0] == 404
        assert b"hsf:unknown-log" in secret[2]


async def test_the_same_paths_answer_a_peer_with_a_grant(
    world: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = world
    for endpoint in ENDPOINTS[:10]:
        status, _, _ = await ask(alpha, shield, endpoint.format(list="granted"))
        assert status == 200, endpoint


async def test_what_others_witness_and_mirror_is_as_unknown_as_nothing(
    make_company: MakeCompany, world: tuple[RunningCompany, RunningCompany]
) -> None:
    """Beta asks alpha, which copies a list of shield."""
    _, alpha = world
    beta = await make_company("beta.example")
    await alpha.pin(beta)
    await beta.pin(alpha)
    await alpha.node.use_cases.follower.sync("shield.example", "granted")
    copied = origin_hash("shield.example/hsf/v1/log/granted/1")
    for part in ("witness", "mirror"):
        held = await ask(beta, alpha, f"/hsf/v1/{part}/{copied}/checkpoint")
        nothing = await ask(beta, alpha, f"/hsf/v1/{part}/{'0' * 64}/checkpoint")
        assert held == nothing
        assert held[0] == 404


async def test_grants_name_nothing_but_the_caller_s_own(
    world: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = world
    status, _, body = await ask(alpha, shield, "/hsf/v1/grants")
    assert status == 200
    assert b"granted" in body
    assert b"secret" not in body


async def test_the_descriptor_names_no_list(
    world: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = world
    raw = await alpha.node.foundation.client.fetch_descriptor(shield.settings.node.base)
    assert b"granted" not in raw
    assert b"secret" not in raw


async def test_a_stranger_is_refused_the_same_way_everywhere(
    make_company: MakeCompany, world: tuple[RunningCompany, RunningCompany]
) -> None:
    shield, _ = world
    stranger = await make_company("stranger.example")
    answers = {
        str(await ask(stranger, shield, endpoint.format(list=name)))
        for endpoint in [*ENDPOINTS, "/hsf/v1/grants", "/nothing/at/all"]
        for name in ("granted", "secret", "nothing")
    }
    assert len(answers) == 1
    assert "403" in answers.pop()
