"""Recovery as a program asks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hashlight_node.model import LogState
from hashlight_node.store import logs
from support.made_records import indicator

if TYPE_CHECKING:
    from hashlight_node.app import RunningNode
    from hashlight_node.store.database import Connection
    from support.local_api import LocalApi


async def test_a_list_in_order_is_left_as_it_is(api: LocalApi) -> None:
    await api.create_list()
    (row,) = (await api.post("/v1/recover", {})).json["lists"]
    assert (row["state"], row["old_size"], row["new_size"]) == ("active", 1, 1)
    assert (row["problems"], row["answered"], row["signed_size"]) == ([], [], 1)
    (again,) = (await api.post("/v1/recover", {"list": "ncii"})).json["lists"]
    assert again == row
    next_epoch = {"list": "ncii", "next_epoch": True}
    assert (await api.post("/v1/recover", next_epoch)).json["lists"] == [row]


async def test_a_recovery_of_what_is_not_ours_is_refused(api: LocalApi) -> None:
    reply = await api.post("/v1/recover", {"list": "other"})
    assert (reply.status, reply.code) == (404, "unknown-list")
    for body in ({"no_peers": True}, {"next_epoch": True}):
        reply = await api.post("/v1/recover", body)
        assert (reply.status, reply.code) == (422, "invalid-body")
        assert reply.json["errors"][0]["pointer"] == "/list"


async def test_a_publisher_is_told_to_wait_until_somebody_confirms_the_list(
    node: RunningNode, api: LocalApi
) -> None:
    origin = (await api.create_list())["origin"]

    def doubt(conn: Connection) -> None:
        log = logs.find_log(conn, origin)
        assert log is not None
        logs.set_log_state(conn, log.log_id, LogState.UNCONFIRMED, "nobody knows")

    await node.foundation.database.write(doubt)
    record = json.loads(indicator(1))
    reply = await api.post("/v1/lists/ncii/records", {"records": [record]})
    assert (reply.status, reply.code) == (503, "unconfirmed")
    assert reply.headers["Retry-After"] == "5"
    (held,) = (await api.post("/v1/recover", {"list": "ncii"})).json["lists"]
    assert (held["state"], held["problems"]) == ("unconfirmed", ["nobody knows"])
    vouch = {"list": "ncii", "no_peers": True}
    (row,) = (await api.post("/v1/recover", vouch)).json["lists"]
    assert row["state"] == "active"
    await api.publish("ncii", record)
