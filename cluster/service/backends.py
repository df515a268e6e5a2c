"""What SQLite and PostgreSQL do differently: how tables of a service are opened, locked, watched.

Both give the same promises. A writing transaction is alone from its beginning to its end, so that
nothing that it has read can change before it writes, and rows get their numbers in the order in
which they appear: a reader of a feed misses none. A reading one sees one consistent state. What was
written is on disk when the transaction returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import Session
from typing_extensions import override

from encoder.errors import BadInput, StoreUnusable

BUSY_SECONDS = 30.0
"""Time for which a transaction waits for the write lock."""
PROBE_SECONDS = 2.0
"""The same for a look whether transactions can write."""
KIND: Final = "shotladder"
"""Execution option of a connection that says what its transactions do: ``read``, ``write``,
``migrate`` or ``probe``."""
_POOL = {"pool_size": 16, "max_overflow": 64, "pool_timeout": BUSY_SECONDS}


class Watch(Protocol):
    """Whether another process has changed the feed, asked at every read. May be used from several
    threads."""

    def new_sequence(self) -> int | None:
        """Return the number of the last change of the feed, or None if nothing can have changed
        since the last call."""

    def close(self) -> None:
        """Close the connection."""


class Backend(Protocol):
    """A kind of database."""

    name: str
    """The database as errors name it, without its password."""
    local: bool
    """True where all processes that use the tables are on this machine."""

    def engine(self) -> Engine:
        """Return what connects to the tables; transactions begin as :data:`KIND` says."""

    def migrating(self) -> contextlib.AbstractContextManager[None]:
        """Keep all other processes from migrating the tables, as far as no transaction does."""

    def check_sound(self, engine: Engine) -> None:
        """Look for damage, so that a service does not find it in the middle of a job."""

    def check_writable(self, engine: Engine) -> None:
        """Raise an error of the driver if a transaction could not write now."""

    def unusable(self, cause: BaseException | None) -> StoreUnusable:
        """Return what is to be said of an error of the driver."""

    def watch(self, engine: Engine) -> Watch:
        """Return a watch on the feed."""

    def last_event(self, session: Session) -> int:
        """Return the last number that an event was given, also where that event was replaced."""


def backend_of(place: Path | str) -> Backend:
    """Return the backend of tables in a file or, by its URL, in a database.

    Raises:
        BadInput: the URL is not that of a PostgreSQL database, or the driver is not installed.
    """
    if isinstance(place, Path):
        return Sqlite(place)
    try:
        url = make_url(place)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        url = None
    if url is None or url.drivername not in ("postgresql", "postgres") or not url.database:
        shown = "the text that was given" if url is None else url.render_as_string()
        raise BadInput(
            f"{shown} names no database that the service can use; give a URL such as "
            "postgresql://user@host/shotladder"
        )
    try:
        import psycopg  # noqa: F401 - an optional driver
    except ImportError:
        raise BadInput(
            "the driver for PostgreSQL is not installed; install shotladder[postgres]"
        ) from None
    return Postgres(url.set(drivername="postgresql+psycopg"))


class Sqlite(Backend):
    """Tables in a file, in WAL mode."""

    local = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    @override
    def engine(self) -> Engine:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(
                f"{self.path.parent} cannot be created ({error.strerror}); give another folder"
            ) from error
        engine = create_engine(
            f"sqlite:///{self.path}",
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            **_POOL,
        )

        @event.listens_for(engine, "connect")
        def connect(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # BEGIN is sent below
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get(KIND) == "write"
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    @override
    @contextlib.contextmanager
    def migrating(self) -> Iterator[None]:
        try:
            lock = self.path.with_suffix(".migrating").open("w")
        except OSError as error:
            raise StoreUnusable(
                f"{self.path.parent} cannot be written ({error.strerror}); make room or give "
                "another folder"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @override
    def check_sound(self, engine: Engine) -> None:
        with engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise self._damaged(str(found))

    @override
    def check_writable(self, engine: Engine) -> None:
        del engine  # its connections wait for longer
        with contextlib.closing(sqlite3.connect(self.path, timeout=PROBE_SECONDS)) as probe:
            probe.isolation_level = None
            probe.execute("BEGIN IMMEDIATE")
            probe.execute("ROLLBACK")

    @override
    def unusable(self, cause: BaseException | None) -> StoreUnusable:
        if isinstance(cause, sqlite3.DatabaseError) and type(cause) is sqlite3.DatabaseError:
            return self._damaged(str(cause))
        return StoreUnusable(  # locked for too long, disk full, no permission
            f"the tables in {self.name} cannot be used now ({cause}); "
            "check that the disk has room and that no other program has locked them"
        )

    def _damaged(self, found: str) -> StoreUnusable:
        cause = " ".join(found.split())[:200]
        return StoreUnusable(
            f"the tables in {self.name} are damaged ({cause}); "
            "restore the file from a backup, and remove its -wal and -shm"
        )

    @override
    def watch(self, engine: Engine) -> Watch:
        del engine
        return _SqliteWatch(self.path)

    @override
    def last_event(self, session: Session) -> int:
        given = text("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return session.scalar(given) or 0


class _SqliteWatch(Watch):
    """SQLite counts the commits of other connections in shared memory; asking for that number takes
    microseconds and reads no file."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._version: int | None = None

    @override
    def new_sequence(self) -> int | None:
        with self._lock, contextlib.suppress(sqlite3.OperationalError):  # busy: ask next time
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return None
            last = self._connection.execute("SELECT max(sequence) FROM changes").fetchone()[0]
            self._version = version
            return last or 0
        return None

    @override
    def close(self) -> None:
        self._connection.close()


