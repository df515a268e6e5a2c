"""The clients' side of the job table: submit, list, follow, cancel and retry jobs.

::

                 +--------- lost, stopped, preempted ----------+
                 v                                             |
    submit -> queued -------- claim ------------------------> running -> succeeded
                 |  ^                                          |   |
                 |  +--- retry --- failed <--------------------+   |
                 v  |                                              v
              cancelled <------------------------------------------+

:mod:`cluster.service.queue.leases` is the runners' side. Submissions of equal **identity** (title,
source URI, size, modification time and options) are one job, as long as that job is the last word
about its title: it waits, runs, or has made the version that is current. A delivery that was
followed by another one and comes again is a new job.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from cluster.service.database import (
    EventRow,
    FeedRow,
    HoldRow,
    IdempotencyRow,
    JobRow,
    TitleRow,
    VersionRow,
    moment,
)
from cluster.service.documents import Earlier, Job, State, Submission
from cluster.service.options import JobOptions
from cluster.service.queue.table import JobTable, digest, meant, package_of, whole_of
from cluster.service.redaction import without_secrets
from cluster.service.sources import SourceFile
from encoder.errors import BadInput, Busy, Conflict, NotThere
from ladder.profiles import profile_document, profile_from_document

IDEMPOTENCY_SECONDS = 7 * 86400.0
"""Time for which an ``Idempotency-Key`` is remembered."""
MAX_QUEUED = 100_000
MAX_EVENTS = 1_000
"""Limit of events that are read at once for those who follow jobs."""
MAX_WEBHOOKS = 16
"""Limit of webhooks of one job, into which several submissions may have been merged."""
_OF_RUNS = ("stage_planned", "stage_progress", "work_planned", "round", "warning", "note")
"""Types of events that a run has reported, as on the command line."""


class Kept(Protocol):
    """What is on disk of earlier deliveries."""

    def is_whole(self, package: str) -> bool:
        """Return whether all files of a package are there."""

    def has_store(self, content_sha256: str) -> bool:
        """Return whether what was encoded for a source is there."""


class Accepted(NamedTuple):
    """What became of a submission."""

    job: Job
    merged: bool = False
    """True where the job existed already."""
    earlier: Earlier | None = None
    """Job of an equal submission, where this one needs a new job nevertheless."""


class ToldEvents(NamedTuple):
    """What a job has told."""

    events: list[tuple[int, dict[str, Any]]]
    """Number and body of each event, in order."""
    job: Job
    after: int
    """Number above which they are: 0 where the number asked for is of another history."""
    epoch: str
    """The history in which the numbers count."""


class Jobs:
    """The job table as clients use it. Every method is one transaction."""

    def __init__(self, table: JobTable, kept: Kept, *, max_queued: int = MAX_QUEUED) -> None:
        self._table = table
        self._kept = kept
        self._max_queued = max_queued

    def submit(
        self,
        submission: Submission,
        source: SourceFile,
        actor: str,
        key: str | None = None,
        *,
        root: str | None = None,
    ) -> Accepted:
        """Queue a job, or merge the submission into the job of equal identity.

        ``actor`` is the name of the client, ``key`` the ``Idempotency-Key`` of its request, and
        ``root`` the URL under which it asked the service.

        Raises:
            Conflict: ``key`` was used for another submission, or the title's name is held.
            Busy: the queue is full.
        """
        title = submission.external_id or derived_name(source.uri)
        options = _stored_options(submission.options)
        identity = digest(
            [submission.kind, title, source.uri, source.size, source.stamp, meant(options)]
        )
        damaged = self._damaged_package(identity)
        with self._table.database.writing() as session:
            _check_not_held(session, title, submission.kind)
            if key is not None:
                done = self._job_of_key(session, submission, actor, key)
                if done is not None:  # of a concurrent request
                    return Accepted(self._table.document(done), merged=True)
            row = previous = session.scalar(select(JobRow).where(JobRow.identity == identity))
            if row is not None and not _may_merge(session, row, submission, damaged):
                row.identity = None
                row = None
                session.flush()
            merged = row is not None
            if row is None:
                self._check_room(session)
                row = JobRow(
                    id=f"job-{secrets.token_hex(10)}",
                    title=title,
                    external_id=submission.external_id,
                    kind=submission.kind,
                    state="queued",
                    source=source.uri,
                    source_size=source.size,
                    source_stamp=source.stamp,
                    options=options,
                    priority=submission.priority,
                    deadline=submission.deadline.timestamp() if submission.deadline else None,
                    webhooks=[submission.webhook] if submission.webhook else [],
                    submitted_by=actor,
                    root=root,
                    created=self._table.clock(),
                    identity=identity,
                    forced=submission.force,
                )
                if previous is not None:  # its bytes are the same, and their store has to stay
                    row.content_sha256, row.content = previous.content_sha256, previous.content
                session.add(row)
                session.flush()
            else:
                self._merge(session, row, submission)
            if key is not None:
                session.merge(
                    IdempotencyRow(
                        key=f"{actor}:{key}",
                        request=_request_digest(submission),
                        job=row.number,
                        at=self._table.clock(),
                    )
                )
            job = self._table.document(row)
        self._table.on_queued()
        if merged or previous is None:
            return Accepted(job, merged)
        return Accepted(job, earlier=self._earlier(previous))

    def find_submitted(self, submission: Submission, actor: str, key: str) -> Accepted | None:
        """Return the job of an earlier submission with the same key, even if its source is gone.

        Raises:
            Conflict: ``key`` was used for another submission, or the title's name is held.
        """
        with self._table.database.reading() as session:
            row = self._job_of_key(session, submission, actor, key)
            if row is not None:
                _check_not_held(session, row.title, row.kind)
            return None if row is None else Accepted(self._table.document(row), merged=True)

    def drop_expired_keys(self) -> None:
        """Drop idempotency keys that are older than :data:`IDEMPOTENCY_SECONDS`."""
        with self._table.database.writing() as session:
            expired = IdempotencyRow.at <= self._table.clock() - IDEMPOTENCY_SECONDS
            session.execute(delete(IdempotencyRow).where(expired))

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotThere: there is no such job.
        """
        with self._table.database.reading() as session:
            return self._table.document(_row_of(session, job_id))

    def page(
        self,
        limit: int,
        cursor: str | None = None,
        *,
        state: State | None = None,
        title: str | None = None,
        external_id: str | None = None,
    ) -> tuple[list[Job], str | None]:
        """Return a page of jobs, newest first, and the cursor of the next page."""
        query = select(JobRow).order_by(JobRow.number.desc()).limit(limit + 1)
        for column, value in (
            (JobRow.state, state),
            (JobRow.title, title),
            (JobRow.external_id, external_id),
            (JobRow.title, external_id),  # equal where set, and only titles have an index
        ):
            if value is not None:
                query = query.where(column == value)
        if cursor is not None:
            query = query.where(JobRow.number < cursor_number(cursor))
        with self._table.database.reading() as session:
            rows = list(session.scalars(query))
            following = str(rows[limit - 1].number) if len(rows) > limit else None
            return [self._table.document(row) for row in rows[:limit]], following

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        with self._table.database.reading() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            return {row[0]: row[1] for row in rows}

    def events_after(self, job_id: str, after: int, epoch: str | None = None) -> ToldEvents:
        """Return the events of a job with numbers above ``after``, in order.

        Raises:
            NotThere: there is no such job.
        """
        with self._table.database.reading() as session:
            row = _row_of(session, job_id)
            feed = session.get(FeedRow, 1)
            present = "" if feed is None else feed.epoch
            last = self._table.database.backend.last_event(session)
            if (epoch is not None and epoch != present) or after > last:
                after = 0
            events = session.scalars(
                select(EventRow)
                .where(EventRow.job == row.number, EventRow.id > after)
                .order_by(EventRow.id)
            )
            told = [(event.id, _told(event.body, row.title)) for event in events]
            return ToldEvents(told, self._table.document(row), after, present)

    def last_event(self) -> int:
        """Return the last number that an event of any job was given; 0 if there was none."""
        with self._table.database.reading() as session:
            return self._table.database.backend.last_event(session)

    def all_events_after(self, after: int) -> list[tuple[int, str, dict[str, Any]]]:
        """Return number, job and body of the events of all jobs with numbers above ``after``, in
        order, at most :data:`MAX_EVENTS` of them.
        """
        query = (
            select(EventRow.id, JobRow.id, EventRow.body, JobRow.title)
            .join(JobRow, JobRow.number == EventRow.job)
            .where(EventRow.id > after)
            .order_by(EventRow.id)
            .limit(MAX_EVENTS)
        )
        with self._table.database.reading() as session:
            found = session.execute(query)
            return [(row[0], row[1], _told(row[2], row[3])) for row in found]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job: at once if it is queued, within seconds if it runs. Results are kept.

        Raises:
            NotThere: there is no such job.
            Conflict: the job has succeeded or failed.
        """
        with self._table.database.writing() as session:
            row = _row_of(session, job_id)
            if row.state in ("succeeded", "failed"):
                raise Conflict(
                    f"{job_id} has {row.state} already; there is nothing to cancel",
                    reason="job_ended",
                )
            self.request_cancel(session, row)
            return self._table.document(row)

    def request_cancel(self, session: Session, row: JobRow) -> None:
        """Cancel a job that has not ended, as a step of the caller's transaction."""
        if row.state == "queued":
            self._table.finish(session, row, "cancelled")
        elif row.state == "running":
            row.cancel_requested = True

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again; it resumes from the store.

        Raises:
            NotThere: there is no such job.
            Conflict: the job has not ended, has succeeded, another job of equal identity exists, or
                the title's name is held.
        """
        with self._table.database.writing() as session:
            row = _row_of(session, job_id)
            if row.state not in ("failed", "cancelled"):
                raise Conflict(
                    f"{job_id} is {row.state}; only failed and cancelled jobs can be retried",
                    reason="job_not_ended",
                )
            _check_not_held(session, row.title, row.kind)
            place = row.source, row.source_size, row.source_stamp
            identity = digest([row.kind, row.title, *place, meant(row.options)])
            other = session.scalar(select(JobRow).where(JobRow.identity == identity))
            if other is not None:
                raise Conflict(
                    f"{job_id} need not be retried, since {other.id} does the same and is "
                    f"{other.state}; follow {other.id}",
                    reason="job_exists",
                    job=other.id,
                )
            row.state, row.identity, row.cancel_requested = "queued", identity, False
            row.crashes = row.lost = 0
            row.finished = row.failure = row.result = row.follows = None
            row.progress = {"whole": whole} if (whole := whole_of(row)) is not None else None
            self._table.record_event(session, row, {"type": "queued", "reason": "retry"})
            job = self._table.document(row)
        self._table.on_queued()
        return job

    def _check_room(self, session: Session) -> None:
        queued = session.scalar(
            select(func.count()).select_from(JobRow).where(JobRow.state == "queued")
        )
        if queued is not None and queued >= self._max_queued:
            raise Busy(f"the queue is full with {queued} jobs; submit the title later")

    def _damaged_package(self, identity: str) -> str | None:
        """Return the package that the job of an equal submission made, if files of it are missing.

        This looks at every file, so it must not happen in a writing transaction.
        """
        with self._table.database.reading() as session:
            row = session.scalar(select(JobRow).where(JobRow.identity == identity))
            package = None if row is None else package_of(row)
        return None if package is None or self._kept.is_whole(package) else package

    def _earlier(self, row: JobRow) -> Earlier:
        unfinished = row.state in ("queued", "running")
        return Earlier(
            job=row.id,
            version=(row.result or {}).get("version"),
            kept=unfinished or self._kept.has_store(row.content_sha256 or ""),
        )

    def _merge(self, session: Session, row: JobRow, submission: Submission) -> None:
        """Merge a submission into its job: keep the greater urgency, add the webhook."""
        if row.state == "queued":
            row.forced |= submission.force
            row.priority = max(row.priority, submission.priority)
            if submission.deadline is not None:
                row.deadline = min(row.deadline or math.inf, submission.deadline.timestamp())
        if submission.webhook is not None and submission.webhook not in row.webhooks:
            if len(row.webhooks) >= MAX_WEBHOOKS:
                raise Conflict(
                    f"{row.id} has {MAX_WEBHOOKS} webhooks already; submit without a webhook",
                    reason="too_many_webhooks",
                )
            row.webhooks = [*row.webhooks, submission.webhook]
            if row.state == "succeeded":
                self._table.enqueue_webhook(session, row, submission.webhook)

    def _job_of_key(
        self, session: Session, submission: Submission, actor: str, key: str
    ) -> JobRow | None:
        used = session.get(IdempotencyRow, f"{actor}:{key}")
        if used is None or self._table.clock() - used.at >= IDEMPOTENCY_SECONDS:
            return None
        if used.request != _request_digest(submission):
            raise Conflict(
                f"Idempotency-Key {key!r} was used for another submission; "
                "use a new key for each submission",
                reason="idempotency_key_reused",
            )
        return session.get_one(JobRow, used.job)


def derived_name(uri: str) -> str:
    """Return the title's name for a submission without one, derived from the source's URI."""
    return "t-" + hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stored_options(asked: JobOptions) -> dict[str, Any]:
    """Return the options of a job as they are stored, and as its identity holds them."""
    options = asked.model_dump(mode="json")
    if not isinstance(asked.profile, str):
        # Equal profiles are one job, however their numbers are written.
        options["profile"] = profile_document(profile_from_document(options["profile"]))
    return options


def _may_merge(session: Session, row: JobRow, submission: Submission, damaged: str | None) -> bool:
    """Return whether a job of equal identity does all that a submission asks for."""
    if row.cancel_requested:
        return False
    if submission.force and row.state != "queued" and (row.state != "running" or not row.forced):
        return False
    if row.kind != "run":
        return True
    newer = select(JobRow.number).where(
        JobRow.title == row.title,
        JobRow.kind == "run",
        JobRow.number > row.number,
        JobRow.state.in_(("queued", "running")),
    )
    if session.scalar(newer.limit(1)) is not None:
        return False
    current = session.execute(
        select(VersionRow.package, VersionRow.job)
        .join(
            TitleRow, (TitleRow.name == VersionRow.title) & (TitleRow.version == VersionRow.version)
        )
        .where(TitleRow.name == row.title)
    ).first()
    if row.state == "succeeded":
        package = package_of(row)
        return current is not None and package == current.package and package != damaged
    return current is None or (current.job or 0) < row.number


def _check_not_held(session: Session, title: str, kind: str) -> None:
    """Check that a name takes jobs; plans publish nothing.

    Raises:
        Conflict: the name is held.
    """
    hold = session.get(HoldRow, title) if kind == "run" else None
    if hold is not None:
        raise Conflict(
            f"{title} was taken down by {hold.actor} at {moment(hold.at):%Y-%m-%d %H:%M} UTC, and "
            f"its name takes no jobs since; `shotladder release {title}` ends this",
            reason="title_held",
        )


def _row_of(session: Session, job_id: str) -> JobRow:
    row = session.scalar(select(JobRow).where(JobRow.id == job_id))
    if row is None:
        raise NotThere(
            f"there is no job {job_id[:128]}; GET /v1/jobs lists them", reason="no_such_job"
        )
    return row


def _request_digest(submission: Submission) -> str:
    return digest(submission.model_dump(mode="json"))


def _told(body: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Return an event as listeners get it: without secrets, and with the name of the title.

    Events of a run are what they are on the command line: clients of release 0.1 take them for
    that, and no other field.
    """
    shown: dict[str, Any] = without_secrets(body)
    return shown if body["type"] in _OF_RUNS else {**shown, "external_id": title}


def cursor_number(cursor: str) -> int:
    """Return the number in the cursor of a page.

    Raises:
        BadInput: it is not a cursor.
    """
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise BadInput(f"{cursor!r} is not a cursor; take `next` of the page before")
    return int(cursor)
