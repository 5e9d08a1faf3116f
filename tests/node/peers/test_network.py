"""Which addresses are called, whatever a name resolves to."""

from __future__ import annotations

import socket
import ssl

import aiohttp
import pytest

from hashlight_node.peers.network import open_session, parse_base
from hashlight_node.peers.reachable import is_allowed
from hashlight_protocol import MalformedError


@pytest.mark.parametrize(
    "url",
    [
        "https://node.example",
        "https://node.example:8440",
        "https://node.example/hsf-node",
        "https://192.0.2.7",
        "https://[2001:db8::7]:8440",
        "http://127.0.0.1:8440",
        "http://127.9.9.9",
        "http://localhost:1",
        "http://[::1]:8440",
    ],
)
def test_a_base_is_taken_as_it_is(url: str) -> None:
    base = parse_base(url)
    assert base.url == url
    assert url.endswith(base.authority + base.path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "node.example",
        "ftp://node.example",
        "file:///etc/passwd",
        "gopher://node.example",
        "http://node.example",
        "http://10.0.0.1",
        "http://169.254.169.254",
        "http://0x7f.1",
        "http://127.0.0.1.example",
        "https://Node.example",
        "https://node.example/",
        "https://node.example:443",
        "https://node.example:0443",
        "https://node.example:99999",
        "https://user@node.example",
        "https://user:password@node.example",
        "https://node.example?query",
        "https://node.example#fragment",
        "https://node.example/..%2f",
        "https://node.example/a//b",
        "https://[::1",
        "https:///path",
        "https://node.example\n",
        "https://nöde.example",
        "https://sh\u0456eld.example",  # Cyrillic
        "https://node.example@evil.example",
        "https://[fe80::1%25eth0]",
        "http://[::ffff:127.0.0.1]:8440",
        "https://a..b",
        "https://.",
        f"https://{'a' * 64}.example",
        "https://node.example/..",
        f"https://node.example/{'a' * 500}",
    ],
)
def test_anything_else_is_no_base(url: str) -> None:
    with pytest.raises(MalformedError):
        parse_base(url)


async def _reason(url: str, *, loopback: bool = False, private: bool = False) -> str:
    timeout = aiohttp.ClientTimeout(total=0.5)
    async with open_session(allow_loopback=loopback, allow_private=private) as session:
        try:
            await session.get(url, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError) as error:
            return str(error)
    return ""


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://[::1]:1/",
        "http://[::ffff:127.0.0.1]:1/",
        "http://10.0.0.1:1/",
        "http://172.16.0.1:1/",
        "http://192.168.0.1:1/",
        "http://169.254.169.254/",
        "http://100.64.0.1:1/",
        "http://0.0.0.0:1/",
        "http://224.0.0.1:1/",
        "http://[fe80::1]:1/",
        "http://[fd00::1]:1/",
        "http://[::]:1/",
        "http://[fe80::1%25eth0]:1/",
        "http://0x7f.1:1/",
        "http://user@127.0.0.1:1/",
        "http://[::127.0.0.1]:1/",
        "http://[::ffff:0:10.0.0.1]:1/",
        "http://[64:ff9b::10.0.0.1]:1/",
        "http://[64:ff9b::169.254.169.254]:1/",
        "http://[64:ff9b:1::1]:1/",
        "http://[2002:7f00:1::1]:1/",
        "http://[2002:c0a8:1::]:1/",
        "http://[2001:0:53aa:64c:0:0:f5ff:fffe]:1/",
        "http://[fec0::1]:1/",
    ],
)
async def test_private_addresses_are_not_called(url: str) -> None:
    assert "not one that this node may call" in await _reason(url)


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "127.1", "0x7f000001"])
async def test_other_spellings_of_this_machine_are_not_called(host: str) -> None:
    reason = await _reason(f"http://{host}:1/")
    assert "may call" in reason or "not a canonical IPv4 address" in reason


async def test_loopback_is_called_by_a_node_that_lives_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        reason = await _reason(f"http://127.0.0.1:{port}/", loopback=True)
    assert "not one that this node may call" not in reason


async def test_loopback_is_refused_even_where_private_addresses_are_allowed() -> None:
    reason = await _reason("http://127.0.0.1:1/", private=True)
    assert "not one that this node may call" in reason


@pytest.mark.parametrize("url", ["http://224.0.0.1:1/", "http://0.0.0.0:1/"])
async def test_addresses_that_are_nobodys_are_never_called(url: str) -> None:
    assert "not one that this node may call" in await _reason(url, private=True)


async def test_a_name_is_judged_by_the_address_that_is_connected_to() -> None:
    """DNS rebinding: an honest first answer must not open the way for a second."""
    async with open_session(allow_loopback=False, allow_private=False) as session:
        connector = session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        answers = iter(["10.0.0.1", "127.0.0.1"])

        async def resolve(
            host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[object]:
            return [
                {
                    "hostname": host,
                    "host": next(answers),
                    "port": port,
                    "family": family,
                    "proto": 0,
                    "flags": 0,
                }
            ]

        connector._resolver.resolve = resolve  # type: ignore[method-assign,assignment]  # noqa: SLF001
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.get("http://node.example:1/")
            connector.clear_dns_cache()
            assert "may call" in str(caught.value.os_error)


@pytest.mark.parametrize(
    ("address", "loopback", "private", "expected"),
    [
        ("1.1.1.1", False, False, True),
        ("2606:4700::1111", False, False, True),
        ("::ffff:1.1.1.1", False, False, True),
        ("64:ff9b::1.1.1.1", False, False, True),
        ("2002:101:101::1", False, False, True),
        ("64:ff9b::7f00:1", False, True, False),
        ("64:ff9b::7f00:1", True, False, True),
        ("2002:a00:1::1", False, True, True),
        ("2001:0:53aa:64c::1", False, True, True),
        ("::ffff:224.0.0.1", True, True, False),
        ("64:ff9b::", True, True, False),
        ("fe80::1%eth0", False, True, True),
    ],
)
def test_an_address_is_judged_as_the_one_that_is_reached(
    address: str, *, loopback: bool, private: bool, expected: bool
) -> None:
    allowed = is_allowed(address, allow_loopback=loopback, allow_private=private)
    assert allowed is expected


async def test_tls_is_1_3_or_nothing() -> None:
    context = ssl.create_default_context()
    async with open_session(allow_loopback=True, allow_private=True, tls=context):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
