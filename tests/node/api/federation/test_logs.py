from __future__ import annotations

import asyncio
import gzip
from functools import partial
from typing import TYPE_CHECKING

import pytest
import zstandard

from hashlight_node.api.authentication import CONCURRENT_REQUESTS
from hashlight_protocol import (
    BodyStatus,
    Reason,
    Ref,
    open_checkpoint,
    open_list_note,
    open_receipt,
    parse_body_bundle,
    parse_entry_bundle,
    parse_tile,
)
from support.made_records import indicators
from support.nodes import until

if TYPE_CHECKING:
    from support.federation import Answer, World

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
LOG = "/hsf/v1/log/ncii/1"
COUNT = 300  # One full bundle and a partial one, with META 301 entries.


@pytest.fixture
async def published(world: World) -> World:
    await world.running.use_cases.publisher.create_list("ncii", {"about": "tests"})
    await world.running.use_cases.publisher.publish("ncii", indicators(COUNT))
    await world.running.use_cases.peering.grant("beta.example", "ncii")
    return world


async def test_a_peer_with_a_grant_gets_the_list_note(published: World) -> None:
    answer = await published.ask("/hsf/v1/lists/ncii")
    keyring = published.running.foundation.keyring
    note = open_list_note(answer.body, keyring.identity.key)
    assert note.meta == {"about": "tests"}
    assert note.logs[0].vkeys == (keyring.log(ORIGIN).key,)
    assert answer.headers["Cache-Control"] == "private, no-cache"


async def test_a_peer_with_a_grant_gets_the_checkpoint(published: World) -> None:
    answer = await published.ask(f"{LOG}/checkpoint")
    key = published.running.foundation.keyring.log(ORIGIN).key
    signed = open_checkpoint(answer.body, [key], origin=ORIGIN)
    assert signed.checkpoint.tree_size == COUNT + 1
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "private, no-cache"


PRESENT = {
    "tile/0/000": 256,
    "tile/0/000.p/17": 17,
    "tile/0/001.p/45": 45,
    "tile/1/000.p/1": 1,
    "tile/entries/000": 256,
    "tile/entries/001.p/45": 45,
    "tile/entries/000.p/1": 1,
}


async def test_tiles_and_entries_never_change(published: World) -> None:
    for path, width in PRESENT.items():
        answer = await published.ask(f"{LOG}/{path}")
        assert (path, answer.status) == (path, 200)
        parse = parse_entry_bundle if "entries" in path else parse_tile
        assert len(parse(answer.body, width)) == width
        cached = answer.headers["Cache-Control"]
        assert cached == "private, max-age=31536000, immutable"
        assert answer.headers["Content-Type"] == "application/octet-stream"


ABSENT = [
    "tile/0/001",
    "tile/0/001.p/46",
    "tile/0/002",
    "tile/1/000.p/2",
    "tile/2/000.p/1",
    "tile/entries/001",
    "tile/entries/001.p/46",
    "bodies/001",
    "bodies/002.p/1",
    "receipt/301",
    "receipt/9223372036854775807",
    # Second names of what is there.
    "tile/0/000.p/256",
    "tile/0/000.p/0",
    "tile/0/000.p/017",
    "tile/00/000",
    "tile/0/0",
    "tile/0/0000",
    "tile/0/x000/000",
    "tile/64/000",
    "tile/entries/00",
    "bodies/0",
    "receipt/01",
    "receipt/-1",
    "receipt/9999999999999999999999",
    "tile",
    "bodies",
    "CHECKPOINT",
]


async def test_what_is_not_there_is_not_found(published: World) -> None:
    for path in ABSENT:
        answer = await published.ask(f"{LOG}/{path}")
        assert (path, answer.status, answer.problem) == (path, 404, "not-found")


async def test_second_names_of_a_log_are_not_found(published: World) -> None:
    for log in ("ncii/01", "ncii/0", "NCII/1", "ncii/1/1"):
        answer = await published.ask(f"/hsf/v1/log/{log}/checkpoint")
        assert (log, answer.status, answer.problem) == (log, 404, "not-found")


async def test_other_epochs_are_unknown_logs(published: World) -> None:
    for epoch in (2, 2**31 - 1, 2**31, 10**30):
        answer = await published.ask(f"/hsf/v1/log/ncii/{epoch}/checkpoint")
        assert (epoch, answer.status, answer.problem) == (epoch, 404, "unknown-log")


async def test_head_tells_what_get_would_send(published: World) -> None:
    for path in (*PRESENT, "checkpoint", "bodies/000", "receipt/1"):
        got = await published.ask(f"{LOG}/{path}")
        head = await published.ask(f"{LOG}/{path}", method="HEAD")
        assert (path, head.status, head.body) == (path, 200, b"")
        assert head.said[2] == got.said[2]


# -------------------------------------------------------------------------- bodies


def plain(answer: Answer) -> bytes:
    match answer.headers.get("Content-Encoding"):
        case "zstd":
            return zstandard.ZstdDecompressor().decompress(answer.body)
        case "gzip":
            return gzip.decompress(answer.body)
        case _:
            return answer.body


CODINGS = {
    None: None,
    "identity": None,
    "br, deflate": None,
    "zstd": "zstd",
    "gzip, zstd": "zstd",
    "gzip;q=1.0, zstd;q=0": "gzip",
    "ZSTD;q=0.1": "zstd",
    "gzip; q=0.5": "gzip",
    "x" * 300: None,
    "gzip;q=2": None,
}


