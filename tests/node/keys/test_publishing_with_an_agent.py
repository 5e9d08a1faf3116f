"""A log whose key is an agent's publishes; an agent that fails costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.local_api import run_node
from support.ssh_agent import running_agent

if TYPE_CHECKING:
    from pathlib import Path

RECORD = {
    "type": "indicator",
    "signals": [{"type": "md5", "value": "1" * 32}],
    "kind": "image",
    "source": "platform",
    "review": {"level": "human"},
    "created": "2025-06-15T00:00:00Z",
    "labels": [{"scheme": "ncii", "value": "adult"}],
}


async def test_an_agent_that_goes_away_fails_a_publish_cleanly_and_nothing_else(
    tmp_path: Path,
) -> None:
    with running_agent() as agent:
        extra = f'\n[keys]\nagent_socket = "{agent.path}"\n'
        async with run_node(tmp_path, extra) as (node, api):
            await api.create_list()
            body = {"use": "log", "list": "ncii", "agent": agent.ssh_key}
            reply = await api.post("/v1/keys/rotate", body)
            assert reply.status == 200, reply
            await api.publish("ncii", RECORD)
            before = (await api.get("/v1/lists/alpha.example/ncii")).content

            agent.run("-q", "-D")
            path = "/v1/lists/ncii/records"
            reply = await api.post(path, {"records": [RECORD]})
            assert (reply.status, reply.code) == (503, "signer-unavailable")
            assert "Retry-After" in reply.headers
            # A key that the agent does not have is not taken either.
            other = await api.post("/v1/keys/rotate", {**body, "use": "http"})
            assert other.code in {"bad-key", "signer-unavailable"}
            assert (await api.get("/v1/lists/alpha.example/ncii")).content == before
            assert not node.jobs.done()

            agent.run("-q", str(agent.file))
            await api.publish("ncii", RECORD)


async def test_a_key_that_the_agent_lacks_is_not_adopted(tmp_path: Path) -> None:
    with running_agent() as agent:
        extra = f'\n[keys]\nagent_socket = "{agent.path}"\n'
        agent.run("-q", "-D")
        async with run_node(tmp_path, extra) as (node, api):
            for use in ("http", "witness", "mirror"):
                body = {"use": use, "agent": agent.ssh_key}
                reply = await api.post("/v1/keys/rotate", body)
                assert reply.code == "signer-unavailable"
            keys = (await api.get("/v1/keys")).json["keys"]
            assert [key["use"] for key in keys] == [
                "identity",
                "http",
                "witness",
                "mirror",
            ]
            assert not node.jobs.done()
