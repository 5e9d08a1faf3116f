"""The verifier follows real nodes over HTTP and agrees with them on everything."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashlight_node.exchange.publishing.epochs import Abandoned, Frozen
from hashlight_node.model import Log
from hashlight_node.store import deliveries, logs
from hashlight_protocol import Reason, Ref, verify_cosignature
from support.made_records import indicator, indicators
from support.running_companies import MakeCompany, RunningCompany, connect, until
from verifier.notes import encode64
from verifier.runs import Verdict, run_program

if TYPE_CHECKING:
    from hashlight_node.exchange.publishing.epochs import Ending
    from hashlight_node.exchange.publishing.publish import WithdrawalKind
    from hashlight_node.store.database import Connection

ORIGIN = "shield.example/hsf/v1/log/ncii/1"
SHAPES = (1, 2, 255, 256, 257, 601)
"""Trees of one leaf, and around the ends of one tile, two tiles and three."""


def key_of(company: RunningCompany) -> tuple[str, str]:
    """Give where the key is that signs a company's requests, and its id."""
    file = company.settings.keys.directory / "http.key"
    return str(file), f"{company.name}#h1"


async def verify(
    owner: RunningCompany, reader: RunningCompany, state: Path, *options: str
) -> Verdict:
    """Verify the list `ncii` of a company as a reader, and what was cosigned."""
    file, key_id = key_of(reader)
    owner_file, owner_key_id = key_of(owner)
    return await run_program(
        *(owner.settings.node.base, owner.vkey, "ncii"),
        *("--key", file, "--key-id", key_id, "--state", str(state)),
        *("--owner-key", owner_file, "--owner-key-id", owner_key_id),
        *options,
    )


def as_cosigner(company: RunningCompany) -> tuple[str, str, str]:
    return "--cosigner", company.settings.node.base, company.vkey


async def own_log(company: RunningCompany) -> Log:
    def read(conn: Connection) -> Log | None:
        return logs.find_log(conn, ORIGIN)

    found = await company.node.foundation.database.read(read)
    assert found is not None
    return found


async def acknowledged(owner: RunningCompany) -> bool:
    """Tell whether somebody has signed twice for the newest checkpoint."""
    log = await own_log(owner)

    def read(conn: Connection) -> set[int]:
        seen = deliveries.list_deliveries(conn, log.log_id)
        applied = deliveries.list_acknowledgements(conn, log.log_id)
        return {it.tree_size for it in seen} & {it.tree_size for it in applied}

    return log.checkpoint_size in await owner.node.foundation.database.read(read)


async def cosigned_at(cosigner: RunningCompany) -> dict[str, int]:
    """Give when a company has cosigned, as the reference reads what it has stored."""

    def read(conn: Connection) -> tuple[bytes | None, bytes | None]:
        log = logs.find_log(conn, ORIGIN)
        assert log is not None
        return deliveries.read_witnessed(conn, ORIGIN), log.mirror_checkpoint

    foundation = cosigner.node.foundation
    witnessed, mirrored = await foundation.database.read(read)
    assert witnessed is not None
    assert mirrored is not None
    return {
        "witness": verify_cosignature(witnessed, foundation.keyring.witness.key),
        "mirror": verify_cosignature(mirrored, foundation.keyring.mirror.key),
    }


async def agrees(
    owner: RunningCompany, reader: RunningCompany, state: Path, *options: str
) -> Verdict:
    """Verify once the reader has signed for everything, and compare with the node."""
    await until(partial(acknowledged, owner))
    verdict = await verify(owner, reader, state, *as_cosigner(reader), *options)
    assert verdict.code == 0, verdict.report
    log = await own_log(owner)
    assert verdict.log["origin"] == log.origin
    assert verdict.log["size"] == log.checkpoint_size == log.tree_size
    assert verdict.log["root"] == encode64(log.root_hash)
    signed = {it["part"]: it for it in verdict.report["cosignatures"]}
    times = await cosigned_at(reader)
    for part in ("witness", "mirror"):
        assert signed[part]["node"] == reader.name
        assert signed[part]["behind"] == 0
        assert signed[part]["time"] == times[part]
    assert signed["mirror"]["unacknowledged"] == []
    return verdict


