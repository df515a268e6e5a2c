"""The table of jobs: what happens to a job, and when.

::

                 +--------- lost, stopped, preempted ----------+
                 v                                             |
    submit -> queued -------- claim ------------------------> running -> succeeded
                 |  ^                                          |   |
                 |  +--- retry --- failed <--------------------+   |
                 v  |                                              v
              cancelled <------------------------------------------+

Here is the side of those who ask; :mod:`cluster.service.queue.leases` is that of those who run.

A job is told from others by its **identity** (title, source place, size, modification time,
options): asking for the same twice gives the same job.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from cluster.service.database import Database, EventRow, IdempotencyRow, JobRow
from cluster.service.documents import Job, State, Submission
from cluster.service.queue.leases import LEASE_SECONDS, Leases
from cluster.service.queue.transitions import digest, document, end, owe, tell
from cluster.service.sources import Found
from encoder.errors import BadInput, Busy, Conflict, NotThere

IDEMPOTENCY_SECONDS = 7 * 86400.0
MOST_WEBHOOKS = 16
"""Of one job, which several may have asked for."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs to list."""

    state: State | None = None
    title: str | None = None
    external_id: str | None = None


class Jobs(Leases):
    """The jobs of a service, for those who ask for them too. Every method is one transaction."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        most_queued: int = 100_000,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        super().__init__(database, clock=clock, lease_seconds=lease_seconds)
        self._most_queued = most_queued

    # -- asking --------------------------------------------------------------------------------

    def submit(
        self, asked: Submission, source: Found, actor: str, key: str | None = None
    ) -> tuple[Job, bool]:
        """A job for what is asked: a new one, or the one that was asked for before.

        Returns:
            The job, and whether it was there already.

        Raises:
            Conflict: ``key`` was used for something else.
            Busy: too many jobs are queued.
        """
        title = asked.external_id or derived_name(source.uri)
        options = asked.options.model_dump(mode="json")
        if not asked.options.tone_map:
            # What was submitted before there was this option is the same job still.
            del options["tone_map"]
        identity = digest([asked.kind, title, source.uri, source.size, source.stamp, options])
        now = self.clock()
        with self.database.writing() as session:
            if key is not None:
                before = _used_before(session, asked, actor, key, now)
                if before is not None:  # by a request that was under way with this one
                    return document(before, now), True
            row = session.scalar(select(JobRow).where(JobRow.identity == identity))
            merged = row is not None
            if row is None:
                queued = session.scalar(
                    select(func.count()).select_from(JobRow).where(JobRow.state == "queued")
                )
                if queued is not None and queued >= self._most_queued:
                    raise Busy(f"{queued} jobs are queued, which is all that fit; submit it later")
                row = JobRow(
                    id=f"job-{secrets.token_hex(10)}",
                    title=title,
                    external_id=asked.external_id,
                    kind=asked.kind,
                    state="queued",
                    source=source.uri,
                    source_size=source.size,
                    source_stamp=source.stamp,
                    options=options,
                    priority=asked.priority,
                    deadline=asked.deadline.timestamp() if asked.deadline else None,
                    webhooks=[asked.webhook] if asked.webhook else [],
                    submitted_by=actor,
                    created=now,
                    attempts=0,
                    crashes=0,
                    lost=0,
                    cancel_requested=False,
                    identity=identity,
                )
                session.add(row)
                session.flush()
            else:
                _ask_again(session, row, asked, now)
            if key is not None:
                session.merge(
                    IdempotencyRow(
                        key=f"{actor}:{key}", request=_request(asked), job=row.number, at=now
                    )
                )
            made = document(row, now)
        self.on_queued()
        return made, merged

    def submitted(self, asked: Submission, actor: str, key: str) -> Job | None:
        """The job that this submission gave when it was sent with ``key`` before, if it was: also
        when its source is no longer there.

        Raises:
            Conflict: ``key`` was used for something else.
        """
        now = self.clock()
        with self.database.reading() as session:
            row = _used_before(session, asked, actor, key, now)
            return None if row is None else document(row, now)

    def forget_keys(self) -> None:
        """Forget keys that are no longer good."""
        with self.database.writing() as session:
            gone = IdempotencyRow.at <= self.clock() - IDEMPOTENCY_SECONDS
            session.execute(delete(IdempotencyRow).where(gone))

    def get(self, job_id: str) -> Job:
        """A job.

        Raises:
            NotThere: there is none.
        """
        with self.database.reading() as session:
            return document(_found(session, job_id), self.clock())

    def page(
        self, filters: Filters, limit: int, cursor: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Jobs, newest first, and the cursor of the next page."""
        query = select(JobRow).order_by(JobRow.number.desc()).limit(limit + 1)
        for column, wanted in (
            (JobRow.state, filters.state),
            (JobRow.title, filters.title),
            (JobRow.external_id, filters.external_id),
            (JobRow.title, filters.external_id),  # the same, and it has an index
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        if cursor is not None:
            query = query.where(JobRow.number < _position(cursor))
        with self.database.reading() as session:
            rows = list(session.scalars(query))
            now = self.clock()
            more = str(rows[limit - 1].number) if len(rows) > limit else None
            return [document(row, now) for row in rows[:limit]], more

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self.database.reading() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            return {row[0]: row[1] for row in rows}

    def events_after(self, job_id: str, after: int) -> tuple[list[tuple[int, dict[str, Any]]], Job]:
        """Events of a job with numbers above ``after``, in order; and the job as it is then.

        Raises:
            NotThere: there is no such job.
        """
        with self.database.reading() as session:
            row = _found(session, job_id)
            events = session.scalars(
                select(EventRow)
                .where(EventRow.job == row.number, EventRow.id > after)
                .order_by(EventRow.id)
            )
            return [(one.id, one.body) for one in events], document(row, self.clock())

    # -- changing ------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Job:
        """Stop a job: at once when it waits, soon when it runs. What it has finished is kept.

        Raises:
            NotThere: there is none.
            Conflict: it has ended already, otherwise than by being cancelled.
        """
        with self.database.writing() as session:
            row = _found(session, job_id)
            if row.state in ("succeeded", "failed"):
                raise Conflict(
                    f"{job_id} has {row.state} already; there is nothing to cancel",
                    reason="job_ended",
                )
            self.request_cancel(session, row)
            return document(row, self.clock())

    def request_cancel(self, session: Session, row: JobRow) -> None:
        """Part of a transaction: as :meth:`cancel`, of a job that has not ended."""
        if row.state == "queued":
            end(session, row, "cancelled", self.clock())
        elif row.state == "running":
            row.cancel_requested = True

    def retry(self, job_id: str) -> Job:
        """Queue a job that failed or was cancelled again; it goes on from what it has finished.

        Raises:
            NotThere: there is none.
            Conflict: it has not ended, has succeeded, or another job does the same by now.
        """
        with self.database.writing() as session:
            row = _found(session, job_id)
            if row.state not in ("failed", "cancelled"):
                raise Conflict(
                    f"{job_id} is {row.state}; only jobs that failed or were cancelled are retried",
                    reason="job_not_ended",
                )
            identity = digest(
                [row.kind, row.title, row.source, row.source_size, row.source_stamp, row.options]
            )
            other = session.scalar(select(JobRow).where(JobRow.identity == identity))
            if other is not None:
                raise Conflict(
                    f"{other.id} does the same and is {other.state}; follow that one",
                    reason="job_exists",
                    job=other.id,
                )
            row.state, row.identity, row.cancel_requested = "queued", identity, False
            row.crashes = row.lost = 0
            row.finished = row.failure = row.result = row.progress = row.follows = None
            tell(session, row, {"type": "queued", "reason": "retry"}, self.clock())
            made = document(row, self.clock())
        self.on_queued()
        return made


def derived_name(uri: str) -> str:
    """Name of a title whose submission gave none: of its source's place."""
    return "t-" + hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _found(session: Session, job_id: str) -> JobRow:
    row = session.scalar(select(JobRow).where(JobRow.id == job_id))
    if row is None:
        raise NotThere(f"there is no job {job_id!r}; GET /v1/jobs lists them", reason="no_such_job")
    return row


def _ask_again(session: Session, row: JobRow, asked: Submission, now: float) -> None:
    """Who asks for a job that is there is heard: how urgent it is, and who is to be told."""
    if row.state == "queued":
        row.priority = max(row.priority, asked.priority)
        if asked.deadline is not None:
            row.deadline = min(row.deadline or math.inf, asked.deadline.timestamp())
    if asked.webhook is not None and asked.webhook not in row.webhooks:
        if len(row.webhooks) >= MOST_WEBHOOKS:
            raise Conflict(
                f"{row.id} tells {MOST_WEBHOOKS} webhooks already; follow it without one",
                reason="too_many_webhooks",
            )
        row.webhooks = [*row.webhooks, asked.webhook]
        if row.state == "succeeded":
            owe(session, row, asked.webhook, now)


def _used_before(
    session: Session, asked: Submission, actor: str, key: str, now: float
) -> JobRow | None:
    used = session.get(IdempotencyRow, f"{actor}:{key}")
    if used is None or now - used.at >= IDEMPOTENCY_SECONDS:
        return None
    if used.request != _request(asked):
        raise Conflict(
            f"Idempotency-Key {key!r} was used for another submission; "
            "use a new key for a new submission",
            reason="idempotency_key_reused",
        )
    return session.get_one(JobRow, used.job)


def _request(asked: Submission) -> str:
    return digest(asked.model_dump(mode="json"))


def _position(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise BadInput(f"{cursor!r} is no cursor; take `next` of the page before")
    return int(cursor)
