"""The files that a node keeps for a proxy: what is in them, and when they are gone."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from hashlight_node.api.federation import quota
from hashlight_node.api.federation.quota import Share
from hashlight_node.app import start_node
from hashlight_node.exchange.answering.static_files import (
    Draft,
    StaticFile,
    StaticFiles,
)
from hashlight_node.exchange.logs.disclosure import Grantee
from hashlight_node.store import logs
from hashlight_node.store.errors import ScrubError
from hashlight_protocol import (
    WHOLE_LIST,
    BodyBundleId,
    BodyStatus,
    GrantScope,
    Reason,
    Ref,
    encode_vkey,
    origin_hash,
    parse_body_bundle,
)
from support.federation import World
from support.made_records import indicator, indicators, labelled, md5_of, shared
from support.nodes import make_sender, make_settings, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hashlight_node.config import Settings
    from hashlight_node.store.database import Connection
    from support.clock import ManualClock
    from support.federation import Answer

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
LOG = "/hsf/v1/log/ncii/1"
FULL = ["tile/0/000", "tile/entries/000", "bodies/000"]
COUNT = 300
ACCEL = "X-Accel-Redirect"
PREFIX = "/hashlight-static/"


def with_files(settings: Settings, directory: Path) -> Settings:
    federation = settings.federation.model_copy(
        update={"static_directory": str(directory / "static")}
    )
    return settings.model_copy(update={"federation": federation})


@pytest.fixture
async def world(tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    settings = with_files(make_settings(tmp_path, "shield.example"), tmp_path)
    peer = make_sender(tmp_path, "beta.example", settings, clock)
    stranger = make_sender(tmp_path, "stranger.example", settings, clock)
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        start_node(settings, clock=clock) as running,
    ):
        made = World(running, settings, clock, peer, stranger, session)
        await made.pinned(peer)
        await running.use_cases.publisher.create_list("ncii", {})
        await running.use_cases.publisher.publish("ncii", indicators(COUNT))
        await running.use_cases.peering.grant("beta.example", "ncii")
        yield made


def directory_of(world: World) -> Path:
    return Path(world.settings.federation.static_directory)


def files_in(world: World) -> list[Path]:
    return sorted(path for path in directory_of(world).rglob("*") if path.is_file())


def files_of(world: World) -> StaticFiles:
    files = world.running.foundation.files
    assert files is not None
    return files


def file_named(world: World, answer: Answer) -> Path:
    target = answer.headers["X-Accel-Redirect"]
    assert target.startswith(PREFIX)
    return directory_of(world) / target.removeprefix(PREFIX)


async def erase(world: World, leaf_index: int) -> None:
    publisher = world.running.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, leaf_index), "erase", Reason.WITHDRAWN)


async def assert_files_are_answers(world: World, *paths: str) -> None:
    """Compare files with what the node answers, byte by byte and field by field."""
    for path in paths:
        for coding in ("zstd", "gzip", "identity"):
            named = await world.ask(path, Accept_Encoding=coding, X_Sendfile_Type=ACCEL)
            plain = await world.ask(path, Accept_Encoding=coding)
            assert named.body == b""
            assert file_named(world, named).read_bytes() == plain.body
            differs = {"x-accel-redirect", "content-length", "date", "x-request-id"}
            heads = [
                {k: v for k, v in one.headers.items() if k.lower() not in differs}
                for one in (named, plain)
            ]
            assert heads[0] == heads[1]


async def test_a_file_has_what_the_node_answers(world: World) -> None:
    await assert_files_are_answers(world, *(f"{LOG}/{path}" for path in FULL))
    assert len(files_in(world)) == 5


async def test_what_is_partial_or_not_there_has_no_file(world: World) -> None:
    for path in ("tile/0/001.p/4", "tile/entries/000.p/9", "bodies/001.p/4"):
        named = await world.ask(f"{LOG}/{path}", X_Sendfile_Type=ACCEL)
        assert named.said == (await world.ask(f"{LOG}/{path}")).said
        assert named.status == 200
    for path in ("tile/0/001", "bodies/001", "tile/2/000"):
        named = await world.ask(f"{LOG}/{path}", X_Sendfile_Type=ACCEL)
        assert named.said == (await world.ask(f"{LOG}/{path}")).said
        assert named.status == 404
    assert files_in(world) == []


async def test_files_match_the_answers_whatever_is_erased(world: World) -> None:
    for leaf_index in (1, 255, 256, 17):
        await assert_files_are_answers(world, f"{LOG}/bodies/000")
        value = md5_of(leaf_index - 1).encode()
        was_in = [path for path in files_in(world) if value in path.read_bytes()]
        assert len(was_in) == (leaf_index < 256)
        await erase(world, leaf_index)
        assert not any(value in path.read_bytes() for path in files_in(world))
        assert bool(files_in(world)) == (leaf_index == 256)
    await assert_files_are_answers(world, f"{LOG}/bodies/000")


async def test_a_retraction_changes_no_bundle(world: World) -> None:
    await assert_files_are_answers(world, f"{LOG}/bodies/000")
    before = files_in(world)
    publisher = world.running.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 3), "retract", Reason.WITHDRAWN)
    await assert_files_are_answers(world, f"{LOG}/bodies/000")
    assert files_in(world) == before


async def test_what_was_read_before_an_erasure_is_not_kept_after_it(
    world: World,
) -> None:
    files, database = files_of(world), world.running.foundation.database
    wanted = files.want(BodyBundleId(0), "zstd")

    def read(conn: Connection) -> StaticFile | Draft | None:
        log = logs.find_log(conn, ORIGIN)
        assert log is not None
        return files.find(conn, log, Grantee(WHOLE_LIST), wanted)

    draft = await database.read(read)
    assert isinstance(draft, Draft)
    await erase(world, 5)
    assert files.keep(draft) is None
    assert files_in(world) == []


async def test_two_that_ask_at_once_get_one_file(world: World) -> None:
    path = f"{LOG}/bodies/000"
    answers = await asyncio.gather(
        *(world.ask(path, X_Sendfile_Type=ACCEL) for _ in range(8))
    )
    assert len({answer.headers["X-Accel-Redirect"] for answer in answers}) == 1
    await erase(world, 5)
    assert files_in(world) == []


async def test_an_erasure_is_not_confirmed_while_a_file_cannot_be_removed(
    world: World,
) -> None:
    answer = await world.ask(f"{LOG}/bodies/000", X_Sendfile_Type=ACCEL)
    file = file_named(world, answer)
    file.unlink()
    file.mkdir()  # What the system then refuses to unlink, even for root.
    with pytest.raises(ScrubError):
        await erase(world, 5)
    with pytest.raises(ScrubError):
        await world.running.foundation.database.scrub()
    # Nobody is sent there any more.
    again = await world.ask(f"{LOG}/bodies/000", X_Sendfile_Type=ACCEL)
    assert file_named(world, again) != file
    file.rmdir()
    await world.running.foundation.database.scrub()


async def test_where_nothing_can_be_written_the_node_answers_itself(
    world: World,
) -> None:
    blocked = directory_of(world) / origin_hash(ORIGIN)
    blocked.touch()
    for path in FULL:
        named = await world.ask(f"{LOG}/{path}", X_Sendfile_Type=ACCEL)
        assert named.said == (await world.ask(f"{LOG}/{path}")).said
    blocked.unlink()
    # Not tried again at once.
    assert (
        "X-Accel-Redirect"
        not in (await world.ask(f"{LOG}/{FULL[0]}", X_Sendfile_Type=ACCEL)).headers
    )
    assert files_in(world) == []


async def test_it_writes_again_after_a_while(tmp_path: Path) -> None:
    now = 0.0
    files = StaticFiles(tmp_path / "own", monotonic=lambda: now)
    files.begin()
    blocked = tmp_path / "own" / "a"
    blocked.touch()
    draft = Draft("a/b.all", b"content")
    assert files.keep(draft) is None
    blocked.unlink()
    assert files.keep(draft) is None
    now = 61.0
    assert files.keep(draft) == StaticFile("a/b.all", 7)
    assert (tmp_path / "own" / "a" / "b.all").read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "own" / "a").iterdir()] == ["b.all"]


@pytest.mark.parametrize(
    ("allows", "folder", "file"), [(0o2750, 0o2750, 0o640), (0o700, 0o700, 0o600)]
)
async def test_a_file_allows_what_the_directory_allows(
    tmp_path: Path, allows: int, folder: int, file: int
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    own.chmod(allows)
    files = StaticFiles(own)
    files.begin()
    files.keep(Draft("a/b.all", b"content"))
    assert (own / "a").stat().st_mode & 0o7777 == folder
    assert (own / "a" / "b.all").stat().st_mode & 0o7777 == file


async def test_a_start_removes_what_a_killed_node_left_and_nothing_else(
    tmp_path: Path, clock: ManualClock, world: World
) -> None:
    await assert_files_are_answers(world, *(f"{LOG}/{path}" for path in FULL))
    left = tmp_path / "left"
    shutil.copytree(directory_of(world), left)
    (left / "notes.txt").write_text("of the operator")
    draft = left / origin_hash(ORIGIN) / "bodies" / "000.granted.zstd.new"
    draft.write_bytes(b"cut off")
    settings = make_settings(tmp_path, "other.example")
    federation = settings.federation.model_copy(update={"static_directory": str(left)})
    settings = settings.model_copy(update={"federation": federation})
    async with start_node(settings, clock=clock):
        assert list(left.iterdir()) == [left / "notes.txt"]


async def test_a_node_that_stops_leaves_no_file(world: World) -> None:
    files = files_of(world)
    await assert_files_are_answers(world, *(f"{LOG}/{path}" for path in FULL))
    files.end()
    assert list(directory_of(world).iterdir()) == []
    # Whoever was about to write one is too late.
    assert files.keep(Draft("a/b.all", b"content")) is None
    answer = await world.ask(f"{LOG}/tile/0/000", X_Sendfile_Type=ACCEL)
    assert "X-Accel-Redirect" not in answer.headers


async def test_a_directory_that_cannot_be_emptied_stops_the_start(
    tmp_path: Path, clock: ManualClock
) -> None:
    settings = with_files(make_settings(tmp_path, "shield.example"), tmp_path)
    (tmp_path / "static").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "static" / ("a" * 64)).symlink_to(tmp_path / "elsewhere")
    async with AsyncExitStack() as stack:
        with pytest.raises(OSError, match="symbolic link"):
            await stack.enter_async_context(start_node(settings, clock=clock))


async def test_a_share_is_charged_with_what_the_proxy_sends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cases = world.running.use_cases
    await use_cases.publisher.create_list("long", {})
    labels = [f"x:{number:060}" for number in range(32)]
    drafts = [labelled(number, *labels) for number in range(256)]
    await use_cases.publisher.publish("long", drafts)
    await use_cases.peering.grant("beta.example", "long")
    path = "/hsf/v1/log/long/1/bodies/000"
    small = Share(requests=10_000, mebibytes=1, burst_seconds=1)
    monkeypatch.setattr(quota, "PEER_SHARE", small)
    first = await world.ask(path, Accept_Encoding="identity", X_Sendfile_Type=ACCEL)
    assert file_named(world, first).stat().st_size > 500_000
    assert first.body == b""
    # A mebibyte a second is two of them, and heads alone would be thousands.
    answers = [
        await world.ask(path, Accept_Encoding="identity", X_Sendfile_Type=ACCEL)
        for _ in range(20)
    ]
    assert 429 in {answer.status for answer in answers}


async def test_who_was_let_in_a_moment_ago_is_not_let_in_again(world: World) -> None:
    peering, path = world.running.use_cases.peering, f"{LOG}/bodies/000"

    async def is_named() -> bool:
        answers = [await world.ask(path, X_Sendfile_Type=ACCEL) for _ in range(2)]
        (named,) = {"X-Accel-Redirect" in answer.headers for answer in answers}
        return named

    assert await is_named()
    await peering.grant("beta.example", "ncii", scope=GrantScope(None, None, None))
    assert await is_named()
    narrow = GrantScope(frozenset({"ncii:adult"}), None, None)
    await peering.grant("beta.example", "ncii", scope=narrow)
    assert not await is_named()
    await peering.grant("beta.example", "ncii")
    assert await is_named()
    await peering.revoke("beta.example", "ncii")
    assert not await is_named()
    await peering.grant("beta.example", "ncii")
    assert await is_named()
    await peering.quarantine("beta.example")
    assert (await world.ask(path, X_Sendfile_Type=ACCEL)).status == 403


RELAYED = "/hsf/v1/mirror/" + origin_hash("owner.example/hsf/v1/log/own/1")


async def test_a_relay_has_files_of_what_third_parties_may_see(
    world: World, tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, "owner.example")
    here = world.running.use_cases
    async with start_node(settings, clock=world.clock) as owner:
        there = owner.use_cases
        await there.publisher.create_list("own", {})
        drafts = [one for it in range(150) for one in (indicator(it), shared(it + 500))]
        await there.publisher.publish("own", drafts)
        vkey = encode_vkey(world.running.foundation.keyring.identity.key)
        await there.peering.add_peer(world.settings.node.base, vkey)
        vkey = encode_vkey(owner.foundation.keyring.identity.key)
        await here.peering.add_peer(settings.node.base, vkey)
        await there.peering.grant("shield.example", "own", may_relay=True)
        await here.peering.follow("owner.example", "own")
        await until(partial(is_copied, world, 301))
        await here.relaying.relay("beta.example", "owner.example", "own")

        paths = [f"{RELAYED}/{path}" for path in FULL]
        await assert_files_are_answers(world, *paths)
        bodies = (await world.ask(f"{RELAYED}/bodies/000")).body
        found = [body.status for body in parse_body_bundle(bodies, 256)]
        assert found.count(BodyStatus.WITHHELD) == 128
        # The owner gets all of its own log, out of no file of ours.
        sender = replace(world.peer, keyring=owner.foundation.keyring)
        whole = await world.ask(
            f"{RELAYED}/bodies/000", sender=sender, X_Sendfile_Type=ACCEL
        )
        assert "X-Accel-Redirect" not in whole.headers
        found = [body.status for body in parse_body_bundle(whole.body, 256)]
        assert found.count(BodyStatus.PRESENT) == 255

        ref = Ref("owner.example/hsf/v1/log/own/1", 2)
        await there.publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
        await until(partial(is_copied, world, 302))
        assert [path.parent.name for path in files_in(world)] == ["0", "entries"]
        await assert_files_are_answers(world, *paths)


async def is_copied(world: World, size: int) -> bool:
    log = await world.running.foundation.database.read(
        lambda conn: logs.find_log(conn, "owner.example/hsf/v1/log/own/1")
    )
    return log is not None and log.checkpoint_size == size
