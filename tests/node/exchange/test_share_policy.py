"""Whatever a list holds, only what says so itself leaves to third parties."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from hashlight_node.exchange.errors import (
    ErasedError,
    NotServedError,
    UnknownLogError,
    WithheldError,
)
from hashlight_node.store import relaying, tables
from hashlight_protocol import (
    BodyBundleId,
    BodyStatus,
    EntryBundleId,
    TileId,
    origin_hash,
    parse_body_bundle,
)
from support.made_records import md5_of, shared

if TYPE_CHECKING:
    from hashlight_node.model import Peer
    from hashlight_node.store.database import Connection
    from support.exchange_node import ExchangeNode
    from support.log_simulator import LogSimulator
    from support.peer_simulator import PeerSimulator

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
HASH = origin_hash(ORIGIN)

KINDS: dict[str, dict[str, object]] = {
    "shared": {},
    "private": {"share": "none"},
    "silent": {"share": None},
    "everybody": {"share": "everybody"},
    "flag": {"share": True},
    "later": {"type": "later"},
    "critical": {"crit": ["share-until"], "share-until": 1},
    "broken": {"signals": "share peers"},
    "opinion": {
        "type": "opinion",
        "ref": "beta.example/hsf/v1/log/own/1#1",
        "stance": "affirm",
    },
}
"""Members that make a shared record one that is not, or is none; None removes one."""


@dataclass(frozen=True)
class Draft:
    """A record to be published; the test decides by it, and not by the body."""

    kind: str
    labels: bool = True
    end: str = ""

    def body(self, number: int) -> bytes:
        document = {**json.loads(shared(number)), **KINDS[self.kind]}
        if not self.labels:
            del document["labels"]
        kept = {name: it for name, it in document.items() if it is not None}
        return json.dumps(kept).encode()

    def expected(self, *, scoped: bool) -> BodyStatus:
        """Say what a third party is told of it."""
        if self.end == "erase":
            return BodyStatus.ERASED
        is_shown = self.kind == "shared" and (self.labels or not scoped)
        return BodyStatus.PRESENT if is_shown else BodyStatus.WITHHELD


def end(log: LogSimulator, leaf: int, draft: Draft) -> None:
    if draft.end == "retract":
        log.retract(leaf)
    if draft.end == "erase":
        log.erase(leaf)


drafts = st.builds(
    Draft,
    kind=st.sampled_from(sorted(KINDS)),
    labels=st.booleans(),
    end=st.sampled_from(["", "retract", "erase"]),
)


async def set_rights(node: ExchangeNode, *, may_relay: bool, scoped: bool) -> None:
    """Write down what the owner lets the node do."""
    scope = '{"labels":["ncii:*"]}' if scoped else None
    statement = update(tables.follows).values(may_relay=int(may_relay), scope=scope)
    await node.database.write(lambda conn: conn.execute(statement))


async def everything(node: ExchangeNode, peer: Peer, size: int) -> tuple[bytes, bytes]:
    """Fetch all that there is for a peer: bodies, and the rest in one heap."""
    bodies = await node.mirroring.bodies(peer, HASH, BodyBundleId(0, size))
    note = await node.mirroring.checkpoint(peer, HASH, etag=None, seconds=0)
    heap = [
        note or b"",
        await node.mirroring.tile(peer, HASH, TileId(0, 0, size)),
        await node.mirroring.entries(peer, HASH, EntryBundleId(0, size)),
    ]
    for leaf_index in range(1, size):
        try:
            heap.append(await node.mirroring.receipt(peer, HASH, leaf_index))
        except (WithheldError, ErasedError, NotServedError) as error:
            heap.append(str(error).encode())
    return bodies, b"\n".join(heap)


@pytest.fixture
async def relay(
    following: tuple[ExchangeNode, PeerSimulator], beta: PeerSimulator
) -> list[tuple[int, Draft]]:
    """Let beta fetch what alpha copies of shield; nothing is published yet."""
    alpha, _ = following
    await alpha.peering.add_peer(beta.base, beta.vkey)
    peer = await alpha.peer("beta.example")

    def write(conn: Connection) -> None:
        relaying.insert_relay_grant(
            conn, peer.peer_id, node="shield.example", list_name="ncii", now=1
        )

    await alpha.database.write(write)
    return []


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(more=st.lists(drafts, min_size=1, max_size=4), scoped=st.booleans())
async def test_no_byte_of_what_is_not_shared_leaves_whatever_the_mixture(
    following: tuple[ExchangeNode, PeerSimulator],
    relay: list[tuple[int, Draft]],
    more: list[Draft],
    scoped: bool,
) -> None:
    alpha, shield = following
    log = shield.logs["ncii"]
    first = len(relay) + 1
    numbered = list(enumerate(more, first))
    leaves = log.publish([draft.body(number) for number, draft in numbered])
    relay.extend(zip(leaves, more, strict=True))
    sent = {leaf: log.bodies[leaf] for leaf in leaves}
    for leaf, draft in zip(leaves, more, strict=True):
        end(log, leaf, draft)
    await alpha.follower.sync("shield.example", "ncii")
    await set_rights(alpha, may_relay=True, scoped=scoped)
    peer = await alpha.peer("beta.example")

    raw, heap = await everything(alpha, peer, log.size)

    statuses = [body.status for body in parse_body_bundle(raw, log.size)]
    assert [statuses[leaf] for leaf, _ in relay] == [
        draft.expected(scoped=scoped) for _, draft in relay
    ]
    for (number, _), leaf in zip(numbered, leaves, strict=True):
        if statuses[leaf] is not BodyStatus.PRESENT:
            for secret in (sent[leaf].salt, sent[leaf].body, md5_of(number).encode()):
                assert secret not in raw + heap
    await set_rights(alpha, may_relay=False, scoped=scoped)
    with pytest.raises(UnknownLogError):
        await alpha.mirroring.bodies(peer, HASH, BodyBundleId(0, log.size))
