"""The sockets on which the processes of a node are reached, and reach each other."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = ".run-"

_MAX_PATH: Final = 107
"""Bytes that a unix socket's address has for its path, without the zero at its end."""

_LONGEST_NAME: Final = len("/.run-01234567/worker-64")

_BACKLOG: Final = 512


@contextmanager
def private_directory(data: Path) -> Iterator[Path]:
    """Make a directory for sockets that only this user can reach; gone afterwards.

    Args:
        data: Where it should be; if that makes addresses too long, it is where the
            system keeps temporary files.
    """
    parent = data if len(os.fsencode(data)) + _LONGEST_NAME <= _MAX_PATH else None
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def remove_left_behind(current: Path) -> None:
    """Remove the directories of supervisors that were killed.

    To be called once our node has the database, so that no other can be running.

    Args:
        current: The directory that stays. One that is not beside the database has
            neighbours of other nodes, so there nothing is removed.
    """
    if current.parent == Path(tempfile.gettempdir()):
        return
    for other in current.parent.glob(f"{_PREFIX}*"):
        if other != current:
            shutil.rmtree(other, ignore_errors=True)


def listen_inside(path: Path) -> socket.socket:
    """Listen on a unix socket that only this user's processes can open.

    Args:
        path: In a directory of `private_directory`: nobody else can reach the socket
            before it has its own permissions. The process's mask for new files stays
            as it is, because threads that write files share it.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def reserve(host: str, port: int) -> list[socket.socket]:
    """Take an address for processes that will listen on it together.

    The sockets do not listen, so no connection reaches them. They keep the address
    while workers come and go.

    Args:
        host: A name or an address.
        port: 0 for any.

    Returns:
        One for each address of the host.

    Raises:
        OSError: The address is taken, also if by processes that would share it.
    """
    reserved: list[socket.socket] = []
    try:
        for family, _, _, _, address in _resolve(host, port):
            # Without the option it fails even where others are listening with it.
            _bound(family, address, together=False).close()
            reserved.append(_bound(family, address, together=True))
    except BaseException:
        close_all(reserved)
        raise
    return reserved


def listen_together(reserved: list[socket.socket]) -> list[socket.socket]:
    """Listen on reserved addresses, as one process of several.

    Of connections that come in the system gives each process its share; what waits for
    a process that is killed is lost with it, and nothing else.
    """
    listening = [_bound(it.family, it.getsockname(), together=True) for it in reserved]
    for each in listening:
        each.listen(_BACKLOG)
    return listening


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Listen on an address, as the one process that does.

    Args:
        host: A name or an address.
        port: 0 for any.

    Returns:
        One for each address of the host.

    Raises:
        OSError: The address is taken.
    """
    listening: list[socket.socket] = []
    try:
        for family, _, _, _, address in _resolve(host, port):
            listening.append(_bound(family, address, together=False))
            listening[-1].listen(_BACKLOG)
    except BaseException:
        close_all(listening)
        raise
    return listening


def close_all(sockets: list[socket.socket]) -> None:
    """Close sockets."""
    for each in sockets:
        each.close()


def _resolve(
    host: str, port: int
) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys(found))


def _bound(
    family: int, address: tuple[object, ...], *, together: bool
) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if together:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made