class Postgres(Backend):
    """Tables in a database of PostgreSQL, which other machines may use too.

    PostgreSQL lets many transactions write at once, and gives them numbers before they commit. So a
    writing one takes an advisory lock first, and holds it to its end.
    """

    local = False
    WRITE_LOCK, MIGRATION_LOCK = 0x73686F746C01, 0x73686F746C02
    """Numbers of the advisory locks: `shotl` and one more byte."""
    _BEGINNINGS: Final = {
        "write": f"SELECT pg_advisory_xact_lock({WRITE_LOCK})",
        "migrate": f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})",
        "probe": f"SET LOCAL lock_timeout = {round(1000 * PROBE_SECONDS)}",
        "read": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    }

    def __init__(self, url: URL) -> None:
        self.url = url
        self.name = url.set(drivername="postgresql").render_as_string()

    @override
    def engine(self) -> Engine:
        settings = {
            "lock_timeout": round(1000 * BUSY_SECONDS),
            # A process that hangs in a transaction would keep all others from writing.
            "idle_in_transaction_session_timeout": round(2000 * BUSY_SECONDS),
        }
        given = self.url.query.get("options", "")
        options = " ".join([str(given), *(f"-c {name}={n}" for name, n in settings.items())])
        engine = create_engine(
            self.url,
            connect_args={"options": options, "connect_timeout": 10, "keepalives_idle": 15},
            pool_pre_ping=True,  # connections end when the server is started again
            **_POOL,
        )

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            kind = connection.get_execution_options().get(KIND, "read")
            connection.exec_driver_sql(self._BEGINNINGS[kind])

        return engine

    @override
    @contextlib.contextmanager
    def migrating(self) -> Iterator[None]:
        yield  # the transaction of the migration holds a lock

    @override
    def check_sound(self, engine: Engine) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    @override
    def check_writable(self, engine: Engine) -> None:
        with engine.execution_options(**{KIND: "probe"}).connect() as connection:
            connection.exec_driver_sql(self._BEGINNINGS["write"])
            # Refused where the server is a standby, or was made read-only.
            connection.exec_driver_sql("CREATE TEMPORARY TABLE writable () ON COMMIT DROP")
            connection.rollback()

    @override
    def unusable(self, cause: BaseException | None) -> StoreUnusable:
        said = " ".join(str(cause).split())[:300]
        return StoreUnusable(
            f"the tables in {self.name} cannot be used now ({said}); check that the server runs, "
            "that it lets this user in, and that its disk has room"
        )

    @override
    def watch(self, engine: Engine) -> Watch:
        return PostgresWatch(engine)

    @override
    def last_event(self, session: Session) -> int:
        # A sequence would also count what is not committed yet. What replaces an event has a higher
        # number than that one, so the highest number that is there is the last that was given.
        return session.scalar(text("SELECT max(id) FROM events")) or 0


class PostgresWatch(Watch):
    """Asks the server, but not more often than every :data:`WATCH_SECONDS`: a question takes longer
    than a document."""

    WATCH_SECONDS = 0.1

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._lock = threading.Lock()
        self._asked = float("-inf")

    @override
    def new_sequence(self) -> int | None:
        with self._lock:
            if self._clock() - self._asked < self.WATCH_SECONDS:
                return None
            try:
                with self._engine.connect() as connection:
                    last = connection.exec_driver_sql("SELECT max(sequence) FROM changes").scalar()
            except DatabaseError:  # what is known is served until the server is back
                return None
            finally:
                self._asked = self._clock()
            return last or 0

    @override
    def close(self) -> None:
        """The engine closes its connections."""
