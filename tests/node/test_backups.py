"""Backups of a node that runs: whole, checked to the last byte, and put back."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from hashlight_node.app.backups import (
    check_backup,
    foresee,
    make_backup,
    manifest_of,
    read_manifest,
    restore,
)
from hashlight_node.app.maintenance import opened_for_reading
from hashlight_node.model import LogState
from hashlight_node.store import logs, tables
from hashlight_node.store.backups import BackupError
from hashlight_node.store.errors import DatabaseInUseError
from support.breaking import changing, flip, keys_of
from support.made_records import indicators
from support.running_companies import RunningCompany, start_company
from support.stores import IS_POSTGRESQL, postgresql_programs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hashlight_node.model import Log

ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pg_dump be the one of the server."""
    if IS_POSTGRESQL:
        path = f"{postgresql_programs()}{os.pathsep}{os.environ['PATH']}"
        monkeypatch.setenv("PATH", path)


@pytest.fixture
async def shield(tmp_path: Path) -> AsyncIterator[RunningCompany]:
    company = await start_company(tmp_path, "shield.example")
    await company.node.use_cases.publisher.create_list("ncii", {})
    await publish(company, 300, first=0)
    yield company
    await company.stop()


async def publish(company: RunningCompany, count: int, *, first: int) -> None:
    publisher = company.node.use_cases.publisher
    await publisher.publish("ncii", indicators(count, first=first))


async def own_log(company: RunningCompany) -> Log:
    found = await company.node.foundation.database.read(
        lambda conn: logs.find_log(conn, ORIGIN)
    )
    assert found is not None
    return found


async def test_a_backup_while_records_are_published_is_whole(
    shield: RunningCompany, tmp_path: Path
) -> None:
    async def go_on() -> None:
        number = 1000
        while True:
            await publish(shield, 20, first=number)
            number += 20

    writing = asyncio.create_task(go_on())
    sizes: list[int] = []
    for number in range(4):
        await asyncio.sleep(0.2)
        target = tmp_path / f"{number}.backup"
        file, manifest = await asyncio.to_thread(
            make_backup, shield.settings, target, shield.clock
        )
        checked = await check_backup(shield.settings, file)
        assert checked.findings.damage == []
        assert checked.findings.leaves == manifest.logs[0].size
        assert checked.manifest == manifest
        sizes.append(manifest.logs[0].size)
        for path in (file, manifest_of(file)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not writing.done()
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]
    check_nothing_else(shield, tmp_path)


def check_nothing_else(shield: RunningCompany, folder: Path) -> None:
    """Nothing is left beside four backups, and no secret is in them."""
    assert len([*folder.glob("*.backup*")]) == 8
    keys = shield.settings.keys.directory.glob("*.key")
    seeds = [path.read_bytes().split()[-1] for path in keys]
    assert seeds
    assert not any(seed in (folder / "0.backup").read_bytes() for seed in seeds)


async def test_an_old_backup_makes_the_guard_speak(
    shield: RunningCompany, tmp_path: Path
) -> None:
    settings, clock = shield.settings, shield.clock
    file, _ = make_backup(settings, tmp_path, clock)
    assert file.name.startswith("shield.example-")
    before = (await check_backup(settings, file)).guard
    assert [one.verdict for one in before] == ["ok"]
    await publish(shield, 50, first=500)
    (foreseen,) = (await check_backup(settings, file)).guard
    assert (foreseen.verdict, foreseen.size, foreseen.signed_size) == (
        "rolled-back",
        301,
        351,
    )
    with pytest.raises(BackupError, match="not empty"):
        restore(settings, file, replace=False)
    with pytest.raises(DatabaseInUseError):
        restore(settings, file, replace=True)
    await shield.stop()

    restore(settings, file, replace=True)

    async with opened_for_reading(settings) as fsck:
        assert (await fsck.run()).is_clean
    await shield.start()
    log = await own_log(shield)
    assert (log.tree_size, log.state) == (301, LogState.ROLLED_BACK)
    assert await shield.matches(7) == 1
    assert await shield.matches(520) == 0


async def test_what_another_process_signed_makes_no_guard_speak(
    shield: RunningCompany, tmp_path: Path
) -> None:
    settings = shield.settings
    behind = tmp_path / "behind"
    shutil.copytree(settings.keys.last_signed, behind)
    await publish(shield, 50, first=500)
    shared = settings.store.model_copy(update={"shared_at": "10.0.0.5"})
    found = [await own_log(shield)]
    for directory in (behind, tmp_path / "never"):
        keys = settings.keys.model_copy(update={"last_signed": directory})
        for store, verdict in ((settings.store, "unconfirmed"), (shared, "ok")):
            changed = settings.model_copy(update={"keys": keys, "store": store})
            assert [one.verdict for one in foresee(changed, found)] == [verdict]


