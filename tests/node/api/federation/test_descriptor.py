from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hashlight_node.api.authentication import CONCURRENT_REQUESTS
from hashlight_protocol import open_descriptor

if TYPE_CHECKING:
    from support.federation import World

PATH = "/.well-known/hsf"


async def test_a_stranger_gets_the_signed_descriptor(world: World) -> None:
    answer = await world.send("GET", PATH)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    keyring = world.running.foundation.keyring
    descriptor = open_descriptor(answer.body, keyring.identity.key)
    assert (descriptor.name, descriptor.version) == ("shield.example", 1)
    assert descriptor.base == world.settings.node.base
    assert descriptor.http_keys[0].public_key == keyring.http.key.public_key
    assert descriptor.witness == keyring.witness.key
    assert descriptor.mirror == keyring.mirror.key


async def test_the_descriptor_names_no_list_and_no_peer(world: World) -> None:
    await world.running.use_cases.publisher.create_list("ncii", {})
    answer = await world.send("GET", PATH)
    assert b"ncii" not in answer.body
    assert b"beta.example" not in answer.body


async def test_caches_may_keep_the_descriptor_for_a_minute(world: World) -> None:
    answer = await world.send("GET", PATH)
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    head = await world.send("HEAD", PATH)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["ETag"] == answer.headers["ETag"]


async def test_other_methods_are_not_for_the_descriptor(world: World) -> None:
    answer = await world.send("DELETE", PATH)
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET,HEAD"


async def test_a_crowd_of_strangers_is_served(world: World) -> None:
    crowd = (world.send("GET", PATH) for _ in range(4 * CONCURRENT_REQUESTS))
    answers = await asyncio.gather(*crowd)
    assert {answer.status for answer in answers} <= {200, 429}
    assert sum(answer.status == 200 for answer in answers) >= CONCURRENT_REQUESTS
