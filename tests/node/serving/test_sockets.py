from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from hashlight_node.serving.sockets import (
    close_all,
    listen_inside,
    listen_on,
    listen_together,
    private_directory,
    remove_left_behind,
    reserve,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_the_directory_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with private_directory(tmp_path) as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        listening = listen_inside(directory / "node")
        assert stat.S_IMODE((directory / "node").stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(directory / "node"))
        listening.close()
    assert not directory.exists()


def test_addresses_stay_short_enough(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100)
    deep.mkdir()
    with private_directory(deep) as directory:
        assert directory.parent != deep
        assert len(os.fsencode(directory / "worker-64")) <= 107
        listen_inside(directory / "worker-64").close()
        remove_left_behind(directory)
        assert directory.exists()


def test_what_a_killed_supervisor_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".run-left"
    left.mkdir()
    with private_directory(tmp_path) as directory:
        remove_left_behind(directory)
        assert not left.exists()
        assert directory.exists()


def test_a_socket_that_cannot_be_bound_is_closed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen_inside(tmp_path / "missing" / "node")


def test_a_reserved_address_reaches_only_who_listens_on_it() -> None:
    reserved = reserve("127.0.0.1", 0)
    first = [one.getsockname() for one in reserved]
    for one in reserved:
        with socket.socket(one.family) as caller, pytest.raises(ConnectionRefusedError):
            caller.connect(one.getsockname())
    workers = [listen_together(reserved) for _ in range(2)]
    for address, one in zip(first, reserved, strict=True):
        with socket.socket(one.family) as caller:
            caller.connect(address)
    with pytest.raises(OSError, match="in use"):
        reserve(*first[0][:2])
    for listening in workers:
        close_all(listening)
    close_all(reserved)
    close_all(reserve(*first[0][:2]))


def test_an_address_is_listened_on_by_one_process_alone() -> None:
    listening = listen_on("127.0.0.1", 0)
    address = listening[0].getsockname()
    with socket.create_connection(address):
        pass
    with pytest.raises(OSError, match="in use"):
        listen_on(*address)
    close_all(listening)