async def test_a_newest_backup_is_signed_on_at_once(
    shield: RunningCompany, tmp_path: Path
) -> None:
    settings = shield.settings
    await shield.stop()
    file, manifest = make_backup(settings, tmp_path, shield.clock)
    restore(settings, file, replace=True)
    await shield.start()
    assert (await own_log(shield)).state is LogState.ACTIVE
    await publish(shield, 1, first=400)
    assert (await own_log(shield)).tree_size == manifest.logs[0].size + 1


async def test_a_log_that_the_backup_does_not_have_is_named(
    shield: RunningCompany, tmp_path: Path
) -> None:
    file, _ = make_backup(shield.settings, tmp_path, shield.clock)
    await shield.node.use_cases.publisher.create_list("other", {})
    guard = (await check_backup(shield.settings, file)).guard
    verdicts = {one.origin: one.verdict for one in guard}
    assert verdicts == {
        ORIGIN: "ok",
        "shield.example/hsf/v1/log/other/1": "lost",
    }


async def test_a_damaged_store_is_found_in_its_backup(
    shield: RunningCompany, tmp_path: Path
) -> None:
    await shield.stop()
    chance = random.Random(3)  # noqa: S311 -- a schedule, not a secret
    with changing(shield.settings.store.url) as conn:
        key = keys_of(conn, tables.contents)[5]
        flip(conn, tables.contents, "body", key, chance)
    file, _ = make_backup(shield.settings, tmp_path, shield.clock)
    checked = await check_backup(shield.settings, file)
    assert len(checked.findings.damage) == 1
    await shield.start()


async def test_a_file_that_is_not_what_its_manifest_says_is_refused(
    shield: RunningCompany, tmp_path: Path
) -> None:
    file, manifest = make_backup(shield.settings, tmp_path, shield.clock)
    with pytest.raises(BackupError, match="exists already"):
        make_backup(shield.settings, file, shield.clock)
    path = manifest_of(file)
    text = path.read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    for change, said in (
        ({"node": "beta.example"}, "a backup of beta.example"),
        ({"format": 2}, "newer release"),
        ({"store": "sqlite" if IS_POSTGRESQL else "postgresql"}, "a backup of a"),
        ({"sha256": "0" * 64}, "is damaged"),
        ({"logs": [{"origin": ORIGIN, "size": 1, "root": "00"}]}, "does not hold"),
    ):
        path.write_text(json.dumps({**document, **change}), "utf-8")
        with pytest.raises(BackupError, match=said):
            await check_backup(shield.settings, file)
    path.write_text(json.dumps({**document, "schema": "9999"}), "utf-8")
    with pytest.raises(BackupError, match="newer release"):
        restore(shield.settings, file, replace=True)
    path.write_text("{}", "utf-8")
    with pytest.raises(BackupError, match="is not the manifest"):
        read_manifest(file)
    path.unlink()
    with pytest.raises(BackupError, match="No such file"):
        read_manifest(file)
    path.write_text(text, "utf-8")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(BackupError, match="is damaged"):
        restore(shield.settings, file, replace=True)
    file.unlink()
    with pytest.raises(BackupError, match="No such file"):
        await check_backup(shield.settings, file)
    assert manifest.node == "shield.example"


async def test_checking_changes_nothing(shield: RunningCompany, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    file, _ = make_backup(shield.settings, folder, shield.clock)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log = await own_log(shield)
    assert (await check_backup(shield.settings, file)).findings.is_clean
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert await own_log(shield) == log


async def test_a_store_that_cannot_be_copied_leaves_nothing_behind(
    shield: RunningCompany, tmp_path: Path
) -> None:
    await shield.stop()
    with changing(shield.settings.store.url) as conn:
        conn.execute(update(tables.logs).values(role="nobody"))
    folder = tmp_path / "backups"
    folder.mkdir()
    with pytest.raises(ValueError, match="nobody"):
        make_backup(shield.settings, folder, shield.clock)
    assert [*folder.iterdir()] == []
    with changing(shield.settings.store.url) as conn:
        conn.execute(update(tables.logs).values(role="own"))
