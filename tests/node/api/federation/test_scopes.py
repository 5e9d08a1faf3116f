"""Bytes of a record leave exactly as far as the grant's scope lets them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from hashlight_node.exchange.operating.previewing import Previews
from hashlight_node.store import logs, records, tables
from hashlight_node.store import peers as peer_store
from hashlight_protocol import (
    WHOLE_LIST,
    BodyStatus,
    GrantScope,
    Opinion,
    Ref,
    encode_record,
    encode_timestamp,
    parse_body_bundle,
    parse_grants,
)
from support.clock import START
from support.made_records import labelled

if TYPE_CHECKING:
    from hashlight_node.model import Log
    from hashlight_node.store.database import Connection
    from support.federation import Answer, World

ORIGIN = "shield.example/hsf/v1/log/mixed/1"
LOG = "/hsf/v1/log/mixed/1"
LABELS = ("ncii:adult", "ncii:child", "iwf:A", "iwf:AB")
PATTERNS = ("ncii:*", "ncii:adult", "iwf:A", "iwf:A*", "gifct:*")
TYPES = ("md5", "pdq")
NODES = ("beta.example", "gamma.example")


@dataclass(frozen=True)
class Draft:
    """A record to be published; the test decides by it, and not by the body."""

    labels: frozenset[str] = frozenset()
    types: tuple[str, ...] = ("md5",)
    about: str | None = None
    signal_type: str | None = None

    def body(self, number: int) -> bytes:
        if self.about is None:
            return labelled(number, *sorted(self.labels), types=self.types)
        ref = Ref(f"{self.about}/hsf/v1/log/own/1", number)
        return encode_record(Opinion(ref, "dispute", signal_type=self.signal_type))

    @property
    def all_types(self) -> set[str]:
        if self.about is None:
            return set(self.types)
        return set() if self.signal_type is None else {self.signal_type}


def may_see(scope: GrantScope, draft: Draft) -> bool:
    """Say what SPEC.md#scopes says, in other words than the library."""
    if scope.labels is not None and not any(
        label == pattern or (pattern[-1] == "*" and label.startswith(pattern[:-1]))
        for label in draft.labels
        for pattern in scope.labels
    ):
        return False
    if scope.signals is not None and (
        not draft.all_types or draft.all_types - scope.signals
    ):
        return False
    return scope.about is None or scope.about == draft.about


indicators = st.builds(
    Draft,
    labels=st.frozensets(st.sampled_from(LABELS), max_size=2),
    types=st.sampled_from([("md5",), ("pdq",), ("md5", "pdq")]),
)
opinions = st.builds(
    Draft,
    about=st.sampled_from(NODES),
    signal_type=st.sampled_from([None, *TYPES]),
)
scopes = st.builds(
    GrantScope,
    labels=st.none() | st.frozensets(st.sampled_from(PATTERNS), max_size=2),
    signals=st.none() | st.frozensets(st.sampled_from(TYPES), max_size=2),
    about=st.none() | st.sampled_from(NODES),
)


@st.composite
def narrowed(draw: st.DrawFn) -> tuple[GrantScope, GrantScope]:
    """Give a scope and one that is no wider."""
    wide = draw(scopes)
    cut = draw(scopes)
    labels = wide.labels
    if labels is None:
        labels = cut.labels
    elif labels:
        labels = frozenset(draw(st.sets(st.sampled_from(sorted(labels)))))
    signals = cut.signals if wide.signals is None else wide.signals
    about = cut.about if wide.about is None else wide.about
    return wide, GrantScope(labels, signals, about)


async def set_scope(world: World, name: str, scope: GrantScope) -> None:
    def write(conn: Connection) -> None:
        peer = peer_store.find_peer(conn, name)
        assert peer is not None
        peer_store.insert_grant(conn, peer.peer_id, "mixed", START, scope=scope)

    await world.running.foundation.database.write(write)


async def stored(world: World) -> tuple[Log, list[tuple[bytes, bytes]]]:
    """Give salt and body of every record, as they lie in the store."""
    database = world.running.foundation.database
    log = await database.read(lambda conn: logs.find_log(conn, ORIGIN))
    assert log is not None
    kept = await database.read(
        lambda conn: records.read_bodies(conn, log.log_id, 0, log.tree_size)
    )
    return log, [(body.salt, body.body) for body in kept]


async def whole(world: World, path: str, *, stranger: bool = False) -> Answer:
    sender = world.stranger if stranger else world.peer
    return await world.ask(f"{LOG}/{path}", sender=sender)


