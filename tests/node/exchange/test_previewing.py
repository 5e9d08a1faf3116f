"""Previews over several pages and many words, and of records without a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from hashlight_node.exchange.operating import previewing
from hashlight_node.exchange.operating.previewing import OTHERS, Previews, Share
from hashlight_node.store import tables
from hashlight_protocol import WHOLE_LIST, GrantScope, Ref
from support.made_records import labelled

if TYPE_CHECKING:
    from hashlight_node.store.database import Connection
    from support.exchange_node import ExchangeNode
    from support.peer_simulator import PeerSimulator

ORIGIN = "alpha.example/hsf/v1/log/ours/1"
PEER = "shield.example"


@pytest.fixture
async def previews(
    following: tuple[ExchangeNode, PeerSimulator],
) -> tuple[ExchangeNode, Previews]:
    """Let alpha publish 20 records with a label each, for shield to see."""
    alpha, _ = following
    await alpha.publisher.create_list("ours", {})
    bodies = [labelled(number, f"a:{number}") for number in range(20)]
    await alpha.publisher.publish("ours", bodies)
    return alpha, Previews(database=alpha.database, node_name="alpha.example")


async def test_a_list_of_many_pages_is_counted_whole(
    previews: tuple[ExchangeNode, Previews], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewing, "_PAGE", 3)
    scope = GrantScope(frozenset({"a:1*"}), None, None)
    found = await previews[1].preview(PEER, "ours", scope, examples=2)
    assert found.live == Share(11, 9)
    assert found.newly_shown == 11
    assert found.examples.shown == [Ref(ORIGIN, 2), Ref(ORIGIN, 11)]
    assert len(found.counts["labels"]) == 20


async def test_words_beyond_a_bound_are_counted_together(
    previews: tuple[ExchangeNode, Previews], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previewing, "_MOST_WORDS", 5)
    found = await previews[1].preview(PEER, "ours", WHOLE_LIST, examples=0)
    counts = found.counts["labels"]
    assert counts[OTHERS] == Share(15, 0)
    assert len(counts) == 6
    assert found.live == Share(20, 0)


async def test_a_record_whose_body_is_missing_is_shown_to_nobody(
    previews: tuple[ExchangeNode, Previews],
) -> None:
    alpha, asked = previews

    def lose(conn: Connection) -> None:
        conn.exec_driver_sql(
            "UPDATE records SET status = 2, state = 'withheld', content_id = NULL "
            "WHERE leaf_index = 1"
        )

    await alpha.database.write(lose)
    found = await asked.preview(PEER, "ours", WHOLE_LIST, examples=1)
    assert found.newly_shown == 19
    assert found.counts["states"]["withheld"] == Share(0, 1)
    assert found.examples.hidden == [Ref(ORIGIN, 1)]
    verdict = await asked.explain(PEER, Ref(ORIGIN, 1), WHOLE_LIST)
    assert (verdict.obstacles, verdict.facts) == (("no-body",), None)


async def test_a_body_that_is_no_record_is_counted_by_its_state(
    previews: tuple[ExchangeNode, Previews],
) -> None:
    alpha, asked = previews
    await alpha.database.write(
        lambda conn: conn.execute(update(tables.contents).values(body=b"x")).rowcount
    )
    found = await asked.preview(PEER, "ours", WHOLE_LIST, examples=0)
    assert found.live == Share(20, 0)
    assert not found.counts["labels"]
    verdict = await asked.explain(PEER, Ref(ORIGIN, 1), WHOLE_LIST)
    assert verdict.obstacles == ()
