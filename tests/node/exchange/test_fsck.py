"""Every damaged byte is found where it is, and mended from a real peer."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, update

from hashlight_node.app.maintenance import opened_for_healing, opened_for_reading
from hashlight_node.exchange.operating.fsck_findings import DamageKind
from hashlight_node.store import tables
from hashlight_protocol import Reason
from support.breaking import changing, flip, keys_of
from support.made_records import indicators
from support.running_companies import (
    RunningCompany,
    connect,
    start_company,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Table

    from hashlight_node.exchange.operating.fsck_findings import Findings
    from hashlight_node.exchange.operating.healing import Healed

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
LEAVES = 700


async def are_equal(one: RunningCompany, other: RunningCompany) -> bool:
    head = await one.head(ORIGIN)
    return head is not None and head == await other.head(ORIGIN)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[RunningCompany, RunningCompany]]:
    """Give a node with a list and one that copies it; both run."""
    shield = await start_company(tmp_path, "shield.example")
    alpha = await start_company(tmp_path, "alpha.example")
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("ncii", {})
    refs = await publisher.publish("ncii", indicators(LEAVES, first=0))
    await publisher.withdraw(refs[3], "retract", Reason.FALSE_POSITIVE)
    await publisher.withdraw(refs[4], "erase", Reason.WITHDRAWN)
    await connect(shield, alpha, "ncii")
    await until(partial(are_equal, shield, alpha))
    yield shield, alpha
    await shield.stop()
    await alpha.stop()


async def check(company: RunningCompany) -> Findings:
    async with opened_for_reading(company.settings) as fsck:
        return await fsck.run()


async def heal(company: RunningCompany) -> Healed:
    async with opened_for_healing(company.settings, company.clock) as healer:
        return await healer.run()


def dump(company: RunningCompany) -> dict[str, list[tuple[Any, ...]]]:
    """Read what a node stores about its logs, in an order that ids do not decide."""
    queries = {
        "logs": select(tables.logs.c.root_hash, tables.logs.c.tree_size),
        "tiles": select(tables.tiles),
        "entries": select(tables.entry_bundles),
        "withdrawals": select(tables.withdrawals),
        "records": select(
            tables.records.c.leaf_index,
            tables.records.c.status,
            tables.records.c.state,
            tables.records.c.kind,
            tables.contents.c.salt,
            tables.contents.c.body,
            tables.contents.c.evidence,
        ).outerjoin(
            tables.contents,
            tables.contents.c.content_id == tables.records.c.content_id,
        ),
        "claims": select(
            tables.records.c.leaf_index,
            tables.signals.c.type,
            tables.signals.c.live_count,
            tables.signals.c.digest,
            tables.signal_values.c.value,
        )
        .join_from(tables.record_signals, tables.records)
        .join(
            tables.signals,
            tables.signals.c.signal_id == tables.record_signals.c.signal_id,
        )
        .join(
            tables.signal_values,
            tables.signal_values.c.signal_id == tables.signals.c.signal_id,
        ),
    }
    with changing(company.settings.store.url) as conn:
        return {
            name: sorted(map(tuple, conn.execute(query)), key=repr)
            for name, query in queries.items()
        }


async def test_a_store_that_is_whole_is_clean_also_while_its_node_runs(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    for company in pair:
        found = await check(company)
        assert found.damage == []
        assert (found.logs, found.leaves, found.records) == (1, LEAVES + 3, LEAVES)


FLIPPED: list[tuple[Table, str]] = [
    (tables.contents, "salt"),
    (tables.contents, "body"),
    (tables.contents, "evidence"),
    (tables.entry_bundles, "entries"),
    (tables.tiles, "hashes"),
    (tables.signal_values, "value"),
    (tables.logs, "root_hash"),
    (tables.logs, "checkpoint"),
    (tables.checkpoints, "root_hash"),
    (tables.withdrawals, "kind"),
    (tables.records, "state"),
    (tables.records, "kind"),
]


def flips(chance: random.Random, conn: Connection) -> Iterator[tuple[Table, str, Any]]:
    """Choose a value of each kind in which a bit will be flipped."""
    erased = select(tables.records.c.content_id).where(tables.records.c.status == 1)
    for table, column in FLIPPED:
        where = (
            [tables.contents.c.content_id.in_(erased)]
            if table is tables.contents
            else []
        )
        if table is tables.signal_values:
            where = [table.c.signal_id.in_(select(tables.signals.c.signal_id))]
        yield table, column, chance.choice(keys_of(conn, table, *where))


@pytest.mark.parametrize("seed", range(3))
async def test_a_flipped_bit_is_found_wherever_it_is(
    pair: tuple[RunningCompany, RunningCompany], seed: int
) -> None:
    """One at a time, in the copy; then all of them at once are mended by the owner."""
    _, alpha = pair
    await alpha.stop()
    url, chance = alpha.settings.store.url, random.Random(seed)  # noqa: S311
    before = dump(alpha)
    with changing(url) as conn:
        chosen = list(flips(chance, conn))
    for table, column, key in chosen:
        with changing(url) as conn:
            is_it = [
                c == v for c, v in zip(table.primary_key.columns, key, strict=True)
            ]
            right = conn.execute(select(table.c[column]).where(*is_it)).scalar_one()
            flip(conn, table, column, key, chance)
        found = await check(alpha)
        assert not found.is_clean, f"{table.name}.{column} at {key}"
        with changing(url) as conn:
            conn.execute(update(table).where(*is_it).values({column: right}))
    assert (await check(alpha)).is_clean

    with changing(url) as conn:
        for table, column, key in chosen:
            flip(conn, table, column, key, chance)
    healed = await heal(alpha)

    assert healed.after.damage == []
    assert healed.before.counts[DamageKind.BODY] >= 1
    assert dump(alpha) == before
    await alpha.start()
    assert await alpha.matches(10) == 1
    assert await alpha.matches(3) == 0


@asynccontextmanager
async def broken(company: RunningCompany) -> AsyncIterator[Connection]:
    """Stop a node, and let its store be changed."""
    await company.stop()
    with changing(company.settings.store.url) as conn:
        yield conn


async def test_damage_is_named_by_its_place(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    _, alpha = pair
    chance = random.Random(7)  # noqa: S311
    async with broken(alpha) as conn:
        flip(conn, tables.tiles, "hashes", (1, 0, 1), chance)
        flip(conn, tables.tiles, "hashes", (1, 1, 0), chance)
        query = select(tables.records.c.content_id).where(
            tables.records.c.leaf_index == 300
        )
        content_id = conn.execute(query).scalar_one()
        flip(conn, tables.contents, "body", (content_id,), chance)
    found = await check(alpha)
    places = {(it.kind, it.level, it.index, it.leaf_index) for it in found.damage}
    assert places == {
        (DamageKind.TILE, 0, 1, None),
        (DamageKind.TILE, 1, 0, None),
        (DamageKind.BODY, None, None, 300),
    }
    assert {it.origin for it in found.damage} == {ORIGIN}


async def test_an_owner_is_mended_by_those_who_follow_its_list(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, _ = pair
    chance = random.Random(11)  # noqa: S311
    await shield.stop()
    before = dump(shield)
    with changing(shield.settings.store.url) as conn:
        for key in keys_of(conn, tables.entry_bundles):
            flip(conn, tables.entry_bundles, "entries", key, chance)
        for key in keys_of(conn, tables.contents)[10:60]:
            flip(conn, tables.contents, "body", key, chance)
        conn.execute(delete(tables.tiles).where(tables.tiles.c.level == 1))
    healed = await heal(shield)
    assert healed.after.damage == []
    assert healed.before.counts[DamageKind.ENTRY] >= 3
    assert dump(shield) == before


async def test_what_all_copies_here_have_lost_comes_from_a_peer(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    """Entries, their hashes and the hash of those are all wrong, in all blocks."""
    _, alpha = pair
    chance = random.Random(13)  # noqa: S311
    await alpha.stop()
    before = dump(alpha)
    with changing(alpha.settings.store.url) as conn:
        for table, column in (
            (tables.entry_bundles, "entries"),
            (tables.tiles, "hashes"),
        ):
            for key in keys_of(conn, table):
                for _ in range(5):
                    flip(conn, table, column, key, chance)
    healed = await heal(alpha)
    assert healed.before.counts[DamageKind.ROOT] == 1
    assert healed.after.damage == []
    assert dump(alpha) == before


async def test_without_a_peer_hashes_are_mended_and_bodies_are_not(
    pair: tuple[RunningCompany, RunningCompany],
) -> None:
    shield, alpha = pair
    chance = random.Random(17)  # noqa: S311
    await shield.stop()
    async with broken(alpha) as conn:
        flip(conn, tables.tiles, "hashes", (1, 0, 0), chance)
        (key,) = keys_of(conn, tables.contents, tables.contents.c.content_id == 20)
        flip(conn, tables.contents, "body", key, chance)
    healed = await heal(alpha)
    assert dict(healed.after.counts) == {DamageKind.BODY: 1}
    assert any("shield.example" in one for one in healed.problems)
