"""What is old is forgotten, and every proof goes on verifying."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from hashlight_node.app.maintenance import opened_for_reading
from hashlight_node.exchange.operating.retention import Retention, RetentionRules
from hashlight_node.model import RecordState
from hashlight_node.store import records, tables
from hashlight_protocol import Indicator, Ref, Sighting, encode_record, parse_record
from support.made_records import indicator, indicators
from support.running_companies import RunningCompany, connect, until

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from support.running_companies import MakeCompany

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
DAY = 86_400


def expiring(number: int, at: int) -> bytes:
    """Make the body of a record that expires."""
    record = parse_record(indicator(number))
    assert isinstance(record, Indicator)
    return encode_record(replace(record, expires_at=at))


async def are_equal(one: RunningCompany, other: RunningCompany, origin: str) -> bool:
    head = await one.head(origin)
    return head is not None and head == await other.head(origin)


def retention(company: RunningCompany, days: int, **rules: int) -> Retention:
    """Build what forgets, with a clock that is ahead by some days."""
    on = company.node.foundation
    return Retention(
        database=on.database,
        publisher=company.node.use_cases.publisher,
        matcher=on.applied,
        clock=lambda: company.clock() + days * DAY,
        rules=RetentionRules(**rules),
    )


async def state(company: RunningCompany, leaf: int) -> tuple[RecordState, bool]:
    """Tell how a record stands, and whether its body is here."""
    found = await company.node.foundation.database.read(
        lambda conn: records.read_record(conn, Ref(ORIGIN, leaf))
    )
    assert found is not None
    return found.state, bool(found.body.strip(b"\0"))


async def test_expired_records_are_erased_by_their_owner_and_dropped_by_others(
    make_company: MakeCompany,
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    publisher, soon = shield.node.use_cases.publisher, shield.clock() + 5 * DAY
    await publisher.create_list("ncii", {})
    await publisher.publish("ncii", [expiring(0, soon), indicator(1)])
    await connect(shield, alpha, "ncii")
    await until(partial(are_equal, shield, alpha, ORIGIN))

    await retention(alpha, 20, expired_days=10).prune()
    assert await state(alpha, 1) == (RecordState.WITHHELD, False)
    assert await state(alpha, 2) == (RecordState.LIVE, True)
    assert await alpha.matches(0) == 0
    async with opened_for_reading(alpha.settings) as fsck:
        assert (await fsck.run()).damage == []

    for days, rules in ((14, 10), (20, 0)):
        await retention(shield, days, expired_days=rules).prune()
        assert await state(shield, 1) == (RecordState.LIVE, True)
    await retention(shield, 20, expired_days=10).prune()
    assert await state(shield, 1) == (RecordState.ERASED, False)
    assert await state(shield, 2) == (RecordState.LIVE, True)
    await until(partial(are_equal, shield, alpha, ORIGIN))
    assert (await state(alpha, 1))[0] is RecordState.ERASED
    async with opened_for_reading(shield.settings) as fsck:
        assert (await fsck.run()).damage == []


async def test_old_sightings_go_and_new_ones_stay(make_company: MakeCompany) -> None:
    shield = await make_company("shield.example")
    uses, now = shield.node.use_cases, shield.clock()
    await uses.publisher.create_list("ncii", {})
    (ref,) = await uses.publisher.publish("ncii", indicators(1, first=0))
    for at in (now - 30 * DAY, now):
        await uses.feedback.count_sightings([Sighting(ref, "matched", 1, at, at)])
        await uses.feedback.publish_sightings()

    def kept(conn: Connection) -> list[int]:
        return list(conn.execute(select(tables.sightings.c.last_at)).scalars())

    assert len(await shield.node.foundation.database.read(kept)) == 2
    await retention(shield, 0, sightings_days=20).prune()
    assert await shield.node.foundation.database.read(kept) == [now]


async def test_the_audit_horizon_leaves_the_newest(make_company: MakeCompany) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await alpha.pin(shield)
    database = alpha.node.foundation.database
    await alpha.node.use_cases.publisher.create_list("own", {})
    for number in range(3):
        await alpha.node.use_cases.publisher.publish("own", indicators(1, first=number))

    def add(conn: Connection) -> None:
        peer_id = conn.execute(select(tables.peers.c.peer_id)).scalar_one()
        rows = [
            {
                "peer_id": peer_id,
                "list_name": "ncii",
                "code": "malformed",
                "what": "a test",
                "found_at": number,
                "payload": b"bytes",
            }
            for number in range(3)
        ]
        conn.execute(insert(tables.evidence), rows)

    def left(conn: Connection) -> tuple[list[int], int]:
        found = conn.execute(select(tables.evidence.c.found_at)).scalars()
        sizes = select(func.count()).select_from(tables.checkpoints)
        return list(found), int(conn.execute(sizes).scalar_one())

    await database.write(add)
    await retention(alpha, 40, audit_days=0).prune()
    assert await database.read(left) == ([0, 1, 2], 4)
    await retention(alpha, 40, audit_days=30).prune()
    assert await database.read(left) == ([2], 1)
    async with opened_for_reading(alpha.settings) as fsck:
        assert (await fsck.run()).damage == []
