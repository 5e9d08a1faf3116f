"""Keys that live elsewhere: an ssh-agent signs, and never shows its key.

Agents stand in front of files, smart cards and hardware modules, and with Ed25519 all
of them give the raw signature of RFC 8032 over exactly the bytes that were sent. The
node needs a socket and nothing else.

Source: draft-ietf-sshm-ssh-agent (SSH_AGENTC_SIGN_REQUEST); RFC 8709 section 4 and 6.
"""

from __future__ import annotations

import base64
import binascii
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hashlight_protocol import BadKeyError, BadSignatureError, VerifierKey

from .errors import SignerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_ALGORITHM: Final = b"ssh-ed25519"
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_TIMEOUT_SECONDS: Final = 2.0
"""For one signature. The database's writer may be waiting for it."""
_MAX_ANSWER_BYTES: Final = 1024
_POINT_BYTES: Final = 32


def parse_ssh_key(text: str) -> bytes:
    """Read the point, 32 bytes, out of `ssh-ed25519 AAAA… comment`.

    Raises:
        BadKeyError: It is not an Ed25519 public key as OpenSSH writes it.
    """
    words = text.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        raise BadKeyError("it is not a public key as OpenSSH writes it") from None
    point = blob[-_POINT_BYTES:]
    if words[0].encode() != _ALGORITHM or blob != _blob(point):
        raise BadKeyError("it is not an ssh-ed25519 public key")
    return point


def encode_ssh_key(point: bytes) -> str:
    """Write a point, 32 bytes, as OpenSSH does, without a comment."""
    return f"{_ALGORITHM.decode()} {base64.b64encode(_blob(point)).decode()}"


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _blob(point: bytes) -> bytes:
    return _string(_ALGORITHM) + _string(point)


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """A private key that an ssh-agent holds.

    Attributes:
        key: The public half, with the name that the key has for us.
        path: The agent's Unix socket; None if none is configured.
    """

    key: VerifierKey
    path: Path | None

    def sign(self, message: bytes) -> bytes:
        """Have the raw Ed25519 signature made, 64 bytes; waits two seconds at most.

        Raises:
            SignerUnavailableError: The agent is away, does not have the key, refuses,
                is too slow, or gives something else than the signature.
        """
        request = (
            bytes([_SIGN_REQUEST])
            + _string(_blob(self.key.public_key))
            + _string(message)
            + bytes(4)
        )
        try:
            answer = self._ask(_string(request))
        except OSError as error:
            reason = error.strerror or "the agent does not answer"
            raise self._unavailable(reason) from error
        signature = answer[-64:]
        expected = _string(_string(_ALGORITHM) + _string(signature))
        if answer != bytes([_SIGN_RESPONSE]) + expected:
            raise self._unavailable("the agent does not sign with this key")
        self._check(message, signature)
        return signature

    def _check(self, message: bytes, signature: bytes) -> None:
        # Of type 0x01, whose signatures are over the bytes as they are.
        plain = VerifierKey("agent", 1, self.key.public_key)
        try:
            plain.verify(message, signature)
        except BadSignatureError:
            raise self._unavailable("the agent's signature does not hold") from None

    def _ask(self, request: bytes) -> bytes:
        if self.path is None:
            raise self._unavailable("no agent is configured")
        give_up_at = time.monotonic() + _TIMEOUT_SECONDS
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(str(self.path))
            connection.sendall(request)
            length = int.from_bytes(self._read(connection, 4, give_up_at), "big")
            if length > _MAX_ANSWER_BYTES:
                raise self._unavailable("the agent's answer is too long")
            return self._read(connection, length, give_up_at)

    def _read(self, connection: socket.socket, count: int, give_up_at: float) -> bytes:
        content = b""
        while len(content) < count:
            remaining_seconds = give_up_at - time.monotonic()
            if remaining_seconds <= 0:
                raise self._unavailable("the agent is too slow")
            connection.settimeout(remaining_seconds)
            piece = connection.recv(count - len(content))
            if not piece:
                raise self._unavailable("the agent hung up")
            content += piece
        return content

    def _unavailable(self, reason: str) -> SignerUnavailableError:
        return SignerUnavailableError(self.key.name, reason)
