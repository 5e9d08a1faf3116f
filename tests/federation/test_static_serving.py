"""nginx sends what the node would, to those to whom the node would, and no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from hashlight_node.app import start_node
from hashlight_protocol import BodyStatus, GrantScope, Reason, Ref, parse_body_bundle
from support.clock import ManualClock
from support.federation import Answer, World
from support.made_records import labelled, md5_of
from support.nodes import make_sender
from support.running_companies import RunningCompany, connect, start_company, until
from support.sending_proxy import needs_nginx, run_nginx, settings_behind_nginx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from support.nodes import Sender

pytestmark = needs_nginx

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
LOG = "/hsf/v1/log/ncii/1"
FULL = ["tile/0/000", "tile/entries/000", "bodies/000", "bodies/001"]
COUNT = 600  # Two full bundles and a partial one, with META.
LABELS = ("ncii:adult", "ncii:child")


def files_in(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Fronted:
    """A node that is asked through nginx, and past it."""

    through: World
    past: World
    scoped: Sender

    @property
    def directory(self) -> Path:
        return Path(self.through.settings.federation.static_directory)

    def files(self) -> list[Path]:
        return files_in(self.directory)

    async def both(
        self,
        path: str,
        headers: Mapping[str, str] = {},
        *,
        sender: Sender | None = None,
    ) -> tuple[Answer, Answer]:
        """Ask through nginx twice, so that the second finds a file; and past it."""
        signed = (sender or self.through.peer).headers("GET", path)
        _, second, third = [
            await world.send("GET", path, {**signed, **headers})
            for world in (self.through, self.through, self.past)
        ]
        return second, third


def said(answer: Answer) -> object:
    """Give all of an answer but what is of its connection or its moment."""
    differs = {"date", "x-request-id", "server", "connection", "keep-alive"}
    headers = {k.lower(): v for k, v in answer.headers.items()}
    assert len(headers["x-request-id"]) == 16
    rest = sorted((k, v) for k, v in headers.items() if k not in differs)
    return answer.status, answer.body, rest


@pytest.fixture
async def fronted(tmp_path: Path) -> AsyncIterator[Fronted]:
    clock = ManualClock()
    settings = settings_behind_nginx(tmp_path, "shield.example")
    base = f"http://{settings.federation.listen}"
    itself = settings.model_copy(
        update={"node": settings.node.model_copy(update={"base": base})}
    )
    peer, stranger, scoped = (
        make_sender(tmp_path, f"{name}.example", settings, clock)
        for name in ("beta", "stranger", "scoped")
    )
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        start_node(settings, clock=clock) as running,
        run_nginx(tmp_path, settings),
    ):
        through = World(running, settings, clock, peer, stranger, session)
        for sender in (peer, scoped):
            await through.pinned(sender)
        publisher, peering = running.use_cases.publisher, running.use_cases.peering
        await publisher.create_list("ncii", {})
        drafts = [labelled(number, LABELS[number % 2]) for number in range(COUNT)]
        await publisher.publish("ncii", drafts)
        await peering.grant("beta.example", "ncii")
        scope = GrantScope(frozenset({"ncii:adult"}), None, None)
        await peering.grant("scoped.example", "ncii", scope=scope)
        yield Fronted(through, replace(through, settings=itself), scoped)


@pytest.mark.parametrize("coding", ["zstd", "gzip", "identity"])
async def test_an_answer_is_that_of_the_node(fronted: Fronted, coding: str) -> None:
    for path in ("bodies/002.p/89", "tile/1/000.p/2", "tile/1/000", "bodies/9"):
        through, past = await fronted.both(f"{LOG}/{path}", {"Accept-Encoding": coding})
        assert said(through) == said(past)
    assert fronted.files() == []
    for count, path in enumerate(FULL, 1):
        through, past = await fronted.both(f"{LOG}/{path}", {"Accept-Encoding": coding})
        assert said(through) == said(past)
        assert through.status == 200
        assert len(fronted.files()) == count


BESIDE = (
    {"Range": "bytes=0-9"},
    {"If-None-Match": "*"},
    {"If-Match": '"another"'},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"X-Sendfile-Type": "X-Lighttpd-Send-File"},
)


async def test_what_a_peer_asks_beside_changes_nothing(fronted: Fronted) -> None:
    for path in FULL:
        await fronted.through.ask(f"{LOG}/{path}")
        for headers in BESIDE:
            through, past = await fronted.both(f"{LOG}/{path}", headers)
            assert said(through) == said(past)
        signed = fronted.through.peer.headers("HEAD", f"{LOG}/{path}")
        heads = [
            await world.send("HEAD", f"{LOG}/{path}", signed)
            for world in (fronted.through, fronted.past)
        ]
        assert said(heads[0]) == said(heads[1])


async def test_who_has_the_newest_bodies_gets_none(fronted: Fronted) -> None:
    path = f"{LOG}/bodies/000"
    first = await fronted.through.ask(path, Accept_Encoding="zstd")
    tag = first.headers["ETag"]
    headers = {"Accept-Encoding": "zstd", "If-None-Match": tag}
    through, past = await fronted.both(path, headers)
    assert said(through) == said(past)
    assert through.status == 304


async def test_the_bytes_come_out_of_a_file_and_without_it_out_of_the_node(
    fronted: Fronted,
) -> None:
    for path in FULL:
        await fronted.through.ask(f"{LOG}/{path}")
        (file,) = fronted.files()
        marked = bytes(reversed(file.read_bytes()))
        file.write_bytes(marked)
        assert (await fronted.through.ask(f"{LOG}/{path}")).body == marked
        file.unlink()
        through, past = await fronted.both(f"{LOG}/{path}")
        assert said(through) == said(past)
        assert through.status == 200


async def test_an_erased_body_is_gone_before_the_erasure_is_confirmed(
    fronted: Fronted,
) -> None:
    for path in FULL:
        for coding in ("identity", "zstd"):
            await fronted.through.ask(f"{LOG}/{path}", Accept_Encoding=coding)
    value = md5_of(6).encode()
    assert [file for file in fronted.files() if value in file.read_bytes()]

    publisher = fronted.through.running.use_cases.publisher
    await publisher.withdraw(Ref(ORIGIN, 7), "erase", Reason.WITHDRAWN)

    left = {path.parent.name + "/" + path.name[:3] for path in fronted.files()}
    assert left == {"0/000", "entries/000", "bodies/001"}
    assert not [file for file in fronted.files() if value in file.read_bytes()]
    through, past = await fronted.both(f"{LOG}/bodies/000")
    assert said(through) == said(past)
    bodies = parse_body_bundle(through.body, 256)
    assert [
        it for it, body in enumerate(bodies) if body.status == BodyStatus.ERASED
    ] == [7]


async def test_who_has_no_grant_learns_nothing(fronted: Fronted) -> None:
    for path in FULL:
        await fronted.through.ask(f"{LOG}/{path}")
    peering = fronted.through.running.use_cases.peering
    await peering.revoke("beta.example", "ncii")
    for path in (*FULL, "tile/0/009", "bodies/002.p/89"):
        through, past = await fronted.both(f"{LOG}/{path}")
        assert said(through) == said(past)
        assert through.status == 404
        nothing = await fronted.through.ask(f"/hsf/v1/log/no-such-list/1/{path}")
        assert said(nothing) == said(through)


async def test_a_part_of_a_list_stays_a_part(fronted: Fronted) -> None:
    path = f"{LOG}/bodies/000"
    await fronted.through.ask(path)
    whole = fronted.files()
    through, past = await fronted.both(path, sender=fronted.scoped)
    assert said(through) == said(past)
    assert fronted.files() == whole
    statuses = [body.status for body in parse_body_bundle(through.body, 256)]
    assert statuses.count(BodyStatus.WITHHELD) == 127
    assert statuses.count(BodyStatus.PRESENT) == 128


async def test_a_request_without_a_good_signature_gets_no_byte(
    fronted: Fronted,
) -> None:
    target = f"{LOG}/bodies/000"
    await fronted.through.ask(target)
    (file,) = fronted.files()
    name = f"/hashlight-static/{file.relative_to(fronted.directory)}"
    forged = fronted.through.peer.headers("GET", f"{LOG}/tile/0/001")
    through, past = [
        [
            await world.send("GET", target),
            await world.send("GET", target, {"X-Sendfile-Type": "X-Accel-Redirect"}),
            await world.send("GET", target, forged),
            await world.ask(target, sender=world.stranger),
            await world.send("GET", name),
            await world.ask(name),
        ]
        for world in (fronted.through, fronted.past)
    ]
    assert [answer.status for answer in through] == [403, 403, 403, 403, 403, 404]
    assert [*map(said, through)] == [*map(said, past)]
    content = file.read_bytes()
    assert not [one for one in through if content[:32] in one.body]


async def has_applied(follower: RunningCompany, owner: RunningCompany) -> bool:
    head = await owner.head(ORIGIN)
    return head is not None and head == await follower.head(ORIGIN)


async def matches_are(company: RunningCompany, expected: dict[int, int]) -> bool:
    return {it: await company.matches(it) for it in expected} == expected


async def test_a_node_follows_a_list_through_nginx(tmp_path: Path) -> None:
    settings = settings_behind_nginx(tmp_path, "shield.example")
    shield = RunningCompany(settings)
    await shield.start()
    follower = await start_company(tmp_path, "alpha.example")
    try:
        async with run_nginx(tmp_path, settings):
            publisher = shield.node.use_cases.publisher
            await publisher.create_list("ncii", {})
            drafts = [labelled(number, LABELS[0]) for number in range(COUNT)]
            await publisher.publish("ncii", drafts)
            await connect(shield, follower, "ncii")
            await until(partial(has_applied, follower, shield))
            await until(partial(matches_are, follower, {3: 1, COUNT - 1: 1}))
            static = Path(settings.federation.static_directory)
            assert {path.parent.name for path in files_in(static)} >= {
                "entries",
                "bodies",
            }

            await publisher.withdraw(Ref(ORIGIN, 4), "erase", Reason.WITHDRAWN)
            await until(partial(has_applied, follower, shield))
            await until(partial(matches_are, follower, {3: 0, COUNT - 1: 1}))
            assert await follower.node.use_cases.inspect.evidence() == ()
    finally:
        await follower.stop()
        await shield.stop()
    assert files_in(static) == []
