"""The tables, and the one way to read and write them: SQLite in WAL mode through SQLAlchemy.

Times are seconds since the epoch. Writing transactions take the write lock when they begin, so
that what they have read is still so when they write. They are on disk (``synchronous=FULL``) when
they return: a 202 is a promise.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, ForeignKey, Index, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from encoder.errors import StoreUnusable

BUSY_SECONDS = 30.0
"""How long a transaction waits for another's write lock."""


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's way to say it


class JobRow(Base):
    """A job. Its states are those of :mod:`cluster.service.queue.jobs`."""

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
    """Modification time or ETag."""
    options: Mapped[dict[str, Any]]
    priority: Mapped[int]
    deadline: Mapped[float | None]
    webhooks: Mapped[list[str]]
    """Told when it has ended."""
    submitted_by: Mapped[str]
    created: Mapped[float]
    started: Mapped[float | None]
    finished: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    crashes: Mapped[int] = mapped_column(default=0)
    """Times that its own process died."""
    lost: Mapped[int] = mapped_column(default=0)
    """Times that its lease ran out or its runner died."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    owner: Mapped[str | None]
    """Runner that has it."""
    lease: Mapped[str | None]
    """Token of the attempt: only who bears it may write about the job."""
    lease_until: Mapped[float | None]
    identity: Mapped[str | None] = mapped_column(unique=True)
    """Of what was asked; None once it no longer stands for it (failed, cancelled, withdrawn)."""
    content_sha256: Mapped[str | None]
    content: Mapped[str | None] = mapped_column(index=True)
    """Identity of the source's bytes and the options, known after the first stage."""
    follows: Mapped[int | None]
    """A job that makes the same package now."""
    progress: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    failure: Mapped[dict[str, Any] | None]


Index("jobs_by_turn", JobRow.state, JobRow.priority.desc(), JobRow.deadline, JobRow.number)


class EventRow(Base):
    """Something that a job reported."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.number"), index=True)
    type: Mapped[str]
    stage: Mapped[str | None]
    at: Mapped[float]
    body: Mapped[dict[str, Any]]


class IdempotencyRow(Base):
    """What an ``Idempotency-Key`` was used for."""

    __tablename__ = "idempotency"
    key: Mapped[str] = mapped_column(primary_key=True)
    """With the name of who used it."""
    request: Mapped[str]
    """Digest of the submission."""
    job: Mapped[int] = mapped_column(ForeignKey("jobs.number"))
    at: Mapped[float]


class TitleRow(Base):
    """A title that was published at some time."""

    __tablename__ = "titles"
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int | None]
    """The current one; None when withdrawn."""
    package: Mapped[str | None]
    updated: Mapped[float]
    documents: Mapped[str]
    """Names, with commas between."""


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
    """A line of the change feed."""

    __tablename__ = "changes"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    title: Mapped[str]
    version: Mapped[int | None]
    package: Mapped[str | None]
    at: Mapped[float]
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy's way to say it


class AuditRow(Base):
    """Who did what to a title. Nothing removes these."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    title: Mapped[str] = mapped_column(index=True)
    detail: Mapped[dict[str, Any]]


class DeliveryRow(Base):
    """A webhook to be told."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.number"))
    url: Mapped[str]
    state: Mapped[str]
    """``waiting``, ``delivered`` or ``given_up``."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float]
    said: Mapped[str | None]
    """What the last attempt came to."""


class Database:
    """The tables in the file at ``path``, brought to the present form when opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(path)
        self._writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        migrate(path, self._engine)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent view.

        Raises:
            StoreUnusable: the tables cannot be read.
        """
        with self._reached(), Session(self._engine) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that has the write lock; committed at the end, undone by an error.

        Raises:
            StoreUnusable: the tables cannot be written.
        """
        with (
            self._reached(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:  # locked for too long, disk full, no permission
            raise StoreUnusable(
                f"the tables in {self.path} cannot be used now ({error.orig}); "
                "see that the disk has room and that nothing else holds them"
            ) from error


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
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def migrate(path: Path, engine: Engine) -> None:
    """Bring the tables to the present form; one process at a time."""
    from alembic import command
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with path.with_suffix(".migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.connect() as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
            connection.commit()
