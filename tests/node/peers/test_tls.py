"""TLS 1.3 with a certificate that is trusted, or no connection at all."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hashlight_node.peers.client import PeerClient
from hashlight_node.peers.errors import PeerUnavailableError
from hashlight_node.peers.network import open_session
from hashlight_protocol import ED25519, Ed25519Signer
from support.clock import ManualClock


@dataclass(frozen=True)
class Certificate:
    chain: Path
    key: Path


def certify(
    directory: Path, *, address: str, valid_days: tuple[int, int]
) -> Certificate:
    """Make a certificate by itself.

    Args:
        directory: Where its files go.
        address: Whose it is.
        valid_days: From when to when, counted from now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = dt.datetime.now(dt.UTC)
    first, last = (now + dt.timedelta(days=days) for days in valid_days)
    owner = x509.IPAddress(ip_address(address))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.SubjectAlternativeName([owner]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(directory / "chain.pem", directory / "key.pem")
    made.chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory = tmp_path_factory.mktemp("tls")
    return certify(directory, address="127.0.0.1", valid_days=(-1, 1))


@asynccontextmanager
async def serving(
    certificate: Certificate, newest: ssl.TLSVersion
) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"descriptor")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.maximum_version = newest
    app = web.Application()
    app.router.add_get("/.well-known/hsf", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def fetch(base: str, trusted: ssl.SSLContext | None) -> bytes:
    async with open_session(
        allow_loopback=True, allow_private=False, tls=trusted
    ) as session:
        client = PeerClient(
            session,
            node_name="alpha.example",
            http_key_id="h1",
            http_signer=Ed25519Signer("alpha.example#h1", ED25519, bytes(32)),
            clock=ManualClock(),
            timeout_seconds=5,
        )
        return await client.fetch_descriptor(base)


async def test_tls_1_3_with_a_trusted_certificate_works(
    certificate: Certificate,
) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate.chain))
    async with serving(certificate, ssl.TLSVersion.TLSv1_3) as base:
        assert await fetch(base, trusted) == b"descriptor"


async def test_an_untrusted_certificate_is_refused(certificate: Certificate) -> None:
    async with serving(certificate, ssl.TLSVersion.TLSv1_3) as base:
        with pytest.raises(
            PeerUnavailableError, match="not trusted: it is self-signed"
        ):
            await fetch(base, None)


async def test_an_older_tls_is_refused(certificate: Certificate) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate.chain))
    async with serving(certificate, ssl.TLSVersion.TLSv1_2) as base:
        with pytest.raises(PeerUnavailableError, match="perhaps it lacks TLS"):
            await fetch(base, trusted)


async def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(PeerUnavailableError, match="does not resolve"):
        await fetch("https://nothing.invalid", None)


@pytest.mark.parametrize(
    ("address", "valid_days", "reason"),
    [
        ("127.0.0.1", (-9, -1), "certificate has expired"),
        ("127.0.0.1", (1, 9), "certificate is not valid yet"),
        ("127.0.0.2", (-1, 1), "certificate is for another"),
    ],
)
async def test_an_operator_is_told_what_is_wrong_with_a_certificate(
    tmp_path: Path, address: str, valid_days: tuple[int, int], reason: str
) -> None:
    certificate = certify(tmp_path, address=address, valid_days=valid_days)
    trusted = ssl.create_default_context(cafile=str(certificate.chain))
    async with serving(certificate, ssl.TLSVersion.TLSv1_3) as base:
        with pytest.raises(PeerUnavailableError, match=reason):
            await fetch(base, trusted)


def _refuse_handshakes(listening: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listening.accept()
    with connection, suppress(ssl.SSLError):
        context.wrap_socket(connection, server_side=True)


async def test_a_peer_that_says_that_it_has_no_tls_1_3_is_told_apart(
    certificate: Certificate,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(
            asyncio.to_thread(_refuse_handshakes, listening, context)
        )
        port = listening.getsockname()[1]
        with pytest.raises(PeerUnavailableError, match="does not speak TLS"):
            await fetch(f"https://127.0.0.1:{port}", None)
        await refusing


async def test_what_does_not_speak_tls_at_all_is_told_apart() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 Hello\r\n\r\n" * 9)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PeerUnavailableError, match="answer with TLS as it should"):
            await fetch(f"https://127.0.0.1:{port}", None)
