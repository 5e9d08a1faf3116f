from __future__ import annotations

import asyncio
import re
import threading
from importlib.resources import files
from typing import TYPE_CHECKING

from hashlight_node.api.local import pages
from hashlight_node.api.local.pages import CONTENT_SECURITY_POLICY
from hashlight_node.model import Scope
from support.local_api import LocalApi, add_token

if TYPE_CHECKING:
    import pytest

    from hashlight_node.app import RunningNode

WEB = files("hashlight_node") / "web" / "docs"


async def test_the_page_and_all_it_loads_need_no_token_and_no_other_host(
    api: LocalApi,
) -> None:
    stranger = api.without_token()
    page = await stranger.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    links = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    local = [link for link in links if not link.startswith("data:")]
    assert local
    for link in local:
        assert link.startswith("/")
        assert (await stranger.get(link)).status == 200


def test_the_page_has_no_inline_script_or_style() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.findall(r"<style|style=|\son[a-z]+=|<script>", page)


def test_what_is_vendored_says_its_licence_and_version() -> None:
    vendored = WEB / "swagger-ui"
    assert (vendored / "VERSION").read_text().startswith("swagger-ui-dist ")
    assert "Apache License" in (vendored / "LICENSE").read_text()


async def test_what_a_browser_has_already_is_not_sent_again(api: LocalApi) -> None:
    stranger = api.without_token()
    first = await stranger.get("/docs/swagger-ui-bundle.js")
    again = await stranger.send(
        "GET",
        "/docs/swagger-ui-bundle.js",
        headers={"If-None-Match": first.headers["ETag"]},
    )
    assert (again.status, again.content) == (304, b"")


async def test_only_known_files_are_served(api: LocalApi) -> None:
    for path in ("/docs/LICENSE", "/docs/../config.py", "/docs/%2e%2e%2fmodel.py"):
        assert (await api.without_token().get(path)).code == "not-found"


async def test_a_node_that_runs_is_alive_and_ready(api: LocalApi) -> None:
    stranger = api.without_token()
    assert (await stranger.get("/healthz")).json == {"status": "alive"}
    ready = (await stranger.get("/readyz")).json
    assert ready == {"status": "ready", "signing": "ok", "room": "ok"}


async def test_a_node_whose_store_does_not_answer_is_not_ready(
    api: LocalApi, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "READY_SECONDS", 0.1)
    held = threading.Event()
    database = node.foundation.database
    # More readers than the store has threads.
    reading = [
        asyncio.create_task(database.read(lambda _: held.wait(20))) for _ in range(16)
    ]
    await asyncio.sleep(0.1)
    reply = await api.without_token().get("/readyz")
    held.set()
    await asyncio.gather(*reading)
    assert reply.status == 503
    assert (await api.without_token().get("/readyz")).status == 200


async def test_metrics_show_what_the_store_holds(
    api: LocalApi, node: RunningNode
) -> None:
    made = await api.create_list()
    metrics = (await api.without_token().get("/metrics")).content.decode()
    origin = made["origin"]
    assert f'hashlight_log_size{{origin="{origin}",role="own"}} 1.0' in metrics
    assert 'hashlight_quarantined{kind="peer"} 0.0' in metrics
    assert 'route="/v1/lists"' in metrics
    assert node.foundation.metrics is not None


async def test_metrics_from_elsewhere_need_the_scope_audit(
    api: LocalApi, node: RunningNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test cannot call from another machine; what decides is the address.
    monkeypatch.setattr(pages, "is_loopback", lambda _: False)
    assert (await api.without_token().get("/metrics")).code == "token-missing"
    database = node.foundation.database
    caller = api.with_token(await add_token(database, Scope.LOOKUP))
    assert (await caller.get("/metrics")).code == "scope-missing"
    caller = api.with_token(await add_token(database, Scope.AUDIT))
    assert (await caller.get("/metrics")).status == 200


def test_addresses_are_told_apart() -> None:
    assert pages.is_loopback("127.0.0.1")
    assert pages.is_loopback("::1")
    for address in ("192.0.2.1", "::ffff:192.0.2.1", "", "localhost", None):
        assert not pages.is_loopback(address)
