"""PostgreSQL: how its databases are claimed, watched and scrubbed.

Everything that is particular to PostgreSQL stands here, as what is particular to SQLite
stands in `sqlite`. One process writes, as there, and one transaction at a time: the
right to write is a lock of the very session that writes, so whoever lost it cannot.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool

from hashlight_node.store.errors import (
    DatabaseInUseError,
    DatabaseUnavailableError,
    ScrubError,
    UnsupportedDatabaseError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL
    from sqlalchemy.pool import ConnectionPoolEntry

    Session = psycopg.Connection[tuple[Any, ...]]

_OLDEST: Final = 150_000
"""PostgreSQL 15, as the server counts."""

CLAIM: Final = 0x48534C54
"""Number of the lock that is the right to write; each database has its own numbers."""

_CHANNEL: Final = "hashlight"
_SCRUBBED: Final = "contents, signal_values"

_CONNECT_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.25
"""A commit that nobody told us of is seen after so long."""

_RETRY_SECONDS: Final = 0.2

# A machine that is lost says nothing. The server so notices within 11 s that whoever
# has the right to write is gone, and we as soon that the server is.
_IDLE_SECONDS: Final = 5
_PROBE_SECONDS: Final = 2
_PROBES: Final = 3
_UNANSWERED_MS: Final = 1000 * (_IDLE_SECONDS + _PROBE_SECONDS * _PROBES)

_OPTIONS: Final = (
    f"-c jit=off -c tcp_keepalives_idle={_IDLE_SECONDS}"
    f" -c tcp_keepalives_interval={_PROBE_SECONDS} -c tcp_keepalives_count={_PROBES}"
    f" -c tcp_user_timeout={_UNANSWERED_MS}"
)
# A process that is frozen is answered for by its machine. So whoever has the right to
# write shows that it runs, and a session that does not is ended.
_SIGN_OF_LIFE_SECONDS: Final = 2.5
_FROZEN_MS: Final = 10_000
_FROZEN_IN_TRANSACTION_MS: Final = 30_000
_WRITER: Final = (
    f"{_OPTIONS} -c idle_session_timeout={_FROZEN_MS}"
    f" -c idle_in_transaction_session_timeout={_FROZEN_IN_TRANSACTION_MS}"
)
_READER: Final = (
    rf"{_OPTIONS} -c default_transaction_read_only=on"
    r" -c default_transaction_isolation=repeatable\ read"
)

_LETTERS: Final = "b A _ a - é ~ Z"
_FACTS: Final = (
    "SELECT current_setting('server_version_num')::int,"  # noqa: S608 -- constants
    " current_setting('server_encoding'), string_agg(it, ' ' ORDER BY it)"
    f" FROM unnest(string_to_array('{_LETTERS}', ' ')) AS it"
)

# A commit that the operator lets the server promise before it is on disk could be lost,
# and with it records that we acknowledged.
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
# Which number the newest claim has: who lost its session can tell that nobody wrote
# meanwhile. Not yet there in a database that was never migrated.
_CLAIMS: Final = "hashlight_claims"

# Told only if something was written; the number lets us ask later what became of it.
_BEFORE_COMMIT: Final = (
    "SELECT xid::text, CASE WHEN xid IS NOT NULL"  # noqa: S608 -- constants
    f" THEN pg_notify('{_CHANNEL}', '') END"
    " FROM (SELECT pg_current_xact_id_if_assigned() AS xid) AS of_this"
)
_IS_READ: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND age(backend_xmin) >= age(%s::xid)"
)
# With those that run: a commit changes the number of the next transaction only if none
# that began later was over before.
_NEWEST: Final = (
    "SELECT pg_current_snapshot()::text,"  # noqa: S608 -- constants
    f" (SELECT last_value FROM {_CLAIMS})"
)
_EPOCH: Final = 1 << 32


class PostgresqlDatabase:
    """A database of a PostgreSQL server; see `backends.Backend`.

    Args:
        url: Names it. A password can also come from libpq's own password file.
    """

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self.shown = url.render_as_string(hide_password=True)

    def exists(self) -> bool:
        """Tell whether it is there.

        Raises:
            DatabaseUnavailableError: The server refuses us, or has no such database.
        """
        self._facts()
        return True

    def create(self) -> None:
        """Check that a node can work with it.

        Raises:
            DatabaseUnavailableError: The server refuses us, or has no such database.
            UnsupportedDatabaseError: It sorts, writes or is not as a node needs it.
        """
        version, encoding, letters = self._facts()
        if version < _OLDEST:
            raise UnsupportedDatabaseError(self.shown, "needs PostgreSQL 15 or newer")
        if encoding != "UTF8":
            raise UnsupportedDatabaseError(self.shown, "its encoding is not UTF8")
        if letters != " ".join(sorted(_LETTERS.split(), key=str.encode)):
            raise UnsupportedDatabaseError(
                self.shown,
                "it does not sort by bytes; create it with"
                " `createdb --template=template0 --locale=C --encoding=UTF8`",
            )
        engine = self._engine(1, _OPTIONS)
        with engine.begin() as connection:
            connection.exec_driver_sql(f"CREATE SEQUENCE IF NOT EXISTS {_CLAIMS}")
        engine.dispose()

    def open_writer(self) -> PostgresqlWriter:
        """Take the right to write, which one session has at a time.

        Raises:
            DatabaseInUseError: Another process has it.
            DatabaseUnavailableError: The server refuses us.
        """
        engine = self._engine(1, _WRITER)
        writer = PostgresqlWriter(engine, self)
        try:
            with self._reaching():
                writer.begin()
        except BaseException:
            engine.dispose()
            raise
        return writer

    def reader_engine(self, connections: int) -> Engine:
        """Build the engine of the threads that read; a transaction is one snapshot."""
        return self._engine(connections, _READER)

    def single_engine(self) -> Engine:
        """Build an engine that opens a connection each time it is asked."""
        return create_engine(
            self._url,
            poolclass=NullPool,
            connect_args=_arguments(_OPTIONS),
        )

    def watch(self) -> CommitWatch:
        """Begin to watch for commits of whoever writes."""
        return CommitWatch(self)

    def _engine(self, connections: int, options: str) -> Engine:
        return create_engine(
            self._url,
            pool_size=connections,
            max_overflow=0,
            # A server that was restarted is found again without an error.
            pool_pre_ping=True,
            connect_args=_arguments(options),
        )

    def _facts(self) -> tuple[int, str, str]:
        engine = self.single_engine()
        with self._reaching(), engine.connect() as connection:
            version, encoding, letters = connection.exec_driver_sql(_FACTS).one()
        return int(version), str(encoding), str(letters)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            reason = str(error.orig).partition("\n")[0]
            raise DatabaseUnavailableError(self.shown, reason) from error


class PostgresqlWriter:
    """The right to write to a database, and the session that has it.

    Args:
        engine: Of one connection.
        database: To ask it from outside.
    """

    def __init__(self, engine: Engine, database: PostgresqlDatabase) -> None:
        self._engine = engine
        self._database = database
        self._claim: int | None = None
        self._last_xid: str | None = None
        self._closing = threading.Event()
        self._living = threading.Thread(
            target=self._live, name="store-alive", daemon=True
        )

        @event.listens_for(engine, "connect")
        def claim(session: Session, _: ConnectionPoolEntry) -> None:
            try:
                self._take(session)
                session.commit()
            except BaseException:
                session.close()
                raise

        @event.listens_for(engine, "close")
        def give_back(session: Session, _: ConnectionPoolEntry) -> None:
            # The server may notice only later that a session was closed, and whoever
            # comes next would be refused. One that is lost has nothing to give back.
            with suppress(psycopg.Error):
                session.execute(f"SELECT pg_advisory_unlock({CLAIM})")

    def begin(self) -> None:
        """Take the right, and from now on show that we run."""
        self._engine.connect().close()
        self._living.start()

    @property
    def claim(self) -> int | None:
        """Number of our claim; nobody else had the right while it is the newest."""
        return self._claim

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction that is committed at its end.

        If the server goes away during the commit, this waits until it is back and says
        what became of it: nobody may believe the one or the other without knowing.
        """
        with self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
                xid: str | None = connection.exec_driver_sql(_BEFORE_COMMIT).scalar()
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                if xid is None or not error.connection_invalidated:
                    raise
                if not self._was_committed(xid):
                    raise
            self._last_xid = xid or self._last_xid

    def scrub(self) -> None:
        """Remove the old versions of rows that were overwritten.

        Until then every overwritten row is still in its page. After it no query, dump
        or index reads it; see `docs/operating.md` on what a disk keeps.

        Raises:
            ScrubError: Somebody reads a state in which they counted.
        """
        # Outside of a transaction, in which this cannot run.
        with self._engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            if self._last_xid is not None:
                xid = str(int(self._last_xid) % _EPOCH)
                if connection.exec_driver_sql(_IS_READ, (xid,)).scalar():
                    raise ScrubError
            connection.exec_driver_sql(f"VACUUM (TRUNCATE off) {_SCRUBBED}")

    def close(self) -> None:
        """Close the session, and with it give the right back."""
        self._closing.set()
        if self._living.is_alive():
            self._living.join()
        self._engine.dispose()

    def _live(self) -> None:
        while not self._closing.wait(_SIGN_OF_LIFE_SECONDS):
            # Whoever writes next finds out that a session is lost, with or without the
            # right. One that is busy needs no sign.
            with suppress(
                DBAPIError, psycopg.Error, DatabaseInUseError, PoolTimeoutError
            ):
                # The engine asks the server before it gives a session away.
                self._engine.connect().close()

    def _take(self, session: Session) -> None:
        session.execute(_DURABLE)
        is_free = _first(session, f"SELECT pg_try_advisory_lock({CLAIM})")
        if not is_free or self._was_away(session):
            raise DatabaseInUseError(self._database.shown)

    def _was_away(self, session: Session) -> bool:
        """Tell whether somebody else had the right since we had it last."""
        if _first(session, f"SELECT to_regclass('{_CLAIMS}')") is None:
            return False
        if self._claim is not None:
            newest: int = _first(session, f"SELECT last_value FROM {_CLAIMS}")  # noqa: S608
            return newest != self._claim
        self._claim = _first(session, f"SELECT nextval('{_CLAIMS}')")
        return False

    def _was_committed(self, xid: str) -> bool:
        engine = self._database.single_engine()
        while not self._closing.wait(_RETRY_SECONDS):
            try:
                with engine.connect() as connection:
                    status = connection.exec_driver_sql(
                        "SELECT pg_xact_status(%s::xid8)", (xid,)
                    ).scalar()
            except OperationalError:
                continue
            if status != "in progress":
                return bool(status == "committed")
        return False


