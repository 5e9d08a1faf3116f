"""Two companies exchange through real nginx and real Caddy, set up as by operators."""

from __future__ import annotations

import http.client
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from hashlight_node.config import load_settings
from hashlight_node.demo.company import Company, make_company
from hashlight_node.keys import load_keyring
from hashlight_node.local_client import LocalClient
from hashlight_node.model import Peer, PeerState
from hashlight_node.peers.client import PeerClient
from hashlight_node.peers.network import open_session
from support.companies import cli, introduce, matches, until
from support.nodes import free_port
from support.private_ca import ServerCertificate, certify_server
from support.proxies import caddy, nginx, tls_context

Proxy = Callable[[Path, int, int, ServerCertificate], AbstractContextManager[None]]
LIST = "shield.example/hsf/v1/log/ncii/1"
DESCRIPTOR = "/.well-known/hsf"
UPLOADED = 3000
LONGEST_WAIT_SECONDS = 30


@dataclass(frozen=True)
class Proxied:
    """A hotline behind a proxy, and a platform that follows it."""

    hotline: Company
    platform: Company
    port: int
    certificate: ServerCertificate

    def ask(
        self,
        path: str,
        *,
        body: bytes | None = None,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> int:
        """Send a request that nobody signed, and give the status of the answer."""
        context = tls_context(self.certificate, newest)
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=30, context=context
        )
        with closing(connection):
            connection.request("GET" if body is None else "POST", path, body)
            with connection.getresponse() as answer:
                return answer.status


def company_behind(directory: Path, name: str, port: int, node_port: int) -> Company:
    """Make a node whose base is the proxy's, and that listens elsewhere."""
    made = make_company(directory, name)
    text = made.config.read_text("utf-8").replace(
        made.base, f"https://localhost:{port}"
    )
    listen = f'\n[federation]\nlisten = "127.0.0.1:{node_port}"\n'
    made.config.write_text(text + listen, "utf-8")
    client = LocalClient(made.client.address, made.client.token)
    return Company(name, made.directory, f"https://localhost:{port}", made.vkey, client)


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("proxied")
    certificate = certify_server(directory, "localhost")
    port, node_port = free_port(), free_port()
    proxy = cast("Proxy", request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate.authority))
        patch.delenv("SSL_CERT_DIR", raising=False)
        with proxy(directory, port, node_port, certificate):
            hotline = company_behind(directory, "shield.example", port, node_port)
            platform = make_company(directory, "beta.example")
            hotline.start()
            platform.start()
            try:
                introduce(hotline, platform)
                cli(hotline, "list", "create", "ncii")
                cli(hotline, "grant", platform.name, "ncii")
                cli(platform, "follow", hotline.name, "ncii")
                yield Proxied(hotline, platform, port, certificate)
            finally:
                hotline.stop()
                platform.stop()


def test_a_record_is_matched_on_the_other_side_of_the_proxy(proxied: Proxied) -> None:
    signal = f"md5:{secrets.token_hex(16)}"
    cli(proxied.hotline, "publish", "ncii", "--signal", signal)
    until(lambda: bool(matches(proxied.platform, signal)))


@pytest.mark.slow
async def test_a_long_poll_is_held_for_as_long_as_the_protocol_allows(
    proxied: Proxied,
) -> None:
    hotline = Peer(
        peer_id=1,
        name=proxied.hotline.name,
        base=proxied.hotline.base,
        identity_vkey=proxied.hotline.vkey,
        descriptor=b"",
        descriptor_version=0,
        state=PeerState.ACTIVE,
        added_at=0,
        contacted_at=None,
    )
    settings = load_settings(proxied.platform.config)
    keyring = load_keyring(settings.keys.directory, settings.node.name)
    async with open_session(
        allow_loopback=True, allow_private=False, tls=tls_context(proxied.certificate)
    ) as session:
        client = PeerClient(
            session,
            node_name=settings.node.name,
            http_key_id=keyring.http_key_id,
            http_signer=keyring.http,
            clock=lambda: int(time.time()),
            timeout_seconds=10,
        )
        now = await client.fetch_checkpoint(hotline, LIST)
        assert now is not None
        started = time.monotonic()
        later = await client.fetch_checkpoint(
            hotline, LIST, wait_seconds=LONGEST_WAIT_SECONDS, etag=now.etag
        )
    assert later is None
    assert time.monotonic() - started > LONGEST_WAIT_SECONDS - 1


def test_an_upload_of_many_records_passes(proxied: Proxied, tmp_path: Path) -> None:
    laptop = make_company(tmp_path, "ngo.example")
    with laptop.config.open("a", encoding="utf-8") as config:
        config.write('\n[exchange]\nupload_to = ["shield.example"]\n')
    signals = [f"{secrets.token_hex(16)}" for _ in range(UPLOADED)]
    table = tmp_path / "hashes.csv"
    table.write_text(
        "\n".join(["md5,source,label", *(f"{it},person,ncii:adult" for it in signals)])
    )
    laptop.start()
    try:
        cli(laptop, "list", "create", "street")
        cli(laptop, "import", "street", str(table))
        note = tmp_path / "laptop.note"
        note.write_bytes(laptop.run("descriptor").stdout)
        hub = proxied.hotline
        cli(laptop, "peer", "add", hub.base, hub.vkey)
        cli(hub, "peer", "pin", laptop.vkey, "--descriptor", str(note))
        cli(hub, "follow", laptop.name, "street")
        cli(laptop, "grant", hub.name, "street")
        until(lambda: bool(matches(hub, f"md5:{signals[-1]}")))
        until(lambda: bool(matches(hub, f"md5:{signals[0]}")))
    finally:
        laptop.stop()


def test_tls_older_than_the_protocol_wants_is_refused(proxied: Proxied) -> None:
    with pytest.raises(ssl.SSLError):
        proxied.ask(DESCRIPTOR, newest=ssl.TLSVersion.TLSv1_2)


def test_only_what_is_for_peers_passes(proxied: Proxied) -> None:
    assert proxied.ask(DESCRIPTOR) == http.HTTPStatus.OK
    for path in ("/", "/healthz", "/metrics", "/v1/status", "/hsf"):
        assert proxied.ask(path) == http.HTTPStatus.NOT_FOUND, path


def test_a_body_larger_than_any_of_the_protocol_is_refused(proxied: Proxied) -> None:
    # By the proxy's own limit, or by the node, which reads nothing that is not signed;
    # either may hang up before it has read what nobody wants.
    with suppress(ConnectionError, ssl.SSLError):
        status = proxied.ask("/hsf/v1/evidence", body=bytes(41 << 20))
        assert http.HTTPStatus.BAD_REQUEST <= status < http.HTTPStatus(500)


def test_without_the_authority_the_peer_is_not_trusted(
    proxied: Proxied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = make_company(tmp_path, "gamma.example")
    monkeypatch.delenv("SSL_CERT_FILE")
    stranger.start()
    try:
        done = stranger.run("peer", "add", proxied.hotline.base, proxied.hotline.vkey)
        assert done.returncode == 1
        assert b"not trusted" in done.stderr
    finally:
        stranger.stop()
