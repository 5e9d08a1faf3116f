"""Companies grant parts of lists: narrowed, widened, feedback for its owner only."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hashlight_node.store import logs, records
from hashlight_protocol import WHOLE_LIST, BodyStatus, GrantScope, Reason, Ref
from support.made_records import labelled, opinion
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from hashlight_node.store.database import Connection

ADULT = GrantScope(frozenset({"ncii:adult"}), None, None)
LABELS = ("ncii:adult", "ncii:child")
LOG = "shield.example/hsf/v1/log/ncii/1"
FEEDBACK = "beta.example/hsf/v1/log/feedback/1"


async def matches_are(company: RunningCompany, expected: dict[int, int]) -> bool:
    found = {number: await company.matches(number) for number in expected}
    return found == expected


async def has_size(company: RunningCompany, origin: str, size: int) -> bool:
    head = await company.head(origin)
    return head is not None and head.tree_size == size


def numbered(*numbers: int) -> list[bytes]:
    return [labelled(number, LABELS[number % 2]) for number in numbers]


async def test_a_grant_is_narrowed_widened_and_what_was_withheld_comes(
    make_company: MakeCompany,
) -> None:
    shield, alpha = (
        await make_company("shield.example"),
        await make_company("alpha.example"),
    )
    publisher, peering = (
        shield.node.use_cases.publisher,
        shield.node.use_cases.peering,
    )
    await publisher.create_list("ncii", {})
    await publisher.publish("ncii", numbered(0, 1))
    await connect(shield, alpha, "ncii")
    await until(partial(matches_are, alpha, {0: 1, 1: 1}))

    await peering.grant("alpha.example", "ncii", scope=ADULT)
    await publisher.publish("ncii", numbered(2, 3, 4, 5))
    # What it had it keeps; of what is new it sees what is for it.
    await until(partial(matches_are, alpha, {0: 1, 1: 1, 2: 1, 3: 0, 4: 1, 5: 0}))
    await until(partial(has_size, alpha, LOG, 7))

    # One of those that are hidden ends before the grant is widened.
    await publisher.withdraw(Ref(LOG, 6), "erase", Reason.WITHDRAWN)
    await peering.grant("alpha.example", "ncii")

    # The push that tells of it needs no news in the log; nobody waits for a sweep.
    await until(partial(matches_are, alpha, {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 0}))
    ours, theirs = await shield.head(LOG), await alpha.head(LOG)
    assert ours == theirs


async def test_a_wider_grant_alone_wakes_the_peer(make_company: MakeCompany) -> None:
    shield, alpha = (
        await make_company("shield.example"),
        await make_company("alpha.example"),
    )
    publisher, peering = (
        shield.node.use_cases.publisher,
        shield.node.use_cases.peering,
    )
    await publisher.create_list("ncii", {})
    await publisher.publish("ncii", numbered(0, 1))
    await shield.pin(alpha)
    await alpha.pin(shield)
    await peering.grant("alpha.example", "ncii", scope=ADULT)
    await alpha.node.use_cases.peering.follow("shield.example", "ncii")
    await until(partial(matches_are, alpha, {0: 1, 1: 0}))
    await until(partial(has_size, alpha, LOG, 3))

    await peering.grant("alpha.example", "ncii", scope=WHOLE_LIST)
    await until(partial(matches_are, alpha, {0: 1, 1: 1}))


async def opinions_held(company: RunningCompany) -> set[tuple[int, str]]:
    """Give what a company can read of beta's feedback: leaf, and about whom."""

    def read(conn: Connection) -> set[tuple[int, str]]:
        log = logs.find_log(conn, FEEDBACK)
        if log is None:
            return set()
        bodies = records.read_bodies(conn, log.log_id, 0, log.tree_size)
        return {
            (leaf_index, "shield" if b"shield.example" in body.body else "alpha")
            for leaf_index, body in enumerate(bodies)
            if body.status is BodyStatus.PRESENT
        }

    return await company.node.foundation.database.read(read)


async def test_an_owner_sees_the_opinions_about_its_own_records_and_nobody_elses(
    make_company: MakeCompany,
) -> None:
    shield, alpha, beta = [
        await make_company(f"{name}.example") for name in ("shield", "alpha", "beta")
    ]
    refs: dict[str, Ref] = {}
    for number, owner in enumerate((shield, alpha)):
        publisher = owner.node.use_cases.publisher
        await publisher.create_list("ncii", {})
        (refs[owner.name],) = await publisher.publish("ncii", numbered(number))
        await connect(owner, beta, "ncii")
    await until(partial(matches_are, beta, {0: 1, 1: 1}))

    await beta.node.use_cases.publisher.create_list("feedback", {})
    for owner in (shield, alpha):
        scope = GrantScope(None, None, about=owner.name)
        peering = beta.node.use_cases.peering
        await peering.grant(owner.name, "feedback", scope=scope)
        await owner.node.use_cases.peering.follow("beta.example", "feedback")
    for ref in (refs["shield.example"], refs["alpha.example"]):
        await beta.node.use_cases.publisher.publish("feedback", [opinion(ref)])

    for owner in (shield, alpha):
        await until(partial(has_size, owner, FEEDBACK, 3))
    assert await opinions_held(shield) == {(1, "shield")}
    assert await opinions_held(alpha) == {(2, "alpha")}
    for owner in (shield, alpha):
        detail = await owner.node.use_cases.feedback.about_record(refs[owner.name])
        assert [one.node for one in detail.opinions] == ["beta.example"]
