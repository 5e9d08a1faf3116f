"""A list goes on through a relay, which can be silent and do no other harm."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from hashlight_node.model import FollowState, LogState
from hashlight_node.peers.errors import PeerMisbehavedError, PeerUnavailableError
from hashlight_node.store import logs, relaying, tables, withheld
from hashlight_node.store import peers as peer_store
from hashlight_node.store.relayed import list_relayed
from hashlight_protocol import (
    ED25519,
    Ed25519Signer,
    Reason,
    encode_vkey,
    open_descriptor,
    open_list_note,
    parse_vkey,
    sign_note,
    verify_cosignature,
)
from support.made_records import indicator, md5_of, shared
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from hashlight_node.model import Follow, Log, RelayedAcknowledgement
    from hashlight_node.store.database import Connection
    from hashlight_protocol import ListNote

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


async def matches_are(company: RunningCompany, expected: dict[int, int]) -> bool:
    found = {number: await company.matches(number) for number in expected}
    return found == expected


async def follow_of(company: RunningCompany, owner: str) -> Follow:
    def read(conn: Connection) -> Follow:
        peer = peer_store.find_peer(conn, owner)
        assert peer is not None
        follow = peer_store.find_follow(conn, peer.peer_id, "ncii")
        assert follow is not None
        return follow

    return await company.node.foundation.database.read(read)


async def gave_us_something(company: RunningCompany, name: str) -> bool:
    peer = await company.node.foundation.database.read(
        lambda conn: peer_store.find_peer(conn, name)
    )
    assert peer is not None
    return peer.contacted_at is not None


async def log_of(company: RunningCompany) -> Log:
    log = await company.node.foundation.database.read(
        lambda conn: logs.find_log(conn, ORIGIN)
    )
    assert log is not None
    return log


async def third_parties(company: RunningCompany) -> list[RelayedAcknowledgement]:
    log = await log_of(company)
    return await company.node.foundation.database.read(
        lambda conn: list_relayed(conn, log.log_id)
    )


def with_another_key(note: ListNote) -> bytes:
    """Say what a list note says, with keys of somebody else for its logs."""
    logs_said = [
        {
            "origin": one.origin,
            "vkeys": [encode_vkey(Ed25519Signer(one.origin, ED25519, bytes(32)).key)],
            "state": "active",
        }
        for one in note.logs
    ]
    document = {"id": note.id, "version": 9, "meta": {}, "logs": logs_said}
    return b"hsf-list/v1\n" + json.dumps(document).encode() + b"\n"


async def relayed(
    shield: RunningCompany, beta: RunningCompany, gamma: RunningCompany
) -> None:
    """Do what three operators do so that beta relays a list of shield to gamma."""
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await connect(shield, beta, "ncii")
    await shield.node.use_cases.peering.grant(beta.name, "ncii", may_relay=True)
    await beta.pin(gamma)
    await gamma.pin(beta)
    await beta.node.use_cases.relaying.relay(gamma.name, shield.name, "ncii")
    await gamma.node.use_cases.peering.pin(shield.vkey, None)
    await gamma.node.use_cases.peering.follow(shield.name, "ncii", via=beta.name)


async def three(
    make_company: MakeCompany,
) -> tuple[RunningCompany, RunningCompany, RunningCompany]:
    shield = await make_company("shield.example")
    beta = await make_company("beta.example")
    gamma = await make_company("gamma.example")
    await relayed(shield, beta, gamma)
    return shield, beta, gamma


async def test_a_shared_record_goes_through_a_relay_and_its_end_does_too(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await three(make_company)
    publisher = shield.node.use_cases.publisher
    _, first, second = await publisher.publish(
        "ncii", [indicator(0), shared(1), shared(2)]
    )
    await until(partial(matches_are, beta, {0: 1, 1: 1, 2: 1}))
    await until(partial(matches_are, gamma, {0: 0, 1: 1, 2: 1}))
    assert await gave_us_something(gamma, beta.name)

    await publisher.withdraw(first, "retract", Reason.FALSE_POSITIVE)
    await publisher.withdraw(second, "erase", Reason.WITHDRAWN)

    await until(partial(matches_are, gamma, {0: 0, 1: 0, 2: 0}))
    assert (await log_of(gamma)).tree_size == (await log_of(shield)).tree_size
    follow = await follow_of(gamma, shield.name)
    assert (follow.state, follow.error) == (FollowState.ACTIVE, None)
    size = (await log_of(shield)).tree_size

    async def gamma_has_confirmed() -> bool:
        said = await third_parties(shield)
        return [(one.node, one.tree_size) for one in said] == [(gamma.name, size)]

    await until(gamma_has_confirmed)

    # Which of the two is heard of first is open: gamma's word comes on beta's line.
    async def both_have_confirmed() -> bool:
        report = await shield.node.use_cases.inspect.erasure(second)
        confirmed = {
            one.peer_name: one.via for one in report.peers if one.acknowledgement
        }
        return confirmed == {beta.name: None, gamma.name: beta.name}

    await until(both_have_confirmed)
    (said,) = await third_parties(shield)
    assert (said.via, said.identity_vkey) == (beta.name, gamma.vkey)
    # What stands there convinces whoever has the two identity keys.
    mirror = open_descriptor(said.descriptor, parse_vkey(gamma.vkey)).mirror
    assert verify_cosignature(said.note, mirror) == said.acknowledged_at


async def test_a_third_party_that_never_acknowledged_is_listed_as_missing(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await three(make_company)
    await gamma.node.use_cases.peering.quarantine(shield.name)
    await shield.node.use_cases.publisher.publish("ncii", [shared(1)])

    async def listed() -> bool:
        return bool(await third_parties(shield))

    await until(listed)
    (said,) = await third_parties(shield)
    assert (said.node, said.via) == (gamma.name, beta.name)
    assert (said.tree_size, said.acknowledged_at, said.note) == (0, None, b"")


async def test_an_owner_that_takes_its_permission_back_ends_relaying(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await three(make_company)
    await shield.node.use_cases.publisher.publish("ncii", [shared(1)])
    await until(partial(matches_are, gamma, {1: 1}))

    await shield.node.use_cases.peering.grant(beta.name, "ncii", may_relay=False)

    async def waits() -> bool:
        await gamma.node.use_cases.follower.sync(shield.name, "ncii")
        return (await follow_of(gamma, shield.name)).state is FollowState.WAITING

    await until(waits)
    await shield.node.use_cases.publisher.publish("ncii", [shared(2)])
    await until(partial(matches_are, beta, {2: 1}))
    assert await matches_are(gamma, {2: 0})


async def prepare_to_lie(
    make_company: MakeCompany,
) -> tuple[RunningCompany, RunningCompany, RunningCompany]:
    """Give an owner, a relay with three records, and who has followed through it."""
    shield, beta, gamma = await three(make_company)
    publisher = shield.node.use_cases.publisher
    await publisher.publish("ncii", [shared(1)])
    await until(partial(matches_are, gamma, {1: 1}))
    # From here on the test decides when gamma asks, and what it is told.
    await beta.node.use_cases.relaying.stop(gamma.name, shield.name, "ncii")
    await publisher.publish("ncii", [shared(2), shared(3)])
    await until(partial(matches_are, beta, {2: 1, 3: 1}))
    return shield, beta, gamma


async def lie(
    beta: RunningCompany, gamma: RunningCompany, *statements: Executable
) -> PeerMisbehavedError:
    """Change what the relay has stored, and have gamma ask for it."""

    def write(conn: Connection) -> None:
        for statement in statements:
            conn.execute(statement)
        peer = peer_store.find_peer(conn, gamma.name)
        assert peer is not None
        relaying.insert_relay_grant(
            conn, peer.peer_id, node="shield.example", list_name="ncii", now=1
        )

    await beta.node.foundation.database.write(write)
    with pytest.raises(PeerMisbehavedError) as caught:
        await gamma.node.use_cases.follower.sync("shield.example", "ncii")
    return caught.value


async def blamed_for(company: RunningCompany) -> list[tuple[str, str]]:
    evidence = await company.node.use_cases.inspect.evidence()
    return [(one.peer_name, one.code) for one in evidence]


async def goes_on_with_the_owner(shield: RunningCompany, gamma: RunningCompany) -> None:
    """Check that a lie of the relay cost nothing but its help."""
    log = await log_of(gamma)
    assert log.state is LogState.ACTIVE
    follow = await follow_of(gamma, shield.name)
    assert (follow.state, follow.via) == (FollowState.QUARANTINED, "beta.example")
    assert await matches_are(gamma, {1: 1, 2: 0, 3: 0})
    size = log.tree_size
    await connect(shield, gamma, "ncii")
    await until(partial(matches_are, gamma, {1: 1, 2: 1, 3: 1}))
    assert (await log_of(gamma)).log_id == log.log_id
    assert size < (await log_of(gamma)).tree_size == (await log_of(shield)).tree_size


async def test_a_relay_that_alters_a_record_convicts_itself(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await prepare_to_lie(make_company)
    altered = shared(2).replace(md5_of(2).encode(), md5_of(99).encode())
    error = await lie(
        beta,
        gamma,
        update(tables.contents)
        .where(tables.contents.c.body == shared(2))
        .values(body=altered),
    )
    assert (error.peer, error.code) == (beta.name, "bad-commitment")
    assert await blamed_for(gamma) == [(beta.name, "bad-commitment")]
    assert await matches_are(gamma, {99: 0})
    await goes_on_with_the_owner(shield, gamma)


async def test_a_relay_that_alters_an_entry_convicts_itself(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await prepare_to_lie(make_company)
    bundle = tables.entry_bundles.c.entries
    raw = await beta.node.foundation.database.read(
        lambda conn: conn.execute(select(bundle)).scalar_one()
    )
    # The last byte belongs to the commitment of the last record.
    changed = raw[:-1] + bytes([raw[-1] ^ 1])
    error = await lie(beta, gamma, update(tables.entry_bundles).values(entries=changed))
    assert (error.peer, error.code) == (beta.name, "bad-bundle")
    assert await blamed_for(gamma) == [(beta.name, "bad-bundle")]
    await goes_on_with_the_owner(shield, gamma)


async def test_a_relay_that_shows_another_tree_convicts_itself(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await prepare_to_lie(make_company)
    error = await lie(beta, gamma, update(tables.tiles).values(hashes=bytes(32 * 4)))
    assert (error.peer, error.code) == (beta.name, "bad-bundle")
    assert await blamed_for(gamma) == [(beta.name, "bad-bundle")]
    await goes_on_with_the_owner(shield, gamma)


async def test_a_relay_that_serves_another_log_convicts_itself(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await prepare_to_lie(make_company)
    publisher = beta.node.use_cases.publisher
    await publisher.create_list("own", {})
    await publisher.publish("own", [shared(7)])
    other = await beta.node.foundation.database.read(
        lambda conn: logs.find_own_log(conn, beta.name, "own")
    )
    assert other is not None
    copy = update(tables.logs).where(tables.logs.c.origin == ORIGIN)
    error = await lie(beta, gamma, copy.values(mirror_checkpoint=other.checkpoint))
    assert error.peer == beta.name
    assert [name for name, _ in await blamed_for(gamma)] == [beta.name]
    await goes_on_with_the_owner(shield, gamma)


async def test_a_relay_that_forges_a_list_note_convicts_itself(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await prepare_to_lie(make_company)
    known = await log_of(beta)
    assert known.list_note is not None
    note = open_list_note(known.list_note, parse_vkey(shield.vkey))
    identity = beta.node.foundation.keyring.identity
    forged = sign_note(with_another_key(note), [identity])
    # As if an hour had passed since gamma read the note last.
    gamma.node.use_cases.witness._list_notes._known.clear()  # noqa: SLF001 -- ditto
    copy = update(tables.logs).where(tables.logs.c.origin == ORIGIN)
    error = await lie(beta, gamma, copy.values(list_note=forged))
    assert (error.peer, error.code) == (beta.name, "unknown-key")
    await goes_on_with_the_owner(shield, gamma)


async def test_what_a_relay_withholds_is_counted_and_had_from_somebody_else(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await prepare_to_lie(make_company)

    def withhold(conn: Connection) -> None:
        # The relay had the bodies, and says that it had not.
        conn.execute(
            update(tables.records)
            .where(tables.records.c.leaf_index >= 2)
            .values(status=2, state="withheld", content_id=None)
        )

    await beta.node.foundation.database.write(withhold)
    await beta.node.use_cases.relaying.relay(gamma.name, shield.name, "ncii")
    await gamma.node.use_cases.follower.sync(shield.name, "ncii")
    assert await matches_are(gamma, {1: 1, 2: 0, 3: 0})
    counts = await gamma.node.foundation.database.read(withheld.count_by_list)
    assert counts == {(shield.name, "ncii"): 2}

    await connect(shield, gamma, "ncii")
    await until(partial(matches_are, gamma, {1: 1, 2: 1, 3: 1}))


async def test_a_relay_that_shows_an_old_state_makes_no_copy_look_fresh(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await three(make_company)
    publisher = shield.node.use_cases.publisher
    (ref,) = await publisher.publish("ncii", [shared(1)])
    await until(partial(matches_are, gamma, {1: 1}))
    before = await log_of(gamma)
    assert before.verified_at is not None
    # The relay hears nothing any more, and goes on answering.
    await shield.node.use_cases.peering.quarantine(beta.name)
    await publisher.withdraw(ref, "erase", Reason.WITHDRAWN)
    await asyncio.sleep(1.1)

    report = await gamma.node.use_cases.follower.sync(shield.name, "ncii")

    assert report.state is FollowState.ACTIVE
    assert (await log_of(gamma)).verified_at == before.verified_at
    status = await gamma.node.use_cases.inspect.lists()
    (lag,) = [one.lag_seconds for one in status if one.origin == ORIGIN]
    assert lag is not None
    assert lag >= 1
    # Somebody else who has more ends it, from the same position.
    await connect(shield, gamma, "ncii")
    await until(partial(matches_are, gamma, {1: 0}))


async def test_a_relay_that_falls_behind_what_we_have_is_no_evidence(
    make_company: MakeCompany,
) -> None:
    shield, beta, gamma = await three(make_company)
    publisher = shield.node.use_cases.publisher
    await publisher.publish("ncii", [shared(1)])
    await until(partial(matches_are, gamma, {1: 1}))
    await shield.node.use_cases.peering.quarantine(beta.name)
    await connect(shield, gamma, "ncii")
    await publisher.publish("ncii", [shared(2)])
    await until(partial(matches_are, gamma, {1: 1, 2: 1}))

    await gamma.node.use_cases.peering.follow(shield.name, "ncii", via=beta.name)
    with pytest.raises(PeerUnavailableError):
        await gamma.node.use_cases.follower.sync(shield.name, "ncii")

    follow = await follow_of(gamma, shield.name)
    assert follow.state is FollowState.ACTIVE
    assert "its copy ends at" in (follow.error or "")
    assert await blamed_for(gamma) == []
    assert await matches_are(gamma, {1: 1, 2: 1})
