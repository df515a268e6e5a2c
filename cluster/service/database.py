"""Tables of the service and transactions on them: SQLite in WAL mode through SQLAlchemy.

Times are seconds since the epoch. A writing transaction takes the write lock when it begins, so
that nothing that it has read can change before it writes. It is on disk (``synchronous=FULL``) when
it returns: a client that got a 202 can rely on its job.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, ForeignKey, Index, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from encoder.errors import StoreUnusable

BUSY_SECONDS = 30.0
"""Time for which a transaction waits for the write lock."""
_PROBE_SECONDS = 2.0
"""The same for a look whether transactions can write."""


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's way to say it


class JobRow(Base):
    """A job. :mod:`cluster.service.queue.jobs` draws its states."""

    __tablename__ = "jobs"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(index=True)
    external_id: Mapped[str | None]
    kind: Mapped[str]
    state: Mapped[str]
    source: Mapped[str]
    source_size: Mapped[int]
    source_stamp: Mapped[str]
    """Modification time in nanoseconds, ETag or ``Last-Modified``."""
    options: Mapped[dict[str, Any]]
    priority: Mapped[int]
    deadline: Mapped[float | None]
    webhooks: Mapped[list[str]]
    """URLs to notify when the job has ended."""
    submitted_by: Mapped[str]
    created: Mapped[float]
    started: Mapped[float | None]
    finished: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    """Number of times that the job's own process died."""
    lost: Mapped[int] = mapped_column(default=0)
    """Number of times that the lease ran out or the runner died."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    root: Mapped[str | None]
    """URL under which the client that submitted the job asked the service."""
    owner: Mapped[str | None]
    """Name of the runner that has leased the job; None unless it runs."""
    lease: Mapped[str | None]
    """Token of the running attempt, which every write by its runner must present."""
    lease_until: Mapped[float | None]
    """When the lease ends, by the clock of its runner; others see only whether it moves."""
    identity: Mapped[str | None] = mapped_column(unique=True)
    """Digest of the submission (:meth:`.queue.jobs.Jobs.submit`), by which equal submissions are
    merged. None once the job failed, was cancelled or its title was withdrawn, or once the same
    delivery was queued again as another job."""
    content_sha256: Mapped[str | None]
    content: Mapped[str | None] = mapped_column(index=True)
    """Digest of kind, source bytes and options, known after the first stage."""
    forced: Mapped[bool] = mapped_column(default=False)
    """True to run the job even where a package of equal content exists."""
    follows: Mapped[int | None]
    """Number of a running job that makes the same package, for whose end this one waits."""
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    failure: Mapped[dict[str, Any] | None]


Index("jobs_by_turn", JobRow.state, JobRow.priority.desc(), JobRow.deadline, JobRow.number)


class EventRow(Base):
    """An event of a job."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.number"), index=True)
    type: Mapped[str]
    stage: Mapped[str | None]
    at: Mapped[float]
    body: Mapped[dict[str, Any]]
    # Numbers are never given out again, also not those of progress that was replaced.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's way to say it


class IdempotencyRow(Base):
    """Submission for which an ``Idempotency-Key`` was used."""

    __tablename__ = "idempotency"
    key: Mapped[str] = mapped_column(primary_key=True)
    """``ACTOR:KEY``: keys of different clients are independent."""
    request: Mapped[str]
    """Digest of the submission."""
    job: Mapped[int] = mapped_column(ForeignKey("jobs.number"))
    at: Mapped[float]


class TitleRow(Base):
    """A title that has been published, and its current version."""

    __tablename__ = "titles"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int | None]
    """Number of the current version; None once the title was withdrawn."""
    package: Mapped[str | None]
    updated: Mapped[float]
    documents: Mapped[str]
    """Names of the title's documents, joined by commas."""


class HoldRow(Base):
    """A name that takes no jobs until it is released."""

    __tablename__ = "holds"
    title: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str]
    at: Mapped[float]


