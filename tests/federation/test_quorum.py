"""A node that wants others to have seen what it uses, among real nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashlight_node.keys import load_keyring
from hashlight_node.model import FollowState
from hashlight_node.store import peers as peer_store
from hashlight_protocol import encode_vkey
from support.made_records import indicators
from support.nodes import make_settings
from support.running_companies import MakeCompany, RunningCompany, connect, until

if TYPE_CHECKING:
    from pathlib import Path

    from hashlight_node.config import Settings
    from hashlight_node.model import Follow
    from hashlight_node.store.database import Connection

QUORUM = '\n[exchange]\nquorum = "policy.txt"\n'


def witness_line(settings: Settings) -> str:
    keyring = load_keyring(settings.keys.directory, settings.node.name)
    return f"witness {settings.node.name} {encode_vkey(keyring.witness.key)}\n"


async def follow_of(company: RunningCompany) -> Follow:
    def read(conn: Connection) -> Follow:
        (found,) = peer_store.list_follows(conn)
        return found

    return await company.node.foundation.database.read(read)


async def test_two_of_three_must_have_seen_a_list_before_it_matches(
    tmp_path: Path, make_company: MakeCompany
) -> None:
    shield = await make_company("shield.example")
    others = [await make_company(f"{name}.example") for name in ("beta", "gamma")]
    delta = make_settings(tmp_path, "delta.example")  # Never there.
    settings = make_settings(tmp_path, "alpha.example", QUORUM)
    witnesses = [*(other.settings for other in others), delta]
    names = " ".join(one.node.name for one in witnesses)
    (tmp_path / "alpha.example" / "policy.txt").write_text(
        "".join(map(witness_line, witnesses)) + f"group g 2 {names}\nquorum g\n",
        encoding="utf-8",
    )
    alpha = RunningCompany(settings)
    await alpha.start()
    try:
        publisher = shield.node.use_cases.publisher
        await publisher.create_list("ncii", {})
        await publisher.publish("ncii", indicators(2))
        await connect(shield, others[0], "ncii")
        await connect(shield, alpha, "ncii")

        async def waits() -> bool:
            follow = await follow_of(alpha)
            return (follow.error or "").startswith("quorum-not-met")

        await until(waits)
        assert (await follow_of(alpha)).state is FollowState.WAITING
        assert await alpha.matches(0) == 0

        await connect(shield, others[1], "ncii")

        async def matches() -> bool:
            return await alpha.matches(0) == 1

        await until(matches)
        assert (await follow_of(alpha)).state is FollowState.ACTIVE
    finally:
        await alpha.stop()
