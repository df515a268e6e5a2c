"""Tables of the service and transactions on them, through SQLAlchemy: SQLite, or PostgreSQL.

Times are seconds since the epoch. A writing transaction takes the write lock when it begins, so
that nothing that it has read can change before it writes. It is on disk when it returns: a client
that got a 202 can rely on its job.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, BigInteger, Engine, ForeignKey, Index, Integer
from sqlalchemy.exc import DatabaseError, InternalError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cluster.service.backends import KIND, Backend, Watch, backend_of
from encoder.errors import StoreUnusable

Wide = BigInteger().with_variant(Integer, "sqlite")
"""64 bits. SQLite has them in every integer, and numbers rows only by columns of that name."""


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's way to say it


class JobRow(Base):
    """A job. :mod:`cluster.service.queue.jobs` draws its states."""

    __tablename__ = "jobs"
    number: Mapped[int] = mapped_column(Wide, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(index=True)
    external_id: Mapped[str | None]
    kind: Mapped[str]
    state: Mapped[str]
    source: Mapped[str]
    source_size: Mapped[int] = mapped_column(Wide)
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
    follows: Mapped[int | None] = mapped_column(Wide)
    """Number of a running job that makes the same package, for whose end this one waits."""
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    failure: Mapped[dict[str, Any] | None]


Index("jobs_by_turn", JobRow.state, JobRow.priority.desc(), JobRow.deadline, JobRow.number)


class EventRow(Base):
    """An event of a job."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(Wide, primary_key=True, autoincrement=True)
    job: Mapped[int] = mapped_column(Wide, ForeignKey("jobs.number"), index=True)
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
    job: Mapped[int] = mapped_column(Wide, ForeignKey("jobs.number"))
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


class ArtworkEditRow(Base):
    """What an editor has decided about a picture of a title. It outlives versions."""

    __tablename__ = "artwork_edits"
    title: Mapped[str] = mapped_column(primary_key=True)
    action_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """``ban`` or ``pin``."""
    perceptual_hash: Mapped[str]
    """That of the picture, by which it is found where a new pool lost its action id."""
    reason: Mapped[str]
    actor: Mapped[str]
    at: Mapped[float]


class VersionRow(Base):
    """A version of a title."""

    __tablename__ = "versions"
    title: Mapped[str] = mapped_column(ForeignKey("titles.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    package: Mapped[str] = mapped_column(index=True)
    content_sha256: Mapped[str]
    job: Mapped[int | None] = mapped_column(Wide, ForeignKey("jobs.number"))
    published: Mapped[float]
    retired: Mapped[float | None]
    remove_at: Mapped[float | None] = mapped_column(index=True)
    removed: Mapped[bool] = mapped_column(default=False)


class ChangeRow(Base):
    """An entry of the change feed."""

    __tablename__ = "changes"
    sequence: Mapped[int] = mapped_column(Wide, primary_key=True, autoincrement=True)
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
    id: Mapped[int] = mapped_column(Wide, primary_key=True, autoincrement=True)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    title: Mapped[str] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]]


class DeliveryRow(Base):
    """A webhook notification of a job that has ended."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(Wide, primary_key=True, autoincrement=True)
    job: Mapped[int] = mapped_column(Wide, ForeignKey("jobs.number"))
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
    """Tables in a file or, by its URL, in a database of PostgreSQL; created or migrated to the
    present schema when opened."""

    def __init__(self, place: Path | str) -> None:
        """Open the tables.

        Raises:
            BadInput: the URL names no database that can be used.
            StoreUnusable: they are damaged, of a newer release, or cannot be read and written.
        """
        self.backend = backend_of(place)
        self.engine = self.backend.engine()
        self._reading = self.engine.execution_options(**{KIND: "read"})
        self._writing = self.engine.execution_options(**{KIND: "write"})
        try:
            with self._usable():
                self.backend.check_sound(self._reading)
                migrate(self.backend, self.engine)
        except BaseException:
            self.engine.dispose()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that sees one consistent state of the tables.

        Raises:
            StoreUnusable: the tables cannot be read.
        """
        with self._usable(), Session(self._reading) as session:
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
            self.backend.check_writable(self.engine)
        except (sqlite3.Error, DatabaseError) as error:
            cause = error.orig if isinstance(error, DatabaseError) else error
            raise self.backend.unusable(cause) from error

    def watch(self) -> Watch:
        """Return a watch on the change feed."""
        return self.backend.watch(self._reading)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            if type(error) not in (OperationalError, InternalError, DatabaseError):
                raise  # a defect
            raise self.backend.unusable(error.orig) from error


def moment(seconds: float) -> datetime:
    """Convert seconds since the epoch to a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def migrate(backend: Backend, engine: Engine) -> None:
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
    migrating = engine.execution_options(**{KIND: "migrate"})
    with backend.migrating(), migrating.connect() as connection:
        present = MigrationContext.configure(connection).get_current_heads()
        if newer := set(present) - known:
            raise StoreUnusable(
                f"the tables in {backend.name} are of a newer release (schema {min(newer)}, this "
                f"one knows up to {max(known)}); install that release or restore a backup"
            )
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.commit()