async def check(world: World, drafts: list[Draft], scope: GrantScope) -> set[int]:
    """Fetch everything with this scope; give the leaves whose bodies came."""
    await set_scope(world, "beta.example", scope)
    log, kept = await stored(world)
    width = f".p/{log.tree_size}"
    answer = await whole(world, f"bodies/000{width}")
    bodies = parse_body_bundle(answer.body, log.tree_size)
    seen: set[int] = set()
    for leaf_index, draft in enumerate(drafts, 1):
        salt, body = kept[leaf_index]
        receipt = await whole(world, f"receipt/{leaf_index}")
        is_seen = bodies[leaf_index].status is BodyStatus.PRESENT
        assert is_seen == may_see(scope, draft)
        assert (salt in answer.body, body in answer.body) == (is_seen, is_seen)
        assert receipt.status == (200 if is_seen else 403)
        if is_seen:
            seen.add(leaf_index)
            assert bodies[leaf_index][1:] == (salt, body)
        else:
            assert bodies[leaf_index].status is BodyStatus.WITHHELD
            assert receipt.problem == "withheld"
    for path in ("checkpoint", f"tile/0/000{width}", f"tile/entries/000{width}"):
        assert (await whole(world, path)).said == (
            await whole(world, path, stranger=True)
        ).said
    preview = await Previews(
        database=world.running.foundation.database, node_name="shield.example"
    ).preview("beta.example", "mixed", scope, examples=1_000)
    assert {ref.leaf_index for ref in preview.examples.shown} == seen
    assert (preview.newly_shown, preview.no_longer_shown) == (0, 0)
    return seen


@pytest.fixture
async def published(world: World) -> list[Draft]:
    """Start a list that a second peer may have whole."""
    await world.running.use_cases.publisher.create_list("mixed", {})
    await world.pinned(world.stranger)
    await set_scope(world, "stranger.example", WHOLE_LIST)
    return []


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(more=st.lists(indicators | opinions, min_size=1, max_size=4), both=narrowed())
async def test_bodies_leave_as_far_as_the_scope_goes_and_everything_else_to_all(
    world: World,
    published: list[Draft],
    more: list[Draft],
    both: tuple[GrantScope, GrantScope],
) -> None:
    first = len(published) + 1
    bodies = [draft.body(number) for number, draft in enumerate(more, first)]
    await world.running.use_cases.publisher.publish("mixed", bodies)
    published.extend(more)
    wide, narrow = both
    shown = await check(world, published, wide)
    assert await check(world, published, narrow) <= shown
    assert len(await check(world, published, WHOLE_LIST)) == len(published)


async def test_a_peer_is_told_its_scope(world: World) -> None:
    await world.running.use_cases.publisher.create_list("mixed", {})
    scope = GrantScope(frozenset({"ncii:*"}), frozenset({"pdq"}), "beta.example")
    await world.running.use_cases.peering.grant("beta.example", "mixed", scope=scope)
    answer = await world.ask("/hsf/v1/grants")
    assert answer.json() == {
        "version": 1,
        "grants": [
            {
                "list": "mixed",
                "id": "shield.example/hsf/v1/log/mixed",
                "granted": encode_timestamp(START),
                "scope": {
                    "labels": ["ncii:*"],
                    "signals": ["pdq"],
                    "about": "beta.example",
                },
            }
        ],
    }
    (row,) = parse_grants(answer.body, node="shield.example").grants
    assert row.scope == scope


async def test_a_scope_changes_nothing_for_those_without_a_grant(world: World) -> None:
    publisher = world.running.use_cases.publisher
    await publisher.create_list("mixed", {})
    await publisher.publish("mixed", [labelled(1, "ncii:adult")])
    await world.pinned(world.stranger)
    await set_scope(world, "beta.example", GrantScope(frozenset(), None, None))
    for path in ("bodies/000.p/2", "receipt/1", "tile/0/000.p/2", "checkpoint"):
        secret = await whole(world, path, stranger=True)
        absent = await world.ask(f"/hsf/v1/log/other/1/{path}", sender=world.stranger)
        assert (secret.status, secret.problem) == (404, "unknown-log")
        assert secret.said == absent.said


async def test_a_body_that_is_no_record_is_for_the_whole_list_only(
    world: World,
) -> None:
    publisher = world.running.use_cases.publisher
    await publisher.create_list("mixed", {})
    odd = b'{"type":"of-a-later-version","labels":[{"scheme":"ncii","value":"adult"}]}'
    await publisher.publish("mixed", [labelled(1, "ncii:adult")])
    database = world.running.foundation.database

    def spoil(conn: Connection) -> None:
        # What an older version of us published, or one that is yet to come.
        conn.execute(update(tables.contents).values(body=odd))

    await database.write(spoil)
    for scope, status in (
        (GrantScope(frozenset({"ncii:*"}), None, None), 403),
        (GrantScope(None, frozenset({"md5"}), None), 403),
        (GrantScope(None, None, "beta.example"), 403),
        (WHOLE_LIST, 200),
    ):
        await set_scope(world, "beta.example", scope)
        assert (await whole(world, "receipt/1")).status == status


def test_the_example_of_this_test_is_not_trivial() -> None:
    draft = Draft(frozenset({"ncii:adult"}), ("md5", "pdq"))
    scope = GrantScope(frozenset({"ncii:*"}), frozenset({"md5", "pdq"}), None)
    assert may_see(scope, draft)
    assert not may_see(replace(scope, signals=frozenset({"pdq"})), draft)