async def start_pair(
    make_company: MakeCompany,
) -> tuple[RunningCompany, RunningCompany]:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    await shield.node.use_cases.publisher.create_list("ncii", {})
    await connect(shield, alpha, "ncii")
    return shield, alpha


async def test_it_agrees_with_a_log_of_every_shape_as_it_grows(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    shield, alpha = await start_pair(make_company)
    state = tmp_path / "state.json"
    size = 1
    for number, wanted in enumerate(SHAPES):
        if wanted > size:
            bodies = indicators(wanted - size, first=size)
            await shield.node.use_cases.publisher.publish("ncii", bodies)
            size = wanted

        log = (await agrees(shield, alpha, state, "--receipts", "2")).log

        assert (log["size"], log["records"]) == (wanted, wanted - 1)
        assert log["checkpoints"] == number + 1

    receipts = (await agrees(shield, alpha, state)).log["receipts"]
    assert receipts == {"verified": size - 1, "refused": 1}  # META has none


async def test_it_agrees_while_records_are_retracted_erased_and_replaced(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    shield, alpha = await start_pair(make_company)
    publisher = shield.node.use_cases.publisher
    state = tmp_path / "state.json"
    refs = await publisher.publish("ncii", indicators(40))
    await agrees(shield, alpha, state)

    await publisher.withdraw(refs[0], "retract", Reason.FALSE_POSITIVE)
    log = (await agrees(shield, alpha, state)).log
    assert (log["retracted"], log["erased"], log["receipts"]["verified"]) == (1, 0, 40)

    erased = await publisher.withdraw(refs[1], "erase", Reason.WITHDRAWN)
    verdict = await agrees(shield, alpha, state)
    assert verdict.log["erased"] == 1
    assert verdict.log["receipts"]["verified"] == 39
    (mirror,) = (it for it in verdict.report["cosignatures"] if it["part"] == "mirror")
    assert mirror["acknowledged"] == [erased.leaf_index]

    again = indicator(2, kind="replaced", replaces=refs[2].leaf_index)
    await publisher.publish("ncii", [again])
    log = (await agrees(shield, alpha, state)).log
    assert (log["records"], log["retracted"], log["erased"]) == (41, 2, 1)

    await publisher.withdraw(refs[0], "erase", Reason.WITHDRAWN)
    log = (await agrees(shield, alpha, state)).log
    assert (log["erased"], log["checkpoints"]) == (2, 5)


async def test_it_agrees_with_a_log_that_changes_under_its_eyes(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    shield, alpha = await start_pair(make_company)
    publisher = shield.node.use_cases.publisher
    refs = list(await publisher.publish("ncii", indicators(60)))
    await until(partial(acknowledged, shield))
    chance = random.Random(3)  # noqa: S311 -- the same every time

    async def change() -> None:
        # Fewer times than the verifier begins again, so that it comes to an end.
        for step in range(9):
            kind: WithdrawalKind = chance.choice(("retract", "erase"))
            victim = refs.pop(chance.randrange(len(refs)))
            await publisher.withdraw(victim, kind, Reason.EXPIRED)
            await asyncio.sleep(0.2)
            await publisher.publish("ncii", indicators(7, first=1000 * (step + 1)))

    changing = asyncio.create_task(change())
    verdicts = [
        await verify(shield, alpha, tmp_path / "state.json", *as_cosigner(alpha))
    ]
    await changing
    verdicts.append(await agrees(shield, alpha, tmp_path / "state.json"))

    assert [it.code for it in verdicts] == [0, 0], verdicts
    first, last = (it.log for it in verdicts)
    assert first["size"] <= last["size"] == 1 + 60 + 9 * 8
    assert last["checkpoints"] >= 2


async def test_it_names_the_erasure_that_a_mirror_has_not_signed_for(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    shield, alpha = await start_pair(make_company)
    beta = await make_company("beta.example")
    await connect(shield, beta, "ncii")
    publisher = shield.node.use_cases.publisher
    refs = await publisher.publish("ncii", indicators(3))
    cosigner = as_cosigner(beta)

    async def beta_has_all() -> bool:
        return await beta.head(ORIGIN) == await shield.head(ORIGIN)

    await until(beta_has_all)
    # Beta serves what it has signed and fetches nothing more.
    await beta.node.use_cases.peering.unfollow(shield.name, "ncii")
    erased = await publisher.withdraw(refs[0], "erase", Reason.WITHDRAWN)
    await until(partial(acknowledged, shield))

    verdict = await verify(shield, alpha, tmp_path / "state.json", *cosigner)

    assert verdict.code == 0, verdict.report
    (mirror,) = (it for it in verdict.report["cosignatures"] if it["part"] == "mirror")
    assert (mirror["node"], mirror["behind"]) == (beta.name, 1)
    assert mirror["unacknowledged"] == [erased.leaf_index]
    assert mirror["acknowledged"] == []


async def test_it_agrees_with_a_node_that_was_started_again(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    shield, alpha = await start_pair(make_company)
    await shield.node.use_cases.publisher.publish("ncii", indicators(3))
    await agrees(shield, alpha, tmp_path / "state.json")
    await shield.stop()
    await shield.start()
    await shield.node.use_cases.publisher.publish("ncii", indicators(3, first=3))

    verdict = await agrees(shield, alpha, tmp_path / "state.json")

    assert verdict.log["checkpoints"] == 2


async def test_without_an_answer_it_agrees_with_nothing(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    shield, alpha = await start_pair(make_company)
    stranger = await make_company("stranger.example")
    state = tmp_path / "state.json"
    assert (await verify(shield, alpha, state)).code == 0

    verdict = await verify(shield, stranger, state)
    assert (verdict.code, verdict.report["verdict"]) == (1, "unreachable")
    assert "unknown-peer" in verdict.report["detail"]

    await shield.node.use_cases.peering.revoke("alpha.example", "ncii")
    verdict = await verify(shield, alpha, state)
    assert (verdict.code, verdict.report["verdict"]) == (1, "unreachable")
    assert "unknown-log" in verdict.report["detail"]

    file, key_id = key_of(alpha)
    arguments = (shield.settings.node.base, shield.vkey, "ncii", "--key", file)
    await shield.stop()
    verdict = await run_program(*arguments, "--key-id", key_id, "--state", str(state))
    assert (verdict.code, verdict.report["verdict"]) == (1, "unreachable")
    assert "ConnectionRefusedError" in verdict.report["detail"]


async def test_a_record_s_receipt_is_held_against_the_entries_of_its_own_log(
    make_company: MakeCompany, tmp_path: Path
) -> None:
    """A second list has its own log; nothing of one is taken for the other's."""
    shield, alpha = await start_pair(make_company)
    publisher = shield.node.use_cases.publisher
    await publisher.create_list("other", {})
    await publisher.publish("other", indicators(9))
    (ref,) = await publisher.publish("ncii", indicators(1))
    assert ref == Ref(ORIGIN, 1)

    assert (await agrees(shield, alpha, tmp_path / "state.json")).log["size"] == 2


@pytest.mark.parametrize("ending", [Frozen(), Abandoned(3)])
async def test_a_list_is_verified_across_its_logs(
    make_company: MakeCompany, tmp_path: Path, ending: Ending
) -> None:
    shield = await make_company("shield.example")
    alpha = await make_company("alpha.example")
    cases = shield.node.use_cases
    await cases.publisher.create_list("ncii", {})
    await cases.publisher.publish("ncii", indicators(4))
    await connect(shield, alpha, "ncii")
    await until(partial(acknowledged, shield))
    before = await verify(shield, alpha, tmp_path / "state")
    assert before.code == 0, before.report

    begun = await cases.epochs.begin_next("ncii", ending=ending)

    after = await verify(shield, alpha, tmp_path / "state")
    assert after.code == 0, after.report
    reports = {it["origin"]: it for it in after.report["logs"]}
    assert reports.keys() == {ORIGIN, begun.origin}
    assert reports[ORIGIN]["size"] == begun.final.tree_size
    assert reports[ORIGIN]["root"] == encode64(begun.final.root_hash)
    assert reports[begun.origin]["size"] == begun.reissued + 1
