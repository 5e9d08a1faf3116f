"""What the doctor says of servers, listeners and clocks."""

from __future__ import annotations

import socket
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from hashlight_node.cli import examination
from hashlight_node.cli.examination import Mark, examine
from hashlight_node.store.errors import DatabaseUnavailableError
from hashlight_node.store.server_settings import ServerSettings, read_server_settings
from support.nodes import make_settings
from support.stores import IS_POSTGRESQL, make_postgresql, make_store

GOOD = ServerSettings("18.4", "UTF8", True, True, "on", True)  # noqa: FBT003


@pytest.mark.parametrize(
    ("server", "marks"),
    [
        (GOOD, [Mark.OK]),
        (replace(GOOD, encoding="LATIN1"), [Mark.OK, Mark.FAIL]),
        (replace(GOOD, fsync=False), [Mark.OK, Mark.FAIL]),
        (replace(GOOD, full_page_writes=False), [Mark.OK, Mark.FAIL]),
        (replace(GOOD, synchronous_commit="off"), [Mark.OK, Mark.WARN]),
        (replace(GOOD, data_checksums=False), [Mark.OK, Mark.WARN]),
    ],
)
def test_a_server_that_can_lose_what_it_promised_is_named(
    server: ServerSettings, marks: list[Mark]
) -> None:
    found = examination._server(server)  # noqa: SLF001 -- no server is all of these
    assert [one.mark for one in found] == marks
    assert all(one.advice for one in found if one.mark is not Mark.OK)


def test_a_clock_that_is_off_is_told_in_seconds() -> None:
    now = 1_800_000_000
    offset = examination._offset  # noqa: SLF001 -- asked of headers that peers send
    assert offset(formatdate(now + 40, usegmt=True), now) == 40
    assert offset("yesterday", now) is None


async def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, "shield.example")
    make_store(tmp_path / "shield.example")
    config = tmp_path / "shield.example" / "hashlight.toml"
    host, port = settings.federation.listen.split(":")
    with socket.create_server((host, int(port))):
        found = await examine(settings, config, lambda: 1_800_000_000)
    marks = {one.name: one.mark for one in found}
    assert marks["federation listener"] is Mark.FAIL
    assert marks["local listener"] is Mark.OK
    assert marks["schema"] is Mark.OK


@pytest.mark.skipif(not IS_POSTGRESQL, reason="asks a server")
def test_a_real_server_is_asked(tmp_path: Path) -> None:
    server = read_server_settings(make_postgresql(tmp_path))
    assert server.encoding == "UTF8"
    assert server.fsync is False  # As the tests start it.
    with pytest.raises(DatabaseUnavailableError):
        read_server_settings("postgresql://nobody@127.0.0.1:1/none")