async def test_bodies_come_as_the_peer_can_read_them(published: World) -> None:
    for accepted, coding in CODINGS.items():
        path = f"{LOG}/bodies/000"
        if accepted is None:
            answer = await published.ask(path)
        else:
            answer = await published.ask(path, Accept_Encoding=accepted)
        assert (accepted, answer.headers.get("Content-Encoding")) == (accepted, coding)
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        first, second, *_ = parse_body_bundle(plain(answer), 256)
        assert first.status is BodyStatus.NONE
        assert second.status is BodyStatus.PRESENT
        assert coding is None or len(answer.body) < len(plain(answer))


async def test_bodies_are_revalidated_and_change_when_one_is_erased(
    published: World,
) -> None:
    path = f"{LOG}/bodies/000"
    first = await published.ask(path)
    tag = first.headers["ETag"]
    again = await published.ask(path, If_None_Match=f'"other", {tag}')
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    publisher = published.running.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 1), "erase", Reason.WITHDRAWN)
    changed = await published.ask(path, If_None_Match=tag)
    assert changed.status == 200
    assert parse_body_bundle(changed.body, 256)[1].status is BodyStatus.ERASED
    assert changed.headers["ETag"] != tag


async def test_each_coding_has_a_tag_of_its_own(published: World) -> None:
    path = f"{LOG}/bodies/000"
    tags = []
    for coding in ("identity", "gzip", "zstd"):
        answer = await published.ask(path, Accept_Encoding=coding)
        tags.append(answer.headers["ETag"])
        known = await published.ask(
            path, Accept_Encoding=coding, If_None_Match=tags[-1]
        )
        assert known.status == 304
    assert len(set(tags)) == 3
    other = await published.ask(path, Accept_Encoding="gzip", If_None_Match=tags[2])
    assert other.status == 200


async def test_a_condition_that_cannot_be_read_is_none(published: World) -> None:
    for known in ("", "junk", '"', "*", 'W/"x"', '"x" "y"', "é"):
        answer = await published.ask(f"{LOG}/bodies/000", If_None_Match=known)
        assert (known, answer.status) == (known, 200)


# ------------------------------------------------------------------------ receipts


async def test_a_receipt_proves_a_record_by_itself(published: World) -> None:
    answer = await published.ask(f"{LOG}/receipt/300")
    key = published.running.foundation.keyring.log(ORIGIN).key
    verified = open_receipt(answer.body, [key])
    assert verified.receipt.leaf_index == 300
    assert answer.headers["Cache-Control"] == "private, no-store"


async def test_there_is_no_receipt_for_what_is_no_record(published: World) -> None:
    answer = await published.ask(f"{LOG}/receipt/0")
    assert (answer.status, answer.problem) == (404, "not-found")


async def test_an_erased_record_is_gone(published: World) -> None:
    publisher = published.running.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 7), "erase", Reason.WITHDRAWN)
    answer = await published.ask(f"{LOG}/receipt/7")
    assert (answer.status, answer.problem) == (410, "erased")


# ---------------------------------------------------------------------- long polls


async def test_a_known_checkpoint_is_not_sent_again(published: World) -> None:
    path = f"{LOG}/checkpoint"
    tag = (await published.ask(path)).headers["ETag"]
    answer = await published.ask(path, If_None_Match=tag)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == tag
    assert "Preference-Applied" not in answer.headers


async def test_a_long_poll_ends_when_there_is_a_new_checkpoint(
    published: World,
) -> None:
    path = f"{LOG}/checkpoint"
    tag = (await published.ask(path)).headers["ETag"]
    poll = asyncio.create_task(
        published.ask(path, If_None_Match=tag, Prefer="respond-async, wait=30")
    )
    await asyncio.sleep(0.2)
    assert not poll.done()
    await published.running.use_cases.publisher.publish(
        "ncii", indicators(1, first=900)
    )
    answer = await asyncio.wait_for(poll, 5)
    assert answer.status == 200
    assert answer.headers["ETag"] != tag
    assert answer.headers["Preference-Applied"] == "wait=30"


async def test_a_long_poll_ends_in_time_without_news(published: World) -> None:
    path = f"{LOG}/checkpoint"
    tag = (await published.ask(path)).headers["ETag"]
    answer = await published.ask(path, If_None_Match=tag, Prefer="wait=1")
    assert (answer.status, answer.headers["ETag"]) == (304, tag)
    assert answer.headers["Preference-Applied"] == "wait=1"


async def test_nothing_waits_that_does_not_say_what_it_has(published: World) -> None:
    answer = await published.ask(f"{LOG}/checkpoint", Prefer="wait=30")
    assert answer.status == 200
    assert "Preference-Applied" not in answer.headers


async def test_a_preference_that_cannot_be_read_is_none(published: World) -> None:
    path = f"{LOG}/checkpoint"
    tag = (await published.ask(path)).headers["ETag"]
    for prefer in ("wait", "wait=", "wait=-1", "wait=x", "await=9", "wait=9.5"):
        answer = await published.ask(path, If_None_Match=tag, Prefer=prefer)
        assert (prefer, answer.status) == (prefer, 304)
        assert "Preference-Applied" not in answer.headers


async def test_who_hangs_up_does_not_wait(published: World) -> None:
    path = f"{LOG}/checkpoint"
    tag = (await published.ask(path)).headers["ETag"]
    for _ in range(3):
        polls = [
            asyncio.create_task(
                published.ask(path, If_None_Match=tag, Prefer="wait=30")
            )
            for _ in range(CONCURRENT_REQUESTS + 1)
        ]
        (crowded,), _ = await asyncio.wait(
            polls, timeout=20, return_when=asyncio.FIRST_COMPLETED
        )
        answer = crowded.result()
        assert (answer.status, answer.problem) == (429, "rate-limited")
        assert answer.headers["Retry-After"] == "1"
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        # Well before those who hung up would have been answered.
        await until(partial(is_answered, published))


async def is_answered(published: World) -> bool:
    return (await published.ask("/hsf/v1/grants")).status == 200
