"""The least an HTTP client can be: prepared bytes out, whole answers in.

One thread serves all connections, so that the client stays cheaper than the servers
it measures, and the same client measures all of them.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_READ: Final = 262_144
_END_OF_HEAD: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_OK: Final = b"200"
_PATIENCE_SECONDS: Final = 60.0


class RefusedError(Exception):
    """A server answered with something else than 200.

    Attributes:
        status: Its status.
    """

    def __init__(self, status: bytes) -> None:
        super().__init__(f"answered with status {status.decode('ascii', 'replace')}")
        self.status = status


@dataclass(slots=True)
class Load:
    """What came back.

    Attributes:
        seconds: How long it lasted, from the first request to the last answer.
        milliseconds: Of each answer, in the order they came.
        last: The last answer, whole.
    """

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    last: bytes = b""


class _Connection:
    """One request at a time over one connection."""

    def __init__(self, address: tuple[str, int], requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(address, timeout=_PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._received = b""
        self._whole: int | None = None
        self._started = 0.0

    def send(self) -> None:
        self._received, self._whole = b"", None
        self._started = time.perf_counter()
        self.socket.sendall(next(self._requests))

    def receive(self) -> bytes | None:
        """Read what is there; gives the answer once it is whole."""
        data = self.socket.recv(_READ)
        if not data:
            raise ConnectionError
        self._received += data
        return self._received if self._is_whole() else None

    def taken(self) -> float:
        return (time.perf_counter() - self._started) * 1000

    def _is_whole(self) -> bool:
        if self._whole is None:
            head, end, _ = self._received.partition(_END_OF_HEAD)
            if not end:
                return False
            self._whole = _whole_length(head, len(head) + len(end))
        if self._whole < 0:
            return self._received.endswith(_LAST_CHUNK)
        return len(self._received) >= self._whole


def _whole_length(head: bytes, body_at: int) -> int:
    """Give the bytes of head and body; negative if only the end will tell."""
    status = head[9:12]
    if status != _OK:
        raise RefusedError(status)
    length = _LENGTH.search(head)
    if length is not None:
        return body_at + int(length[1])
    if _CHUNKED.search(head) is None:
        raise RefusedError(status)
    return -1


def put_load(
    address: tuple[str, int],
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
) -> Load:
    """Send the requests again and again, over so many connections, for so long.

    Raises:
        RefusedError: An answer was not 200.
        ConnectionError: The server hung up.
    """
    load = Load()
    supply = cycle(requests)
    with ExitStack() as stack:
        ready = stack.enter_context(selectors.DefaultSelector())
        for _ in range(connections):
            connection = _Connection(address, supply)
            stack.callback(connection.socket.close)
            ready.register(connection.socket, selectors.EVENT_READ, connection)
        started = time.perf_counter()
        for key in ready.get_map().values():
            key.data.send()
        _answer_all(ready, load, started + seconds)
        load.seconds = time.perf_counter() - started
    return load


def _answer_all(ready: selectors.BaseSelector, load: Load, ends_at: float) -> None:
    while ready.get_map():
        for key, _ in ready.select(_PATIENCE_SECONDS):
            connection: _Connection = key.data
            answer = connection.receive()
            if answer is None:
                continue
            load.milliseconds.append(connection.taken())
            load.last = answer
            if time.perf_counter() < ends_at:
                connection.send()
            else:
                ready.unregister(connection.socket)


def request(
    method: str, path: str, *, headers: dict[str, str], body: bytes = b""
) -> bytes:
    """Write one request out."""
    given = {"Host": "127.0.0.1", **headers}
    if body:
        given["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items())]
    return "\r\n".join(lines).encode("ascii") + _END_OF_HEAD + body
