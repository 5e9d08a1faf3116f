"""Keys in a real ssh-agent, and agents that fail or lie."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from hashlight_node.keys import (
    KeyAccess,
    KeyFileError,
    SignerUnavailableError,
    create_keyring,
    load_keyring,
)
from hashlight_node.keys.agent import AgentSigner, parse_ssh_key
from hashlight_protocol import BadKeyError, VerifierKey
from support.ssh_agent import Agent, running_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NODE = "shield.example"
ORIGIN = "shield.example/hsf/v1/log/ncii/1"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with running_agent() as running:
        yield running


def signer_of(agent: Agent) -> AgentSigner:
    key = VerifierKey(ORIGIN, 1, parse_ssh_key(agent.ssh_key))
    return AgentSigner(key, agent.path)


def test_an_agent_signs_exactly_the_bytes_that_it_is_given(agent: Agent) -> None:
    signer = signer_of(agent)
    for message in (b"", b"a checkpoint\n", b"x" * 100_000):
        signer.key.verify(message, signer.sign(message))


def test_a_log_goes_on_under_a_key_that_never_was_on_this_machine(
    agent: Agent, tmp_path: Path
) -> None:
    access = KeyAccess(agent=agent.path)
    directory = tmp_path / "keys"
    keyring = create_keyring(directory, NODE, access=access)
    old = keyring.create_log(ORIGIN).key
    made = keyring.rotate("log", ORIGIN, agent.ssh_key)
    assert made.storage == "agent"
    again = load_keyring(directory, NODE, access=access).log(ORIGIN)
    assert [one.key for one in again.every] == [old, made.key]
    for one in again.every:
        one.key.verify(b"a message", one.sign(b"a message"))
    secret = agent.file.read_text(encoding="ascii").split("\n")[1]
    assert all(secret not in p.read_text(encoding="ascii") for p in directory.iterdir())


def test_one_key_serves_one_use(agent: Agent, tmp_path: Path) -> None:
    keyring = create_keyring(tmp_path / "keys", NODE)
    keyring.rotate("witness", None, agent.ssh_key)
    with pytest.raises(BadKeyError, match="serves this node already"):
        keyring.rotate("mirror", None, agent.ssh_key)


def test_an_identity_is_never_an_agents(agent: Agent, tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    create_keyring(directory, NODE)
    (directory / "identity.key").write_text(
        f"hashlight-key/v2\nuse identity\nname {NODE}\n"
        f"agent {' '.join(agent.ssh_key.split()[:2])}\n",
        encoding="ascii",
    )
    with pytest.raises(KeyFileError, match="keep identity keys offline"):
        load_keyring(directory, NODE)


def test_an_agent_without_the_key_is_an_error_and_not_a_hang(agent: Agent) -> None:
    signer = signer_of(agent)
    agent.run("-q", "-D")
    with pytest.raises(SignerUnavailableError, match="does not sign with this key"):
        signer.sign(b"a message")


def test_without_an_agent_there_is_no_signature(agent: Agent, tmp_path: Path) -> None:
    key = signer_of(agent).key
    with pytest.raises(SignerUnavailableError, match="No such file"):
        AgentSigner(key, tmp_path / "nobody").sign(b"")
    with pytest.raises(SignerUnavailableError, match="no agent is configured"):
        AgentSigner(key, None).sign(b"")


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[Path]:
    """Listen as an agent would, and answer one request as a test wants it."""
    with TemporaryDirectory(prefix="hl") as name:
        path = Path(name) / "agent"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(1)

            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    answer(connection)

            thread = threading.Thread(target=serve)
            thread.start()
            yield path
            thread.join()


def _framed(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _signature(blob: bytes) -> bytes:
    inner = _framed(b"ssh-ed25519") + _framed(blob)
    return _framed(b"\x0e" + _framed(inner))


LIES = {
    "nothing": (b"", "hung up"),
    "half": (_signature(bytes(64))[:20], "hung up"),
    "failure": (_framed(b"\x05"), "does not sign with this key"),
    "wrong signature": (_signature(bytes(64)), "signature does not hold"),
    "short signature": (_signature(bytes(63)), "does not sign with this key"),
    "too long": (b"\xff\xff\xff\xff", "too long"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_broken_agent_says_is_never_a_signature(lie: str, agent: Agent) -> None:
    raw, reason = LIES[lie]
    with answering(lambda connection: connection.sendall(raw)) as path:
        signer = AgentSigner(signer_of(agent).key, path)
        with pytest.raises(SignerUnavailableError, match=reason):
            signer.sign(b"a message")


def test_an_agent_that_drips_is_given_up_in_time(agent: Agent) -> None:
    def drip(connection: socket.socket) -> None:
        try:
            for byte in _signature(bytes(64)):
                connection.sendall(bytes([byte]))
                time.sleep(0.2)
        except OSError:
            pass

    with answering(drip) as path:
        signer = AgentSigner(signer_of(agent).key, path)
        started = time.monotonic()
        with pytest.raises(SignerUnavailableError):
            signer.sign(b"a message")
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAv",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAv",
    ],
)
def test_only_ed25519_keys_are_taken(text: str) -> None:
    with pytest.raises(BadKeyError):
        parse_ssh_key(text)
