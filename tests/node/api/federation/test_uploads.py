"""A peer brings its log: honestly, with lies, in pieces, and again."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest
import zstandard

from hashlight_node.api.federation import content, uploads
from hashlight_node.keys.signers import Signers
from hashlight_node.metrics import render_metrics
from hashlight_node.model import FollowState, LogState, RecordState
from hashlight_node.store import deliveries, records
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    COSIGNATURE,
    ED25519,
    AddEntries,
    Body,
    BodyStatus,
    Checkpoint,
    Ed25519Signer,
    KnownHead,
    ListNote,
    LogInfo,
    MirrorInfo,
    RecordEntry,
    Ref,
    append_signatures,
    encode_add_entries,
    encode_body_bundle,
    package_ranges,
    sign_list_note,
    verify_cosignature,
)
from support.federation import World
from support.log_simulator import ERASED, NONE, WITHHELD, LogSimulator
from support.made_records import indicator, indicators
from support.uploads import ADD_ENTRIES, ADD_NOTE, UploadedLog, info_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import web

    from hashlight_node.store.database import Connection


@pytest.fixture
async def mine(world: World) -> UploadedLog:
    """Give a log with the node's operator's consent; it has its META entry."""
    made = UploadedLog(world)
    await made.agree()
    return made


async def bring(mine: UploadedLog) -> None:
    """Upload the whole log, of one bundle at most, with its bodies."""
    await mine.announce()
    answer = await mine.upload(await mine.stored_size())
    assert answer.status == 200, answer
    assert (await mine.add_bodies(0, mine.log.size)).status == 204


async def test_a_record_matches_once_its_body_is_there_and_not_before(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(3))
    await mine.announce()
    answer = await mine.upload(0)
    assert answer.status == 200, answer
    assert "zstd" in answer.headers["Accept-Encoding"]
    assert await mine.matches(1) == 0
    assert (await mine.add_bodies(0, 4)).status == 204
    assert [await mine.matches(number) for number in range(4)] == [1, 1, 1, 0]


async def test_the_answer_is_the_acknowledgement_of_everything_below_the_end(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(3))
    await mine.announce()
    answer = await mine.upload(0)
    mirror = mine.world.running.foundation.keyring.mirror.key
    note = append_signatures(mine.log.note(), answer.body)
    assert verify_cosignature(note, mirror) == mine.world.clock()
    # A lost answer is given again.
    assert (await mine.upload(0)).body == answer.body
    assert (await mine.upload(4)).body == answer.body


async def test_both_mirror_keys_acknowledge_while_one_replaces_the_other(
    mine: UploadedLog,
) -> None:
    mirror = mine.world.running.foundation.keyring.mirror
    assert isinstance(mirror, Signers)
    old = mirror.newest
    new = Ed25519Signer(old.key.name, COSIGNATURE, b"\x05" * 32)
    mirror.every = (old, new)
    await mine.announce()
    answer = await mine.upload(0)
    note = append_signatures(mine.log.note(), answer.body)
    for key in (old.key, new.key):
        assert verify_cosignature(note, key) == mine.world.clock()


async def test_an_old_acknowledgement_is_no_sign_that_nothing_is_newer(
    mine: UploadedLog,
) -> None:
    await bring(mine)
    mine.log.publish(indicators(1))
    await mine.announce()
    before = await mine.stored()
    mine.world.clock.advance(100)
    assert (await mine.upload(1, 1)).status == 200
    assert await mine.stored() == before
    assert (await mine.upload(1)).status == 200
    mine.world.clock.advance(100)
    assert (await mine.upload(2)).status == 200
    after = await mine.stored()
    assert after is not None
    assert after.verified_at == mine.world.clock()


async def test_what_came_is_counted(mine: UploadedLog) -> None:
    mine.log.publish(indicators(3))
    mine.log.retract(1)
    mine.log.erase(2)
    await bring(mine)
    text = render_metrics(mine.world.running.foundation.metrics).decode()
    for result, count in (("in", 3), ("retracted", 1), ("erased", 1)):
        labels = f'list="ncii",peer="beta.example",result="{result}"'
        assert f"hashlight_records_total{{{labels}}} {count}.0" in text


async def test_who_knows_nothing_asks_with_an_empty_upload(mine: UploadedLog) -> None:
    assert info_of(await mine.upload(0, 0)) == MirrorInfo(0, 0)
    mine.log.publish(indicators(600))
    await mine.announce()
    answer = await mine.upload(0, 0)
    assert (answer.status, info_of(answer)) == (409, MirrorInfo(601, 0))
    first = mine.content(0)[
        : len(mine.content(0, 0)) + len(mine.package(range(256), 601)) + 9
    ]
    answer = await mine.post(ADD_ENTRIES, first)
    assert (answer.status, info_of(answer)) == (202, MirrorInfo(601, 256))
    assert info_of(await mine.upload(300)) == MirrorInfo(601, 256)
    assert (await mine.upload(256)).status == 200


async def test_an_upload_that_ends_anywhere_goes_on_from_what_was_stored(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(700))
    await mine.announce()
    whole = mine.content(0)
    cuts = [1, 80, 9_000, 9_600, 12_000, 18_400, 18_900, len(whole) - 1]
    known = 0
    for cut in cuts:
        answer = await mine.post(ADD_ENTRIES, whole[:cut])
        stored = await mine.stored_size()
        assert stored >= known
        assert stored % 256 == 0 or stored == 701
        known = stored
        if answer.status == 202:
            assert info_of(answer) == MirrorInfo(701, stored)
            # The next one may begin here, and anywhere in the bundle before it too.
            whole = mine.content(stored)
        elif answer.status != 200:
            assert answer.problem == "malformed"
        cut_again = min(cut, len(whole) - 1)
        await mine.post(ADD_ENTRIES, whole[:cut_again])
        known = await mine.stored_size()
        whole = mine.content(known)
    assert (await mine.upload(known)).status == 200
    for index, leaves in enumerate(package_ranges(0, 701)):
        assert (await mine.add_bodies(index, len(leaves))).status == 204
    assert [await mine.matches(number) for number in (0, 254, 255, 699)] == [1] * 4
    found = await mine.stored()
    assert found is not None
    assert (found.tree_size, found.root_hash) == (701, mine.log.root())


async def test_lying_packages_are_refused_and_nothing_of_them_is_stored(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(600))
    await mine.announce()
    head = encode_add_entries(AddEntries(mine.origin, 0, 601))
    later = encode_add_entries(AddEntries(mine.origin, 256, 601))
    first, second, third = (mine.package(it, 601) for it in package_ranges(0, 601))
    altered = bytearray(first)
    altered[-100] ^= 1
    entry = bytearray(first)
    entry[40] ^= 1
    for lie, stored in (
        (head + bytes(altered), 0),
        (head + bytes(entry), 0),
        (head + second + first + third, 0),
        (head + first + first + third, 256),
        (later + first + third, 256),
        (later + third + second, 256),
    ):
        answer = await mine.post(ADD_ENTRIES, lie)
        assert answer.problem in {"bad-proof", "malformed", "too-large"}, answer
        assert await mine.stored_size() == stored
    assert (await mine.upload(256)).status == 200
    assert (await mine.stored()).root_hash == mine.log.root()  # type: ignore[union-attr]


async def test_bytes_behind_the_last_package_are_not_acknowledged(
    mine: UploadedLog,
) -> None:
    await mine.announce()
    answer = await mine.post(ADD_ENTRIES, mine.content(0) + b"\x00")
    assert answer.problem == "malformed"
    found = await mine.stored()
    assert found is not None
    assert found.mirror_checkpoint is None


async def test_only_the_owner_of_a_list_that_we_follow_is_let_in(
    mine: UploadedLog,
) -> None:
    await mine.announce()
    content = mine.content(0)
    refused = [
        await mine.post(ADD_ENTRIES, content.replace(b"beta.example", b"zeta.example")),
        await mine.post(ADD_ENTRIES, content.replace(b"log/ncii/1", b"log/ncij/1")),
    ]
    stranger = await mine.world.pinned(mine.world.stranger)
    assert stranger.name != mine.world.peer.name
    path = mine.bodies_path(0, 1)
    for target, body in ((ADD_ENTRIES, content), (path, b"\x00" * 5)):
        fields = mine.world.stranger.headers(
            "POST", target, body, content_type="application/octet-stream"
        )
        refused.append(await mine.world.send("POST", target, fields, body))
    await mine.world.running.use_cases.peering.unfollow("beta.example", "ncii")
    refused.append(await mine.post(ADD_ENTRIES, content))
    assert {(answer.status, answer.problem) for answer in refused} == {
        (404, "unknown-log")
    }
    assert len({answer.body for answer in refused}) == 1
    assert await mine.stored() is None


async def test_a_quarantined_list_takes_no_uploads(mine: UploadedLog) -> None:
    await bring(mine)
    mine.log.publish(indicators(1))
    await mine.announce()
    database = mine.world.running.foundation.database

    def quarantine(conn: Connection) -> None:
        (follow,) = peer_store.list_follows(conn)
        peer_store.set_follow(
            conn,
            follow.follow_id,
            state=FollowState.QUARANTINED,
            synced_at=None,
            error="proof",
        )

    await database.write(quarantine)
    assert (await mine.upload(1)).problem == "unknown-log"
    assert (await mine.add_bodies(0, 1)).problem == "unknown-log"
    assert await mine.stored_size() == 1


async def test_content_that_was_not_signed_is_not_acknowledged(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(1))
    await mine.announce()
    answer = await mine.post(ADD_ENTRIES, mine.content(0), signed=b"something else")
    assert (answer.status, answer.problem) == (403, "auth-invalid")
    found = await mine.stored()
    assert found is None or found.mirror_checkpoint is None
    await mine.upload(0)
    bodies = mine.log.body_bundle(0, 2)
    answer = await mine.post(mine.bodies_path(0, 2), bodies, signed=b"something else")
    assert answer.problem == "auth-invalid"
    assert await mine.matches(0) == 0


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_content_may_be_compressed(mine: UploadedLog, coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zstandard.compress
    mine.log.publish(indicators(300))
    await mine.announce()
    answer = await mine.post(
        ADD_ENTRIES, compress(mine.content(0)), Content_Encoding=coding
    )
    assert answer.status == 200, answer
    for index, width in ((0, 256), (1, 45)):
        raw = compress(mine.log.body_bundle(index, width))
        path = mine.bodies_path(index, width)
        assert (await mine.post(path, raw, Content_Encoding=coding)).status == 204
    assert await mine.matches(299) == 1


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_bomb_is_refused_after_some_of_it(
    mine: UploadedLog, coding: str
) -> None:
    compress = gzip.compress if coding == "gzip" else zstandard.compress
    await bring(mine)
    bomb = compress(bytes(200_000_000))
    answer = await mine.post(mine.bodies_path(0, 1), bomb, Content_Encoding=coding)
    assert answer.problem == "too-large"
    mine.log.publish(indicators(1))
    await mine.announce()
    head = encode_add_entries(AddEntries(mine.origin, 1, 2))
    bomb = compress(head + b"\x10\x01" + b"x" * 50_000_000)
    answer = await mine.post(ADD_ENTRIES, bomb, Content_Encoding=coding)
    assert answer.problem in {"too-large", "malformed", "bad-proof"}
    assert await mine.stored_size() == 1
    answer = await mine.post(ADD_NOTE, bomb, Content_Encoding=coding)
    assert answer.status in {413, 415}


async def test_a_bomb_behind_what_does_not_fit_is_not_decoded_to_its_end(
    mine: UploadedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_ENTRIES_BYTES", 1_000_000)
    await bring(mine)
    pieces = []
    read = content.read_pieces

    async def counted(
        request: web.Request, *, limit_bytes: int
    ) -> AsyncGenerator[bytes]:
        async for piece in read(request, limit_bytes=limit_bytes):
            pieces.append(len(piece))
            yield piece

    monkeypatch.setattr(uploads, "read_pieces", counted)
    head = encode_add_entries(AddEntries(mine.origin, 9, 12))
    bomb = zstandard.compress(head + bytes(100_000_000))
    answer = await mine.post(ADD_ENTRIES, bomb, Content_Encoding="zstd")
    # It is told where to go on all the same.
    assert (answer.status, info_of(answer).next_entry) == (409, 1)
    assert sum(pieces) < 5_000_000


async def test_what_is_not_sent_as_it_must_be_is_refused(mine: UploadedLog) -> None:
    await mine.announce()
    content = mine.content(0)
    answer = await mine.post(ADD_ENTRIES, content, content_type="text/plain")
    assert answer.problem == "unsupported-media"
    for coding in ("br", "gzip, gzip", "identity"):
        answer = await mine.post(ADD_ENTRIES, content, Content_Encoding=coding)
        assert answer.problem == "unsupported-media"
    for coding in ("gzip", "zstd"):
        answer = await mine.post(ADD_ENTRIES, content, Content_Encoding=coding)
        assert answer.problem == "malformed"
    answer = await mine.post("/hsf/v1/mirror/" + "0" * 64 + "/add-bodies/0", content)
    assert answer.problem == "not-found"
    answer = await mine.world.ask(ADD_ENTRIES, method="POST")
    assert answer.problem == "auth-invalid"
    assert await mine.stored() is None


async def test_bodies_must_be_those_of_their_entries(mine: UploadedLog) -> None:
    mine.log.publish(indicators(2))
    await mine.announce()
    await mine.upload(0)
    other = Body(BodyStatus.PRESENT, os.urandom(16), indicator(0))
    for bodies, problem in (
        ([NONE, other, mine.log.bodies[2]], "bad-commitment"),
        ([NONE, mine.log.bodies[2], mine.log.bodies[1]], "bad-commitment"),
        ([NONE, NONE, mine.log.bodies[2]], "bad-bundle"),
    ):
        answer = await mine.add_bodies(0, 3, encode_body_bundle(bodies))
        assert answer.problem in {problem, "bad-bundle"}, answer
    assert (await mine.add_bodies(0, 3, b"\x00\x01")).problem == "malformed"
    # Whole or not at all: the good body beside a bad one was not stored either.
    assert await mine.matches(1) == 0
    # What is said to be erased is not believed.
    some = encode_body_bundle([NONE, ERASED, mine.log.bodies[2]])
    assert (await mine.add_bodies(0, 3, some)).status == 204
    assert [await mine.matches(number) for number in (0, 1)] == [0, 1]
    rest = encode_body_bundle([NONE, mine.log.bodies[1], WITHHELD])
    assert (await mine.add_bodies(0, 3, rest)).status == 204
    assert [await mine.matches(number) for number in (0, 1)] == [1, 1]


async def test_bodies_wait_for_their_entries(mine: UploadedLog) -> None:
    mine.log.publish(indicators(2))
    assert (await mine.add_bodies(0, 3)).problem == "unknown-log"
    await mine.announce()
    assert (await mine.add_bodies(0, 3)).problem == "unknown-log"
    await bring(mine)
    mine.log.publish(indicators(2, first=2))
    await mine.announce()
    answer = await mine.add_bodies(0, 5)
    assert (answer.status, info_of(answer)) == (409, MirrorInfo(5, 3))


async def test_what_was_retracted_or_erased_stays_so_whatever_is_sent_again(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(3))
    await bring(mine)
    before, first = mine.log.body_bundle(0, 4), mine.content(0)
    mine.log.retract(1)
    mine.log.erase(2)
    await bring(mine)
    assert [await mine.matches(number) for number in range(3)] == [0, 0, 1]
    answer = await mine.post(ADD_ENTRIES, first)
    assert (answer.status, info_of(answer)) == (409, MirrorInfo(6, 6))
    assert (await mine.add_bodies(0, 4, before)).status == 204
    assert [await mine.matches(number) for number in range(3)] == [0, 0, 1]
    database = mine.world.running.foundation.database
    erased = await database.read(
        lambda conn: records.read_record(conn, Ref(mine.origin, 2))
    )
    assert erased is not None
    assert (erased.state, erased.body, erased.salt) == (RecordState.ERASED, b"", b"")


async def test_bodies_that_come_after_their_withdrawal_never_match(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(3))
    bodies = list(mine.log.bodies)
    mine.log.retract(1)
    mine.log.erase(2)
    await mine.announce()
    assert (await mine.upload(0)).status == 200
    late = encode_body_bundle([*bodies, NONE, NONE])
    assert (await mine.add_bodies(0, 6, late)).status == 204
    assert [await mine.matches(number) for number in range(3)] == [0, 0, 1]
    files = mine.world.settings.keys.directory.parent.glob("hashlight.db*")
    assert all(bodies[2].salt not in file.read_bytes() for file in files)


async def test_a_replaced_record_stays_replaced_whichever_body_comes_first(
    mine: UploadedLog,
) -> None:
    mine.log.publish([indicator(0), indicator(1, replaces=1)])
    await mine.announce()
    await mine.upload(0)
    _, old, new = mine.log.bodies
    for some in ([NONE, WITHHELD, new], [NONE, old, WITHHELD]):
        assert (await mine.add_bodies(0, 3, encode_body_bundle(some))).status == 204
    assert [await mine.matches(number) for number in range(2)] == [0, 1]


async def test_an_entry_that_we_must_understand_and_do_not_is_not_acknowledged(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(1))
    mine.log.append_raw(b"\x80new")
    await mine.announce()
    answer = await mine.upload(0)
    assert (answer.status, answer.problem) == (422, "unsupported-entry")
    found = await mine.stored()
    assert found is not None
    assert (found.tree_size, found.mirror_checkpoint) == (2, None)
    assert (await mine.upload(2)).problem == "unsupported-entry"
    assert (await mine.add_bodies(0, 2)).status == 204
    assert await mine.matches(0) == 1


async def test_a_log_that_signed_nonsense_is_put_into_quarantine(
    mine: UploadedLog,
) -> None:
    mine.log.append_raw(b"\x01short")
    await mine.announce()
    answer = await mine.upload(0)
    assert answer.problem == "malformed"
    found = await mine.stored()
    assert found is not None
    assert (found.tree_size, found.state) == (0, LogState.QUARANTINED)
    database = mine.world.running.foundation.database
    (evidence,) = await database.read(deliveries.list_evidence)
    assert evidence.code == "malformed"


async def test_one_request_is_read_as_far_as_it_may_be_long(mine: UploadedLog) -> None:
    for _ in range(8_500):
        mine.log.append(RecordEntry(os.urandom(32)))
    await mine.announce()
    answer = await mine.upload(0)
    assert (answer.status, info_of(answer)) == (202, MirrorInfo(8_501, 8_192))
    assert (await mine.upload(8_192)).status == 200


async def test_what_follows_an_empty_upload_is_refused(mine: UploadedLog) -> None:
    await bring(mine)
    for size in (0, 1):
        content = mine.content(size, size) + bytes(200_000)
        answer = await mine.post(ADD_ENTRIES, content)
        assert answer.problem == "malformed"


async def test_a_checkpoint_by_a_key_that_counts_no_more_is_not_led_up_to(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(1))
    await mine.announce()
    mine.log.signer = Ed25519Signer(mine.origin, ED25519, os.urandom(32))
    assert (await mine.add_note(mine.list_note(2))).status == 204
    assert info_of(await mine.upload(0)) == MirrorInfo(0, 0)
    mine.log.publish(indicators(1, first=1))
    await mine.announce()
    assert (await mine.upload(0)).status == 200


async def test_an_abandoned_log_is_not_copied_further(mine: UploadedLog) -> None:
    await bring(mine)
    head = KnownHead(1, mine.log.root(1))
    logs = (LogInfo(mine.origin, (mine.log.signer.key,), "abandoned", head),)
    note = ListNote(mine.log.list_id, "beta.example", "ncii", 2, {"title": ""}, logs)
    raw = sign_list_note(note, mine.world.peer.keyring.identity)
    assert (await mine.add_note(raw)).status == 204
    assert (await mine.upload(1)).problem == "unknown-log"


async def test_what_goes_on_in_a_new_log_matches_before_its_bodies_come_again(
    mine: UploadedLog,
) -> None:
    mine.log.publish(indicators(3))
    await bring(mine)
    old = mine.log
    end = KnownHead(old.size, old.root())
    mine.log = LogSimulator(
        "beta.example/hsf/v1/log/ncii/2",
        Checkpoint(old.origin, end.tree_size, end.root_hash),
    )
    mine.log.reissue(old, [1, 3])
    mine.log.publish(indicators(1, first=8))
    mine.announced_size = 0
    logs_now = (
        LogInfo(old.origin, (old.signer.key,), "frozen", end),
        LogInfo(mine.origin, (mine.log.signer.key,), "active"),
    )
    note = ListNote(old.list_id, "beta.example", "ncii", 2, {"title": ""}, logs_now)
    raw = sign_list_note(note, mine.world.peer.keyring.identity)
    assert (await mine.add_note(raw)).status == 204
    await mine.announce()

    assert (await mine.upload(0)).status == 200

    # The laptop may be closed now, for weeks.
    assert [await mine.matches(number) for number in (0, 1, 2, 8)] == [1, 0, 1, 0]
    assert (await mine.add_bodies(0, mine.log.size)).status == 204
    assert [await mine.matches(number) for number in (0, 1, 2, 8)] == [1, 0, 1, 1]