class CommitWatch:
    """Tells whether anybody committed to a database since it was last asked.

    A thread listens for what writers tell, and asks by itself now and then, because
    what is told can get lost. So this is never older than some milliseconds, or, if
    nothing is told, than `_POLL_SECONDS`; while the server is away every question gets
    another number, so that whoever needs to know asks the server and learns it.
    """

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._engine = database.single_engine()
        self._told = 0
        self._asked_in_vain = 0
        self._is_away = True
        self._heard_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.claim: int | None = None

    def version(self) -> int:
        """Give a number that is another one after every commit; for one thread."""
        self._start()
        if self._is_away:
            self._asked_in_vain += 1
        return self._told + self._asked_in_vain

    def silent_seconds(self) -> float:
        """Tell since when there may be commits that the version does not count."""
        self._start()
        return time.monotonic() - self._heard_at

    def _start(self) -> None:
        if self._thread is None:
            # Until the first answer every version is another one, so nothing is old.
            self._heard_at = time.monotonic()
            self._thread = threading.Thread(
                target=self._run, name="store-watch", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (DBAPIError, psycopg.Error):
                self._is_away = True
                self._stopping.wait(_RETRY_SECONDS)

    def _listen(self) -> None:
        connection = self._engine.raw_connection()
        session = cast("Session", connection.driver_connection)
        try:
            session.autocommit = True
            session.execute(f"LISTEN {_CHANNEL}")
            seen: object = None
            while not self._stopping.is_set():
                asked_at = time.monotonic()
                newest, self.claim = _row(session, _NEWEST)
                if newest != seen:
                    seen = newest
                    self._told += 1
                # After what is told: nobody may take an old version for a fresh one.
                self._heard_at = asked_at
                # Only now: what was committed before we listened is counted.
                self._is_away = False
                for _ in session.notifies(timeout=_POLL_SECONDS, stop_after=1):
                    self._told += 1
        finally:
            connection.invalidate()
            connection.close()


def _arguments(options: str) -> dict[str, object]:
    return {
        "options": options,
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": _IDLE_SECONDS,
        "keepalives_interval": _PROBE_SECONDS,
        "keepalives_count": _PROBES,
        "tcp_user_timeout": _UNANSWERED_MS,
        "client_encoding": "utf8",
    }


def _first(session: Session, query: LiteralString) -> Any:  # noqa: ANN401 -- as asked
    return _row(session, query)[0]


def _row(session: Session, query: LiteralString) -> tuple[Any, ...]:
    row = session.execute(query).fetchone()
    assert row is not None  # noqa: S101 -- what is asked here has one row
    return row
