"""Asking nodes over HTTP, signed, and with a bound on every answer."""

from __future__ import annotations

import http.client
import ssl
import time
from contextlib import closing, suppress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ed25519

from .logs import BASE
from .notes import RefusedError, encode64, read_json, require, utf8

PROBLEM_BYTES = 65_536
TIMEOUT_SECONDS = 60.0


class UnreachableError(Exception):
    """There is no answer, or none for us."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def code(self) -> str:
        """Code of the problem document, if it is one."""
        if self.status == http.client.OK:
            return ""
        with suppress(RefusedError):
            return str(read_json(utf8(self.body)).get("type", "")).removeprefix("hsf:")
        return ""


class Client:
    """Sends signed requests as one node. Source: SPEC.md#requests."""

    def __init__(self, seed: bytes, key_id: str) -> None:
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self._key_id = key_id

    def sign(self, authority: str, path: str, created: int) -> dict[str, str]:
        params = (
            f'("@method" "@authority" "@path");created={created};'
            f'keyid="{self._key_id}";tag="hsf-v1"'
        )
        covered = f'"@method": GET\n"@authority": {authority}\n"@path": {path}\n'
        message = f'{covered}"@signature-params": {params}'.encode()
        signature = encode64(self._key.sign(message))
        return {"Signature-Input": f"hsf={params}", "Signature": f"hsf=:{signature}:"}

    def get(self, base: str, path: str, limit: int) -> Answer:
        """Ask for what is below a base URL; no more than `limit` bytes are read."""
        match = BASE.fullmatch(base)
        assert match is not None  # checked where it came in
        authority, target = base.split("/")[2], match["path"] + path
        fields = {"Host": authority, "Accept-Encoding": "identity"}
        fields |= self.sign(authority, target, int(time.time()))
        try:
            with closing(connect(base)) as connection:
                connection.request("GET", target, headers=fields)
                response = connection.getresponse()
                coding = response.getheader("Content-Encoding", "identity")
                require(coding == "identity", "malformed", f"not asked for {coding}")
                return Answer(response.status, read_bounded(response, limit))
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__} {error}"
            raise UnreachableError(f"{base}{path}: {reason}") from None


def connect(base: str) -> http.client.HTTPConnection:
    authority = base.split("/")[2]
    if base.startswith("http:"):
        return http.client.HTTPConnection(authority, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return http.client.HTTPSConnection(
        authority, timeout=TIMEOUT_SECONDS, context=context
    )


def read_bounded(response: http.client.HTTPResponse, limit: int) -> bytes:
    limit = limit if response.status == http.client.OK else PROBLEM_BYTES
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    raw = bytearray()
    while chunk := response.read1(65_536):
        raw += chunk
        require(len(raw) <= limit, "too-large", f"more than {limit} bytes")
        if time.monotonic() > give_up_at:
            raise TimeoutError("too slow")
    if response.length:
        raise http.client.IncompleteRead(bytes(raw), response.length)
    return bytes(raw)