class VersionRow(Base):
    """A version of a title."""

    __tablename__ = "versions"
    title: Mapped[str] = mapped_column(ForeignKey("titles.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    package: Mapped[str] = mapped_column(index=True)
    content_sha256: Mapped[str]
    job: Mapped[int | None] = mapped_column(ForeignKey("jobs.number"))
    published: Mapped[float]
    retired: Mapped[float | None]
    remove_at: Mapped[float | None] = mapped_column(index=True)
    removed: Mapped[bool] = mapped_column(default=False)


class ChangeRow(Base):
    """An entry of the change feed."""

    __tablename__ = "changes"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    title: Mapped[str]
    version: Mapped[int | None]
    package: Mapped[str | None]
    at: Mapped[float]
    changed: Mapped[list[str] | None]
    """Names of the documents that are not what they were; None where it was not recorded."""
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's way to say it


class FeedRow(Base):
    """The only row: the epoch that the change feed is in."""

    __tablename__ = "feed"
    id: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[str]


class AuditRow(Base):
    """An entry of the audit log. Entries are never removed."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    title: Mapped[str] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]]


class DeliveryRow(Base):
    """A webhook notification of a job that has ended."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.number"))
    url: Mapped[str]
    receiver: Mapped[str]
    """Host of the URL, with its port where it is given."""
    state: Mapped[str]
    """``waiting``, ``delivered`` or ``given_up``."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float]
    """When it may be claimed: for the next attempt, or because a claim was not kept."""
    claim: Mapped[str | None]
    """Token of the attempt that is under way, which has to present it."""
    tried: Mapped[float | None]
    """Time of the last attempt."""
    answer: Mapped[str | None] = mapped_column("said")
    """Status line of the last answer, or why there was none."""


Index("deliveries_due", DeliveryRow.state, DeliveryRow.next_at)


class Database:
    """Tables in the file ``path``, created or migrated to the present schema when opened."""

    def __init__(self, path: Path) -> None:
        """Open the tables.

        Raises:
            StoreUnusable: they are damaged, of a newer release, or cannot be read and written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(
                f"{path.parent} cannot be created ({error.strerror}); give another folder"
            ) from error
        self.engine = _engine(path)
        self._writing = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        try:
            with self._usable():
                self._check_sound()
                migrate(path, self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that sees one consistent state of the tables.

        Raises:
            StoreUnusable: the tables cannot be read.
        """
        with self._usable(), Session(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that holds the write lock; commit at the end, roll back on an error.

        Raises:
            StoreUnusable: the tables cannot be written.
        """
        with (
            self._usable(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def check_writable(self) -> None:
        """Check that a transaction could write now.

        Raises:
            StoreUnusable: it could not, or another program holds the tables for seconds.
        """
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=_PROBE_SECONDS)) as probe:
                probe.isolation_level = None
                probe.execute("BEGIN IMMEDIATE")
                probe.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _check_sound(self) -> None:
        """Look for damage, so that a service does not find it in the middle of a job."""
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise self._damaged(str(found))

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
                raise  # a defect
            raise self._unusable(error.orig) from error

    def _unusable(self, cause: BaseException | None) -> StoreUnusable:
        if isinstance(cause, sqlite3.DatabaseError) and type(cause) is sqlite3.DatabaseError:
            return self._damaged(str(cause))
        return StoreUnusable(  # locked for too long, disk full, no permission
            f"the tables in {self.path} cannot be used now ({cause}); "
            "check that the disk has room and that no other program has locked them"
        )

    def _damaged(self, found: str) -> StoreUnusable:
        cause = " ".join(found.split())[:200]
        return StoreUnusable(
            f"the tables in {self.path} are damaged ({cause}); "
            "restore the file from a backup, and remove its -wal and -shm"
        )


def moment(seconds: float) -> datetime:
    """Convert seconds since the epoch to a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=16,
        max_overflow=64,
        pool_timeout=BUSY_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is sent below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def migrate(path: Path, engine: Engine) -> None:
    """Migrate the tables to the present schema, in one process at a time.

    Raises:
        StoreUnusable: the tables are of a newer release, or the folder cannot be written.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {one.revision for one in ScriptDirectory.from_config(settings).walk_revisions()}
    try:
        lock = path.with_suffix(".migrating").open("w")
    except OSError as error:
        raise StoreUnusable(
            f"{path.parent} cannot be written ({error.strerror}); make room or give another folder"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.connect() as connection:
            present = MigrationContext.configure(connection).get_current_heads()
            if newer := set(present) - known:
                raise StoreUnusable(
                    f"the tables in {path} are of a newer release (schema {min(newer)}, this one "
                    f"knows up to {max(known)}); install that release or restore a backup"
                )
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
            connection.commit()
