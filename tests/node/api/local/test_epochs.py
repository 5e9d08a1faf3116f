"""Going on with a list in a new log, over the local API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.local_api import LocalApi, record_path

if TYPE_CHECKING:
    from support.local_api import Json

ONE = "alpha.example/hsf/v1/log/ncii/1"
TWO = "alpha.example/hsf/v1/log/ncii/2"


def record(number: int) -> dict[str, Any]:
    return {
        "type": "indicator",
        "signals": [{"type": "md5", "value": f"{number:032x}"}],
        "kind": "image",
        "source": "hotline",
        "created": "2026-11-01T00:00:00Z",
    }


@pytest.fixture
async def made(api: LocalApi) -> Json:
    made = await api.create_list("ncii")
    await api.publish("ncii", record(1), record(2))
    return made


@pytest.mark.usefixtures("made")
async def test_a_list_goes_on_and_both_logs_are_shown(api: LocalApi) -> None:
    begun = await api.post("/v1/lists/ncii/epochs", {"ending": "frozen"})
    assert begun.status == 201
    assert (begun.json["origin"], begun.json["ended"]) == (TWO, ONE)
    assert (begun.json["final_size"], begun.json["reissued"]) == (3, 2)

    newest = (await api.get("/v1/lists/ncii")).json
    assert (newest["origin"], newest["epoch"], newest["state"]) == (TWO, 2, "active")
    shown = (await api.get("/v1/lists")).json["lists"]
    states = [(it["origin"], it["state"], it["vkey"] is None) for it in shown]
    assert states == [(ONE, "frozen", False), (TWO, "active", False)]
    status = (await api.get("/v1/status")).json["lists"]
    assert [(it["origin"], it["state"]) for it in status] == [
        (ONE, "frozen"),
        (TWO, "active"),
    ]
    (match,) = await api.matches("md5", f"{1:032x}")
    assert [it["ref"] for it in match["records"]] == [f"{TWO}#1"]
    ended = (await api.get(record_path(f"{ONE}#1"))).json
    assert ended["state"] == "ended"


@pytest.mark.usefixtures("made")
async def test_a_log_is_abandoned_at_a_size_it_had(api: LocalApi) -> None:
    body: dict[str, object] = {"ending": "abandoned", "final_size": 9}
    reply = await api.post("/v1/lists/ncii/epochs", body)
    assert (reply.status, reply.code) == (404, "not-found")
    body["final_size"] = 2
    begun = await api.post("/v1/lists/ncii/epochs", body)
    assert (begun.status, begun.json["reissued"]) == (201, 1)
    assert await api.matches("md5", f"{2:032x}") == []
    assert (await api.get("/v1/lists")).json["lists"][0]["state"] == "abandoned"


@pytest.mark.usefixtures("made")
async def test_what_does_not_fit_together_is_refused(api: LocalApi) -> None:
    for body in (
        {"ending": "frozen", "final_size": 1},
        {"ending": "abandoned"},
        {"ending": "abandoned", "final_size": 0},
        {"ending": "lost"},
        {},
    ):
        reply = await api.post("/v1/lists/ncii/epochs", body)
        assert (reply.status, reply.code) == (422, "invalid-body")
    reply = await api.post("/v1/lists/none/epochs", {"ending": "frozen"})
    assert reply.code == "unknown-list"


@pytest.mark.usefixtures("made")
async def test_an_erasure_by_an_old_name_says_which_record_it_was(
    api: LocalApi,
) -> None:
    await api.post("/v1/lists/ncii/epochs", {"ending": "frozen"})
    done = await api.post("/v1/lists/ncii/erase", {"ref": f"{ONE}#2"})
    assert (done.json["ref"], done.json["record"]) == (f"{TWO}#3", f"{TWO}#2")
    erasure = (await api.get(record_path(f"{ONE}#2", "erasure"))).json
    assert erasure["erased_by"] == f"{TWO}#3"
    reply = await api.get(record_path(f"{ONE}#2", "receipt"))
    assert (reply.status, reply.code) == (410, "erased")
