"""The raw client reads whole answers, however they come, and nothing but 200."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.wire import RefusedError, put_load, request

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def server(answer: bytes) -> Iterator[tuple[str, int]]:
    """Answer every request on one connection so, in two parts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65536):
                    connection.sendall(answer[:30])
                    connection.sendall(answer[30:])

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join()


@pytest.mark.parametrize("answer", [LENGTH, CHUNKS])
def test_answers_are_read_to_their_end(answer: bytes) -> None:
    with server(answer) as address:
        ask = request("GET", "/", headers={})
        load = put_load(address, [ask], connections=1, seconds=0.05)

    assert load.last == answer
    assert len(load.milliseconds) > 1


def test_an_answer_that_refuses_ends_the_measurement() -> None:
    with server(REFUSED) as address, pytest.raises(RefusedError, match="404"):
        put_load(
            address,
            [request("POST", "/", headers={}, body=b"{}")],
            connections=1,
            seconds=0.05,
        )
