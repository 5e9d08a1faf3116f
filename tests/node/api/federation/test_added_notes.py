"""A peer says who it is and what its lists are, because nobody can ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hashlight_node.model import FollowState
from hashlight_node.store import deliveries
from hashlight_node.store import peers as peer_store
from hashlight_protocol import HttpKey
from support.uploads import ADD_NOTE, UploadedLog

if TYPE_CHECKING:
    from hashlight_node.store.database import Connection
    from support.federation import World

GRANTS = "/hsf/v1/grants"


@pytest.fixture
async def mine(world: World) -> UploadedLog:
    made = UploadedLog(world)
    await made.agree()
    return made


async def state(mine: UploadedLog) -> tuple[FollowState, list[str]]:
    def read(conn: Connection) -> tuple[FollowState, list[str]]:
        (follow,) = peer_store.list_follows(conn)
        codes = [one.code for one in deliveries.list_evidence(conn)]
        return follow.state, codes

    return await mine.world.running.foundation.database.read(read)


async def test_a_newer_list_note_takes_the_place_of_the_older(
    mine: UploadedLog,
) -> None:
    await mine.announce()
    assert (await mine.upload(0)).status == 200
    assert (await mine.add_note(mine.list_note(2, title="new"))).status == 204
    found = await mine.stored()
    assert found is not None
    assert found.list_note == mine.list_note(2, title="new")
    # The same again is no news, and no mistake.
    assert (await mine.add_note(mine.list_note(2, title="new"))).status == 204


async def test_an_older_note_is_refused_and_proves_nothing(mine: UploadedLog) -> None:
    assert (await mine.add_note(mine.list_note(3))).status == 204
    answer = await mine.add_note(mine.list_note(2))
    assert (answer.status, answer.problem) == (409, "stale-version")
    assert await state(mine) == (FollowState.WAITING, [])


async def test_two_notes_of_one_version_are_evidence(mine: UploadedLog) -> None:
    answer = await mine.add_note(mine.list_note(1, title="other"))
    assert answer.problem == "stale-version"
    assert await state(mine) == (FollowState.QUARANTINED, ["stale-version"])


async def test_a_note_that_takes_back_what_was_final_is_evidence(
    mine: UploadedLog,
) -> None:
    assert (await mine.add_note(mine.list_note(2, state="frozen"))).status == 204
    answer = await mine.add_note(mine.list_note(3))
    assert answer.problem == "contradiction"
    assert await state(mine) == (FollowState.QUARANTINED, ["contradiction"])


async def test_a_newer_descriptor_brings_newer_keys(mine: UploadedLog) -> None:
    world, peer = mine.world, mine.world.peer
    spare = HttpKey("h2", world.stranger.keyring.http.key.public_key)
    own = HttpKey("h1", peer.keyring.http.key.public_key)
    newer = peer.descriptor(own, spare)
    assert (await mine.add_note(newer)).status == 204
    as_spare = world.stranger.headers("GET", GRANTS, key_id=f"{peer.name}#h2")
    assert (await world.send("GET", GRANTS, as_spare)).status == 200
    assert (await mine.add_note(newer)).status == 204
    assert await state(mine) == (FollowState.WAITING, [])


async def test_a_descriptor_never_goes_back(mine: UploadedLog) -> None:
    world, peer = mine.world, mine.world.peer
    older = peer.descriptor()
    spare = HttpKey("h2", world.stranger.keyring.http.key.public_key)
    own = HttpKey("h1", peer.keyring.http.key.public_key)
    assert (await mine.add_note(peer.descriptor(own, spare))).status == 204
    answer = await mine.add_note(older)
    assert (answer.status, answer.problem) == (409, "stale-version")
    assert await state(mine) == (FollowState.WAITING, [])


async def test_two_descriptors_of_one_version_are_evidence(mine: UploadedLog) -> None:
    peer = mine.world.peer
    kept = peer.keyring.directory / "descriptor.note"
    first = peer.descriptor()
    kept.unlink()
    spare = HttpKey("h2", mine.world.stranger.keyring.http.key.public_key)
    answer = await mine.add_note(peer.descriptor(spare))
    assert answer.problem == "stale-version"
    assert first != kept.read_bytes()
    assert await state(mine) == (FollowState.WAITING, ["stale-version"])


async def test_nobody_speaks_for_another(mine: UploadedLog) -> None:
    stranger = mine.world.stranger
    await mine.world.pinned(stranger)
    for raw in (mine.list_note(2), mine.world.peer.descriptor()):
        fields = stranger.headers("POST", ADD_NOTE, raw)
        answer = await mine.world.send("POST", ADD_NOTE, fields, raw)
        assert answer.problem == "unknown-key"
    for raw in (b"nothing\n", b"x" * 300_000):
        answer = await mine.add_note(raw)
        assert answer.problem in {"malformed", "too-large"}


async def test_a_list_of_which_nothing_was_said_is_not_known(world: World) -> None:
    made = UploadedLog(world)
    note = made.list_note
    made.list_note = lambda *_args, **_options: world.peer.descriptor()  # type: ignore[method-assign]
    await made.agree()
    assert (await made.upload(0, 0)).problem == "unknown-log"
    assert (await made.add_note(note())).status == 204
    assert (await made.upload(0, 0)).status == 409
